"""Bad input is told what to do: each message names the value, the rule and the next step, and nothing is computed."""

import ast
import gzip
import os
import re
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import lrtheory as lr
from lrtheory import inputs, landscapes, logs, noise, optimizers, schedules
from lrtheory.__main__ import main
from lrtheory.early_stopping import on_fixed_data
from lrtheory.enumeration import limit, long_run
from lrtheory.expectation import E, enumerated, simulated
from lrtheory.first_passage import steps_until
from lrtheory.permutations import in_epoch

NAN, INF = float("nan"), float("inf")
HUGE = np.broadcast_to(1.0, (10**6, 10**6))  # 8 TB, of which nothing is in memory
THETA = lr.symbol("theta")
AT, EXACT = {"eta": 0.5, "lam": 1, "sigma": 1}, {"eta": Fraction(1, 2), "lam": 1, "sigma": 1}
ANY = lr.trace(optimizers.sgd, landscapes.quadratic())
GAUSSIAN, COIN = ANY.with_noise(noise.gaussian), ANY.with_noise(noise.rademacher)
DISTANCE = lr.trace(optimizers.sgd, landscapes.absolute())
WELL = lr.trace(optimizers.sgd, landscapes.double_well(noise.rademacher))
LMS = (optimizers.sgd, landscapes.linear_regression())
MANY = lr.trace(optimizers.sgd, landscapes.batched(landscapes.quadratic(noise.rademacher), 40))
FITTED = lr.LeastSquares([[1.0], [2.0]], [1.0, 3.0])


def variance(**parameters):
    return lr.claim("noise_floor.variance")(**{"eta": 0.1, "lam": 1, "sigma": 1, **parameters})


def mean(**parameters):
    return lr.claim("noise_floor.mean")(**{"eta": 0.1, "lam": 1, "theta0": 1, "t": 3, **parameters})


def loss(schedule=(0.1,), lams=1, noise=1, theta0=1, steps=1, **more):
    return lr.expected_loss(schedule, lams, noise, theta0, steps, **more)


def rule(step):
    """An update rule that does this with its state."""
    return lr.trace(lambda theta, *, grad, eta: step(theta, grad), landscapes.quadratic())


CASES = {
    # a claim outside its conditions
    "unstable rate": (
        lambda: variance(eta=3),
        ValueError,
        "needs eta*lam < 2, and here eta = 3, lam = 1: the run would",
    ),
    "one unstable rate of many": (
        lambda: variance(eta=[0.1, 3]),
        ValueError,
        "eta = [0.1 3. ], lam = 1: the run would",
    ),
    "rate at the edge": (lambda: variance(eta=2), ValueError, "lower eta below 2/lam"),
    "zero rate": (lambda: variance(eta=0), ValueError, "eta = 0: give a positive number"),
    "negative rate": (lambda: variance(eta=-0.1), ValueError, "eta = -0.1: give a positive number"),
    "zero curvature": (lambda: variance(lam=0), ValueError, "lam = 0: give a positive number"),
    "negative curvature": (lambda: variance(lam=-1), ValueError, "lam = -1: give a positive number"),
    "negative noise": (lambda: variance(sigma=-1), ValueError, "sigma = -1: give 0 or more"),
    "infinite fourth moment": (
        lambda: simulated(E(THETA**2, rule=LMS), AT, 99),
        ValueError,
        "no standard error; choose",
    ),
    "unstable run": (lambda: simulated(E(THETA), {**AT, "eta": 2}, 99), ValueError, "choose a smaller rate"),
    "unstable enumeration": (lambda: enumerated(E(THETA**2), {**EXACT, "eta": 3}), ValueError, "choose a stable rate"),
    "no long run": (
        lambda: lr.stationary(ANY).evaluate(THETA, {**AT, "eta": 3}),
        ValueError,
        "it needs eta*lam < 2; lower",
    ),
    "moments do not close": (
        lambda: lr.stationary(WELL)[THETA],
        ValueError,
        "E[theta] needs E[theta^3]; use enumerate",
    ),
    "moments not determined": (
        lambda: lr.stationary(DISTANCE)[THETA],
        ValueError,
        "is not determined; use enumerate_paths",
    ),
    "no long run of a kink": (lambda: long_run(DISTANCE, {"eta": 1}, THETA), ValueError, "use stationary_law"),
    "no matrix": (
        lambda: lr.stable_when(WELL),
        ValueError,
        "is not affine in its state: it has no matrix; simulate it",
    ),
    "unstable least squares": (lambda: FITTED.stationary_excess(1), ValueError, "from 0.588235 on; lower eta"),
    "diverging descent": (lambda: lr.in_sample_risk([[1]], [1], 1, 3, 5), ValueError, "choose a rate below 2"),
    # numbers that are none
    "nan": (lambda: variance(eta=NAN), ValueError, "eta = nan: give finite numbers"),
    "infinity": (lambda: variance(lam=INF), ValueError, "lam = inf: give finite numbers"),
    "nan in an array": (lambda: variance(eta=np.array([0.1, NAN])), ValueError, "eta = [0.1 nan]: give finite numbers"),
    "SymPy infinity": (lambda: variance(eta=sp.oo), ValueError, "eta = oo: give finite numbers"),
    "SymPy nan": (lambda: variance(eta=sp.nan), ValueError, "eta = nan: give finite numbers"),
    "imaginary": (lambda: variance(eta=sp.I), ValueError, "eta = I: give finite numbers"),
    "complex": (lambda: variance(eta=1j), TypeError, "eta = 1j is not a number"),
    "complex array": (lambda: variance(eta=np.array([1j])), TypeError, "is not a number or an array of numbers"),
    "text": (
        lambda: variance(eta="0.1"),
        TypeError,
        "eta = '0.1' is not a number or an array of numbers: give numbers, ",
    ),
    "bytes": (lambda: variance(eta=b"0.1"), TypeError, "eta = b'0.1' is not a number"),
    "text in a list": (lambda: variance(eta=["0.1"]), TypeError, "eta = ['0.1'] is not a number"),
    "truth value": (lambda: variance(eta=True), TypeError, "eta = True is not a number"),
    "NumPy truth value": (lambda: variance(eta=np.True_), TypeError, "eta = True is not a number"),
    "None": (lambda: variance(eta=None), TypeError, "takes eta, lam, sigma; eta is missing: give it a value"),
    "dictionary": (lambda: variance(eta={}), TypeError, "eta = {} is not a number"),
    "ragged list": (lambda: variance(eta=[[0.1], [0.2, 0.3]]), TypeError, "eta = [[0.1], [0.2, 0.3]] is not a number"),
    "date": (lambda: variance(eta=np.datetime64("2020-01-01")), TypeError, "eta = 2020-01-01 is not a number"),
    "symbol": (lambda: variance(eta=lr.symbol("eta")), TypeError, "use claim.formula.subs for symbols"),
    "shapes that do not fit": (
        lambda: variance(eta=[1, 1], lam=[1, 1, 1]),
        ValueError,
        "eta has (2,), lam has (3,); give",
    ),
    "fraction of a step": (lambda: mean(t=1.5), ValueError, "t = 1.5: it is counted in whole numbers"),
    "negative time": (lambda: mean(t=-1), ValueError, "t = -1: give 0 or more"),
    "beyond floats": (
        lambda: mean(theta0=10**400),
        ValueError,
        "is too large for a float: give a smaller one, or exact",
    ),
    # names
    "unknown claim": (lambda: lr.claim("noise_flor.variance"), KeyError, "did you mean noise_floor.variance"),
    "no claim at all": (lambda: lr.claim(None), KeyError, "python -m lrtheory claims lists them"),
    "unknown parameter": (lambda: variance(lambda_=1), TypeError, "there is no 'lambda_': did you mean 'lam'"),
    "missing parameter": (
        lambda: lr.claim("noise_floor.mean")(eta=1),
        TypeError,
        "lam, theta0, t is missing: give it a",
    ),
    "unnamed parameters": (
        lambda: lr.claim("noise_floor.variance")(0.1, 1, 1),
        TypeError,
        "takes its parameters by name: write eta=0.1",
    ),
    "missing value of a rule": (
        lambda: lr.simulate(GAUSSIAN, {}, 1, 9),
        ValueError,
        "needs a value for eta, lam, sigma",
    ),
    "unknown value of a rule": (
        lambda: lr.simulate(COIN, {**AT, "x": 1}, 1, 9),
        ValueError,
        "has no parameter x: it has",
    ),
    "unknown replacement": (
        lambda: ANY.where({"x": 1}),
        ValueError,
        "has no parameter x: it has the parameters eta, lam",
    ),
    "unknown state": (
        lambda: lr.enumerate_paths(COIN, EXACT, 2, {"thet": 1}),
        ValueError,
        "start names thet: the state is",
    ),
    "unknown letter": (
        lambda: lr.enumerate_paths(COIN, EXACT, 2)[lr.symbol("x")],
        ValueError,
        "x, which is not in the state",
    ),
    "unknown model": (lambda: loss(model="x"), ValueError, "model = 'x': it is 'additive' or 'lms'"),
    # the wrong things
    "no rule": (lambda: lr.trace("sgd", landscapes.quadratic()), TypeError, "'sgd' is no update rule: give a function"),
    "no landscape": (lambda: lr.trace(optimizers.sgd, 3), TypeError, "3 is no landscape: give one, for instance"),
    "no law": (lambda: landscapes.quadratic("gaussian"), TypeError, "the noise xi is 'gaussian': give a law of noise"),
    "no recursion": (
        lambda: lr.enumerate_paths(3, EXACT, 2),
        TypeError,
        "3 is no recursion: make one with lrtheory.trace",
    ),
    "no claim to check": (lambda: lr.check(3), TypeError, "3 is no claim: give one, or the id of one"),
    "a seed below 0": (
        lambda: lr.check("noise_floor.mean", -1),
        ValueError,
        "seed = -1: give a whole number, 0 or more",
    ),
    "a seed of text": (
        lambda: lr.simulate(GAUSSIAN, AT, 1, 9, "x"),
        TypeError,
        "seed = 'x' is not a number: give a whole",
    ),
    "no executor": (
        lambda: lr.simulate(GAUSSIAN, AT, 1, 9, 0, 3),
        TypeError,
        "executor = 3: give one of concurrent.futures",
    ),
    "no recursion to simulate": (
        lambda: lr.simulate(optimizers.sgd, AT, 1, 9),
        TypeError,
        "make one with lrtheory.trace",
    ),
    "no recursion to derive": (lambda: lr.stationary(optimizers.sgd), TypeError, "make one with lrtheory.trace"),
    "no start": (
        lambda: lr.after(ANY, 2, start=3),
        TypeError,
        "start = 3: give a mapping from states to values, or the",
    ),
    "a start of text": (
        lambda: lr.simulate(GAUSSIAN, AT, 1, 9, start={"theta": "a"}),
        TypeError,
        "the start of theta = 'a'",
    ),
    "a start of nan": (
        lambda: lr.simulate(GAUSSIAN, AT, 1, 9, start={"theta": NAN}),
        ValueError,
        "the start of theta = nan",
    ),
    "a start from any law": (
        lambda: lr.simulate(GAUSSIAN, AT, 1, 9, start={"theta": (noise.any_law, 1)}),
        TypeError,
        "cannot be drawn: give a law such as noise.gaussian",
    ),
    "a start of another name": (
        lambda: lr.after(ANY, 2, start={lr.symbol("x"): 1}),
        ValueError,
        "start names x: the state",
    ),
    "a rate that is a function": (
        lambda: lr.simulate(GAUSSIAN, {**AT, "eta": schedules.constant(0.1)}, 9, 9),
        TypeError,
        "eta is a function: give its values, for instance lrtheory.schedules.rates(it, 9)",
    ),
    "a rate of text": (lambda: lr.simulate(GAUSSIAN, {**AT, "eta": "x"}, 9, 9), TypeError, "eta = 'x' is not a number"),
    "rates of the wrong length": (
        lambda: lr.simulate(GAUSSIAN, {**AT, "eta": [1]}, 9, 9),
        ValueError,
        "(1,) for 9 steps: give",
    ),
    "an observable of another letter": (
        lambda: lr.simulate(GAUSSIAN, AT, 9, 9, observables=[lr.symbol("x")]),
        ValueError,
        "the observables have x, and the state is theta: put in numbers",
    ),
    "not observed": (
        lambda: lr.simulate(GAUSSIAN, AT, 9, 9)[THETA**3],
        ValueError,
        "theta**3 was not observed: ask for one",
    ),
    "a look at half a step": (
        lambda: lr.simulate(GAUSSIAN, AT, 9, 9, at=[1.5]),
        ValueError,
        "at = [1.5]: give whole steps",
    ),
    "small floats": (lambda: lr.simulate(GAUSSIAN, AT, 9, 9, dtype="int8"), ValueError, "give 'float64' or 'float32'"),
    "a memory of the future": (
        lambda: lr.simulate(GAUSSIAN.remembering(), AT, 9, 9, recall=30),
        ValueError,
        "recall = 30: give a step up to 9, and a recursion made by",
    ),
    "chains that are text": (
        lambda: lr.simulate(GAUSSIAN, AT, 9, "x"),
        TypeError,
        "chains = 'x' is not a number: give a",
    ),
    "10**18 chains": (lambda: lr.simulate(GAUSSIAN, AT, 9, 10**18), ValueError, "give 2**53 at most"),
    "10**15 chains": (
        lambda: lr.simulate(GAUSSIAN, AT, 9, 10**15),
        ValueError,
        "would take months: give fewer, 1e+15 in all",
    ),
    "10**12 steps": (lambda: lr.simulate(GAUSSIAN, AT, 10**12, 9), MemoryError, "and 4 are allowed: give fewer steps"),
    "10**9 steps of moments": (lambda: lr.after(ANY, 10**9)[THETA], ValueError, "or a symbol for a closed form"),
    "half a step of moments": (lambda: lr.after(ANY, 1.5), ValueError, "steps = 1.5: give a whole number"),
    "a long run at nan": (
        lambda: lr.stationary(ANY).evaluate(THETA, {**AT, "eta": NAN}),
        ValueError,
        "eta = nan: give a finite",
    ),
    "two observables at once": (
        lambda: lr.stationary(ANY)[[THETA]],
        TypeError,
        "is no single expression: ask for one observable",
    ),
    "a sample of nan": (
        lambda: noise.empirical([NAN]),
        TypeError,
        "nan is no finite number: give integers or Fractions",
    ),
    "no list of samples": (lambda: noise.empirical(3), TypeError, "empirical() got 3: give a list of numbers"),
    "no mapping": (lambda: ANY.values(3), TypeError, "parameters = 3: give a mapping from names to values"),
    "a rule that decides": (
        lambda: rule(lambda theta, grad: theta if theta > 0 else 0),
        TypeError,
        "without deciding by the value of its state",
    ),
    "a rule for arrays": (
        lambda: rule(lambda theta, grad: np.sqrt(theta)),
        TypeError,
        "the sign and root of lrtheory.optim",
    ),
    "a rule of two gradients": (
        lambda: rule(lambda theta, grad: grad(theta) + grad(1)),
        TypeError,
        "call grad once and keep",
    ),
    "a rule that returns nothing": (
        lambda: rule(lambda theta, grad: None),
        TypeError,
        "None is no formula: write it with",
    ),
    "no goal": (lambda: steps_until(3, rule=LMS), TypeError, "the goal 3 is not an inequality in the state: write one"),
    "no pair": (lambda: E(THETA, rule=3), TypeError, "rule = 3: give a pair (optimizer, landscape), for instance"),
    "no phase": (lambda: E(THETA, 3), TypeError, "3 is no phase: give a pair (rate, steps), for instance (eta, 10)"),
    # exact methods
    "float for exact": (lambda: lr.enumerate_paths(COIN, AT, 2), TypeError, "for instance Fraction(1, 2)"),
    "text for exact": (
        lambda: lr.enumerate_paths(COIN, {**AT, "eta": "1/2"}, 2),
        TypeError,
        "eta = '1/2' is not an exact",
    ),
    "infinity for exact": (
        lambda: lr.enumerate_paths(COIN, {**AT, "eta": INF}, 2),
        TypeError,
        "eta = inf is not an exact",
    ),
    "nan for exact": (lambda: limit([NAN, NAN]), TypeError, "a term = nan is not an exact number: pass an integer"),
    "noise without end": (
        lambda: lr.enumerate_paths(GAUSSIAN, EXACT, 2),
        ValueError,
        "use recursion.with_noise(noise.rade",
    ),
    "half a step": (
        lambda: lr.enumerate_paths(COIN, EXACT, 1.5),
        ValueError,
        "steps = 1.5: give a whole number, 0 or more",
    ),
    "too few rates": (
        lambda: lr.enumerate_paths(COIN, {**EXACT, "eta": [1]}, 2),
        ValueError,
        "1 values for 2 steps: give one",
    ),
    "a root that is no fraction": (
        lambda: lr.enumerate_paths(
            lr.trace(optimizers.adam, landscapes.quadratic(noise.rademacher)),
            {**EXACT, "beta1": 0, "beta2": Fraction(1, 2), "epsilon": 0},
            3,
        ),
        ValueError,
        "choose a square, for instance 1",
    ),
    # sizes
    "no chains": (lambda: lr.simulate(GAUSSIAN, AT, 10, 0), ValueError, "chains = 0: give a whole number, 2 or more"),
    "half a chain": (
        lambda: lr.simulate(GAUSSIAN, AT, 10, 2.5),
        ValueError,
        "chains = 2.5: give a whole number, 2 or more",
    ),
    "a look after the end": (
        lambda: lr.simulate(GAUSSIAN, AT, 10, 9, at=[11]),
        ValueError,
        "at = [11]: give ",
    ),
    "leaving the floats": (
        lambda: lr.simulate(GAUSSIAN, {**AT, "eta": 50}, 400, 9),
        FloatingPointError,
        "a stable rate or",
    ),
    "10**9 steps of paths": (
        lambda: lr.enumerate_paths(COIN, EXACT, 10**9),
        ValueError,
        "use stationary_law or simulate",
    ),
    "10**12 paths a step": (
        lambda: lr.enumerate_paths(MANY, EXACT, 2),
        ValueError,
        "a step has 1099511627776 outcomes, and",
    ),
    "10**9 states": (
        lambda: lr.stationary_law(COIN, EXACT, max_states=10**9),
        ValueError,
        "max_states = 1000000000: give a",
    ),
    "10**9 exact steps": (
        lambda: mean(eta=Fraction(1, 10), t=10**9),
        ValueError,
        "t = 1000000000 makes exact numbers of more than 100000 digits: give a smaller one, or floats",
    ),
    "10**9 terms": (
        lambda: lr.claim("schedules.linear_mean")(lam=1.0, eta0=0.5, steps=10**9),
        ValueError,
        "steps = 1000000000: schedules.linear_mean takes step by step; give 10000000 at most",
    ),
    "10**9 copies": (
        lambda: landscapes.batched(landscapes.quadratic(), 10**9),
        ValueError,
        "give a whole number, 1 to 1000",
    ),
    "a table of 8 TB": (
        lambda: lr.LeastSquares(HUGE, np.zeros(10**6)),
        MemoryError,
        "and 4 are allowed: give fewer inputs",
    ),
    "8 TB of inputs": (lambda: lr.in_sample_risk(HUGE, HUGE[0], 1, 0.1, 1), MemoryError, "give fewer steps, or fewer"),
    "8 TB to convert": (
        lambda: lr.LeastSquares(np.broadcast_to(1, HUGE.shape), [1.0]),
        MemoryError,
        "X as an array of floats would take about 7.45e+03 GiB, and 4 are allowed: give fewer numbers",
    ),
    "10**12 curvatures": (lambda: loss(lams=np.broadcast_to(1.0, 10**12)), MemoryError, "give fewer,"),
    "10**12 losses": (
        lambda: loss(schedules.constant(0.1), steps=10**12),
        MemoryError,
        "say at which steps they are wanted",
    ),
    "10**15 rates": (
        lambda: schedules.rates(lambda t: 0.1, 10**15),
        MemoryError,
        "give fewer steps, or an array of rates",
    ),
    "10**30 steps": (lambda: loss(schedules.constant(0.1), steps=10**30, at=[1]), ValueError, "give 2**53 at most"),
    "10**14 coupled steps": (
        lambda: loss(schedules.constant(0.1), lams=np.ones(100), steps=10**12, model="lms", at=[10**12]),
        ValueError,
        "give 64 modes or fewer, or fewer steps",
    ),
    "10**12 searched rates": (
        lambda: lr.best_schedule(1, 1, 1, 10**12),
        MemoryError,
        "search for the best pieces instead",
    ),
    "10**12 steps of descent": (lambda: lr.in_sample_risk([[1]], [1], 1, 0.1, 10**12), MemoryError, "give fewer steps"),
    "a tolerance below rounding": (
        lambda: lr.escape_time(0.1, 1, 1e-30),
        ValueError,
        "no less than 1e-12; give that or more",
    ),
    "a rare escape": (lambda: lr.escape_time(1e-6, 0.01), ValueError, "raise eta * sigma or the tolerance"),
    "an escape beyond floats": (
        lambda: lr.escape_time(1, 1e200),
        ValueError,
        "sigma = 1e+200: give numbers up to 1e+06",
    ),
    # schedules
    "a schedule of text": (
        lambda: schedules.rates(lambda t: "0.1", 2),
        TypeError,
        "['0.1', '0.1'] is not a number or an array",
    ),
    "a schedule of None": (
        lambda: schedules.rates(lambda t: None, 2),
        TypeError,
        "the schedule = [None, None] is not a number",
    ),
    "a schedule of nan": (
        lambda: schedules.rates(lambda t: NAN, 2),
        ValueError,
        "the rate at step 0 is nan: rates must be",
    ),
    "a schedule below 0": (
        lambda: schedules.rates(schedules.linear(1, 4), 6),
        ValueError,
        "step 5 of a schedule that ends after 4 steps",
    ),
    "a schedule of lists": (
        lambda: schedules.rates(lambda t: [0.1] * (t + 1), 2),
        TypeError,
        "is not a number or an array of",
    ),
    "one number": (lambda: loss(0.1), ValueError, "the schedule has shape () for 1 steps: give one rate for each step"),
    "too short": (
        lambda: loss([0.1], steps=2),
        ValueError,
        "the schedule has shape (1,) for 2 steps: give one rate for each",
    ),
    "a constant of text": (
        lambda: schedules.constant("a"),
        TypeError,
        "the rates = ('a',) is not a number or an array of",
    ),
    "a drop before the start": (
        lambda: schedules.drop(1, 0.1, at=-1),
        ValueError,
        "the step of a change = -1: give a whole",
    ),
    "a line of no steps": (lambda: schedules.linear(1, 0), ValueError, "steps = 0: give a whole number, 1 or more"),
    "a division by 0": (lambda: schedules.inverse_time(1, 0), ValueError, "decay = 0: give a positive number"),
    "pieces without lengths": (
        lambda: schedules.piecewise([1], [1, 2]),
        ValueError,
        "give each value its number of steps, as",
    ),
    # the exact curves
    "no curvatures": (lambda: loss(lams=[]), ValueError, "lams = []: give one or more positive curvatures"),
    "a curvature of 0": (lambda: loss(lams=0), ValueError, "lams = [0.]: give one or more positive curvatures"),
    "noise of another length": (
        lambda: loss(lams=[1, 2], noise=[1, 2, 3]),
        ValueError,
        "give one number, or one for each",
    ),
    "negative variance": (lambda: loss(noise=-1), ValueError, "noise = -1: give variances of 0 or more"),
    "a start without a square": (
        lambda: loss(theta0=1e200),
        ValueError,
        "give finite starts whose squares are finite, too",
    ),
    "a batch of nan": (lambda: loss(batch=NAN), ValueError, "batch = nan: give a whole number, 1 or more"),
    "a look at text": (lambda: loss(at=["a"]), TypeError, "at = ['a'] is not a number or an array of numbers"),
    "a look at nan": (lambda: loss(at=[NAN]), ValueError, "at = [nan]: give whole steps between 0 and 1"),
    "nothing to learn": (
        lambda: lr.best_constant(1, 1, 0, 5),
        ValueError,
        "the run starts at the minimum, where the best rate",
    ),
    "more pieces than steps": (
        lambda: lr.best_pieces(1, 1, 1, 5, 9),
        ValueError,
        "pieces = 9 for 5 steps: give 1 to 5 pieces",
    ),
    "half a piece": (
        lambda: lr.best_pieces(1, 1, 1, 5, [2.5, 2.5]),
        ValueError,
        "a length = 2.5: give a whole number, 1 or",
    ),
    "a table of text": (lambda: lr.LeastSquares([["a"]], [1.0]), TypeError, "X = [['a']] is not a number or an array"),
    "a table of one row": (
        lambda: lr.LeastSquares([1.0], [1.0]),
        ValueError,
        "X has shape (1,): give a table: one row for",
    ),
    "a table with holes": (
        lambda: lr.LeastSquares([[NAN]], [1.0]),
        ValueError,
        "not finite numbers: remove them, or fill",
    ),
    "too large a batch": (
        lambda: lr.LeastSquares([[1.0]], [1.0], 2, False),
        ValueError,
        "only 1 samples; give 1 or fewer",
    ),
    # logs
    "no log": (lambda: logs.answer(None), TypeError, "log = None is no log: read one with lrtheory.read_log"),
    "columns of other lengths": (
        lambda: logs.TrainingLog(*map(np.zeros, (9, 9, 9, 8))),
        ValueError,
        "'grad_norm': (8,)}: give one number of each for each row",
    ),
    "no JavaScript": (lambda: lr.to_javascript(sp.gamma(THETA)), NotImplementedError, "or compute it in Python"),
    "a name that is code": (
        lambda: lr.to_javascript(THETA, name="alert(1)//"),
        ValueError,
        "name it with letters, digits and _",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_told_what_to_do(case):
    call, error, telling = CASES[case]
    with pytest.raises(error) as caught:
        call()
    message = caught.value.args[0]
    assert type(caught.value) is error
    assert telling in message
    assert len(message) < 400 and "\n" not in message
    assert re.search(r"[\w)\]'}?*]$", message), "a message ends with a word, without a full stop"
    assert re.search(r"[:;] |, which|because", message), "a message says what is wrong, then what to do"


def test_a_long_value_is_cut():
    assert len(inputs.shown("x" * 10**6)) == 60 and inputs.shown(10**5000) == "a number of thousands of digits"


# --- no text is evaluated ------------------------------------------------------------------------------------------

READERS = {
    "claim": lambda text: variance(eta=text),
    "claim, in an array": lambda text: variance(eta=[text]),
    "claim, of a curvature": lambda text: variance(lam=text),
    "E": lambda text: E(text),
    "E, rate": lambda text: E(THETA, (text, 1)),
    "E, steps": lambda text: E(THETA, (1, text)),
    "E, start": lambda text: E(THETA, start={THETA: text}),
    "E, where": lambda text: E(THETA, sigma=text),
    "settings": lambda text: enumerated(E(THETA), {**EXACT, "eta": text}),
    "stationary": lambda text: lr.stationary(ANY)[text],
    "stationary, at": lambda text: lr.stationary(ANY).evaluate(THETA, {**AT, "eta": text}),
    "after, steps": lambda text: lr.after(ANY, text),
    "after, start": lambda text: lr.after(ANY, 2, {THETA: text})[THETA],
    "simulate": lambda text: lr.simulate(GAUSSIAN, AT, 2, 9, observables=[text]),
    "simulate, rate": lambda text: lr.simulate(GAUSSIAN, {**AT, "eta": text}, 2, 9),
    "simulate, start": lambda text: lr.simulate(GAUSSIAN, AT, 2, 9, start={"theta": text}),
    "simulation": lambda text: lr.simulate(GAUSSIAN, AT, 2, 9)[text],
    "steps_until": lambda text: steps_until(text, rule=LMS),
    "steps_until, start": lambda text: steps_until(THETA > 1, rule=LMS, start=text),
    "in_epoch": lambda text: in_epoch(text, LMS),
    "on_fixed_data": lambda text: on_fixed_data(text, 1, rule=LMS),
    "enumerate_paths": lambda text: lr.enumerate_paths(COIN, {**EXACT, "eta": text}, 2),
    "enumerate_paths, start": lambda text: lr.enumerate_paths(COIN, EXACT, 2, {"theta": text}),
    "paths": lambda text: lr.enumerate_paths(COIN, EXACT, 2)[text],
    "limit": lambda text: limit([text] * 4),
    "where": lambda text: ANY.where({"eta": text}),
    "contraction": lambda text: lr.contraction(ANY, {**AT, "eta": text}),
    "trace": lambda text: rule(lambda theta, grad: text),
    "trace, gradient": lambda text: rule(lambda theta, grad: grad(text)),
    "to_javascript": lambda text: lr.to_javascript(text),
    "schedule": lambda text: schedules.rates(lambda t: text, 2),
    "expected_loss": lambda text: loss(lams=text),
    "LeastSquares": lambda text: lr.LeastSquares([[text]], [1.0]),
    "escape_time": lambda text: lr.escape_time(text, 1),
    "empirical": lambda text: noise.empirical([text]),
    "quick_win": lambda text: lr.quick_win(text, 1.0),
    "command line": lambda text: sys.exit(main(["evaluate", "noise_floor.variance", f"eta={text}", "lam=1"])),
    "command line, id": lambda text: sys.exit(main(["evaluate", text])),
    "command line, rate": lambda text: sys.exit(main(["quick-win", "--lr", text, "--grad-norm-sq", "1"])),
}


@pytest.mark.parametrize("reader", READERS)
def test_text_is_never_evaluated(reader, tmp_path, capsys):
    trace = tmp_path / "evaluated"
    with pytest.raises((TypeError, ValueError, KeyError, SystemExit)) as caught:
        READERS[reader](f"__import__('pathlib').Path({str(trace)!r}).touch() or 1")
    assert not trace.exists(), "text was run as code"
    assert not isinstance(caught.value, SystemExit) or caught.value.code == 2


EVALUATE = {"eval", "exec", "compile", "parse_expr", "loads", "literal_eval", "system", "popen"}
FILES = sorted(Path(lr.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_module_calls_what_evaluates_text(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = {f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in (call.func for call in calls)}
    if path.name != "inputs.py":  # which refuses text first
        assert not {"sympify", "S"} & {call.func.attr for call in calls if isinstance(call.func, ast.Attribute)}
    allowed = {"loads", "compile"}  # json.loads and re.compile
    assert not names & EVALUATE - allowed
    for call in calls:
        if isinstance(call.func, ast.Attribute) and call.func.attr in allowed:
            assert ast.unparse(call.func) in {"json.loads", "re.compile"}


# --- the command line ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "telling"),
    [
        (["evaluate", "noise_floor.variance", "eta=3", "lam=1", "sigma=1"], "lower eta below 2/lam"),
        *(
            (["evaluate", "noise_floor.variance", f"eta={text}", "lam=1"], f"eta = '{text[:50]}")
            for text in ("nan", "inf", "true", "1e999", "1/0", "", "1_0", "\uff11", "1" * 400, "1" * 5000)
        ),
        (["evaluate", "noise_floor.variance", "eta=1", "eta=2"], "eta was given twice"),
        (["evaluate", "noise_floor.variance", "lambda=x"], "there is no 'lambda': did you mean 'lam'"),
        (["evaluate", "noise_floor"], "noise_floor is a chapter, not a claim: did you mean noise_floor."),
        (["evaluate", "NOISE_FLOOR.VARIANCE"], "did you mean noise_floor.variance"),
        (
            ["evaluate", "schedules.worst_case_bound", "schedule=co_sine", "steps=9"],
            "schedule = 'co_sine': give 'constant' or",
        ),
        (["evaluate", "noise_floor.variance", "eta", "lam=1", "sigma=1"], "is not of the form name=value"),
        (["evaluate", "noise_floor.variance", "eta=0.1"], "lam, sigma is missing: give it a value"),
        (["evaluate", "noise_floor.varianc", "eta=1"], "did you mean noise_floor.variance"),
        (
            ["evaluate", "noise_floor.mean", "eta=1/3", "lam=1", "theta0=1", "t=1000000000"],
            "give a smaller one, or floats",
        ),
        (["check", "nois"], "did you mean"),
        (["check", "noise_floo"], "did you mean noise_floor?"),
        (["check", "--seed", "x"], "--seed = 'x' is not a number"),
        (["check", "--see", "1"], "'--see' is not known here: see python -m lrtheory check --help"),
        (["chekc"], "there is no command 'chekc': did you mean check?"),
        (["x" * 10**5], "there are claims, evaluate, check, quick-win"),
        (["quick-win", "--lr", "0.5"], "give --grad-norm-sq, the mean of its squared norm"),
        (["quick-win", "--lr", "-1e-3", "--grad-norm-sq", "1"], "--lr = -0.001: give a positive number"),
        (["quick-win", "--lr", "1e400", "--grad-norm-sq", "1"], "--lr = '1e400' is not a number that a float can hold"),
        (["quick-win", "--lr", "1e308", "--grad-norm-sq", "1e308"], "--grad-norm-sq = 1e+308"),
        (["quick-win", "--lr", "1", "--lr", "2", "--grad-norm-sq", "1"], "'--lr' was given twice"),
        (["quick-win", "--lr", "1", "--grad-norm-sq", "1", "--new-lr", "2"], "--new-lr = 2.0 is not below --lr = 1"),
        (["quick-win", "--lr", "1", "--grad-norm-sq", "1", "--plot", "x.svg"], "there is nothing to draw"),
        (["quick-win", ""], "'' is not the name of a file"),
        (["quick-win", "run\0.csv"], r"'run\x00.csv' is not the name of a file"),
        (["quick-win", "--lr", "0.1", "--grad-norm-sq", "-1"], "a squared norm is 0 or more"),
        ([], "the following arguments are required: command"),
    ],
    ids=lambda value: " ".join(value)[:40] or "nothing" if isinstance(value, list) else "",
)
def test_the_command_line_says_what_is_wrong_and_exits_with_2(arguments, telling, capsys):
    try:
        code = main(arguments)
    except SystemExit as error:  # argparse
        code = error.code
    out, err = capsys.readouterr()
    assert code == 2 and out == ""
    assert telling in err and "Traceback" not in err and len(err) < 400


def test_the_command_line_takes_a_list_of_curvatures(capsys):
    assert main(["evaluate", "minibatch.lms_excess", "eta=1/6", "lams=1,2", "sigma=2", "batch=2"]) == 0
    assert capsys.readouterr().out == "20/53\n"


HEADER = "step,loss,learning_rate,grad_norm"
LOGS = {
    "a column twice": (f"{HEADER},loss\n1,1,1,1,2\n", "line 1: loss stands there twice"),
    "no rows": (HEADER, "has no rows under its header"),
    "semicolons": (HEADER.replace(",", ";"), "separate them by commas, not by ';'"),
    "tabs": (HEADER.replace(",", "\t"), r"separate them by commas, not by '\t'"),
    "UTF-16": (HEADER.encode("utf-16"), "unpack it first if it is compressed, and save it as UTF-8 text with commas"),
    "UTF-16, not marked": (HEADER.encode("utf-16-le"), "null characters): unpack it first"),
    "compressed": (gzip.compress(HEADER.encode()), "unpack it first"),
    "a blank first line": (
        f"\n{HEADER}\n",
        "line 1 lacks the columns step, loss, learning_rate, grad_norm (it is blank)",
    ),
    "a comment": (f"# run 7\n{HEADER}\n", "(it is '# run 7'): name the columns"),
    "a long header": ("x" * 10**5, "xxx…): name the columns"),
    "a cell of two lines": (f'{HEADER},note\n1,1,1,1,"a\nb"\n2,x,1,1,c\n', "line 4: loss = 'x' is not a number"),
    "a space before a quote": (f'{HEADER}\n1, "0.9",1,1\n2,x,1,1\n', "line 3: loss = 'x' is not"),
    "steps that fall": (f"{HEADER}\n5,1,1,1\n\n4,1,1,1\n", "line 4: step = 4 does not rise above 5; give one run"),
    "a negative rate": (f"{HEADER}\n1,1,-1,1\n", "line 2: learning_rate = '-1' is negative"),
    "an underscore": (f"{HEADER}\n1_000,1,1,1\n", "step = '1_000' is not a number"),
    "digits of another script": (f"{HEADER}\n\uff11,1,1,1\n", "step = '\uff11' is not a number"),
    "a long cell": (f"{HEADER}\n{'x' * 10**5},1,1,1\n", "xxx… is not a number; mend or drop the line"),
    "a huge loss": (f"{HEADER}\n1,1e308,1,1\n", "loss = '1e308' is beyond 1e+75"),
    "a huge norm": (f"{HEADER}\n1,1,1,1e200\n", "grad_norm = '1e200' is beyond 1e+75"),
    "a huge step": (f"{HEADER}\n1e300,1,1,1\n", "step = '1e300' is beyond 9.0072e+15"),
}


@pytest.mark.parametrize("case", LOGS)
def test_a_bad_log_is_told_what_to_do(case, tmp_path, monkeypatch, capsys):
    text, telling = LOGS[case]
    monkeypatch.chdir(tmp_path)
    Path("run.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["quick-win", "run.csv"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and telling in err
    assert err.count("\n") == 1 and len(err) < 400


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a log."""
    rows = (f"{t},{2 + t % 7},0.1,{1 + t % 5}" for t in range(200))
    (tmp_path / "run.csv").write_text("\n".join([HEADER, *rows]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize(
    ("plot", "telling"),
    [
        ("", "'' is not the name of a file"),
        (".", "--plot .: the picture is an SVG file; give a name that ends in .svg"),
        ("x.png", "give a name that ends in .svg"),
        ("no/x.svg", "the picture no/x.svg cannot be written (No such file or directory): name another"),
        ("log.svg", "would replace the log itself: name another"),
        ("pipe.svg", "would replace what is not a regular file: name another"),
    ],
)
def test_a_picture_replaces_nothing_else(folder, plot, telling, capsys):
    os.link("run.csv", "log.svg")
    os.mkfifo("pipe.svg")
    before = sorted(folder.iterdir())
    assert main(["quick-win", "run.csv", "--plot", plot]) == 2
    out, err = capsys.readouterr()
    assert out == "" and telling in err
    assert sorted(folder.iterdir()) == before and (folder / "pipe.svg").is_fifo()


def test_a_picture_is_written_through_a_link(folder):
    Path("link.svg").symlink_to("real.svg")
    assert main(["quick-win", "run.csv", "--plot", "link.svg"]) == 0
    assert Path("link.svg").is_symlink() and Path("real.svg").read_text().startswith("<?xml")


def test_a_picture_that_fails_late_is_named(folder, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device", ".x.svg.v5hrj2rd")

    monkeypatch.setattr(logs.os, "replace", full)
    assert main(["quick-win", "run.csv", "--plot", "x.svg"]) == 2
    out, err = capsys.readouterr()
    assert "mean loss" in out and [path.name for path in folder.iterdir()] == ["run.csv"]
    assert err == "lrtheory: the picture x.svg cannot be written (No space left on device): name another with --plot\n"


VALUE = "evaluate noise_floor.variance eta=1/10 lam=1 sigma=1"
STREAMS = {
    "a full disk": (
        f"{VALUE} > /dev/full",
        2,
        "lrtheory: the standard output: No space left on device; give it a place",
    ),
    "an output that is closed": (f"{VALUE} >&-", 2, "lrtheory: the standard output is closed: there is no"),
    "errors that are closed": ("evaluate x 2>&-", 2, ""),
    "errors on a full disk": ("evaluate x 2> /dev/full", 2, ""),
    "a check without errors": ("check noise_floor.mean >/dev/null 2>&-", 0, ""),
    "a reader that has left": ("quick-win run.csv | true; test -e run.csv.quick-win.svg", 0, ""),
    "a log that is piped": ("quick-win <(cat run.csv) >/dev/null", 0, ""),
    "an encoding without ±, a backend that is none": (
        "quick-win run.csv > /dev/null && test -e run.csv.quick-win.svg",
        0,
        "",
    ),
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_that_fails_is_one_line_at_most(folder, case, unbuffered):
    command, code, told = STREAMS[case]
    environment = {**os.environ, "PYTHONPATH": str(Path(lr.__file__).parents[1]), "PYTHONUNBUFFERED": unbuffered}
    environment |= {"PYTHONIOENCODING": "ascii", "MPLBACKEND": "bogus"}
    line = f"set -o pipefail; '{sys.executable}' -m lrtheory {command}"
    run = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (code, "")
    assert run.stderr.startswith(told) and run.stderr.count("\n") == bool(told)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal that a test can hold")
def test_an_interrupted_check_says_so_and_leaves_nothing_behind(tmp_path):
    ours, theirs = os.openpty()
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a job in the background is deaf
    code = f"{heard}; import sys; from lrtheory.__main__ import main; sys.exit(main(['check', 'noise_floor']))"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(Path(lr.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=theirs) as run:
        os.close(theirs)
        seen = b""
        while b"1/" not in seen:  # the first claim is done
            seen += os.read(ours, 1000)
        run.send_signal(signal.SIGINT)
        out = run.stdout.read()
        assert run.wait(20) == 130
    said = b""
    while b"interrupted" not in said:
        said += os.read(ours, 1000)
    os.close(ours)
    assert said.rstrip().endswith(b"lrtheory: interrupted") and b"Traceback" not in said
    assert out == b"" and not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody can write, not even root")
def test_nothing_needs_a_folder_to_write_in():
    nowhere = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), "/proc/nowhere")
    environment = {**os.environ, **nowhere, "PYTHONPATH": str(Path(lr.__file__).parents[1])}
    code = (
        "from lrtheory.__main__ import main; import lrtheory as lr;"
        "main(['evaluate', 'noise_floor.variance', 'eta=1/10', 'lam=1', 'sigma=1']);"
        "print(lr.check('noise_floor.mean').passed)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd="/proc", env=environment, capture_output=True, text=True)
    assert (run.stdout, run.stderr, run.returncode) == ("1/19\nTrue\n", "", 0)
