"""The two curves of the chapter on real data, against plain iteration of second moments over all of the samples."""

import numpy as np
import pytest

import lrtheory as lr
from lrtheory.schedules import constant, drop

HIGH, LOW, AT_DROP = 0.03, 0.003, 1000


@pytest.fixture(scope="module")
def data():
    """The rows, what is to be predicted, and a start: the least squares of the first 20 rows."""
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = datasets.load_diabetes(return_X_y=True)
    X, y = (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()
    return X, y, np.linalg.pinv(X[:20]) @ y[:20]


def one_step(X, y, eta):
    """The map of E z z', z = (theta, 1), written as a vector: the mean over the samples of what each does to it."""
    size, total = X.shape[1] + 1, 0
    for x, wanted in zip(X, y, strict=True):
        step = np.eye(size)
        step[:-1] -= eta * np.outer(x, np.append(x, -wanted))
        total = total + np.kron(step, step)
    return total / len(y)


def brute_force(X, y, start, pieces):
    """The mean loss, and the mean squared gradient of a sample, before each step; `pieces` are rates and steps."""
    z = np.append(start, 1.0)
    moments, losses, squares = np.kron(z, z), [], []
    errors = np.column_stack([X, -y])  # times z: the error of each sample
    loss = np.einsum("ni,nj->ij", errors, errors).ravel() / (2 * len(y))
    square = np.einsum("n,ni,nj->ij", np.sum(X**2, axis=1), errors, errors).ravel() / len(y)
    for eta, steps in pieces:
        step = one_step(X, y, eta)
        for _ in range(steps):
            losses.append(loss @ moments)
            squares.append(square @ moments)
            moments = step @ moments
    return np.array(losses), np.array(squares)


@pytest.fixture(scope="module")
def curves(data):
    X, y, start = data
    least = np.linalg.lstsq(X, y)[1][0] / (2 * len(y))
    kept, squares = brute_force(X, y, start, [(HIGH, 19_000)])
    dropped, _ = brute_force(X, y, start, [(HIGH, AT_DROP), (LOW, 18_000)])
    return kept - least, dropped - least, squares


def changes(kept, dropped):
    """The steps after the drop at which another curve comes to lead."""
    ahead = (dropped < kept)[AT_DROP + 1 :]
    return list(np.flatnonzero(np.diff(ahead)) + 2)


def test_both_curves_their_win_and_their_crossing(data, curves):
    X, y, start = data
    model, steps = lr.LeastSquares(X, y), len(curves[0]) - 1
    kept = model.excess_along(constant(HIGH), start, steps)
    dropped = model.excess_along(drop(HIGH, LOW, at=AT_DROP), start, steps)
    np.testing.assert_allclose(kept, curves[0], rtol=1e-8)
    np.testing.assert_allclose(dropped, curves[1], rtol=1e-8)
    lead, by_force = ((a - b)[AT_DROP:] for a, b in ((kept, dropped), curves[:2]))
    assert lead.argmax() == by_force.argmax() and lead.max() == pytest.approx(by_force.max(), rel=1e-8)
    overtaken, for_good = changes(kept, dropped)
    assert [overtaken, for_good] == changes(*curves[:2])
    assert 0 < lead.argmax() < overtaken < lead.argmin() < for_good


def test_the_squared_gradients_give_the_win_though_the_run_is_not_at_rest(data, curves):
    X, y, start = data
    values, directions = np.linalg.eigh(X.T @ X / len(y))
    away = (start - np.linalg.lstsq(X, y)[0]) @ directions
    way = [lr.expected_loss(s, values, 0, away, 2001) for s in (constant(HIGH), drop(HIGH, LOW, at=AT_DROP))]
    win = (curves[0][AT_DROP] - way[0][AT_DROP]) - (curves[1][2000] - way[1][2000])
    predicted = lr.quick_win(HIGH, curves[2][AT_DROP], LOW)
    assert predicted.low == pytest.approx(win, rel=0.02)
    # a run at rest has less to win
    model = lr.LeastSquares(X, y)
    at_rest = model.stationary_excess(HIGH) - model.stationary_excess(LOW)
    assert at_rest < 0.7 * win
    # at rest the reading is exact
    assert HIGH * curves[2][-1] / 4 == pytest.approx(model.stationary_excess(HIGH), rel=1e-3)


def test_an_integer_seed_repeats_the_order_of_the_rows(data):
    """What the chapter says of scikit-learn: a generator goes on, an integer deals the same order at each call."""
    from sklearn.linear_model import SGDRegressor

    X, y, start = data
    for state, same in ((0, True), (np.random.RandomState(0), False), (None, False)):
        sgd = SGDRegressor(penalty=None, learning_rate="constant", eta0=HIGH, random_state=state)
        ends = []
        for _ in range(2):
            sgd.coef_, sgd.intercept_ = start.copy(), np.zeros(1)
            ends.append(sgd.partial_fit(X, y).coef_.copy())
        assert np.array_equal(*ends) == same
