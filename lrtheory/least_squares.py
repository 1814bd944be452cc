"""SGD on a finite data set: the exact expected loss of least squares, for every step and in the long run.

L(theta) = |X theta - y|² / (2 n), and each step takes a mini-batch of the n samples.  With D = theta - theta* and the
residuals e of the minimum, the mean m = E D and the second moments P = E D D' obey two linear equations,

    m' = (I - eta H) m,
    P' = E[(I - eta h) P (I - eta h)] + eta² c mean((e² + 2 e x'm) x x'),

where h is the curvature of a batch, of mean H, and c says how much a batch varies: 1 / B with replacement,
(n - B) / (B (n - 1)) without.  The term with m matters as long as the mean is on its way: a residual that is large
where an input is large steers the noise.

In the eigenvectors of H, E[(I - eta h) P (I - eta h)] = P - eta (L - eta Q) P with L diagonal (the sum of two
curvatures) and Q symmetric and positive.  So the long run is a symmetric positive definite system, which conjugate
gradients solve without a matrix, and the largest stable rate is 1 over the largest eigenvalue of
L**-1/2 Q L**-1/2, by the Krein-Rutman theorem.  One application costs of the order of n d² operations.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from .inputs import Array, affordable, numbers, positive, whole
from .schedules import Schedule, rates

_VECTORS = 26  # d x d matrices at once: 20 of the Lanczos method, and what is between them
_ROWS = 1 << 20  # numbers of one block of samples
_LARGEST = 1e150  # of an element: its square, times the like of a number of samples, is a float
_DENSE = 8  # up to this dimension the eigenvalues are those of a whole matrix


class LeastSquares:
    """The exact dynamics of SGD on ``L(theta) = |X theta - y|² / (2 n)`` with mini-batches of `batch` samples.

    `X` has one row for each sample, `y` one number.  `replacement=False` means a fresh subset of the samples at each
    step (not an epoch: the next step draws from all of them again).  There is no intercept: give X a column of ones.
    Losses are in excess of the least one.  If X does not have full rank, the minimum is the one of least norm, and
    directions that no sample sees play no part.

    `minimum` is theta*, `least_loss` its loss, `curvatures` the positive eigenvalues of X'X / n.
    Raises `TypeError` for what is no number, `ValueError` for shapes, values that are not finite, and impossible
    batches, and for X or y whose squares leave the range of floats; `MemoryError` if the moments would take more than
    4 GiB.

    >>> model = LeastSquares([[1.0], [2.0]], [1.0, 3.0])
    >>> round(model.stability_limit(), 6), round(model.stationary_excess(0.1), 6)
    (0.588235, 0.004819)
    """

    def __init__(self, X: Any, y: Any, batch: int = 1, replacement: bool = True):
        X, y = _table("X", X, 2), _table("y", y, 1)
        n, d = X.shape
        if y.size != n:
            raise ValueError(f"X has {n} rows and y has {y.size} values: give one value for each row")
        if n == 0 or d == 0:
            raise ValueError(f"X has shape {X.shape}: give at least one sample and one input")
        batch = whole("batch", batch, 1)
        if not replacement and batch > n:
            raise ValueError(f"batch = {batch}: without replacement there are only {n} samples; give {n} or fewer")
        rank = min(n, d)
        affordable(
            f"{n} samples and the second moments of {rank} directions",
            8 * (_VECTORS * rank**2 + 3 * n * rank),
            "give fewer inputs, for instance the first principal components of X, or fewer samples",
        )
        _finite("X", X), _finite("y", y)
        _squared("y", y)
        # one unit of X is a power of two, so that no digit changes; in it, a rate is eta * unit**2
        self._unit = 2.0 ** np.frexp(_squared("X", X))[1]
        X = X / self._unit
        left, singular, right = np.linalg.svd(X, full_matrices=False)
        seen = singular > singular[0] * max(n, d) * np.finfo(float).eps
        if not np.any(seen):
            raise ValueError("X is zero: there is nothing to learn from it; give inputs that vary")
        self._right = right[seen]
        self._inputs = np.ascontiguousarray(left[:, seen] * singular[seen])  # in the eigenvectors of H
        self._lams = singular[seen] ** 2 / n
        self.curvatures: Array = self._lams * self._unit**2
        coordinates = (left[:, seen].T @ y) / singular[seen]
        self.minimum: Array = coordinates @ self._right / self._unit
        self._residuals = self._inputs @ coordinates - y
        self.least_loss = float(self._residuals @ self._residuals / (2 * n))
        self.batch, self.replacement = batch, bool(replacement)
        self._varies = 1 / batch if replacement else (n - batch) / (batch * max(n - 1, 1))
        self._sums = self._lams[:, None] + self._lams  # L

    def _spread(self, moments: Array | None, weights: Array | None = None) -> Array:
        """The mean over the samples of (x'Px + weight) x x'."""
        n, rank = self._inputs.shape
        total = np.zeros((rank, rank))
        rows = max(1, _ROWS // rank)
        for first in range(0, n, rows):
            x = self._inputs[first : first + rows]
            scale = np.zeros(len(x)) if weights is None else weights[first : first + rows]
            if moments is not None:
                scale = scale + np.einsum("ij,ij->i", x @ moments, x)
            total += (x * scale[:, None]).T @ x
        return total / n

    def _push(self, moments: Array, weights: Array | None = None) -> Array:
        """The mean of h P h over the batches (Q), and of what the weights add to it."""
        lams = self._lams
        both = (1 - self._varies) * lams[:, None] * moments * lams
        return both + self._varies * self._spread(moments, weights) if self._varies else both

    def _scaled(self, flat: Array) -> Array:
        """L**-1/2 Q L**-1/2, a symmetric map of matrices written as vectors."""
        root = np.sqrt(self._sums)
        return (self._push(flat.reshape(root.shape) / root) / root).ravel()

    @cached_property
    def _limit(self) -> float:
        from scipy.sparse.linalg import LinearOperator, eigsh

        size = self._sums.size
        if len(self._lams) <= _DENSE:
            largest = np.linalg.eigvalsh(np.array([self._scaled(row) for row in np.eye(size)]))
            return float(1 / largest[-1] / self._unit**2)
        operator = LinearOperator((size, size), matvec=self._scaled, dtype=float)
        # the eigenvector is a positive matrix, which no other positive matrix is orthogonal to
        start = np.diag(np.sqrt(np.diag(self._sums))).ravel()
        largest = eigsh(operator, 1, which="LA", v0=start, tol=1e-12, return_eigenvectors=False)
        return float(1 / largest[0] / self._unit**2)

    def stability_limit(self) -> float:
        """The rate above which the expected loss grows without bound.

        >>> whole = LeastSquares([[1.0], [2.0]], [1.0, 3.0], batch=2, replacement=False)
        >>> round(whole.stability_limit(), 6)  # all of the data at each step: 2 over the curvature, which is 5/2
        0.8
        """
        return self._limit

    def stationary_excess(self, eta: float) -> float:
        """The expected loss in the long run at the rate `eta`, in excess of the least loss.

        Raises `ValueError` if the rate is not stable, naming the limit.

        >>> fitted = LeastSquares([[1.0], [2.0]], [2.0, 4.0])
        >>> round(fitted.stationary_excess(0.1), 6)  # a perfect fit has no noise at its minimum
        0.0
        """
        from scipy.sparse.linalg import LinearOperator, cg

        eta = positive("eta", eta)
        if eta >= self._limit:
            raise ValueError(
                f"eta = {eta} is not stable: the expected loss grows without bound from {self._limit:.6g} on; lower eta"
            )
        size, root, rate = self._sums.size, np.sqrt(self._sums), eta * self._unit**2
        forced = (self._varies * self._spread(None, self._residuals**2) / root).ravel()
        largest = np.abs(forced).max() or 1.0  # the squares of conjugate gradients stay in the range of floats
        operator = LinearOperator((size, size), matvec=lambda flat: flat - rate * self._scaled(flat), dtype=float)
        found, failed = cg(operator, forced / largest, rtol=1e-13, maxiter=10_000)
        if failed:
            raise ValueError(
                f"eta = {eta} is too near the limit {self._limit:.6g} to solve for the long run: lower it a little"
            )
        moments = np.diag(found.reshape(root.shape) / root)
        return float(self._lams @ moments / 2 * rate * largest)

    def excess_along(self, schedule: Schedule, theta0: Any, steps: int | None = None) -> Array:
        """The expected loss, in excess of the least, before the first step and after each step of a schedule.

        `schedule` is an array of rates, or a function from the step to the rate together with a number of `steps`;
        `theta0` the start, one number for each input.  Returns an array of one value more than there are steps.
        Rates may be above the stability limit for a while.  Raises `FloatingPointError` if the loss leaves the range of
        floats.

        >>> model = LeastSquares([[1.0], [2.0]], [1.0, 3.0])
        >>> model.excess_along([0.1, 0.1], theta0=[0.0]).round(4)
        array([2.45  , 1.4562, 0.8697])
        """
        if steps is None:
            if callable(schedule):
                raise ValueError("the schedule is a function: say how many steps, or give an array of rates")
            steps = np.size(schedule)
        steps = whole("steps", steps)
        etas, start = rates(schedule, steps), _finite("theta0", _table("theta0", theta0, 1))
        if start.size != self._right.shape[1]:
            raise ValueError(f"theta0 has {start.size} values: give {self._right.shape[1]}, one for each column of X")
        losses = np.empty(steps + 1)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = self._right @ (start - self.minimum) * self._unit
            moments = np.outer(mean, mean)
            for t in range(steps + 1):
                if t:
                    eta = etas[t - 1] * self._unit**2
                    weights = self._residuals * (self._residuals + 2 * self._inputs @ mean)
                    moments = moments - eta * (self._sums * moments - eta * self._push(moments, weights))
                    mean = (1 - eta * self._lams) * mean
                losses[t] = self._lams @ np.diag(moments) / 2
                if not np.isfinite(losses[t]):
                    remedy = f"lower the rates; the largest stable one is {self._limit:.6g}" if t else "start nearer"
                    raise FloatingPointError(f"the expected loss left the range of floats at step {t}: {remedy}")
        return losses


def _table(name: str, values: Any, dimensions: int) -> Array:
    array = numbers(name, values)
    if array.ndim != dimensions:
        wanted = "a table: one row for each sample" if dimensions == 2 else "a list of numbers"
        raise ValueError(f"{name} has shape {array.shape}: give {wanted}")
    return array


def _finite(name: str, array: Array) -> Array:
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} has values that are not finite numbers: remove them, or fill them in")
    return array


def _squared(name: str, array: Array) -> float:
    """The largest magnitude, which can be squared."""
    largest = float(np.abs(array).max())
    if largest and not 1 / _LARGEST < largest < _LARGEST:
        raise ValueError(
            f"{name} has numbers of up to {largest:.3g}, whose squares leave the range of floats, or nearly: measure "
            "it in other units"
        )
    return largest
