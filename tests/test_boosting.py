"""Boosting is gradient descent on least squares: the traced rules are one, and scikit-learn follows the factors."""

from fractions import Fraction as F
from itertools import pairwise

import numpy as np
import pytest
import sympy as sp
from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LinearRegression, Ridge

import lrtheory as lr
from lrtheory.expectation import THETA as theta
from lrtheory.landscapes import XI, Landscape
from lrtheory.noise import any_law
from lrtheory.optimizers import sgd
from lrtheory.theorems import boosting

RNG = np.random.default_rng(0)
X, y = load_diabetes(return_X_y=True)


def claim(name, **at):
    return lr.claim(f"boosting.{name}")(**at)


def boosted(learner, X, y, nu, rounds):
    """The fit after each round: the learner is fitted to the residuals, and a share nu is added."""
    fits = [np.zeros_like(y)]
    for _ in range(rounds):
        fits.append(fits[-1] + nu * learner.fit(X, y - fits[-1]).predict(X))
    return np.array(fits)


def test_a_round_is_a_step_of_gradient_descent():
    s, f, sigma = lr.symbols("s f sigma")
    mode = Landscape("one mode of least squares", s * (theta - f - sigma * XI) ** 2 / 2, ((XI, any_law),))
    (step,) = lr.trace(sgd, mode).where({"eta": lr.symbol("nu")}).next_state
    (round_,) = lr.trace(*boosting.BOOSTED).next_state
    assert sp.expand(step - round_) == 0


@pytest.mark.parametrize("nu", [0.1, 1.0])
def test_trees_that_fit_everything_leave_the_square_of_what_each_round_leaves(nu):
    unique, first = np.unique(X, axis=0, return_index=True)
    labels = y[first]
    trees = GradientBoostingRegressor(learning_rate=nu, n_estimators=12, max_depth=None, random_state=0)
    trees.fit(unique[::3], labels[::3])
    for m, fit in enumerate(trees.staged_predict(unique[::3]), start=1):
        left = np.mean((labels[::3] - fit) ** 2) / np.var(labels[::3])
        assert left == pytest.approx(claim("saturated_trees_mse", nu=nu, m=m), rel=1e-9, abs=1e-20)


def test_samples_that_cannot_be_told_apart_are_never_fitted():
    """Where the claim ends: two labels for the same input leave half of their squared distance for ever."""
    inputs, labels = np.array([[0.0], [0.0], [1.0]]), np.array([-1.0, 1.0, 0.0])
    trees = GradientBoostingRegressor(learning_rate=0.5, n_estimators=60, max_depth=None).fit(inputs, labels)
    assert np.mean((labels - trees.predict(inputs)) ** 2) == pytest.approx(np.var(labels))
    assert claim("saturated_trees_mse", nu=0.5, m=60) < 1e-30


@pytest.mark.parametrize("nu", [0.1, 0.7])
def test_a_linear_regression_learns_all_its_directions_alike(nu):
    """A projection: s is 1 for what the inputs can express, 0 for the rest of the labels."""
    learner, labels = LinearRegression(fit_intercept=False), y - y.mean()
    limit = learner.fit(X, labels).predict(X)
    for m, fit in enumerate(boosted(learner, X, labels, nu, 12)):
        share = claim("bias_factor", s=1, nu=nu, m=m)
        assert np.sum((fit - limit) ** 2) == pytest.approx(share * np.sum(limit**2), rel=1e-9)
        kept = labels @ labels - limit @ limit
        assert np.sum((labels - fit) ** 2) == pytest.approx(share * (limit @ limit) + kept, rel=1e-9)


def test_a_ridge_learns_each_direction_at_its_own_pace():
    nu, alpha, labels = 0.3, 0.02, y - y.mean()
    left, singular, _ = np.linalg.svd(X, full_matrices=False)
    s = singular**2 / (singular**2 + alpha)
    assert s.max() - s.min() > 0.5
    for m, fit in enumerate(boosted(Ridge(alpha=alpha, fit_intercept=False), X, labels, nu, 15)):
        bias, variance = (claim(f"{which}_factor", s=s, nu=nu, m=m) for which in ("bias", "variance"))
        np.testing.assert_allclose((left.T @ (labels - fit)) ** 2, bias * (left.T @ labels) ** 2, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose((left.T @ fit) ** 2, variance * (left.T @ labels) ** 2, rtol=1e-7, atol=1e-9)


def test_noisy_labels_have_the_bias_and_the_variance_of_the_factors():
    nu, rounds, sets, sigma = 0.4, 6, 4_000, 1.5
    inputs = RNG.normal(size=(12, 3))
    left, singular, _ = np.linalg.svd(inputs, full_matrices=False)
    s, signal = singular**2 / (singular**2 + 5), left @ np.array([1.0, -2.0, 1.5])
    labels = signal[:, None] + sigma * RNG.normal(size=(12, sets))
    fits = left.T @ boosted(Ridge(alpha=5, fit_intercept=False, solver="cholesky"), inputs, labels, nu, rounds)[-1]
    bias, variance = (claim(f"{which}_factor", s=s, nu=nu, m=rounds) for which in ("bias", "variance"))
    size = abs(np.array([1.0, -2.0, 1.5]))
    error = fits.std(axis=1) / sets**0.5
    assert np.all(abs(size - abs(fits.mean(axis=1)) - size * bias**0.5) < 4.5 * error)
    np.testing.assert_allclose(fits.var(axis=1), variance * sigma**2, rtol=4.5 * (2 / sets) ** 0.5)


def test_there_is_no_noise_floor():
    """The variance that is learnt grows to all of it, at every shrinkage: only stopping prevents that."""
    for nu in (F(1, 100), F(1, 2)):
        grown = [claim("variance_factor", s=F(1, 2), nu=nu, m=m) for m in (1, 10, 100, 10_000)]
        assert all(a < b for a, b in pairwise(grown)) and 1 - grown[-1] < 1e-20
    slow, fast = (claim("variance_factor", s=F(1, 2), nu=nu, m=m) for nu, m in ((0.001, 5000), (0.01, 500)))
    assert slow == pytest.approx(fast, rel=2e-3)  # a tenth of the shrinkage is ten times the rounds


def test_exact_in_exact_out():
    assert claim("bias_factor", s=1, nu=F(1, 2), m=2) == sp.Rational(1, 16)
    assert claim("saturated_trees_mse", nu=F(1, 10), m=1) == sp.Rational(81, 100)
    with pytest.raises(ValueError, match="whole numbers"):
        claim("bias_factor", s=1, nu=0.5, m=1.5)
