"""Schedules of the learning rate, and the exact expected loss along any of them.

A schedule is a function from the step (0, 1, 2 …) to the rate of that step, or simply an array of rates.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np

from .inputs import Array, affordable, numbers, positive, shown, whole

Schedule = Callable[[int], float] | Sequence[float] | Array

# float64 numbers in one block of work: small enough for a processor's cache, large enough for NumPy
_MODES, _BLOCK = 1 << 14, 1 << 16
# steps times modes that are taken together: 64 factors, none beyond the square of a large step, multiply to a float
_TOGETHER, _LARGE_STEP = 1 << 12, 100
# with so few modes a long run of LMS steps is faster through the eigenvectors of one step
_FEW_MODES = 64
_MOST_WORK = 1e12  # modes times steps, where each step is taken: about half an hour


@dataclass(frozen=True)
class Piecewise:
    """A schedule that is constant between a few steps; it costs the same for any number of steps."""

    values: tuple[float, ...]
    changes: tuple[int, ...]  # the steps at which the next value takes over

    def __post_init__(self) -> None:
        for step in self.changes:
            whole("the step of a change", step)
        if len(self.values) != len(self.changes) + 1 or list(self.changes) != sorted(self.changes):
            raise ValueError(
                f"values = {shown(self.values)}, changes = {shown(self.changes)}: give the steps at which the second "
                "value takes over, the third …, one after the other"
            )
        _admissible(numbers("the rates", self.values), np.array([0, *self.changes]))

    def __call__(self, t: int) -> float:
        return self.values[bisect_right(self.changes, t)]


def piecewise(values: Sequence[float], lengths: Sequence[int]) -> Piecewise:
    """Each value for its number of steps, one after the other; the last one goes on.

    >>> [piecewise([0.5, 0.1], [2, 1])(t) for t in range(4)]
    [0.5, 0.5, 0.1, 0.1]
    """
    if np.ndim(values) != 1 or np.shape(values) != np.shape(lengths) or not len(values):
        raise ValueError(
            f"values = {shown(values)}, lengths = {shown(lengths)}: give each value its number of steps, as two lists"
        )
    steps = [whole("a length", length) for length in lengths]
    return Piecewise(tuple(numbers("the values", values).tolist()), tuple(accumulate(steps[:-1])))


def constant(eta0: float) -> Piecewise:
    """The same rate at every step.

    >>> constant(0.1)(5)
    0.1
    """
    return Piecewise((eta0,), ())


def drop(eta1: float, eta2: float, at: int) -> Piecewise:
    """eta1 before step `at`, eta2 from it on.

    >>> [drop(0.5, 0.05, at=2)(t) for t in range(4)]
    [0.5, 0.5, 0.05, 0.05]
    """
    return Piecewise((eta1, eta2), (at,))


def inverse_time(eta0: float, decay: float) -> Callable[[int], float]:
    """eta0 / (1 + t / decay) (Robbins & Monro 1951).

    >>> inverse_time(0.5, decay=10)(10)
    0.25
    """
    positive("eta0", eta0, or_zero=True), positive("decay", decay)
    return lambda t: eta0 / (1 + t / decay)


def inverse_root(eta0: float) -> Callable[[int], float]:
    """eta0 / sqrt(1 + t).

    >>> inverse_root(0.5)(3)
    0.25
    """
    positive("eta0", eta0, or_zero=True)
    return lambda t: eta0 / (1 + t) ** 0.5


def exponential(eta0: float, factor: float) -> Callable[[int], float]:
    """eta0 * factor**t.

    >>> exponential(0.5, 0.5)(2)
    0.125
    """
    positive("eta0", eta0, or_zero=True), positive("factor", factor, or_zero=True)

    def rate(t: int) -> float:
        try:
            return float(eta0 * factor**t)
        except OverflowError:
            raise ValueError(
                f"the rate at step {t} is {eta0} * {factor}**{t}, which leaves the range of floats: give a factor of 1 "
                "or less, or fewer steps"
            ) from None

    return rate


def _left(t: int, steps: int) -> int:
    """How many steps are left before the rate is 0."""
    if not 0 <= t <= steps:
        raise ValueError(f"step {t} of a schedule that ends after {steps} steps: give it the steps of the whole run")
    return steps - t


def linear(eta0: float, steps: int) -> Callable[[int], float]:
    """From eta0 down to 0 along a straight line over `steps` steps, where it ends: later steps raise `ValueError`.

    >>> linear(0.5, steps=4)(3)
    0.125
    """
    positive("eta0", eta0, or_zero=True), whole("steps", steps, 1)
    return lambda t: eta0 * (_left(t, steps) / steps)


def cosine(eta0: float, steps: int) -> Callable[[int], float]:
    """From eta0 down to 0 along half a cosine over `steps` steps (Loshchilov & Hutter 2017).

    It ends there: later steps raise `ValueError`.

    >>> round(cosine(0.5, steps=4)(2), 12)
    0.25
    """
    positive("eta0", eta0, or_zero=True), whole("steps", steps, 1)
    # (1 + cos(pi t / steps)) / 2, whose last values would lose their digits
    return lambda t: eta0 * math.sin(math.pi / 2 * _left(t, steps) / steps) ** 2


def warmup_stable_decay(eta0: float, steps: int, warmup: int, decay: int) -> Callable[[int], float]:
    """Up along a line for `warmup` steps, constant, and down along a line over the last `decay` steps.

    It ends there: later steps raise `ValueError`.

    >>> [warmup_stable_decay(1.0, steps=6, warmup=2, decay=2)(t) for t in range(6)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 0.5]
    """
    positive("eta0", eta0, or_zero=True), whole("steps", steps, 1), whole("warmup", warmup), whole("decay", decay)
    return lambda t: eta0 * min(1.0, (t + 1) / max(warmup, 1), _left(t, steps) / max(decay, 1))


def optimal(lam: float, sigma: float, second_moment: float) -> Callable[[int], float]:
    """The best rates for one curvature: 1 / (lam * (t + 1 + t0)), t0 = sigma**2 / (lam**2 * second_moment).

    >>> optimal(lam=1, sigma=1, second_moment=1)(0)
    0.5
    """
    positive("lam", lam), positive("sigma", sigma, or_zero=True), positive("second_moment", second_moment)
    t0 = sigma**2 / (lam**2 * second_moment)
    return lambda t: 1 / (lam * (t + 1 + t0))


def rates(schedule: Schedule, steps: int) -> Array:
    """The rates of steps 0 … steps - 1 as an array.

    Raises `ValueError` for a wrong number of rates, or one that is negative or not finite, `TypeError` for text.

    >>> rates(drop(0.5, 0.05, at=2), 3)
    array([0.5 , 0.5 , 0.05])
    """
    steps = whole("steps", steps)
    if callable(schedule):
        # as a list of Python numbers
        affordable(f"the rates of {steps} steps", 40 * steps, "give fewer steps, or an array of rates")
        schedule = [schedule(t) for t in range(steps)]
    array = numbers("the schedule", schedule)
    if array.shape != (steps,):
        raise ValueError(f"the schedule has shape {array.shape} for {steps} steps: give one rate for each step")
    return _admissible(array, np.arange(array.size))


def _admissible(values: Array, steps: Array) -> Array:
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if bad.size:
        raise ValueError(f"the rate at step {steps[bad[0]]} is {values[bad[0]]}: rates must be finite and not negative")
    return values


def _runs(schedule: Schedule, steps: int) -> tuple[Array, Array]:
    """The runs of equal rates: the rate of each, and the steps at which they start, followed by `steps`."""
    if isinstance(schedule, Piecewise):
        starts = np.array([t for t in sorted({0, *schedule.changes}) if 0 <= t < steps], dtype=int)
        values = _admissible(np.array([schedule(t) for t in starts], dtype=float), starts)
    else:
        every = rates(schedule, steps)
        starts = np.flatnonzero(np.diff(every, prepend=np.nan))  # nan differs from every rate
        values = every[starts]
    return values, np.append(starts, steps)


# --- the exact curve ----------------------------------------------------------------------------------------------


def expected_loss(
    schedule: Schedule,
    lams: Any,
    noise: Any,
    theta0: Any,
    steps: int,
    *,
    model: Literal["additive", "lms"] = "additive",
    batch: int = 1,
    at: Sequence[int] | Array | None = None,
) -> Array:
    """The exact expected excess loss of SGD, ½ Σ λᵢ E θᵢ², along a schedule.

    `lams`: the curvatures.  `noise`: the variance of the gradient noise of each mode (a number or an array); with
    `model="lms"`, linear regression on fresh Gaussian inputs, the variance of the label noise.  `theta0`: where each
    mode starts, measured from the minimum.  `batch` divides the noise.  `at`: the steps to report (default
    0 … steps).

    Runs of equal rates are summed in closed form, so that their number and `at` decide the cost, not `steps`.  With
    `model="lms"` the modes are coupled: beyond 64 of them each step is taken, in time and memory proportional to
    their number.

    Returns an array of losses, one for each step in `at`; infinity where a loss leaves the range of floats,
    and from there on, even if lower rates would bring it back.
    Raises `TypeError` for what is no number, `ValueError` for wrong shapes or values, `MemoryError` for sizes.

    >>> expected_loss(drop(0.5, 0.25, at=1), lams=1, noise=1, theta0=1, steps=2)
    array([0.5     , 0.25    , 0.171875])
    """
    lams = np.atleast_1d(numbers("lams", lams))
    affordable(f"{lams.size} curvatures", 40 * lams.size, "give fewer, for instance one for each group of similar ones")
    if lams.ndim != 1 or lams.size == 0 or not np.all(np.isfinite(lams) & (lams > 0)):
        raise ValueError(f"lams = {shown(lams)}: give one or more positive curvatures")
    variance, start = _for_each("noise", noise, lams), _for_each("theta0", theta0, lams)
    if not np.all(np.isfinite(variance) & (variance >= 0)):
        raise ValueError(f"noise = {shown(noise)}: give variances of 0 or more")
    batch = whole("batch", batch, 1)
    with np.errstate(over="ignore"):
        moment = start**2
    if not np.all(np.isfinite(moment)):
        raise ValueError(f"theta0 = {shown(theta0)}: give finite starts whose squares are finite, too")
    if model not in ("additive", "lms"):
        raise ValueError(f"model = {shown(model)}: it is 'additive' or 'lms'")
    steps = whole("steps", steps)
    if at is None:
        affordable(
            f"the losses of {steps} steps", 40 * steps, "say at which steps they are wanted, for instance at=[0, 10]"
        )
    values, starts = _runs(schedule, steps)
    wanted = np.arange(steps + 1) if at is None else np.atleast_1d(numbers("at", at))
    if wanted.size == 0 or np.any((wanted < 0) | (wanted > steps)) or np.any(wanted != np.floor(wanted)):
        raise ValueError(f"at = {shown(at)}: give whole steps between 0 and {steps}")
    looks, back = np.unique(wanted.astype(int), return_inverse=True)
    if model == "lms" and lams.size > _FEW_MODES and lams.size * float(looks[-1]) > _MOST_WORK:
        raise ValueError(
            f"{lams.size} coupled modes over {looks[-1]} steps would be taken step by step: give {_FEW_MODES} modes or "
            "fewer, or fewer steps"
        )
    # a diverging run overflows to infinity, which is what is reported; 0 * infinity is one of its shapes
    with np.errstate(over="ignore", invalid="ignore"):
        if model == "lms":
            losses = _coupled(lams, variance, batch, moment, values, starts, looks)
        else:
            alive = np.flatnonzero((moment > 0) | (variance > 0))
            losses = np.zeros(looks.size)
            for first in range(0, alive.size, _MODES):
                chunk = alive[first : first + _MODES]
                losses += _independent(lams[chunk], variance[chunk] / batch, moment[chunk], values, starts, looks)
    return np.where(np.isnan(losses), np.inf, losses)[back]


def _for_each(name: str, values: Any, lams: Array) -> Array:
    """The values, one for each mode."""
    array = numbers(name, values)
    if array.shape not in ((), (1,), lams.shape):
        raise ValueError(f"{name} has shape {array.shape} for {lams.size} curvatures: give one number, or one for each")
    return np.broadcast_to(array, lams.shape)


def _independent(lams: Array, variance: Array, moment: Array, values: Array, starts: Array, looks: Array) -> Array:
    """The losses at `looks` of modes that do not know of each other: M' = (1 - eta lam)² M + eta² variance."""
    losses = np.full(looks.size, lams @ moment / 2)
    ends = np.searchsorted(looks, starts, side="right")  # the looks of run r are looks[ends[r] : ends[r + 1]]
    longer = np.append(np.flatnonzero(np.diff(starts) > 1), values.size)  # runs of more than one step
    r = 0
    while r < values.size and ends[r] < looks.size:
        upto = max(longer[np.searchsorted(longer, r)], r + 1)  # single steps are taken together
        here, run = slice(ends[r], ends[upto]), starts[[r, upto]]
        if run[1] - run[0] == upto - r:
            etas = values[r:upto][: looks[-1] - run[0]]
            losses[here], moment = _single_steps(etas, lams, variance, moment, looks[here] - run[0] - 1)
        else:
            x, forced = values[r] * lams, values[r] ** 2 * variance
            with np.errstate(divide="ignore"):
                log = 2 * np.log1p(np.where(x < 1, -x, x - 2))
            losses[here], moment = _relax(log, x * (2 - x), lams / 2, moment, forced, looks[here], run)
        r = upto
    return losses


def _single_steps(etas: Array, lams: Array, variance: Array, moment: Array, looks: Array) -> tuple[Array, Array]:
    """The losses after the steps `looks` (0: the first) of these rates, and the moments in the end."""
    losses, rows = np.empty(etas.size), min(_TOGETHER // lams.size, 64)
    if rows < 8 or lams.max() * etas.max() > _LARGE_STEP:
        moment, kept, wanted = moment.copy(), np.empty_like(lams), set(looks.tolist())
        noise = variance[0] if np.all(variance == variance[0]) else variance  # a number takes less time
        for t, eta in enumerate(etas):
            np.subtract(1, np.multiply(lams, eta, out=kept), out=kept)
            np.multiply(moment, np.square(kept, out=kept), out=moment)
            np.add(moment, eta**2 * noise, out=moment)
            if t in wanted:
                losses[t] = lams @ moment / 2
        return losses[looks], moment
    for first in range(0, etas.size, rows):  # few modes: the steps of a block at once, by doubling
        block = etas[first : first + rows, None]
        kept, added = (1 - block * lams) ** 2, block**2 * variance  # by the last step, two steps, four …
        span = 1
        while span < len(block):
            added[span:] += kept[span:] * added[:-span]
            kept[span:] *= kept[:-span].copy()
            span *= 2
        moments = kept * moment + added
        losses[first : first + rows] = moments @ lams / 2
        moment = moments[-1]
    return losses[looks], moment


def _coupled(
    lams: Array, variance: Array, batch: int, moment: Array, values: Array, starts: Array, looks: Array
) -> Array:
    """The losses at `looks` of linear regression: a fresh Gaussian input couples every mode to the whole loss.

    M' = (1 - eta lam)² M + eta² / batch (lam² M + lam (lam·M + variance)) (Feuer & Weinstein 1985).
    """
    losses = np.full(looks.size, lams @ moment / 2)
    ends = np.searchsorted(looks, starts, side="right")
    for r, eta in enumerate(values):
        here = slice(ends[r], ends[r + 1])
        if here.start == looks.size:
            break
        x, own = eta * lams, (1 - eta * lams) ** 2 + (eta * lams) ** 2 / batch
        share = eta**2 / batch * lams
        if lams.size <= _FEW_MODES < starts[r + 1] - starts[r]:
            # one step is 1 - (a symmetric matrix), whose eigenvectors do not know of each other
            gap, modes = np.linalg.eigh(np.diag(x * (2 - x) - x**2 / batch) - np.outer(x, x) / batch)
            gap = np.minimum(gap, 1)  # rounding
            with np.errstate(divide="ignore"):
                log = np.log1p(-gap)
            start, forced = modes.T @ moment, modes.T @ (share * variance)
            losses[here], end = _relax(log, gap, lams @ modes / 2, start, forced, looks[here], starts[r : r + 2])
            moment = modes @ end
            continue
        for t in range(starts[r] + 1, starts[r + 1] + 1):
            moment = own * moment + share * (lams @ moment + variance)
            if here.start < here.stop and t == looks[here.start]:
                losses[here.start] = lams @ moment / 2
                here = slice(here.start + 1, here.stop)
    return losses


def _relax(
    log: Array, gap: Array, weight: Array, moment: Array, forced: Array, looks: Array, run: Array
) -> tuple[Array, Array]:
    """The weighted sums, at `looks`, of moments that obey M' = (1 - gap) M + forced, and the moments in the end.

    `log` is log(1 - gap), `run` the first and the last step.  With f = 1 - gap the moment after n steps is
    f**n M + forced (1 - f**n) / gap, exact to rounding wherever f lies.
    """
    # f = 1: the sum has n equal terms, which is what the quotient of two tiny numbers gives
    flat = gap == 0
    gap, log = np.where(flat, 1e-200, gap), np.where(flat, -1e-200, log)
    log = np.where((moment == 0) & (forced == 0), 0, log)  # 0 stays 0, however far f**n grows
    kept, gained = weight * moment, weight * forced / gap
    start, stop = run
    losses = np.empty(looks.size)
    rows = max(1, _BLOCK // log.size)
    for first in range(0, looks.size, rows):
        here = slice(first, first + rows)
        exponent = np.multiply.outer(looks[here] - start, log)
        losses[here] = np.exp(exponent) @ kept - np.expm1(exponent) @ gained
    exponent = (stop - start) * log
    return losses, np.exp(exponent) * moment - np.expm1(exponent) * (forced / gap)


# --- what convex theory promises ------------------------------------------------------------------------------------


def worst_case_bound(schedule: Schedule, steps: int, distance: float = 1.0, gradient: float = 1.0) -> float:
    """The most that the expected excess loss of the last iterate can be, for any convex loss.

    `distance` is how far from a minimum the run starts, `gradient` bounds the root mean square of the gradients.
    The last iterate is the one at which the gradient of step `steps` - 1 is taken.  The bound is
    D²/(2 Σ η) + G²/2 (Σ η²/Σ η + Σ_k η_k/Σ_{t>k} η_t · Σ_{t≥k} η_t²/Σ_{t≥k} η_t), k running over all steps but the
    last: Theorem 10 of Defazio et al. (2023), which Schaipp et al. (2025) compare schedules with.
    Raises `ValueError` if a rate is 0, for which the theorem says nothing.

    >>> round(worst_case_bound(linear(0.1, steps=100), 100), 4)
    0.2037
    """
    distance, gradient = positive("distance", distance, or_zero=True), positive("gradient", gradient, or_zero=True)
    eta = rates(schedule, steps)
    if steps < 1 or not np.all(eta > 0):
        raise ValueError(
            f"{steps} steps with a smallest rate of {eta.min(initial=0)}: give one step or more, each positive"
        )
    tail, squares = (np.cumsum(x[::-1])[::-1] for x in (eta, eta**2))
    noise = squares[0] / tail[0] + np.sum(eta[:-1] / tail[1:] * squares[:-1] / tail[:-1])
    return float(distance**2 / (2 * tail[0]) + gradient**2 / 2 * noise)
