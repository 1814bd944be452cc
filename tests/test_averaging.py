"""Averages: their special cases, the weight at which the closed form has no value, and the twin run."""

from fractions import Fraction as F

import mpmath
import numpy as np
import pytest
import sympy as sp

import lrtheory as lr
from lrtheory.expectation import E, enumerated
from lrtheory.theorems import averaging as chapter

AT = {"eta": F(1, 4), "lam": F(3, 2), "sigma": 2}
BIAS = {"eta": F(1, 4), "lam": F(3, 2)}


def claim(id, **at):
    return lr.claim(f"averaging.{id}")(**at)


def test_an_average_of_one_iterate_is_that_iterate():
    floor = lr.claim("noise_floor.variance")(**AT)
    assert claim("mean_variance", **AT, n=1) == lr.claim("noise_floor.variance_at")(**AT, t=1)
    assert claim("mean_bias", **BIAS, n=1) == lr.claim("noise_floor.mean")(**BIAS, theta0=1, t=1)
    assert claim("tail_variance", **AT, n=1) == claim("ema_variance", **AT, gamma=0) == floor
    assert claim("ema_mean", **BIAS, gamma=0, theta0=3, t=4) == 3 * F(5, 8) ** 4


def test_long_means_reach_the_limit_of_polyak_and_juditsky():
    limit = (2 / 1.5) ** 2
    for id in ("mean_variance", "tail_variance"):
        assert 10**7 * claim(id, eta=0.25, lam=1.5, sigma=2, n=10**7) == pytest.approx(limit, rel=1e-6)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_mean_at_the_floor_is_a_sum_of_autocovariances(n):
    eta, oo, theta, was = chapter.eta, sp.oo, lr.symbol("theta"), lr.symbol("theta_was")
    lags = [E(theta * was, (eta, oo), (eta, j)) for j in range(1, n)]
    total = n * E(theta**2) + 2 * sum((n - j) * e for j, e in enumerate(lags, 1))
    at = {name: sp.Rational(value) for name, value in AT.items()}
    assert enumerated(total, at) / n**2 == claim("tail_variance", **AT, n=n)


# --- the exponential moving average -----------------------------------------------------------------------------------


def test_the_mean_where_the_weight_meets_the_factor_of_the_run():
    average, theta0, t = lr.symbol("average"), chapter.theta0, 5
    start = {lr.symbol("theta"): theta0, average: theta0}
    about = E(average, (chapter.eta, t), rule=chapter.AVERAGED, start=start)
    for gamma in (F(5, 8), F(5, 7)):  # the first is 1 - eta lam
        at = {"eta": F(1, 4), "lam": F(3, 2), "gamma": gamma, "theta0": 3}
        exact = claim("ema_mean", **at, t=t)
        assert exact == enumerated(about, {k: sp.Rational(v) for k, v in at.items()} | {"sigma": sp.Integer(1)})
        assert claim("ema_mean", **{k: float(v) for k, v in at.items()}, t=t) == pytest.approx(float(exact), rel=1e-14)


@pytest.mark.parametrize("eta", [0.25, 0.625, 1.25, 0.003])
@pytest.mark.parametrize("t", [0, 1, 2, 7, 500])
def test_floats_keep_their_digits_near_that_weight(eta, t):
    lam, theta0 = 1.0, 3.0
    for off in (0.0, 1e-16, -1e-15, 1e-12, -1e-9, 1e-6, -1e-3, -0.1):
        gamma = abs(1 - eta * lam) + off
        with mpmath.workdps(60):
            a, g = 1 - mpmath.mpf(eta) * lam, mpmath.mpf(gamma)
            powers = mpmath.fsum(a**j * g ** (t - 1 - j) for j in range(t))  # no division by the difference
            exact = theta0 * (g**t + (1 - g) * a * powers)
        found = claim("ema_mean", eta=eta, lam=lam, gamma=gamma, theta0=theta0, t=t)
        assert found == pytest.approx(float(exact), rel=1e-11, abs=1e-300), off


def test_the_mean_takes_arrays():
    gammas = np.array([0.0, 0.5, 0.75, 0.9])
    found = claim("ema_mean", eta=0.25, lam=1, gamma=gammas, theta0=1, t=np.array([[1], [8]]))
    assert found.shape == (2, 4)
    assert found[1, 2] == pytest.approx(0.75**8 * (1 + 0.25 * 8), rel=1e-14)


# --- the twin ---------------------------------------------------------------------------------------------------------


def test_the_average_of_the_fast_run_is_path_by_path_a_low_pass_of_the_slow_run():
    rng, lam, sigma, eta1, eta2 = np.random.default_rng(4), F(3, 2), 2, F(1, 2), F(1, 5)
    (fast, slow), same = ((F(0), F(0)), (F(0), F(0))), 0
    for xi in rng.integers(0, 2, 60).tolist():
        noise = sigma * (2 * xi - 1)

        def grad(theta, noise=noise):
            return lam * theta + noise

        fast = lr.optimizers.averaged(*fast, grad=grad, eta=eta1, gamma=1 - eta2 * lam)
        slow = lr.optimizers.averaged(*slow, grad=grad, eta=eta2, gamma=1 - eta1 * lam)
        assert fast[1] == slow[1] and fast[0] != slow[0]
        same += 1
    assert same == 60


def test_a_twin_that_does_not_start_at_the_minimum_forgets_the_difference():
    # d' = a1 d + lam e and e' = a2 e: what the start adds shrinks geometrically
    fast, slow = (F(3), F(0)), (F(-1), F(2))
    for _ in range(80):
        fast = lr.optimizers.averaged(*fast, grad=lambda x: x + 1, eta=F(1, 2), gamma=F(4, 5))
        slow = lr.optimizers.averaged(*slow, grad=lambda x: x + 1, eta=F(1, 5), gamma=F(1, 2))
    assert 0 < abs(fast[1] - slow[1]) < 1e-6


def test_the_twin_is_an_average_of_that_weight():
    for eta1, eta2, lam in ((F(1, 2), F(1, 4), F(3, 2)), (F(5, 4), F(1, 3), F(4, 3)), (F(1, 3), F(2, 3), F(3, 2))):
        average = claim("ema_variance", eta=eta1, lam=lam, sigma=2, gamma=1 - eta2 * lam)
        assert claim("twin_variance", eta1=eta1, eta2=eta2, lam=lam, sigma=2) == average


@pytest.mark.parametrize("h1", [F(1, 10), F(9, 10), F(11, 10), F(19, 10)])
def test_the_twin_lies_below_the_floor_of_the_lower_rate_unless_the_run_hops(h1):
    for h2 in (F(1, 20), F(1, 2), F(19, 20)):
        twin = claim("twin_variance", eta1=h1, eta2=h2, lam=1, sigma=1)
        assert (twin < lr.claim("noise_floor.variance")(eta=h2, lam=1, sigma=1)) == (h1 < 1)


@pytest.mark.parametrize(
    ("id", "at", "message"),
    [
        ("mean_variance", AT | {"n": 0}, "give a positive number"),
        ("mean_variance", AT | {"eta": 2, "n": 3}, "lower eta below 2/lam"),
        ("tail_variance", AT | {"n": 2.5}, "whole numbers"),
        ("ema_variance", AT | {"gamma": 1}, "choose gamma below 1"),
        ("ema_mean", BIAS | {"gamma": -0.1, "theta0": 1, "t": 3}, "give 0 or more"),
        ("twin_variance", {"eta1": 1, "eta2": 1, "lam": F(3, 2), "sigma": 1}, "lower eta2 to 1/lam or less"),
    ],
)
def test_bad_input_is_told_what_to_do(id, at, message):
    with pytest.raises(ValueError, match=message):
        claim(id, **at)
