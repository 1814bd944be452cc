"""The core modules against references written out here: what mutation testing (tests/mutate.py) found untested."""

import threading
from concurrent.futures import Future
from fractions import Fraction as F
from itertools import product

import numpy as np
import pytest
import sympy as sp

import lrtheory as lr
from lrtheory import enumeration, monte_carlo
from lrtheory.enumeration import fixed_moment, limit, long_run, stationary_law
from lrtheory.inputs import shown
from lrtheory.ledger import (
    DIM,
    LAMS,
    MODE,
    AtLeast,
    AtMost,
    Claim,
    Condition,
    Equals,
    Minimum,
    Order,
    Rival,
    Root,
    largest,
    over_modes,
    written_out,
)
from lrtheory.recursion import Recursion

theta, v, w, eta, lam, sigma, t = (lr.symbol(name) for name in ("theta", "v", "w", "eta", "lam", "sigma", "t"))
xi = sp.Symbol("xi", real=True)
SKEW = lr.noise.finite("skew", [(-2, F(1, 5)), (F(1, 2), F(4, 5))])  # mean 0, variance 1, a negative third moment
PLAIN = lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic(SKEW))
AT = {"eta": F(1, 2), "lam": F(3, 4), "sigma": F(3, 2)}
HALF = sp.Rational(1, 2)


def rule(state, next_state, noises=(), parameters=()):
    return Recursion(tuple(state), tuple(parameters), tuple(noises), tuple(map(sp.sympify, next_state)))


def followed(rec, at, steps, start):
    """The law of the state by the rule itself, SymPy numbers in and out."""
    put_in = {s: sp.Rational(at[s.name]) for s in rec.parameters}
    law = {tuple(map(sp.Rational, start)): F(1)}
    for _ in range(steps):
        new = {}
        for state, p in law.items():
            for draw in product(*(noise.support for _, noise in rec.noises)):
                values = put_in | dict(zip(rec.state, state, strict=True))
                values |= {s: sp.Rational(x) for (s, _), (x, _) in zip(rec.noises, draw, strict=True)}
                end = tuple(f.subs(values) for f in rec.next_state)
                share = p
                for _, q in draw:
                    share *= q
                new[end] = new.get(end, 0) + share
        law = new
    return law


def mean(law, f):
    return sum(sp.Rational(p) * f(*state) for state, p in law.items())


# --- moments ---------------------------------------------------------------------------------------------------------

LADDERS = {
    "powers of t": ([theta + 1, v + theta, w + v], 3),
    "powers of t, forgotten": ([theta + 1, v + theta, w / 2 + v], 2),
    "one base": ([theta / 3, v / 3 + theta, w / 3 + v], 1),
    "one base, forgotten": ([theta / 3, v / 3 + theta, w / 2 + v], 1),
}


@pytest.mark.parametrize("name", LADDERS)
def test_the_closed_form_of_coinciding_bases_is_the_iteration(name):
    next_state, degree = LADDERS[name]
    rec = rule((theta, v, w), next_state)
    start = {theta: 2, v: -1, w: 5}
    for x in (w, w**2) if degree == 1 and "forgotten" in name else (w, v):
        form = lr.after(rec, t, start=start)[x]
        state = (2, -1, 5)
        for steps in range(5):
            expected = x.subs(dict(zip(rec.state, state, strict=True)))
            assert sp.simplify(form.subs(t, steps) - expected) == 0
            assert lr.after(rec, steps, start=start)[x] == expected
            state = tuple(sp.sympify(f).subs(dict(zip(rec.state, state, strict=True))) for f in next_state)


@pytest.mark.parametrize("power", [1, 2, 3])
def test_the_closed_form_of_the_moments_is_the_mean_over_all_paths(power):
    form, at = lr.after(PLAIN, t, start={theta: 3})[theta**power], {s: AT[s.name] for s in PLAIN.parameters}
    for steps in range(4):
        law = followed(PLAIN, AT, steps, [3])
        assert form.subs(at).subs(t, steps) == mean(law, lambda x: x**power)
        assert lr.after(PLAIN, steps, start={theta: 3})[theta**power].subs(at) == mean(law, lambda x: x**power)


def test_an_even_power_is_written_with_the_sign_that_is_positive_for_a_small_rate():
    second = lr.after(PLAIN, t)[theta**2]
    assert second.has((1 - eta * lam) ** (2 * t)) and not second.has((eta * lam - 1) ** (2 * t))
    mirrored = rule((theta,), [theta * (eta * lam - 1)], (), [eta, lam])
    assert lr.after(mirrored, t, start={theta: 1})[theta**4] == (1 - eta * lam) ** (4 * t)
    cubed = lr.after(mirrored, t, start={theta: 1})[theta**3]
    assert [cubed.subs({eta: HALF, lam: 1, t: k}) for k in range(3)] == [1, -sp.Rational(1, 8), sp.Rational(1, 64)]


def test_three_states_and_two_noises_have_the_moments_of_their_paths():
    zeta = sp.Symbol("zeta", real=True)
    kick = lr.noise.finite("kick", [(1, F(1, 3)), (0, F(2, 3))])
    rec = rule((theta, v, w), [theta / 2 + xi, v + xi * zeta, w * zeta - theta], [(xi, SKEW), (zeta, kick)])
    law = followed(rec, {}, 2, [1, 2, 3])
    for x in (w**2, v * w, theta * v, v**3):
        found = lr.after(rec, 2, start={theta: 1, v: 2, w: 3})[x]
        assert found == mean(law, sp.lambdify(rec.state, x))
        assert lr.enumerate_paths(rec, {}, 2, {"theta": 1, "v": 2, "w": 3})[x] == found


def test_a_stationary_mean_that_is_not_zero_enters_the_higher_moments():
    rec = rule((theta, v), [theta / 2 + eta + xi, v / 3 + theta], [(xi, SKEW)], [eta])
    for x in (theta, theta**2, theta**3, theta * v, v**2):
        assert lr.stationary(rec)[x].subs(eta, 3) == long_run(rec, {"eta": 3}, x)


def test_moments_that_grow_slowly_have_no_stationary_value():
    rec = lr.trace(lr.optimizers.sgd, lr.landscapes.linear_regression(lr.noise.gaussian))
    at = {"eta": F(3, 4), "lam": 1, "sigma": 1}  # E[(1 - eta x^2)^2] = 19/16
    assert lr.stationary(rec).evaluate(theta, at) == 0
    with pytest.raises(ValueError, match=r"degree 2 grow by 1\.188 a step"):
        lr.stationary(rec).evaluate(theta**2, at)
    for nothing in (float("nan"), sp.oo, sp.I):
        with pytest.raises(ValueError, match=f"sigma = {nothing}: give a finite number"):
            lr.stationary(rec).evaluate(theta, at | {"sigma": nothing})


def test_a_moment_that_keeps_its_start_or_cannot_be_asked_for_is_refused():
    with pytest.raises(ValueError, match=r"E\[theta\] has no stationary value: it keeps its start"):
        lr.stationary(rule((theta,), [theta + xi], [(xi, SKEW)]))[theta]
    with pytest.raises(ValueError, match="is not a polynomial in theta, their signs and the noise"):
        lr.stationary(PLAIN)[1 / theta]
    with pytest.raises(ValueError, match=r"E\[theta\] needs E\[theta\^2\]"):
        lr.after(rule((theta,), [theta - theta**2]), 2)[theta]
    with pytest.raises(ValueError, match="the moments are coupled"):
        lr.after(lr.trace(lr.optimizers.heavy_ball, lr.landscapes.quadratic()), t)[theta**2]


def test_steps_of_moments_are_taken_one_by_one_up_to_a_limit():
    assert lr.after(PLAIN, 10_000)[sp.S.One] == 1
    with pytest.raises(ValueError, match="steps = 10001 are taken one by one: give 10000 at most"):
        lr.after(PLAIN, 10_001)[sp.S.One]


def test_the_signs_are_part_of_the_algebra():
    rec = rule((theta,), [theta - eta * sp.sign(theta) + sigma * xi], [(xi, SKEW)], [eta, sigma])
    s = lr.stationary(rec)
    assert s[sp.Abs(theta)] == (eta**2 + sigma**2) / (2 * eta) and s[sp.sign(theta)] == 0
    assert s[sp.sign(theta) ** 2] == 1 and s[sp.sign(theta) ** 3] == 0
    start = lr.after(rec, 0, start={theta: -3})
    assert start[sp.Abs(theta) * theta] == -9 and start[sp.sign(theta)] == -1
    for moments, x in ((lr.after(rec, 2, start={theta: -3}), theta), (lr.stationary(PLAIN), sp.Abs(theta))):
        with pytest.raises(ValueError, match=r"do not close: E\[.*sign\(theta\)\] of the next state is no polynomial"):
            moments[x]


def test_a_start_is_symbols_unless_it_is_given():
    rec = lr.trace(lr.optimizers.heavy_ball, lr.landscapes.quadratic(SKEW))
    letter = lr.symbol("theta0")
    assert lr.after(rec, 0)[theta] == letter and lr.after(rec, 0)[v] == 0
    again = rec.remembering()
    was = again.state[2]
    assert was.name == "theta_was" and lr.after(again, 0)[theta * was] == letter**2
    covariance = lr.after(PLAIN.remembering(), 2, start=lr.stationary(PLAIN))[theta * was]
    assert sp.simplify(covariance - (1 - eta * lam) ** 2 * lr.stationary(PLAIN)[theta**2]) == 0


# --- enumeration -----------------------------------------------------------------------------------------------------


def test_what_counts_as_an_exact_number():
    for value in (3, np.int64(3), F(3), sp.Integer(3)):
        found = enumeration.exact("x", value)
        assert found == 3 and type(found) is F and type(found.numerator) is int
    assert enumeration.exact("x", sp.Rational(2, 7)) == F(2, 7)
    for value, hint in (
        (0.25, "1, 4"),
        (sp.Float("0.125"), "1, 8"),
        (float("inf"), "p, q"),
        ("x", "p, q"),
        (True, "p"),
    ):
        with pytest.raises(TypeError, match=rf"is not an exact number: .* Fraction\({hint}"):
            enumeration.exact("x", value)
    with pytest.raises(TypeError, match=r"Fraction\(1, 999\)"):
        enumeration.exact("x", 1 / 999)
    with pytest.raises(TypeError, match=r"Fraction\(0, 1\)"):
        enumeration.exact("x", 1 / 100_000)


def test_sign_and_root_stay_in_fractions():
    rec = rule((theta,), [sp.sign(theta) * sp.sqrt(sp.Abs(theta)) + 1 / sp.sqrt(eta) - HALF], (), [eta])
    for start, end in ((F(4, 9), F(2, 3)), (F(-1, 4), F(-1, 2)), (0, 0)):
        assert lr.enumerate_paths(rec, {"eta": F(9, 4)}, 1, {"theta": start})[theta] == end + sp.Rational(1, 6)
    with pytest.raises(ValueError, match="square root of 3 is not a fraction: choose a square, for instance 1"):
        lr.enumerate_paths(rec, {"eta": 3}, 1)
    with pytest.raises(TypeError, match="which is not a fraction"):
        lr.enumerate_paths(rule((theta,), [sp.pi + theta]), {}, 1)
    assert [enumeration._plain(F(x)) for x in (3, F(1, 2))] == [3, F(1, 2)]
    assert type(enumeration._plain(F(3))) is int


def test_the_laws_are_those_of_the_paths():
    rec = lr.trace(lr.optimizers.averaged, lr.landscapes.quadratic(SKEW))
    at = AT | {"gamma": F(2, 3)}
    paths = lr.enumerate_paths(rec, at, 3, {"theta": 2})
    for steps in range(4):
        expected = followed(rec, at, steps, [2, 0])
        assert {tuple(map(sp.Rational, s)): p for s, p in paths.law(steps).items()} == expected
        x = rec.state[0] * rec.state[1] + rec.state[1] ** 2
        assert paths.curve(x)[steps] == mean(expected, sp.lambdify(rec.state, x))
    assert paths.law() == paths.law(-1) == paths.law(3) and paths[x] == paths.curve(x)[3]
    for step in (-2, 4):
        with pytest.raises(ValueError, match=f"step = {step}: 3 steps were enumerated"):
            paths.law(step)


def test_paths_are_continued_where_they_ended_and_recalled():
    first = lr.enumerate_paths(PLAIN, AT, 2, {"theta": 1})
    both = lr.enumerate_paths(PLAIN, AT, 3, {"theta": 1})
    assert lr.enumerate_paths(PLAIN, AT, 1, first).law() == both.law()
    again = lr.enumerate_paths(PLAIN.remembering(), AT, 0, first)
    assert all(state[0] == state[1] for state in again.law()) and again[theta] == first[theta]
    two, at = lr.trace(lr.optimizers.heavy_ball, lr.landscapes.quadratic(SKEW)), AT | {"beta": F(1, 2)}
    recalled = lr.enumerate_paths(two.remembering(), at, 0, lr.enumerate_paths(two, at, 1))
    assert all(len(state) == 4 and state[:2] == state[2:] for state in recalled.law())


def test_a_schedule_gives_the_value_of_each_step():
    rates = [F(1, 2), F(1, 4), F(1, 8)]
    found = lr.enumerate_paths(PLAIN, {**AT, "eta": tuple(rates)}, 3, {"theta": 2})
    law = {(F(2),): F(1)}
    for rate in rates:
        one = [(followed(PLAIN, AT | {"eta": rate}, 1, state), p) for state, p in law.items()]
        law = {}
        for ends, p in one:
            for end, q in ends.items():
                law[end] = law.get(end, 0) + p * q
    assert found[theta**3] == mean(law, lambda x: x**3)
    for length in (2, 4):
        with pytest.raises(ValueError, match=f"eta has {length} values for 3 steps"):
            lr.enumerate_paths(PLAIN, {**AT, "eta": [1] * length}, 3)


def test_the_limits_of_enumeration_are_where_they_are_said_to_be(monkeypatch):
    monkeypatch.setattr(enumeration, "MAX_STATES", 4)
    assert len(lr.enumerate_paths(PLAIN, AT, 2).law()) == 4
    assert len(lr.enumerate_paths(rule((theta,), [theta]), {}, 4).curve(theta)) == 5
    with pytest.raises(ValueError, match="step 3 has more than 4 different states: enumerate fewer than 3 steps"):
        lr.enumerate_paths(PLAIN, AT, 3)
    with pytest.raises(ValueError, match=r"steps = 5: .* enumerate 4 steps at most"):
        lr.enumerate_paths(rule((theta,), [theta]), {}, 5)
    zeta, chi = sp.symbols("zeta chi", real=True)
    two = [(xi, lr.noise.rademacher), (zeta, lr.noise.rademacher)]
    assert lr.enumerate_paths(rule((theta,), [xi + 2 * zeta], two), {}, 1)[theta**2] == 5
    with pytest.raises(ValueError, match="a step has 8 outcomes, and 4 can be followed"):
        lr.enumerate_paths(rule((theta,), [theta], [*two, (chi, lr.noise.rademacher)]), {}, 1)


def test_fractions_may_grow_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(enumeration, "MAX_BITS", 5)
    halved = rule((theta,), [theta / 2])
    assert lr.enumerate_paths(halved, {}, 4, {"theta": 1})[theta] == sp.Rational(1, 16)
    with pytest.raises(ValueError, match="fractions of step 5 grow beyond 5 bits: enumerate fewer than 5 steps"):
        lr.enumerate_paths(halved, {}, 5, {"theta": 1})


def test_the_limit_of_a_sequence_needs_its_proof():
    def terms(n, *parts):
        return [5 + sum(c * base**k for c, base in parts) for k in range(n)]

    one, two = ((3, F(1, 3)),), ((3, F(1, 3)), (-7, F(-1, 2)))
    assert limit(terms(4, *one)) == limit(terms(6, *two)) == limit(terms(9, *two)) == limit([5, 5, 5]) == 5
    for short in (terms(3, *one), terms(5, *two), [5]):
        with pytest.raises(ValueError, match=f"{len(short)} terms do not settle on a limit"):
            limit(short)
    for base in (-1, F(11, 10)):
        with pytest.raises(ValueError, match="the terms do not converge"):
            limit(terms(6, (1, base)))


def test_the_fixed_moment_is_the_stationary_one():
    rec = lr.trace(lr.optimizers.nesterov, lr.landscapes.quadratic(SKEW))
    at = AT | {"beta": F(1, 4)}
    put_in = {s: sp.Rational(at[s.name]) for s in rec.parameters}
    for x in (theta**2 * v, theta * v + 3, v**2, theta):
        assert long_run(rec, at, x) == lr.stationary(rec)[x].subs(put_in)
    divided = rule((theta,), [theta / (3 + xi) + xi], [(xi, lr.noise.rademacher)])  # slopes 1/2 and 1/4
    mean_square = sp.Rational(1, 2) * (F(1, 4) + F(1, 16))
    first = (HALF * (HALF - sp.Rational(1, 4)) * 0 + 0) / (1 - sp.Rational(3, 8))
    assert long_run(divided, {}, theta) == first
    assert long_run(divided, {}, theta**2) == 1 / (1 - mean_square)
    half = F(1, 2)
    assert fixed_moment(lambda s: [((s[0] / 2 + 1,), half), ((s[0] / 3,), half)], [theta], theta) == sp.Rational(6, 7)
    with pytest.raises(ValueError, match="is not a polynomial in the state"):
        fixed_moment(lambda s: [((s[0] / 2,), F(1))], [theta], 1 / theta)
    for slope, growth in ((1, 1), (-1, 1), (F(3, 2), F(9, 4))):
        with pytest.raises(ValueError, match=f"the moments grow by {float(growth):.4g} a step"):
            fixed_moment(lambda s, slope=slope: [((s[0] * slope,), F(1))], [theta], theta**2)
    with pytest.raises(ValueError, match="the moments grow by 2 a step"):
        fixed_moment(lambda s: [((s[0] * 2,), F(1))], [theta], theta)
    assert fixed_moment(lambda s: [((s[0] * 2,), F(1))], [theta], sp.S.One) == 1
    with pytest.raises(ValueError, match="is not affine in the state"):
        long_run(rule((theta,), [theta**2 / 2]), {}, theta)


def test_the_law_of_a_chain_of_three_states():
    # 0 -> 1 or 2, 1 -> 0, 2 -> 0 or 2; from 7 the chain is led to 0, and never returns
    step = sp.Piecewise((0, theta > 5), (1 + xi, sp.Eq(theta, 0)), (0, sp.Eq(theta, 1)), (2 * xi, True))
    rec = rule((theta,), [step], [(xi, lr.noise.finite("coin", [(0, F(1, 4)), (1, F(3, 4))]))])
    law = stationary_law(rec, {}, {"theta": 7}, max_states=4).law()
    assert list(law.items()) == [((F(0),), F(4, 17)), ((F(1),), F(1, 17)), ((F(2),), F(12, 17))]
    with pytest.raises(ValueError, match="more than 3 states can be reached"):
        stationary_law(rec, {}, {"theta": 7}, max_states=3)
    apart = rule((theta,), [sp.Piecewise((xi, sp.Eq(theta, 0)), (theta, True))], [(xi, lr.noise.rademacher)])
    with pytest.raises(ValueError, match="the long run depends on the noise of the first steps"):
        stationary_law(apart, {})
    with pytest.raises(ValueError, match="max_states = 0: give a whole number, 1 to 4096"):
        stationary_law(rec, {}, max_states=0)


# --- simulation ------------------------------------------------------------------------------------------------------


def test_two_blocks_are_merged_as_one_sample():
    rng = np.random.default_rng(1)
    sample = rng.normal(1, 2, (2, 3, 50))  # two looks, three observables

    def moments(x):
        away = x - x.mean(axis=2, keepdims=True)
        return x.shape[2], x.mean(axis=2), np.einsum("rin,rjn->rij", away, away)

    n, means, spread = monte_carlo._merge(moments(sample[..., :13]), moments(sample[..., 13:]))
    assert n == 50
    np.testing.assert_allclose(means, moments(sample)[1])
    np.testing.assert_allclose(spread, moments(sample)[2])


def chains(rec, rates, blocks, seed, start, recall=None):
    """The states of all chains after each step, block by block, straight from the rule."""
    step = sp.lambdify((rec.parameters, rec.state, [s for s, _ in rec.noises]), rec.next_state, "numpy")
    found = [[] for _ in range(len(rates) + 1)]
    for index, size in enumerate(blocks):
        rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(index,))))
        state = []
        for law, scale in start:
            x = np.full(size, 1.0)
            if law is not None:
                law.draw(rng, x)
            state.append(x * scale)
        for k in range(len(rates) + 1):
            if k:
                draws = [np.empty(size) for _ in rec.noises]
                for draw, (_, law) in zip(draws, rec.noises, strict=True):
                    law.draw(rng, draw)
                state = [np.broadcast_to(x, size) for x in step(rates[k - 1], state, draws)]
            if k == recall:
                half = len(state) // 2
                state = [*state[:half], *(x.copy() for x in state[:half])]
            found[k].append(np.array(state))
    return [np.concatenate(parts, axis=1) for parts in found]


def test_a_simulation_is_the_rule_run_on_every_chain(monkeypatch):
    monkeypatch.setattr(monte_carlo, "BLOCK", 8)
    rec = lr.trace(lr.optimizers.heavy_ball, lr.landscapes.double_well(lr.noise.gaussian)).remembering()
    rates = [[0.1, 0.5, 1.0], [0.1, 0.5, 1.0], [0.05, 0.5, 1.0]]
    at = dict(zip((s.name for s in rec.parameters), zip(*rates, strict=True), strict=True))
    seen = (theta, theta * rec.state[2], v**2)
    told = []
    found = lr.simulate(
        rec, at, 3, 43, seed=4, observables=seen, start={"theta": (lr.noise.gaussian, 0.5), "v": 2}, at=[3, 0, 2, 2],
        recall=1, progress=lambda done, of: told.append((done, of)),
    )  # fmt: skip
    start = [(lr.noise.gaussian, 0.5), (None, 2.0), (None, 0.0), (None, 0.0)]
    states = chains(rec, rates, [8, 8, 8, 8, 8, 3], 4, start, recall=1)
    assert told == [(16, 43), (32, 43), (43, 43)] and found.at == (0, 2, 3) and found.chains == 43
    observe = sp.lambdify(rec.state, seen, "numpy")
    for row, k in enumerate(found.at):
        values = np.array(observe(*states[k]))
        np.testing.assert_allclose(found.means[row], values.mean(axis=1), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(found.covariance[row], np.cov(values) / 43, rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(found.standard_errors[row], np.std(values, axis=1, ddof=1) / 43**0.5, atol=1e-15)
    assert found[v**2] == (found.means[2, 2], found.standard_errors[2, 2])
    with pytest.raises(ValueError, match="v was not observed: ask for one of theta"):
        found[v]


@pytest.mark.parametrize("name", ["sgd", "nesterov", "averaged", "summed", "dampened"])
@pytest.mark.parametrize("landscape", ["quadratic", "double_well", "linear_regression", "two_valleys"])
def test_every_rule_is_run_as_it_is_written(name, landscape):
    law = {} if landscape == "two_valleys" else {"noise": lr.noise.gaussian}
    rec = lr.trace(getattr(lr.optimizers, name), getattr(lr.landscapes, landscape)(**law))
    values = np.linspace(0.2, 0.7, len(rec.parameters))
    start = {s.name: (lr.noise.gaussian, 0.5 + i) for i, s in enumerate(rec.state)}
    at = {s.name: x for s, x in zip(rec.parameters, values, strict=True)}
    found = lr.simulate(rec, at, 2, 9, seed=2, start=start)
    states = chains(rec, [values] * 2, [9], 2, list(start.values()))[-1]
    expected = [x for s in states for x in (s.mean(), (s**2).mean())]
    np.testing.assert_allclose(found.means[0], expected, rtol=1e-10)


def test_no_old_state_is_overwritten_before_it_is_read():
    zeta = sp.Symbol("zeta", real=True)
    noises = [(xi, lr.noise.gaussian), (zeta, lr.noise.uniform)]
    rules = [
        [v, theta],
        [v + theta, theta - v],
        [3 * theta, theta],
        [theta * v + 1, theta**2 - v],
        [xi, zeta * xi],
        [theta + v + xi, v - 2 * xi * zeta],
        [sp.S.Zero, 7 + v],
        [theta**3 - theta, theta**3 * v],
        [xi * zeta + theta * zeta, xi**2],
        [eta * theta - theta * v, theta],
        [theta * (1 - eta) + xi, v + theta * (1 - eta) + xi],
        [sp.Abs(theta) - v, sp.sign(theta)],
        [2 * v, 3 * v],
        [xi + zeta, theta + xi],
    ]
    start = {"theta": (lr.noise.gaussian, 1.5), "v": (lr.noise.uniform, -0.5)}
    for next_state in rules:
        rec = rule((theta, v), next_state, noises, [eta])
        found = lr.simulate(rec, {"eta": 0.3}, 2, 7, seed=1, start=start, observables=[theta, v, theta * v])
        a, b = chains(rec, [[0.3]] * 2, [7], 1, list(start.values()))[-1]
        np.testing.assert_allclose(found.means[0], [a.mean(), b.mean(), (a * b).mean()], rtol=1e-10, atol=1e-12)


def test_a_step_takes_no_more_passes_over_memory_than_it_did():
    plain, well, regression = (
        getattr(lr.landscapes, name)(lr.noise.gaussian) for name in ("quadratic", "double_well", "linear_regression")
    )
    passes = {
        plain: {"sgd": 3, "heavy_ball": 7, "keras_momentum": 6, "nesterov": 10, "averaged": 6, "summed": 4},
        well: {"sgd": 7, "heavy_ball": 10, "nesterov": 17},
        regression: {"sgd": 7, "heavy_ball": 10},
    }
    for landscape, rules in passes.items():
        for name, most in rules.items():
            rec = lr.trace(getattr(lr.optimizers, name), landscape)
            assert len(monte_carlo._stepper(rec).operations) <= most, name
    in_place = [(np.multiply, 0, -1, 0), (np.multiply, 1, -2, 1), (np.add, 0, 1, 0)]  # the state, the draw, their sum
    assert monte_carlo._stepper(lr.trace(lr.optimizers.sgd, plain)).operations == in_place


@pytest.mark.parametrize(("cores", "waiting_at_most"), [(2, 9), (None, 5)])
def test_results_come_in_their_order_and_few_wait(monkeypatch, cores, waiting_at_most):
    monkeypatch.setattr(monte_carlo.os, "cpu_count", lambda: cores)
    waiting, most = set(), []

    class Late:
        def submit(self, task, first):
            waiting.add(first)
            most.append(len(waiting))
            future = Future()
            future.set_result(task(first))
            return future

    seen = []
    for result in monte_carlo._in_order(Late(), lambda first: first, range(12)):
        waiting.discard(result)
        seen.append(result)
    assert seen == list(range(12)) and max(most) == waiting_at_most


def test_the_threads_of_a_simulation_end_with_it():
    before = threading.active_count()
    found = monte_carlo._over_blocks(lambda index: [index], 5 * monte_carlo.BLOCK + 1, None, lambda a, b: a + b)
    assert found == list(range(6)) and threading.active_count() == before
    assert monte_carlo._over_blocks(lambda i: [i], monte_carlo.BLOCK, None, lambda a, b: a + b) == [0]


def test_equal_rates_are_one_phase():
    assert monte_carlo._constant_runs([(1.0,), (1.0,), (2.0,), (1.0,)]) == ((2, (1.0,)), (1, (2.0,)), (1, (1.0,)))
    assert monte_carlo._constant_runs([]) == ()


def test_the_limits_of_a_simulation_are_where_they_are_said_to_be():
    rec, at = PLAIN, {"eta": 0.5, "lam": 1, "sigma": 1}
    assert lr.simulate(rec, at, 0, 2).means.tolist() == [[0, 0]]
    assert lr.simulate(rec, at, 3, 2, at=[3, 0]).at == (0, 3)
    assert lr.simulate(rec, at, 3, 20, dtype="float32", observables=theta).means.dtype == float
    for more, message in (
        ({"at": [-1]}, "at = .*: give whole steps between 0 and 3"),
        ({"at": [0.5]}, "give whole steps between 0 and 3"),
        ({"at": []}, "give whole steps between 0 and 3"),
        ({"at": [[1], [2]]}, "give whole steps between 0 and 3"),
        ({"at": [4.5]}, "give whole steps between 0 and 3"),
        ({"at": [4]}, "give whole steps between 0 and 3"),
        ({"recall": 1}, "recall = 1: give a step up to 3, and a recursion made by"),
        ({"dtype": "float16"}, "give 'float64' or 'float32'"),
        ({"seed": -1}, "seed = -1: give a whole number, 0 or more"),
        ({"chains": 10**15}, "would take months: give fewer, 1e.15 in all"),
        ({"start": {"v": 1}}, "start names v: the state is theta"),
        ({"observables": [theta * v]}, "the observables have v, and the state is theta"),
    ):
        with pytest.raises(ValueError, match=message):
            lr.simulate(rec, at, 3, **({"chains": 2} | more))
    with pytest.raises(ValueError, match="give 'float64'"):  # as many steps as are allowed
        lr.simulate(rec, at, 10, 10**14, dtype="x")
    with pytest.raises(MemoryError, match="the rates of 100000000 steps would take"):
        lr.simulate(rec, at, 10**8, 9)
    again = rec.remembering()
    assert lr.simulate(again, at, 3, 4, recall=3, observables=[theta - again.state[1]]).means.tolist() == [[0]]
    with pytest.raises(ValueError, match="recall = 4: give a step up to 3"):
        lr.simulate(again, at, 3, 2, recall=4)
    with pytest.raises(ValueError, match=r"eta has shape \(2,\) for 3 steps"):
        lr.simulate(rec, at | {"eta": [1, 2]}, 3, 2)
    with pytest.raises(FloatingPointError, match=r"left the range of floats within 3 steps at eta = 1e.200"):
        lr.simulate(rec, at | {"eta": 1e200}, 3, 2)
    with pytest.raises(FloatingPointError):  # the means are finite, their spread is not
        lr.simulate(rec, at | {"eta": 1e160}, 1, 20, observables=[theta])


# --- the ledger ------------------------------------------------------------------------------------------------------


def claim(formula, parameters=("eta", "lam"), **more):
    fields = {"id": "toy.claim", "says": "A toy.", "lhs": "x", "source": "here", "settings": {}}
    return Claim(**(fields | {"parameters": parameters, "formula": formula} | more))


def test_what_is_written_down_stays_as_it_is():
    result = lr.simulate(PLAIN, {"eta": 0.5, "lam": 1, "sigma": 1}, 1, 2)
    kinds = (Equals(), AtLeast(), AtMost(), Root("eta"), Minimum("eta"), Order("eta"))
    for fixed in (*kinds, Condition(eta < 2, "lower it"), Rival(eta, "a slip"), claim(eta), result):
        with pytest.raises(AttributeError):  # FrozenInstanceError
            fixed.of = "lam"
    assert claim(eta).enumerable and claim(eta).simulable


def test_sums_over_the_curvatures_are_written_out():
    total = sp.Sum(eta * LAMS[MODE] ** 2, (MODE, 1, DIM))
    assert over_modes(total / DIM, [1, 3]) == 5 * eta
    assert over_modes(sp.Product(1 + LAMS[MODE], (MODE, 1, DIM)), [1, 3]) == 8
    assert over_modes(eta * largest(LAMS[MODE]) < 2, [1, 3]) == (3 * eta < 2)
    assert over_modes(eta * DIM, [1, 3]) == eta * DIM  # no curvatures in it
    k = sp.Symbol("k", integer=True)
    assert written_out(sp.Sum(k**2, (k, 2, 4))) == 29 and written_out(sp.Sum(k, (k, 3, 3))) == 3
    for kept in (
        sp.Sum(k, (k, 1, t)),
        sp.Sum(k, (k, t, 3)),
        sp.Sum(eta**k, (k, 0, sp.oo)),
        sp.Sum(k, (k, 1, 2), (t, 1, 2)),
    ):
        assert written_out(kept) == kept


def test_a_claim_answers_in_the_kind_of_number_that_it_is_asked_in():
    ratio = claim(eta / (1 + lam))
    assert ratio(eta=1, lam=F(1, 2)) == sp.Rational(2, 3) and ratio(eta=sp.sqrt(2), lam=1) == sp.sqrt(2) / 2
    assert type(ratio(eta=0.5, lam=1)) is float and ratio(eta=0.5, lam=1) == 0.25
    assert type(ratio(eta=sp.Float(0.5), lam=1)) is float
    grid = ratio(eta=[1, 2], lam=[[1], [3]])
    assert grid.tolist() == [[0.5, 1], [0.25, 0.5]]
    assert claim(sp.S(3) + 0 * eta, ("eta",))(eta=[1.0, 2.0]).tolist() == [3, 3]
    assert claim(sp.sin(eta) ** 2 + sp.cos(eta) ** 2, ("eta",))(eta=1) == 1
    assert claim(sp.Piecewise((sp.oo, eta > 1), (eta, True)), ("eta",))(eta=2) is sp.oo
    between = claim(eta, ("eta",), upper=2 * eta + lam, optional=("lam",))
    assert between(eta=3, lam=1) == (3, 7) and between(eta=3) == 3 and between(eta=3, lam=None) == 3


def test_a_claim_that_is_computed_gets_floats_words_and_curvatures():
    got = []

    def evaluate(eta, word, lams):
        got.append((eta, word, lams.tolist()))
        return eta * lams.sum()

    computed = claim(None, ("eta", "lams", "word"), evaluate=evaluate, choices={"word": ("a", "b")}, definition="y")
    assert computed(eta=2, lams=[1, F(1, 2)], word="b") == 3.0 and got[-1] == (2.0, "b", [1.0, 0.5])
    assert computed(eta=[2.0, 4.0], lams=[1, 2], word="a").tolist() == [6, 12]
    assert computed.equation == "x = y" and repr(computed) == "<claim toy.claim: y>"
    with pytest.raises(ValueError, match="word = 'c': give 'a' or 'b'"):
        computed(eta=2, lams=[1], word="c")
    several = claim(sp.Sum(eta * LAMS[MODE], (MODE, 1, DIM)), ("eta", "lams"))
    assert several(eta=2, lams=[1, F(1, 2)]) == 3 and several(eta=2.0, lams=[1, 2]) == 6.0
    assert several(eta=[1.0, 2.0], lams=np.array([1, 2])).tolist() == [3, 6]


def test_differences_that_floats_would_lose_are_kept_in_many_digits():
    small = claim(sp.sqrt(1 + eta**2) - 1, ("eta",), many_digits=True)
    assert small(eta=1e-12) == pytest.approx(5e-25, rel=1e-14) and (1 + 1e-12**2) ** 0.5 - 1 == 0
    assert claim(eta / lam, many_digits=True)(eta=[1.0, 2.0], lam=4.0).tolist() == [0.25, 0.5]


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"eta": 1, "lam": 1, "et": 1}, TypeError, "takes eta, lam; there is no 'et': did you mean 'eta'"),
        ({"eta": 1, "lam": 1, "qqqqq": 1}, TypeError, "there is no 'qqqqq'$"),
        ({"eta": 1}, TypeError, "takes eta, lam; lam is missing: give it a value"),
        ({"eta": 1, "lam": None}, TypeError, "lam is missing"),
        ({"eta": True, "lam": 1}, TypeError, "eta = True is not a number"),
        ({"eta": sp.I, "lam": 1}, ValueError, "eta = I: give finite numbers"),
        ({"eta": sp.oo, "lam": 1}, ValueError, "eta = oo: give finite numbers"),
        ({"eta": [1, np.inf], "lam": 1}, ValueError, "give finite numbers"),
        ({"eta": [1, 2], "lam": [1, 2, 3]}, ValueError, r"do not fit together: eta has \(2,\), lam has \(3,\)"),
        ({"eta": 0, "lam": 1}, ValueError, "eta = 0: give a positive number"),
        ({"eta": [0.5, 0.0], "lam": 1}, ValueError, "give a positive number"),
        ({"eta": 2, "lam": 1}, ValueError, "toy.claim needs eta.lam < 2, and here eta = 2, lam = 1: lower it"),
        ({"eta": [0.5, 2.0], "lam": 1}, ValueError, "needs eta.lam < 2"),
        ({"eta": 1.5, "lam": F(3, 2)}, ValueError, "needs eta.lam < 2"),
        ({"eta": F(10**400), "lam": F(1, 10**400)}, None, ""),
        ({"eta": F(1, 10**9), "lam": 1, "sigma": [1, 2], "beta": [1, 2, 3]}, TypeError, "there is no 'sigma'"),
    ],
)
def test_what_a_claim_refuses(parameters, error, message):
    toy = claim(eta * lam, conditions=(Condition(eta * lam < 2, "lower it"),))
    if error is None:  # exact numbers beyond the range of floats
        assert toy(**parameters) == 1
        return
    with pytest.raises(error, match=message):
        toy(**parameters)


def test_shapes_and_sizes_are_told_whatever_the_letter():
    toy = claim(eta * sigma, ("eta", "sigma"))
    with pytest.raises(ValueError, match=r"do not fit together: eta has \(2,\), sigma has \(3,\)"):
        toy(eta=[1, 2], sigma=[1, 2, 3])
    with pytest.raises(ValueError, match=r"eta = .* is too large for a float: give a smaller one, or exact numbers"):
        toy(eta=F(10**400), sigma=0.5)
    assert Equals() == Equals() and AtLeast() != AtMost() and claim(eta).relation == Equals()


def test_which_numbers_may_be_zero_or_must_be_whole():
    n = lr.symbol("k")
    assert n.is_integer
    toy = claim(eta * sigma + n, ("eta", "sigma", "k"))
    assert toy(eta=1, sigma=0, k=3) == 3
    with pytest.raises(ValueError, match=r"k = 2\.5: it is counted in whole numbers"):
        toy(eta=1, sigma=0, k=2.5)
    with pytest.raises(ValueError, match="sigma = -1/2: give 0 or more"):
        toy(eta=1, sigma=F(-1, 2), k=3)
    own = sp.Symbol("qq", integer=True)  # found by its name, whatever object that is
    with pytest.raises(ValueError, match=r"qq = 2.5: it is counted in whole numbers"):
        claim(own + 1, ("qq",))(**{"".join(["q", "q"]): 2.5})
    tiny = sp.Rational(1, 10**400)
    assert toy(eta=tiny, sigma=1, k=3) == 3 + tiny
    with pytest.raises(ValueError, match="give a positive number"):
        toy(eta=-tiny, sigma=1, k=3)
    several = claim(sp.Sum(LAMS[MODE], (MODE, 1, DIM)), ("lams",))
    for bad, error in ((3, TypeError), ("12", TypeError), ([], ValueError), ([[1], [2]], ValueError)):
        with pytest.raises(error, match=r"lams = .*: give (the|one or more) curvatures"):
            several(lams=bad)
    with pytest.raises(ValueError, match="lam = 0: give a positive number"):
        several(lams=[1, 0])
    with pytest.raises(TypeError, match="takes its parameters by name: write lams=3"):
        several(3, 4)


def test_a_claim_has_no_value_at_a_pole():
    toy = claim(1 / (eta - lam) + 0 * lam)
    with pytest.raises(ValueError, match=r"toy.claim has no value at eta = 1, lam = 1: move off this exact point"):
        toy(eta=1, lam=1)
    with pytest.raises(ValueError, match=r"has no value at eta = 1.*: check the parameters"):
        claim((eta - lam) / (eta - lam) ** 1 * sp.log(eta - lam - 1))(eta=1.0, lam=1.0)


def test_numbers_of_steps_that_would_take_hours_are_refused():
    steps = lr.symbol("k")
    i = sp.Symbol("i", integer=True)
    summed = claim(sp.Sum(eta**i, (i, 1, steps)), ("eta", "k"))
    assert summed(eta=1, k=10) == 10
    with pytest.raises(ValueError, match=r"k = 10001: toy.claim takes step by step; give 10000 at most"):
        summed(eta=1, k=10_001)
    with pytest.raises(ValueError, match=r"k = 10000001: toy.claim takes step by step; give 10000000 at most"):
        summed(eta=1.0, k=10_000_001)
    power = claim(eta**steps, ("eta", "k"))
    assert power(eta=1, k=10**9) == 1 and power(eta=10, k=5000) == 10**5000
    assert power(eta=F(1, 2), k=50_000) == sp.Rational(1, 2) ** 50_000
    assert power(eta=10, k=83_333) == sp.Integer(10) ** 83_333  # four bits of 0.3 digits for each step
    assert power(eta=sp.sqrt(2), k=100_000) == 2**50_000
    assert power(eta=F(3, 4), k=83_333) == sp.Rational(3, 4) ** 83_333
    for base, k in ((10, 83_334), (F(3, 4), 83_334), (sp.sqrt(2), 100_001)):
        with pytest.raises(ValueError, match=f"k = {k} makes exact numbers of more than 100000 digits: give a smaller"):
            power(eta=base, k=k)
    for base in (0, 1, -1):
        assert claim((eta - 2) ** steps, ("eta", "k"))(eta=base + 2, k=10**9) == base**2
    counted = claim(None, ("eta", "k"), evaluate=lambda eta, k: k, definition="y")
    for x, most in ((1, 10_000), (1.0, 10_000_000)):
        assert counted(eta=x, k=most) == most
        with pytest.raises(ValueError, match=f"k = {most + 1}: toy.claim takes step by step; give {most} at most"):
            counted(eta=x, k=most + 1)
    assert summed(eta=20_000, k=1) == 20_000  # which is no count
    assert claim(eta / steps, ("eta", "k"), many_digits=True)(eta=0.5, k=5 * 10**7) == 1e-8
    assert power(eta=0.5, k=10**6) == 0.0


def test_how_a_claim_is_printed():
    plain = claim(eta * lam)
    assert plain.equation == r"x = \eta \lambda" and claim(eta, relation=AtLeast()).equation == r"x \ge \eta"
    assert claim(eta, relation=AtMost()).equation == r"x \le \eta"
    assert claim(eta, upper=2 * eta).equation == r"\eta \le x \le 2 \eta"
    a, b = lr.symbol("a"), lr.symbol("b")
    short = claim(
        (1 - eta * lam) ** 2 + eta,
        abbreviations={a: 1 - eta * lam, b: a**2},
        conditions=(Condition(eta * lam < 2, "lower it"),),
    )
    assert short.shortened(short.formula) == b + eta
    text = short.markdown()
    assert "**A toy.** `toy.claim`" in text and "$$ (toy.claim)" in text and "(toy.claim)" not in short.markdown(False)
    assert r"Here $a = 1 - \eta \lambda$, $b = a^{2}$." in text.replace(r"- \eta \lambda + 1", r"1 - \eta \lambda")
    assert r"Holds for $\eta \lambda < 2$. here" in text
    assert "Here" not in plain.markdown() and "Holds" not in plain.markdown() and "here\n" in plain.markdown()
    assert repr(plain) == "<claim toy.claim: eta*lam>" and plain._repr_markdown_() == plain.markdown()
    assert hash(plain) == hash("toy.claim") and shown(3) == "3"
