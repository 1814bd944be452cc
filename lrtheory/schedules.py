"""Schedules of the learning rate, and the exact expected loss along any of them.

A schedule is a function from the step (0, 1, 2 …) to the rate of that step, or simply an array of rates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

Array = np.ndarray
Schedule = Callable[[int], float] | Sequence[float] | Array


def constant(eta0: float) -> Callable[[int], float]:
    """The same rate at every step.

    >>> constant(0.1)(5)
    0.1
    """
    return lambda t: eta0


def drop(eta1: float, eta2: float, at: int) -> Callable[[int], float]:
    """eta1 before step `at`, eta2 from it on.

    >>> [drop(0.5, 0.05, at=2)(t) for t in range(4)]
    [0.5, 0.5, 0.05, 0.05]
    """
    return lambda t: eta1 if t < at else eta2


def inverse_time(eta0: float, decay: float) -> Callable[[int], float]:
    """eta0 / (1 + t / decay) (Robbins & Monro 1951).

    >>> inverse_time(0.5, decay=10)(10)
    0.25
    """
    return lambda t: eta0 / (1 + t / decay)


def inverse_root(eta0: float) -> Callable[[int], float]:
    """eta0 / sqrt(1 + t).

    >>> inverse_root(0.5)(3)
    0.25
    """
    return lambda t: eta0 / (1 + t) ** 0.5


def exponential(eta0: float, factor: float) -> Callable[[int], float]:
    """eta0 * factor**t.

    >>> exponential(0.5, 0.5)(2)
    0.125
    """
    return lambda t: eta0 * factor**t


def linear(eta0: float, steps: int) -> Callable[[int], float]:
    """From eta0 down to 0 along a straight line over `steps` steps.

    >>> linear(0.5, steps=4)(3)
    0.125
    """
    return lambda t: eta0 * (1 - t / steps)


def cosine(eta0: float, steps: int) -> Callable[[int], float]:
    """From eta0 down to 0 along half a cosine over `steps` steps (Loshchilov & Hutter 2017).

    >>> round(cosine(0.5, steps=4)(2), 12)
    0.25
    """
    return lambda t: eta0 / 2 * (1 + float(np.cos(np.pi * t / steps)))


def warmup_stable_decay(eta0: float, steps: int, warmup: int, decay: int) -> Callable[[int], float]:
    """Up along a line for `warmup` steps, constant, and down along a line over the last `decay` steps.

    >>> [warmup_stable_decay(1.0, steps=6, warmup=2, decay=2)(t) for t in range(6)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 0.5]
    """
    return lambda t: eta0 * min(1.0, (t + 1) / max(warmup, 1), (steps - t) / max(decay, 1))


def optimal(lam: float, sigma: float, second_moment: float) -> Callable[[int], float]:
    """The best rates for one curvature: 1 / (lam * (t + 1 + t0)), t0 = sigma**2 / (lam**2 * second_moment).

    >>> optimal(lam=1, sigma=1, second_moment=1)(0)
    0.5
    """
    t0 = sigma**2 / (lam**2 * second_moment)
    return lambda t: 1 / (lam * (t + 1 + t0))


def rates(schedule: Schedule, steps: int) -> Array:
    """The rates of steps 0 … steps - 1 as an array.

    Raises `ValueError` for a wrong number of rates, or one that is negative or not finite.

    >>> rates(drop(0.5, 0.05, at=2), 3)
    array([0.5 , 0.5 , 0.05])
    """
    if steps != int(steps) or steps < 0:
        raise ValueError(f"steps = {steps}: give a whole number, 0 or more")
    values = [schedule(t) for t in range(int(steps))] if callable(schedule) else schedule
    array = np.asarray(values, dtype=float)
    if array.shape != (steps,):
        raise ValueError(f"the schedule has shape {array.shape} for {steps} steps: give one rate for each step")
    bad = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if bad.size:
        raise ValueError(f"the rate at step {bad[0]} is {array[bad[0]]}: rates must be finite and not negative")
    return array


def _power(a: Array, n: int) -> tuple[Array, Array]:
    """a**(2n) and the sum of a**(2j) over j < n, exact to rounding also where a is close to ±1."""
    square = a**2
    with np.errstate(divide="ignore"):
        power = np.exp(n * np.log(square))
        short = -np.expm1(n * np.log(square))
    flat = np.abs(1 - square) < 1e-14
    return power, np.where(flat, n, short / np.where(flat, 1, 1 - square))


def expected_loss(
    schedule: Schedule,
    lams: Any,
    noise: Any,
    theta0: Any,
    steps: int,
    *,
    model: Literal["additive", "lms"] = "additive",
    batch: int = 1,
    at: Sequence[int] | None = None,
) -> Array:
    """The exact expected excess loss of SGD, ½ Σ λᵢ E θᵢ², along a schedule.

    `lams`: the curvatures.  `noise`: the variance of the gradient noise of each mode (a number or an array); with
    `model="lms"`, linear regression on fresh Gaussian inputs, the variance of the label noise.  `theta0`: where each
    mode starts, measured from the minimum.  `batch` divides the noise.  `at`: the steps to report (default
    0 … steps).  Runs of equal rates are summed in closed form, so that `at` decides the cost, not `steps`.

    Returns an array of losses, one for each step in `at`.  Raises `ValueError` for wrong shapes or values.

    >>> expected_loss(drop(0.5, 0.25, at=1), lams=1, noise=1, theta0=1, steps=2)
    array([0.5     , 0.25    , 0.171875])
    """
    lams = np.atleast_1d(np.asarray(lams, dtype=float))
    if lams.ndim != 1 or lams.size == 0 or not np.all(np.isfinite(lams) & (lams > 0)):
        raise ValueError(f"lams = {lams}: give one or more positive curvatures")
    variance = np.broadcast_to(np.asarray(noise, dtype=float), lams.shape) / batch
    if not np.all(np.isfinite(variance) & (variance >= 0)) or batch < 1:
        raise ValueError(f"noise = {noise}, batch = {batch}: give variances of 0 or more and a batch of 1 or more")
    moment = np.broadcast_to(np.asarray(theta0, dtype=float), lams.shape) ** 2
    eta = rates(schedule, steps)
    looks = np.arange(steps + 1) if at is None else np.asarray(at)
    if looks.size == 0 or looks.min() < 0 or looks.max() > steps:
        raise ValueError(f"at = {at}: give steps between 0 and {steps}")
    if model not in ("additive", "lms"):
        raise ValueError(f"model = {model!r}: it is 'additive' or 'lms'")
    losses = {0: lams @ moment / 2}
    # stop at every wanted step and wherever the rate changes
    changes = np.flatnonzero(np.diff(eta)) + 1 if model == "additive" else np.arange(steps)
    stops = sorted({*map(int, looks), *map(int, changes)} - {0})
    now = 0
    for stop in stops:
        if stop > looks.max():
            break
        a = 1 - eta[now] * lams
        if model == "additive":
            power, total = _power(a, stop - now)
            moment = power * moment + eta[now] ** 2 * variance * total
        else:
            # a fresh Gaussian input adds its own fourth moments: see the LMS recursion of Feuer & Weinstein 1985
            residual = lams @ moment + variance * batch
            moment = a**2 * moment + eta[now] ** 2 / batch * (lams**2 * moment + lams * residual)
        losses[stop] = lams @ moment / 2
        now = stop
    return np.array([losses[int(t)] for t in looks])
