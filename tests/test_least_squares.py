"""LeastSquares against every mini-batch in fractions, a whole matrix, scikit-learn's SGD, and its special cases."""

from fractions import Fraction as F
from itertools import combinations, product

import numpy as np
import pytest
import sympy as sp

import lrtheory as lr
from lrtheory import inputs
from lrtheory.enumeration import fixed_moment

# four samples, of which no line fits more than two
X4, Y4 = [(1, 0), (1, 2), (-1, 1), (2, 1)], [1, -1, 2, 3]
FLAT = [(1, 2), (2, 4), (-1, -2), (3, 6)]  # one direction only
CHOICES = [(1, True), (2, True), (2, False), (3, False), (4, False)]


def steps_from(point, X, y, eta, batch, replacement):
    """Where a point goes, with each mini-batch, and how likely."""
    draws = list(product(range(len(y)), repeat=batch) if replacement else combinations(range(len(y)), batch))
    moved = []
    for draw in draws:
        errors = [(i, sum(x * t for x, t in zip(X[i], point, strict=True)) - y[i]) for i in draw]
        moved.append(tuple(t - eta * sum(X[i][j] * e for i, e in errors) / batch for j, t in enumerate(point)))
    return [(state, F(1, len(draws))) for state in moved]


def loss(point, X, y):
    return sum((sum(x * t for x, t in zip(row, point, strict=True)) - v) ** 2 for row, v in zip(X, y, strict=True)) / (
        2 * F(len(y))
    )


def least(X, y):
    """The least loss, exactly."""
    a, b = sp.Matrix(X), sp.Matrix(y)
    best = (a.T * a).pinv() * a.T * b
    return F(str((a * best - b).dot(a * best - b))) / (2 * len(y))


@pytest.mark.parametrize(("batch", "replacement"), CHOICES)
@pytest.mark.parametrize("X", [X4, FLAT])
def test_every_mini_batch_in_fractions(X, batch, replacement):
    etas, start = [F(1, 10), F(1, 4), F(1, 20)], (F(3), F(-1, 2))
    law, expected = {start: F(1)}, [loss(start, X, Y4)]
    for eta in etas:
        new = {}
        for point, p in law.items():
            for state, q in steps_from(point, X, Y4, eta, batch, replacement):
                new[state] = new.get(state, 0) + p * q
        law = new
        expected.append(sum(p * loss(point, X, Y4) for point, p in law.items()))
    model = lr.LeastSquares(X, Y4, batch, replacement)
    assert model.least_loss == pytest.approx(float(least(X, Y4)), rel=1e-13)
    found = model.excess_along(etas, start)
    np.testing.assert_allclose(found, [float(e - least(X, Y4)) for e in expected], rtol=1e-12)


@pytest.mark.parametrize(("batch", "replacement"), CHOICES)
def test_the_long_run_and_its_limit_in_fractions(batch, replacement):
    model = lr.LeastSquares(X4, Y4, batch, replacement)
    states = sp.symbols("theta_1 theta_2")
    excess = sp.expand(loss(states, [[sp.Integer(x) for x in row] for row in X4], Y4) - sp.Rational(least(X4, Y4)))

    def exactly(eta):
        return fixed_moment(lambda point: steps_from(point, X4, Y4, eta, batch, replacement), states, excess)

    limit = F(model.stability_limit())
    for share in (F(1, 5), F(1, 2), F(99, 100)):
        eta = (share * limit).limit_denominator(10**6)
        assert model.stationary_excess(eta) == pytest.approx(float(exactly(eta)), rel=1e-10, abs=1e-14)
    with pytest.raises(ValueError, match="grow"):
        exactly((limit * F(1001, 1000)).limit_denominator(10**6))
    with pytest.raises(ValueError, match=r"grows without bound from 0\.\d+ on; lower eta"):
        model.stationary_excess(limit * F(1001, 1000))


@pytest.mark.parametrize(("n", "d", "batch", "replacement"), [(30, 12, 1, True), (30, 12, 4, False), (9, 12, 2, True)])
def test_the_matrix_free_answers_equal_those_of_the_whole_matrix(n, d, batch, replacement):
    rng = np.random.default_rng(n)
    X, y = rng.normal(size=(n, d)), rng.normal(size=n)
    model = lr.LeastSquares(X, y, batch, replacement)
    varies = 1 / batch if replacement else (n - batch) / (batch * (n - 1))
    np.testing.assert_allclose(model.minimum, np.linalg.pinv(X) @ y, rtol=1e-9)
    X = X @ np.linalg.qr(X.T)[0]  # what the samples see
    d = X.shape[1]
    H, theta = X.T @ X / n, np.linalg.pinv(X) @ y
    h, e = np.einsum("ni,nj->nij", X, X), X @ theta - y
    varied = np.einsum("nij,nkl->ikjl", h, h).reshape(d * d, d * d) / n - np.kron(H, H)

    def step(eta):
        return np.kron(np.eye(d) - eta * H, np.eye(d) - eta * H) + eta**2 * varies * varied

    limit = model.stability_limit()
    grow = [np.max(np.abs(np.linalg.eigvals(step(limit * by)))) for by in (0.999, 1, 1.001)]
    assert grow[0] < 1 - 1e-6 and grow[1] == pytest.approx(1, abs=1e-9) and grow[2] > 1 + 1e-6
    forced = (limit / 2) ** 2 * varies * np.einsum("n,nij->ij", e**2, h).ravel() / n
    moments = np.linalg.solve(np.eye(d * d) - step(limit / 2), forced).reshape(d, d)
    expected = np.sum(H * moments) / 2
    assert model.stationary_excess(limit / 2) == pytest.approx(expected, rel=1e-8, abs=1e-20)


def test_the_run_settles_on_the_long_run():
    model = lr.LeastSquares(X4, Y4, batch=2, replacement=False)
    eta = model.stability_limit() / 3
    assert model.excess_along(lambda t: eta, [5, 5], steps=400)[-1] == pytest.approx(model.stationary_excess(eta))


def test_the_noise_on_the_way_depends_on_the_side_one_comes_from():
    model = lr.LeastSquares([[1], [2]], [1, 3])
    below, above = (model.excess_along([0.3], model.minimum + side) for side in (-1, 1))
    assert below[0] == pytest.approx(above[0]) and below[1] > 2 * above[1]


@pytest.mark.parametrize("of_x", [1, 1e-140, 1e140])
@pytest.mark.parametrize("of_y", [1, 1e-80, 1e-149, 1e80, 1e149])
def test_the_answers_do_not_depend_on_the_units(of_x, of_y):
    X, y = np.array([[1.0, 2.0], [3.0, 1.0], [0.0, 1.0]]), np.array([1.0, 2.0, 3.0])
    model, scaled = lr.LeastSquares(X, y), lr.LeastSquares(of_x * X, of_y * y)
    eta = 0.1 * model.stability_limit()
    assert scaled.stability_limit() * of_x**2 == pytest.approx(model.stability_limit(), rel=1e-12)
    excess = scaled.stationary_excess(eta / of_x**2) / of_y**2
    assert excess == pytest.approx(model.stationary_excess(eta), rel=1e-11)
    curve = scaled.excess_along([eta / of_x**2] * 3, np.array([1, 2]) * (of_y / of_x)) / of_y**2
    np.testing.assert_allclose(curve, model.excess_along([eta] * 3, [1, 2]), rtol=1e-11)


def test_steps_may_be_a_whole_float():
    model = lr.LeastSquares(X4, Y4)
    np.testing.assert_array_equal(model.excess_along(lambda t: 0.1, [1, 1], 3.0), model.excess_along([0.1] * 3, [1, 1]))


def test_all_of_the_data_at_each_step_is_gradient_descent():
    model = lr.LeastSquares(X4, Y4, batch=4, replacement=False)
    assert model.stability_limit() == pytest.approx(2 / model.curvatures.max(), rel=1e-12)
    assert model.stationary_excess(0.3) == 0
    X, y, theta, losses = np.array(X4), np.array(Y4), np.array([1.0, 1.0]), []
    for _ in range(20):
        losses.append(np.mean((X @ theta - y) ** 2) / 2 - model.least_loss)
        theta = theta - 0.3 * X.T @ (X @ theta - y) / 4
    np.testing.assert_allclose(model.excess_along([0.3] * 19, [1, 1]), losses, rtol=1e-9, atol=1e-14)


def test_more_inputs_than_samples_leave_no_floor():
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(5, 9)), rng.normal(size=5)
    model = lr.LeastSquares(X, y)
    eta = model.stability_limit() / 2
    assert model.stationary_excess(eta) < 1e-20 and model.least_loss < 1e-20
    curve = model.excess_along([eta] * 5, np.zeros(9))
    # what no sample sees changes nothing
    unseen = np.linalg.svd(X)[2][-1]
    np.testing.assert_allclose(model.excess_along([eta] * 5, 7 * unseen), curve, rtol=1e-9)


def test_much_gaussian_data_has_the_floor_and_the_limit_of_fresh_samples():
    rng, lams, n = np.random.default_rng(0), np.array([1.0, 2.25]), 100_000
    inputs = rng.standard_normal((n, 2))
    inputs = inputs @ np.linalg.inv(np.linalg.cholesky(inputs.T @ inputs / n)).T * np.sqrt(lams)  # exactly these lams
    model = lr.LeastSquares(inputs, inputs @ [1, 2] + 2 * rng.standard_normal(n), batch=2)
    sigma = np.sqrt(2 * model.least_loss)
    floor = lr.claim("minibatch.lms_excess")(eta=0.15, lams=lams, sigma=sigma, batch=2)
    assert model.stationary_excess(0.15) == pytest.approx(floor, rel=0.01)
    assert model.stability_limit() == pytest.approx(lr.claim("minibatch.lms_limit")(lams=lams, batch=2), rel=0.01)
    curve = lr.expected_loss([0.15] * 30, lams, sigma**2, model.minimum, 30, model="lms", batch=2)
    np.testing.assert_allclose(model.excess_along([0.15] * 30, [0, 0]), curve, rtol=0.01)


def test_scikit_learns_sgd_on_real_data():
    datasets = pytest.importorskip("sklearn.datasets")
    from sklearn.linear_model import SGDRegressor

    X, y = datasets.load_diabetes(return_X_y=True)
    X, y = X / X.std(axis=0), (y - y.mean()) / y.std()
    model, n = lr.LeastSquares(X, y), len(y)
    eta, looks, runs = model.stability_limit() / 2, (5, 60), 3000
    H = X.T @ X / n
    excess = np.empty((runs, 2))
    for run in range(runs):
        drawn = np.random.default_rng(run).integers(n, size=looks[-1])
        sgd = SGDRegressor(penalty=None, fit_intercept=False, learning_rate="constant", eta0=eta, shuffle=False)
        for i, part in enumerate((drawn[: looks[0]], drawn[looks[0] :])):
            sgd.partial_fit(X[part], y[part])
            off = sgd.coef_ - model.minimum
            excess[run, i] = off @ H @ off / 2
    expected = model.excess_along([eta] * looks[-1], np.zeros(10))[list(looks)]
    error = excess.std(axis=0, ddof=1) / runs**0.5
    assert np.all(np.abs(excess.mean(axis=0) - expected) < 3.5 * error)
    # noise that is the same everywhere would be as far as this
    covariance = np.einsum("n,ni,nj->ij", (X @ model.minimum - y) ** 2, X, X) / n
    moments = np.outer(model.minimum, model.minimum)
    for t in range(looks[-1]):
        if t == looks[0]:
            early = np.sum(H * moments) / 2
        moments = (np.eye(10) - eta * H) @ moments @ (np.eye(10) - eta * H) + eta**2 * covariance
    rivals = np.array([early, np.sum(H * moments) / 2])
    assert np.all(np.abs(rivals - expected) > 10 * error)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lr.LeastSquares([1, 2], [1, 2]), ValueError, r"X has shape \(2,\): give a table"),
        (lambda: lr.LeastSquares(X4, [1, 2]), ValueError, "X has 4 rows and y has 2 values"),
        (lambda: lr.LeastSquares([[1, np.nan]], [1]), ValueError, "X has values that are not finite"),
        (lambda: lr.LeastSquares([[1.0]], [np.inf]), ValueError, "y has values that are not finite"),
        (lambda: lr.LeastSquares(np.zeros((3, 2)), np.ones(3)), ValueError, "X is zero"),
        (lambda: lr.LeastSquares(np.zeros((0, 2)), []), ValueError, "at least one sample"),
        (lambda: lr.LeastSquares(1e155 * np.array(X4), Y4), ValueError, r"X has numbers of up to 2e\+155"),
        (lambda: lr.LeastSquares(1e-165 * np.array(X4), Y4), ValueError, "X has .* measure it in other units"),
        (lambda: lr.LeastSquares(X4, 1e160 * np.array(Y4)), ValueError, "y has .* measure it in other units"),
        (lambda: lr.LeastSquares(X4, Y4).excess_along([], [1e200, 1]), FloatingPointError, "at step 0: start nearer"),
        (lambda: lr.LeastSquares(X4, Y4, batch=0), ValueError, "batch = 0: give a whole number"),
        (lambda: lr.LeastSquares(X4, Y4, batch=1.5), ValueError, "batch = 1.5: give a whole number"),
        (lambda: lr.LeastSquares(X4, Y4, 5, replacement=False), ValueError, "only 4 samples; give 4 or fewer"),
        (lambda: lr.LeastSquares(X4, Y4).stationary_excess(-0.1), ValueError, "eta = -0.1: give a positive number"),
        (lambda: lr.LeastSquares(X4, Y4).excess_along([0.1], [1]), ValueError, "give 2, one for each column"),
        (lambda: lr.LeastSquares(X4, Y4).excess_along([-0.1], [1, 1]), ValueError, "step 0 is -0.1"),
        (lambda: lr.LeastSquares(X4, Y4).excess_along(lambda t: 0.1, [1, 1]), ValueError, "say how many steps"),
        (
            lambda: lr.LeastSquares(X4, Y4).excess_along([9.0] * 400, [1, 1]),
            FloatingPointError,
            "largest stable one is",
        ),
    ],
)
def test_bad_input_is_told_what_to_do(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_memory_is_refused_before_it_is_taken(monkeypatch):
    monkeypatch.setattr(inputs, "MEMORY", 1 << 20)
    with pytest.raises(MemoryError, match=r"of 100 directions would take about .* GiB"):
        lr.LeastSquares(np.ones((200, 100)), np.ones(200))
