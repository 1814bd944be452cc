"""Sampling without replacement: what holds for all data, what an epoch looks like inside, and where it ends."""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction
from itertools import pairwise
from multiprocessing import get_context

import numpy as np
import pytest
import sympy as sp
from sklearn.linear_model import SGDRegressor

import lrtheory as lr
from lrtheory.doubt import is_zero
from lrtheory.expectation import THETA as theta
from lrtheory.expectation import derived, simulated
from lrtheory.landscapes import absolute_to_sample, linear_regression, quadratic_to_sample
from lrtheory.noise import empirical, gaussian
from lrtheory.optimizers import heavy_ball, sgd
from lrtheory.permutations import for_any_data, in_epoch, over_all_orders
from lrtheory.theorems import shuffling

AT = {"eta": Fraction(1, 4), "lam": Fraction(3, 2), "scale": Fraction(1, 2)}
FOUR = [Fraction(x, 3) for x in (-3, -1, -1, 5)]  # mean 0, variance 1


def rule(data, optimizer=sgd):
    return optimizer, quadratic_to_sample(empirical(data))


@pytest.mark.parametrize("reshuffle", [True, False])
@pytest.mark.parametrize("data", [[0, 4], [-2, -1, 3], [1, 1, 5, 9]], ids=len)
def test_the_formula_in_n_is_the_average_over_all_orders(data, reshuffle):
    """For data of any mean and variance, about their mean: composed along each order, symbolic in the rate.

    These data are not those of the claims, and their skewness must not matter.
    """
    n, mean = len(data), sp.Rational(sum(data), len(data))
    spread = sp.Add(*((x - mean) ** 2 for x in data)) / n
    general = for_any_data(in_epoch(theta**2, rule([-1, 1]), reshuffle=reshuffle, lam=1, scale=sp.sqrt(spread)))
    moved = in_epoch((theta - mean) ** 2, rule(data), reshuffle=reshuffle, lam=1, scale=1)
    assert is_zero(over_all_orders(moved) - general.subs(lr.symbol("n"), n))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_the_formula_inside_an_epoch_is_the_average_over_all_orders(at, batch):
    reading = in_epoch(theta**2, rule(FOUR), at=at, batch=batch)
    assert is_zero(over_all_orders(reading) - for_any_data(reading).subs(lr.symbol("n"), 4))


def test_within_an_epoch_the_loss_goes_up_and_down():
    """The variance peaks near the middle and comes back; its peak is of second order in the rate, its ends of third."""
    n, mid = 20, lr.claim("shuffling.mid_epoch_variance")

    def curve(eta):
        return [mid(eta=eta, lam=1, variance=1, n=n, j=j) for j in range(n + 1)]

    tooth = curve(Fraction(1, 200))
    end = lr.claim("shuffling.epoch_end_variance")(eta=Fraction(1, 200), lam=1, variance=1, n=n)
    assert tooth[0] == tooth[n] == end
    peak = tooth.index(max(tooth))
    assert abs(peak - n / 2) <= 1 and max(tooth) > 50 * end
    assert all((a < b) == (j < peak) for j, (a, b) in enumerate(pairwise(tooth)))
    halved = curve(Fraction(1, 400))
    assert float(tooth[peak] / halved[peak]) == pytest.approx(4, rel=0.05)
    assert float(tooth[n] / halved[n]) == pytest.approx(8, rel=0.05)


def test_within_an_epoch_the_experiment_goes_up_and_down():
    at = {k: float(v) for k, v in (AT | {"eta": Fraction(1, 20)}).items()}
    seen = [simulated(in_epoch(theta**2, rule(FOUR), at=j), at, chains=20_000, seed=j) for j in range(5)]
    exact = [float(in_epoch(theta**2, rule(FOUR), at=j).enumerate(AT | {"eta": Fraction(1, 20)})) for j in range(5)]
    for estimate, value in zip(seen, exact, strict=True):
        assert abs(estimate.value - value) < 4.5 * estimate.error
    assert exact[0] == exact[4] and exact[2] > 10 * exact[0]
    assert seen[2].value - 10 * seen[2].error > seen[0].value + 10 * seen[0].error


def test_one_batch_of_everything_leaves_no_variance():
    assert lr.claim("shuffling.batched_variance")(eta=Fraction(1, 4), lam=1, variance=3, n=6, batch=6) == 0
    assert in_epoch(theta**2, rule(FOUR), batch=4).enumerate(AT) == 0


def test_batches_of_one_are_samples():
    at = {"eta": Fraction(1, 4), "lam": Fraction(3, 2), "variance": 2, "n": 7}
    one = lr.claim("shuffling.batched_variance")(**at, batch=1)
    assert one == lr.claim("shuffling.epoch_end_variance")(**at)


def test_many_samples_are_like_replacement_and_few_are_not():
    at = {"eta": 0.1, "lam": 1.0, "variance": 1.0}
    replaced = lr.claim("shuffling.with_replacement_variance")(**at)
    end = lr.claim("shuffling.epoch_end_variance")
    assert end(**at, n=100_000) == pytest.approx(replaced, rel=1e-3)
    assert end(**at, n=2) < replaced / 100


def test_the_small_rate_form():
    at = {"eta": Fraction(1, 10_000), "lam": 1, "variance": 2, "n": 8}
    typed = shuffling.small_rate_variance.subs({lr.symbol(k): sp.Rational(v) for k, v in at.items()})
    assert float(lr.claim("shuffling.epoch_end_variance")(**at) / typed) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("id", ["epoch_end", "mid_epoch", "shuffle_once", "batched"])
def test_floats_keep_their_digits_at_a_small_rate(id):
    claim = lr.claim(f"shuffling.{id}_variance")
    extra = {"mid_epoch": {"j": 0}, "batched": {"batch": 2}}.get(id, {})
    exact = claim(eta=Fraction(1, 10**6), lam=Fraction(1, 1000), variance=1, n=6, **extra)
    assert claim(eta=1e-6, lam=1e-3, variance=1.0, n=6, **extra) == pytest.approx(float(exact), rel=1e-12)
    assert claim(eta=np.array([1e-6, 0.1]), lam=1e-3, variance=1.0, n=6, **extra)[0] == pytest.approx(float(exact))


def test_unequal_curvatures_shift_the_mean_in_proportion_to_the_rate():
    at = {"h1": Fraction(1, 2), "h2": 3, "a1": 2, "a2": Fraction(-1, 3)}
    bias = lr.claim("shuffling.unequal_bias")
    assert float(bias(eta=Fraction(1, 1000), **at) / bias(eta=Fraction(1, 2000), **at)) == pytest.approx(2, rel=1e-3)
    assert bias(eta=Fraction(1, 4), **(at | {"h2": Fraction(1, 2)})) == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_a_whole_run_of_scikit_learn(seed):
    """One long run, every epoch in an order of its own.

    A single call with several epochs would not do: SGDRegressor seeds its shuffle anew with the same number in each
    of them, so that the orders are the powers of one permutation.  `partial_fit` draws a new seed.
    """
    n, lam, eta, samples = 4, 1.5, 0.25, 1.5 * np.array([float(x) for x in FOUR])
    model = SGDRegressor(
        penalty=None,
        fit_intercept=False,
        learning_rate="constant",
        eta0=eta,
        shuffle=True,
        random_state=np.random.RandomState(seed),
    )
    inputs = np.full((n, 1), lam**0.5)
    ends = np.empty(1500)
    for k in range(-10, len(ends)):
        model.partial_fit(inputs, lam**0.5 * samples)
        ends[max(k, 0)] = model.coef_[0]
    blocks = np.square(ends).reshape(50, -1).mean(axis=1)  # longer than the memory of the run
    mean, error = blocks.mean(), blocks.std(ddof=1) / 50**0.5
    at = {"eta": eta, "lam": lam, "variance": 1.5**2}
    assert abs(mean - lr.claim("shuffling.epoch_end_variance")(**at, n=n)) < 4.5 * error
    assert mean + 10 * error < lr.claim("shuffling.with_replacement_variance")(**at)
    assert mean + 4.5 * error < lr.claim("shuffling.shuffle_once_variance")(**at, n=n)


@pytest.mark.parametrize("reshuffle", [True, False])
def test_the_reading_serves_rules_with_a_memory(reshuffle):
    momentum = in_epoch(theta**2, rule(FOUR, heavy_ball), at=1, batch=2, reshuffle=reshuffle, beta=Fraction(1, 3))
    exact = float(momentum.enumerate(AT))
    estimate = simulated(momentum, {k: float(v) for k, v in AT.items()}, chains=60_000, seed=4)
    assert abs(estimate.value - exact) < 4.5 * estimate.error < 0.1 * exact
    with pytest.raises(NotImplementedError, match="the states theta, v"):
        derived(momentum)


def test_the_numbers_do_not_depend_on_the_workers():
    reading = in_epoch(theta**2, rule(FOUR), at=3)
    at = {k: float(v) for k, v in AT.items()}

    def run(executor, seed=7):
        found = reading.sample([reading], at, gaussian, 50_000, seed, executor)
        return *found.means, *found.covariance.ravel()

    results = [run(None)]
    for pool in (ThreadPoolExecutor(1), ThreadPoolExecutor(8), ProcessPoolExecutor(2, mp_context=get_context("spawn"))):
        with pool:
            results.append(run(pool))
    assert len(set(results)) == 1
    assert run(None, seed=8) != results[0]


@pytest.mark.parametrize(
    ("reading", "settings", "message"),
    [
        (in_epoch(theta, (sgd, quadratic_to_sample(gaussian))), AT, "one finite list of samples"),
        (in_epoch(theta, (sgd, linear_regression(empirical([-1, 1]), empirical([1, 2])))), AT, "one finite list"),
        (in_epoch(theta, (sgd, absolute_to_sample(empirical([-1, 1])))), AT, "a linear gradient"),
        (in_epoch(theta, rule(FOUR)), AT | {"n": 5}, "n = 5, and the data are 4 samples"),
        (in_epoch(theta, rule(FOUR), batch=3), AT, "whole batches of 3"),
        (in_epoch(theta, rule(FOUR), at=5), AT, "an epoch has 4 steps"),
        (in_epoch(theta, rule(range(8))), AT, "too many orders"),
        (in_epoch(theta, rule(FOUR)), AT | {"eta": 2}, "choose a stable rate"),
    ],
)
def test_bad_input_is_told_what_to_do(reading, settings, message):
    with pytest.raises(ValueError, match=message):
        reading.enumerate(settings)


def test_what_cannot_be_derived_or_simulated_says_so():
    with pytest.raises(ValueError, match="choose a smaller rate"):
        simulated(in_epoch(theta, rule(FOUR)), {"eta": 2, "lam": 1.5, "scale": 1}, chains=10)
    with pytest.raises(ValueError, match="centre and scale"):
        derived(in_epoch(theta**2, rule([0, 1])))
    with pytest.raises(ValueError, match="at their ends only"):
        derived(in_epoch(theta**2, rule([-1, 1]), at=1, reshuffle=False))
    with pytest.raises(ValueError, match="more than the variance"):
        derived(in_epoch(theta**3, rule([-1, 1])))


@pytest.mark.parametrize(
    ("id", "parameters", "message"),
    [
        ("epoch_end_variance", {"n": 1}, "one sample has no order"),
        ("mid_epoch_variance", {"n": 4, "j": 5}, "choose j up to n"),
        ("batched_variance", {"n": 4, "batch": 3}, "a batch that divides n"),
        ("shuffle_once_variance", {"n": 4, "eta": 2}, "lower eta below 2/lam"),
    ],
)
def test_outside_its_conditions_a_claim_says_what_to_do(id, parameters, message):
    with pytest.raises(ValueError, match=message):
        lr.claim(f"shuffling.{id}")(**({"eta": Fraction(1, 4), "lam": 1, "variance": 1} | parameters))
