"""Training for ever on one data set: the exact curves against runs of gradient descent, and where the risk turns."""

from fractions import Fraction as F
from itertools import pairwise, product

import numpy as np
import pytest
import sympy as sp
from scipy.optimize import minimize_scalar

import lrtheory as lr
from lrtheory import noise
from lrtheory.early_stopping import on_fixed_data
from lrtheory.expectation import THETA as theta
from lrtheory.expectation import E, derived, enumerated
from lrtheory.landscapes import XI, quadratic_to_sample
from lrtheory.optimizers import sgd
from lrtheory.theorems import overfitting

X4 = [[1, 2], [0, 1], [-1, 1], [2, -1]]
TRUTH = [F(3, 2), F(-1)]
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(40, 6)) * [2, 1, 0.5, 0.3, 0.2, 0.1]
COEFFICIENTS = np.array([1.0, -1, 1, -1, 1, -1])
RATE = 0.4 / np.linalg.eigvalsh(INPUTS.T @ INPUTS / 40).max()


def followed(X, labels, eta, steps):
    """Gradient descent from 0 on half the mean squared residual, written out, on any numbers."""
    thetas = [[0 * labels[0]] * len(X[0])]
    for _ in range(steps):
        now = thetas[-1]
        residuals = [y - sum(x * c for x, c in zip(row, now, strict=True)) for row, y in zip(X, labels, strict=True)]
        pulls = [sum(row[i] * r for row, r in zip(X, residuals, strict=True)) for i in range(len(now))]
        thetas.append([c + eta * pull / len(X) for c, pull in zip(now, pulls, strict=True)])
    return thetas


def half_mean_square(X, theta, labels):
    gaps = [y - sum(x * c for x, c in zip(row, theta, strict=True)) for row, y in zip(X, labels, strict=True)]
    return sum(gap * gap for gap in gaps) / (2 * len(gaps))


@pytest.mark.parametrize("X", [X4, [[1, 2, 0], [2, 4, 0], [1, 2, 0], [0, 0, 0]]], ids=["full rank", "rank one"])
def test_the_curves_are_the_means_over_every_label_noise(X):
    """All sixteen signs of the noise, in fractions: gradient descent step by step, then the plain mean."""
    truth, sigma, eta, steps = [*TRUTH, F(2)][: len(X[0])], F(1, 2), F(1, 5), 6
    clean = [sum(x * c for x, c in zip(row, truth, strict=True)) for row in X]
    training, risk = [F(0)] * (steps + 1), [F(0)] * (steps + 1)
    for signs in product((-1, 1), repeat=4):
        labels = [c + sigma * sign for c, sign in zip(clean, signs, strict=True)]
        for k, at in enumerate(followed(X, labels, eta, steps)):
            training[k] += half_mean_square(X, at, labels) / 16
            risk[k] += half_mean_square(X, at, clean) / 16
    at = (X, list(map(float, truth)), 0.5, 0.2, steps)
    np.testing.assert_allclose(lr.expected_training_loss(*at), list(map(float, training)), rtol=1e-13)
    np.testing.assert_allclose(lr.in_sample_risk(*at), list(map(float, risk)), rtol=1e-12)


@pytest.mark.parametrize("eta", [1e-10, 0.4, 1.0, 1.6, 1.99])
def test_the_noise_that_is_learnt_keeps_its_digits(eta):
    exact = [float((1 - (1 - F(eta)) ** t) ** 2 / 4) for t in range(5)]
    np.testing.assert_allclose(lr.in_sample_risk([[1], [1]], [0], 1, eta, 4), exact, rtol=1e-13)


def test_the_curves_are_those_of_simulated_data_sets():
    sets, steps, sigma = 4_000, 60, 1.5
    clean = INPUTS @ COEFFICIENTS
    labels = clean[:, None] + sigma * np.random.default_rng(1).laplace(scale=0.5**0.5, size=(40, sets))
    thetas, training, risk = np.zeros((6, sets)), [], []
    for _ in range(steps + 1):
        fitted = INPUTS @ thetas
        training.append(((labels - fitted) ** 2).mean(axis=0) / 2)
        risk.append(((fitted - clean[:, None]) ** 2).mean(axis=0) / 2)
        thetas += RATE * INPUTS.T @ (labels - fitted) / 40
    at = (INPUTS, COEFFICIENTS, sigma, RATE, steps)
    for seen, exact in ((training, lr.expected_training_loss(*at)), (risk, lr.in_sample_risk(*at))):
        seen = np.array(seen)
        error = seen.std(axis=1) / sets**0.5
        assert np.all(abs(seen.mean(axis=1) - exact) <= 4.5 * error + 1e-12)
        assert np.all(error < 0.02 * exact)


def test_the_training_loss_falls_for_ever_and_the_risk_turns():
    at = (INPUTS, COEFFICIENTS, 2.0, RATE, 4000)
    training, risk = lr.expected_training_loss(*at), lr.in_sample_risk(*at)
    assert all(later < now for now, later in pairwise(training))
    turn = int(risk.argmin())
    assert 0 < turn < 400
    assert np.all(np.diff(risk[: turn + 1]) < 0) and np.all(np.diff(risk[turn:]) > 0)
    assert risk[-1] > 1.5 * risk[turn]
    # a lower rate goes the same way later: it turns at about the same time rate * steps, and no lower
    slower = lr.in_sample_risk(INPUTS, COEFFICIENTS, 2.0, RATE / 10, 4000)
    assert slower.argmin() == pytest.approx(10 * turn, rel=0.1)
    assert slower.min() == pytest.approx(risk.min(), rel=0.05)


def test_the_risk_is_the_sum_over_the_modes():
    s, vectors = np.linalg.eigh(INPUTS.T @ INPUTS / 40)
    b = vectors.T @ COEFFICIENTS
    for k in (0, 1, 7, 100):
        modes = lr.claim("overfitting.mode_risk")(eta=RATE, s=s, b2=b**2, n=40, sigma=2, k=k)
        assert lr.in_sample_risk(INPUTS, COEFFICIENTS, 2, RATE, k)[k] == pytest.approx(s @ modes / 2)


def test_more_columns_than_rows_are_fitted_to_the_end():
    X = np.random.default_rng(2).normal(size=(5, 30))
    at = (X, np.ones(30), 1.0, 0.2, 3000)
    assert lr.expected_training_loss(*at)[-1] < 1e-12
    assert lr.in_sample_risk(*at)[-1] == pytest.approx(1 / 2)  # the noise of every label, learnt by heart


def test_inputs_without_any_signal_teach_nothing():
    at = ([[0.0], [0.0]], [1.0], 1.0, 5.0, 2)
    assert lr.expected_training_loss(*at).tolist() == [0.5] * 3 and lr.in_sample_risk(*at).tolist() == [0] * 3


@pytest.mark.parametrize("curve", [lr.expected_training_loss, lr.in_sample_risk])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": [1, 2]}, r"X has the shape \(2,\)"),
        ({"X": np.zeros((0, 2))}, "one row for each sample"),
        ({"X": [[np.nan, 1], [1, 1]]}, "X has elements that are not finite"),
        ({"theta_true": [1.0]}, "X has 2 columns"),
        ({"theta_true": [1.0, np.inf]}, "theta_true has elements that are not finite"),
        ({"sigma": -1}, "sigma = -1"),
        ({"eta": 0}, "eta = 0: give a positive number"),
        ({"eta": 2.0}, "eta = 2.0 diverges: the largest eigenvalue"),
        ({"steps": 1.5}, "steps = 1.5"),
        ({"steps": -1}, "steps = -1"),
    ],
)
def test_bad_input_is_told_what_to_do(curve, change, message):
    good = {"X": X4, "theta_true": [1.0, 2.0], "sigma": 1.0, "eta": 0.1, "steps": 3}
    curve(**good)
    with pytest.raises(ValueError, match=message):
        curve(**good | change)


# --- data that are drawn once --------------------------------------------------------------------------------------

LEARN = (sgd, quadratic_to_sample())
MEETS = {"eta": F(1, 3), "lam": F(3, 2), "scale": F(2, 5)}


def test_a_noise_drawn_once_is_not_a_noise_drawn_anew():
    k = lr.symbol("k")
    once, anew = on_fixed_data(theta**2, k, rule=LEARN), E(theta**2, (lr.symbol("eta"), k), rule=LEARN, start=0)
    at = {lr.symbol(name): value for name, value in MEETS.items()}
    values = [[derived(e).subs(at).subs(k, count) for count in (1, 2, 30)] for e in (once, anew)]
    assert values[0][0] == values[1][0] and values[0][1] > values[1][1] and values[0][2] > 2 * values[1][2]
    assert sp.limit(derived(once).subs(at), k, sp.oo) == F(4, 25)  # all of the noise: there is no floor


@pytest.mark.parametrize("power", [1, 2, 3])
def test_any_law_of_the_data_is_derived_and_enumerated_alike(power):
    skewed = noise.finite("skewed", [(2, F(1, 3)), (-1, F(2, 3))])  # mean 0, variance 2
    reading = on_fixed_data((theta - XI) ** power, 4, rule=(sgd, quadratic_to_sample(skewed)), start=F(1, 7))
    typed = derived(reading).subs({lr.symbol(name): sp.Rational(value) for name, value in MEETS.items()})
    assert sp.nsimplify(typed) == enumerated(reading, MEETS)


def test_a_law_that_cannot_be_listed_is_refused():
    with pytest.raises(ValueError, match="finite support"):
        enumerated(on_fixed_data(theta, 1, rule=(sgd, quadratic_to_sample(noise.laplace))), MEETS)


# --- one mode ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.5, 2.0, 6.0])
@pytest.mark.parametrize("eta", [0.01, 0.3])
def test_no_number_of_steps_beats_those_next_to_the_best_moment(eta, sigma):
    at = {"eta": eta, "s": 0.7, "b2": 2.0, "n": 10, "sigma": sigma}
    best = lr.claim("overfitting.mode_best_step")(**at)
    risks = lr.claim("overfitting.mode_risk")(**at, k=np.arange(2000))
    assert abs(risks.argmin() - best) < 1
    floor = lr.claim("overfitting.mode_best_risk")(s=0.7, b2=2.0, n=10, sigma=sigma)
    assert floor <= risks.min() + 1e-15


def test_the_best_risk_is_that_of_the_best_ridge_penalty():
    s, b2, n, sigma = 0.7, 2.0, 10, 1.3

    def ridge(log_penalty):
        a = np.exp(log_penalty)
        return (a**2 * b2 + s * sigma**2 / n) / (s + a) ** 2

    found = minimize_scalar(ridge, bounds=(-12, 8), method="bounded", options={"xatol": 1e-10})
    assert found.fun == pytest.approx(lr.claim("overfitting.mode_best_risk")(s=s, b2=b2, n=n, sigma=sigma), rel=1e-12)


def test_flow_stays_below_its_bound_against_ridge_and_comes_up_to_it():
    bound = lr.claim("overfitting.flow_versus_ridge")()
    x = np.linspace(1e-3, 50, 200_001)
    ratio = ((1 - np.exp(-x)) * (1 + x) / x) ** 2
    assert ratio.max() == pytest.approx(bound, rel=1e-8) and np.all(ratio <= bound)
    # gradient descent with small steps and ridge, on whole data sets: the time of the flow is eta * steps
    s = np.linalg.svd(INPUTS)[1] ** 2 / 40
    eta, worst = 1e-3 / s.max(), 0.0
    for signal in (0.0, 0.3, 3.0):
        risk = lr.in_sample_risk(INPUTS, signal * COEFFICIENTS, 1.0, eta, 20_000)[1:]
        penalty = 1 / (eta * np.arange(1, 20_001))[:, None]
        b = np.linalg.svd(INPUTS)[2] @ (signal * COEFFICIENTS)
        ridge = (s / 2 * (penalty**2 * b**2 + s / 40) / (s + penalty) ** 2).sum(axis=1)
        worst = max(worst, (risk / ridge).max())
    assert 1.5 < worst < bound
    one = lr.in_sample_risk([[1.0]], [0.0], 1.0, 1e-4, 17_933)[-1]  # one mode without signal, at the worst time
    assert one / (0.5 * (1.7933 / 2.7933) ** 2) == pytest.approx(bound, rel=1e-3)


def test_exact_in_exact_out():
    assert lr.claim("overfitting.mode_risk")(eta=F(1, 2), s=1, b2=4, n=2, sigma=2, k=1) == sp.Rational(3, 2)
    assert lr.claim("overfitting.mode_best_risk")(s=1, b2=1, n=4, sigma=2) == sp.Rational(1, 2)
    assert lr.claim("overfitting.mode_best_step")(eta=0.1, s=1, b2=1, n=4, sigma=0.0) == np.inf  # nothing to overfit
    with pytest.raises(ValueError, match="overshot"):
        lr.claim("overfitting.mode_best_step")(eta=1.5, s=1, b2=1, n=4, sigma=1)


def test_the_mode_is_a_data_set_with_one_column():
    """The landscape of the claims, against gradient descent on inputs and labels, for every sign of four labels."""
    x, b, sigma = [1, 1, 1, 1], F(3, 2), F(1, 2)
    errors = []
    for signs in product((-1, 1), repeat=4):
        labels = [b * xi + sigma * sign for xi, sign in zip(x, signs, strict=True)]
        errors.append((followed([[xi] for xi in x], labels, F(1, 3), 5)[5][0] - b) ** 2)
    at = {"eta": F(1, 3), "s": 1, "b2": b**2, "n": 4, "sigma": sigma, "k": 5}
    assert sp.Rational(sum(errors) / 16) == enumerated(overfitting.risk, at) == overfitting.mode_risk(**at)
