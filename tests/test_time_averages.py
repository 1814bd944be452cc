"""A time average is the mean over the looks in each run, and its standard error comes from the runs alone."""

import numpy as np

import lrtheory as lr
from lrtheory.expectation import ETA, THETA, E, simulated

RULE = lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic(lr.noise.gaussian))
AT, STEPS, LOOKS = {"eta": 0.1, "lam": 1, "sigma": 1}, 200, range(100, 201, 5)


def simulate(seed=0, **more):
    return lr.simulate(RULE, AT, STEPS, 3_000, seed, at=LOOKS, **more)


def test_it_is_the_mean_over_the_looks():
    each, whole = simulate(), simulate(average=True)
    np.testing.assert_allclose(whole.means, [each.means.mean(axis=0)], rtol=1e-12)
    assert whole.at == (200,) and whole.covariance.shape == (1, 2, 2)


def test_its_standard_error_is_honest_and_smaller():
    (theta,) = RULE.state
    found = np.array([simulate(seed, average=True)[theta**2] for seed in range(60)])
    scatter, told = found[:, 0].std(ddof=1), found[:, 1].mean()
    assert 0.7 < scatter / told < 1.4  # 60 values know their scatter to a tenth
    assert told < simulate()[theta**2][1] / 2
    assert abs(found[:, 0].mean() - 0.1 / 1.9) < 4.5 * told / 60**0.5


def test_the_long_run_is_averaged_and_a_fixed_step_is_not():
    at = {"eta": 0.1, "lam": 1, "sigma": 1, "theta0": 0}
    long, fixed = (simulated(e, at, 10_000, seed=1) for e in (E(THETA**2), E(THETA**2, (ETA, 100))))
    assert long.error < fixed.error / 2
    assert abs(long.value - 0.1 / 1.9) < 4.5 * long.error
