"""What to do with one's own run: is it at its floor, what would a drop win, and when is the time for it.

Everything here takes numbers that a trainer can log, and nothing that happens after the drop.  `Monitor` collects
the same numbers while a run goes on.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from .inputs import Array, numbers, positive, shown, whole
from .theorems import claim

BATCHES = 16  # of which the means are taken to be independent, where the error of a mean of a log is estimated
TOLERANCE = 0.1  # the balance of a run at its floor lies within this of 1
LARGEST = 1e150  # of a logged number, so that floats hold the sum of many squares of it; of a norm 1 / LARGEST is least


def _samples(name: str, values: Any) -> Array:
    series = numbers(name, values)
    if series.ndim > 1:
        raise ValueError(f"{name} has shape {series.shape}: give a number, or one number for each logged step")
    if not np.all(np.isfinite(series)):
        where = "" if series.ndim == 0 else f" at position {int(np.flatnonzero(~np.isfinite(series))[0])}"
        raise ValueError(
            f"{name} = {shown(values)} is not finite{where}: take the mean over steps before the run went wrong"
        )
    if np.any(np.abs(series) > LARGEST):
        raise ValueError(
            f"{name} = {shown(values)} goes beyond ±{LARGEST:g}, too large to be squared in floats: take the mean "
            "over steps before the run went wrong"
        )
    return series


def _batch_means(series: Array) -> Array:
    """The means of consecutive stretches of a log: nearly independent, if a stretch outlasts the memory of the run."""
    length = series.shape[-1] // BATCHES
    return series[..., series.shape[-1] - length * BATCHES :].reshape(*series.shape[:-1], BATCHES, length).mean(-1)


def _mean_and_error(name: str, values: Any, least: float = 0.0) -> tuple[float, float | None]:
    series = _samples(name, values)
    if np.any(series < least):
        raise ValueError(f"{name} = {float(series.min()):g}: a squared norm is {least:g} or more")
    if series.mean() < 1 / LARGEST:
        raise ValueError(
            f"{name} = {series.mean():g}: a run whose gradient vanishes has no floor, and nothing to win; check the log"
        )
    if series.ndim == 0:
        return float(series), None
    if len(series) < 2 * BATCHES:
        raise ValueError(f"{name} has {len(series)} values: give its mean, or at least {2 * BATCHES} logged steps")
    return float(series.mean()), float(_batch_means(series).std(ddof=1) / BATCHES**0.5)


def _rates(old: Any, new: Any) -> tuple[float, float]:
    eta1, eta2 = positive("learning_rate", old), positive("new_learning_rate", new, or_zero=True)
    if eta2 >= eta1:
        raise ValueError(
            f"new_learning_rate = {new} is not below learning_rate = {old}: a drop goes down; choose a smaller one"
        )
    return eta1, eta2


def _momentum(momentum: float, dampening: float) -> tuple[float, float]:
    beta, tau = positive("momentum", momentum, or_zero=True), positive("dampening", dampening, or_zero=True)
    for name, value in (("momentum", beta), ("dampening", tau)):
        if value >= 1:
            raise ValueError(f"{name} = {value:g}: give a number of 0 or more and below 1")
    if tau and not beta:
        raise ValueError(f"dampening = {tau:g} without momentum, where PyTorch ignores it: leave it out")
    return beta, tau


@dataclass(frozen=True)
class QuickWin:
    """The predicted fall of the loss: between `low` and `high`, in the units of the loss.  Prints in words.

    `standard_error` is that of the upper end, where the prediction was made from samples, and else None.
    """

    learning_rate: float
    new_learning_rate: float
    low: float
    high: float
    bounded_by_noise: bool
    standard_error: float | None = None

    def __str__(self) -> str:
        error = "" if self.standard_error is None else f", standard error {self.standard_error:.2g}"
        if self.new_learning_rate == 0:
            by, why = f"{self.low:.4g}", "all of the floor"
        else:
            by = f"{self.low:.4g} to {self.high:.4g}"
            why = "the upper end uses the noise variance"
            if not self.bounded_by_noise:
                why = "the upper end is the whole floor; give noise_variance for a narrower range"
        return (
            f"Lowering the rate from {self.learning_rate:g} to {self.new_learning_rate:g} should lower the loss by "
            f"{by}{error} ({why}), if the run is at its noise floor: a plateau of a quadratic valley, reached at the "
            "old rate."
        )

    __repr__ = __str__


def quick_win(
    learning_rate: float,
    mean_squared_gradient_norm: float | Sequence[float] | Array | None = None,
    new_learning_rate: float = 0.0,
    *,
    noise_variance: float | None = None,
    momentum: float = 0.0,
    dampening: float = 0.0,
    mean_squared_update: float | Sequence[float] | Array | None = None,
) -> QuickWin:
    """What lowering the learning rate would gain at once, before the slow part of the loss has moved.

    `mean_squared_gradient_norm` is the mean of ‖g‖² over many steps at the plateau, g the gradient of the mean loss
    over a mini-batch, as it is applied, weight decay included; not for a run that clips often.  Given as one value
    for each logged step, in order, it also yields a standard error (from the means of 16 stretches of the log).
    `noise_variance` is E‖g‖² minus the squared norm of the full gradient.

    With `momentum` the number to log is another one: `mean_squared_update`, the mean of ‖v‖² of PyTorch's momentum
    buffer v' = momentum·v + (1 − dampening)·g.  Not for Nesterov's rule.  Without momentum PyTorch keeps no buffer and
    ignores `dampening`, which is therefore refused.

    Returns a `QuickWin`, in units of the loss.  Raises `ValueError` for a rate that is not lowered, numbers that
    cannot be, and a gradient norm where momentum needs the norm of the buffer.
    Source: the claims `quick_win.gain_from_gradient_norm` and `momentum.gain_from_update_norm`, exact for quadratics.

    >>> quick_win(0.5, 0.854, 0.05, noise_variance=0.8).low
    0.096075
    >>> quick_win(0.05, new_learning_rate=0.005, momentum=0.9, mean_squared_update=4.49).low
    0.0959...
    >>> quick_win(0.05, 0.854, 0.5)
    Traceback (most recent call last):
    ...
    ValueError: new_learning_rate = 0.5 is not below learning_rate = 0.05: a drop goes down; choose a smaller one
    """
    eta1, eta2 = _rates(learning_rate, new_learning_rate)
    beta, tau = _momentum(momentum, dampening)
    noise = None if noise_variance is None else positive("noise_variance", noise_variance)
    if mean_squared_update is None:
        if mean_squared_gradient_norm is None:
            raise ValueError("no gradient was logged: give mean_squared_gradient_norm, the mean of its squared norm")
        if beta:
            raise ValueError(
                f"momentum = {beta:g} with a gradient norm alone: the floor depends on the momentum buffer v; log its "
                "squared norm (in PyTorch, of optimizer.state[p]['momentum_buffer'] over all p) and give the mean as "
                "mean_squared_update"
            )
        square, error = _mean_and_error("mean_squared_gradient_norm", mean_squared_gradient_norm)
        gain = claim("quick_win.gain_from_gradient_norm")
        at = {"eta1": eta1, "eta2": eta2, "mean_squared_gradient": square}
    else:
        if mean_squared_gradient_norm is not None:
            raise ValueError("mean_squared_gradient_norm and mean_squared_update were both given: give one of them")
        square, error = _mean_and_error("mean_squared_update", mean_squared_update)
        gain = claim("momentum.gain_from_update_norm")
        # with dampening, v / (1 - dampening) is the buffer of a run without it, at the rate eta (1 - dampening)
        at = {"eta1": eta1 * (1 - tau), "eta2": eta2 * (1 - tau), "beta": beta}
        at["mean_squared_update"] = square / (1 - tau) ** 2
    half = at | {"eta2": at["eta1"] / 2}
    everything = 2 * gain(**half)  # what a drop to 0 would win: all of the floor
    if not 0 < everything < math.inf:
        raise ValueError(
            f"learning_rate = {eta1:g} and a mean squared norm of {square:g} make a floor of {everything:g} in floats: "
            "give them in other units"
        )
    if noise is not None:  # a drop to 0 wins the same with any noise that can be
        low, high = gain(**(at if eta2 else half), noise_variance=noise)
    if eta2 == 0:
        low = high = everything
    elif noise is None:
        low, high = gain(**at), everything
    spread = None if error is None else high * (error / square)
    return QuickWin(eta1, eta2, low, high, noise is not None, spread)


@dataclass(frozen=True)
class Balance:
    """Gain and loss of ‖θ‖² in a window of a run: `ratio` is 1 where they are equal, as at a floor.  Prints in words.

    `at_floor` is True if ratio ± 2 standard errors lies within 0.1 of 1, False if it lies outside, and else None:
    the window does not tell.
    """

    ratio: float
    standard_error: float

    @property
    def at_floor(self) -> bool | None:
        off, error = abs(self.ratio - 1), 2 * self.standard_error
        return True if off + error <= TOLERANCE else False if off - error > TOLERANCE else None

    def __str__(self) -> str:
        says = {
            True: "the run is at its noise floor: a lower rate wins at once, or an average does",
            False: "the run still moves: if its loss is flat, that is a flat stretch and not a floor; keep the rate",
            None: "this window does not tell; average over more steps",
        }[self.at_floor]
        return f"Balance {self.ratio:.3f} ± {self.standard_error:.1g} (1 at a floor): {says}."

    __repr__ = __str__


def at_the_floor(
    learning_rate: float,
    parameters_dot_gradient: Sequence[float] | Array,
    squared_norms: Sequence[float] | Array,
    *,
    momentum: float = 0.0,
    dampening: float = 0.0,
) -> Balance:
    """Is this plateau a noise floor or a flat stretch?  The fluctuation-dissipation balance, with its error.

    At a floor ‖θ‖² keeps its mean, which takes 2·E[θ·g] = η·E‖g‖², whatever the loss.  Give both logs of a window at
    one rate, one value for each logged step, in order: θ·g and ‖g‖², θ being the parameters that the mini-batch
    gradient g was taken at.  With momentum `squared_norms` are those of PyTorch's buffer.
    The standard error comes from the means of 16 stretches of the window, which should outlast the run's relaxation.
    Give every step of the window: a step adds η²·‖g‖² − 2η·θ·g to ‖θ‖², and only of all steps do the sums say how
    ‖θ‖² drifts, which is what is judged.
    Leave out parameters that cannot tell: for weights before a normalisation layer θ·g is 0.

    Returns a `Balance`: its `ratio` is 2·E[θ·g] over η·E‖g‖².  Raises `ValueError` for logs of unequal or small
    length, and numbers that cannot be.
    Source: Yaida (2019); with momentum the claim `momentum.fluctuation`.

    >>> rng = np.random.default_rng(0)
    >>> theta, noise = np.full(20_001, 5.0), rng.normal(size=20_000)
    >>> for t in range(20_000):
    ...     theta[t + 1] = theta[t] - 0.1 * (theta[t] + noise[t])
    >>> g = theta[:-1] + noise
    >>> at_the_floor(0.1, theta[:40] * g[:40], g[:40] ** 2).at_floor
    False
    >>> at_the_floor(0.1, theta[50:-1] * g[50:], g[50:] ** 2)
    Balance 1.00... (1 at a floor): the run is at its noise floor: a lower rate wins at once, or an average does.
    """
    from scipy.signal import lfilter

    eta = positive("learning_rate", learning_rate)
    beta, tau = _momentum(momentum, dampening)
    dot, square = _samples("parameters_dot_gradient", parameters_dot_gradient), _samples("squared_norms", squared_norms)
    if dot.shape != square.shape or dot.ndim == 0 or len(dot) < 2 * BATCHES:
        raise ValueError(
            f"parameters_dot_gradient has shape {dot.shape} and squared_norms {square.shape}: give one value of each "
            f"for each logged step, {2 * BATCHES} or more"
        )
    if np.any(square < 0):
        raise ValueError(f"squared_norms = {square.min():g}: a squared norm is 0 or more")
    # θ·v' of each step, v' being the buffer that the step uses, from θ·g and ‖v'‖²
    before = np.concatenate([[0.0], square[:-1]])
    with np.errstate(all="ignore"):  # _balance refuses what is not finite
        along = lfilter([1.0], [1.0, -beta], (1 - tau) * dot - beta * eta * before)
        lengths = np.cumsum(eta * (eta * square - 2 * along))  # ‖θ‖², from an origin that does not matter
        steps, lengths, squares = _batch_means(np.array([np.arange(len(dot)), lengths, square]))
    return _balance(eta, beta, steps, lengths, squares, np.ones(BATCHES))


def _balance(eta: float, beta: float, steps: Array, lengths: Array, squares: Array, weights: Array) -> Balance:
    """The balance in a window, from the means of its stretches: of the step, of ‖θ‖² and of ‖v‖².

    A step adds η²·‖v‖² − 2η·θ·v to ‖θ‖², so that the ratio is 1 less the drift of ‖θ‖² in units of the first term.
    Its error is that of the slope of a line; stretches that outlast the run's memory scatter independently about it.
    """
    total, count = weights.sum(), weights.sum() ** 2 / np.sum(weights**2)
    off = steps - weights @ steps / total
    spread = weights @ off**2
    with np.errstate(all="ignore"):  # what is not finite is refused below
        drift = weights @ (off * lengths) / spread
        rest = lengths - weights @ lengths / total - drift * off
        error = np.sqrt(weights @ rest**2 / total * count / (count - 2) * np.sum((weights * off) ** 2)) / spread
        square, uncertain = _weighted_mean(squares, weights)
        unit = np.square(eta) * (1 + beta) / (1 - beta) * square
        ratio, error = 1 - drift / unit, np.hypot(error, drift * uncertain / square) / unit
    if not (1 / LARGEST < unit < LARGEST and np.isfinite(ratio) and np.isfinite(error)):
        raise ValueError(
            f"learning_rate = {eta:g} and a mean squared norm of {square:g}: there is nothing to measure, or it is too "
            "small or too large for floats; give a window in which the run moves"
        )
    return Balance(float(ratio), float(error))


def _weighted_mean(values: Array, weights: Array) -> tuple[float, float]:
    """The mean of independent values and its standard error."""
    total, squares = weights.sum(), np.sum(weights**2)
    mean = weights @ values / total
    variance = weights @ (values - mean) ** 2 / (total - squares / total)
    return float(mean), float(np.sqrt(variance * squares) / total)


@dataclass(frozen=True)
class DropPlan:
    """When to drop, in steps of the log, and the mean loss that is expected at the horizon.  Prints in words."""

    drop_at: int
    horizon: int
    loss_if_dropped: float
    loss_if_kept: float
    loss_error: float  # standard error of both, from the fit
    slow_time: float  # steps in which the slow part of the loss falls by a factor e, at the old rate
    slow_time_error: float

    def __str__(self) -> str:
        return (
            f"Drop at step {self.drop_at}, {self.horizon - self.drop_at} steps before the end: the loss at step "
            f"{self.horizon} should be {self.loss_if_dropped:.4g} ± {self.loss_error:.1g}, against "
            f"{self.loss_if_kept:.4g} at the old rate.  The slow part falls by a factor e in {self.slow_time:.3g} ± "
            f"{self.slow_time_error:.2g} steps."
        )

    __repr__ = __str__


def when_to_drop(
    steps: Sequence[float] | Array,
    losses: Sequence[float] | Array,
    horizon: int,
    *,
    learning_rate: float,
    new_learning_rate: float,
    mean_squared_gradient_norm: float | Sequence[float] | Array,
    noise_variance: float | None = None,
    fast_curvature: float | None = None,
) -> DropPlan:
    """When to lower the rate of a run that ends at the step `horizon`, from the log of its loss so far.

    The loss is read as a floor plus one slow mode on its way down, and both are fitted to the log (`steps`, `losses`:
    at one rate, after the first fast fall).  How much a drop wins, and how fast, comes from E‖g‖² and either
    `noise_variance` (E‖g‖² minus the squared norm of the full gradient) or the curvature of the noisy directions.
    A model of two curvatures: for a real spectrum a first estimate.  Plain SGD only.

    Returns a `DropPlan`.  Raises `ValueError` for a log that shows no slow fall or too little of it, and numbers
    that cannot be.  Source: the claims `slow_road.best_steps_after_drop` and `slow_road.gap`.

    >>> t = np.arange(0, 2000, 10)
    >>> loss = 0.25 + 0.5 * np.exp(-t / 500) + 0.01 * np.random.default_rng(0).normal(size=t.size)
    >>> when_to_drop(t, loss, 3000, learning_rate=0.2, new_learning_rate=0.02, mean_squared_gradient_norm=1.1,
    ...              fast_curvature=1.0)
    Drop at step 2841, 159 steps before the end: the loss at step 3000 should be 0.1995 ± 0.002, against 0.249 at ...
    """
    from scipy.optimize import OptimizeWarning, curve_fit

    positive("new_learning_rate", new_learning_rate)
    eta1, eta2 = _rates(learning_rate, new_learning_rate)
    square, _ = _mean_and_error("mean_squared_gradient_norm", mean_squared_gradient_norm)
    t, loss = _samples("steps", steps), _samples("losses", losses)
    if t.shape != loss.shape or t.ndim == 0 or len(t) < 2 * BATCHES or np.any(np.diff(t) <= 0) or t[-1] % 1:
        raise ValueError(
            f"steps has shape {t.shape} and losses {loss.shape}: give one loss for each logged step, {2 * BATCHES} or "
            "more, in rising order of the steps, which are whole numbers"
        )
    now, end = t[-1], whole("horizon", horizon)
    if end <= now:
        raise ValueError(f"horizon = {horizon}, but the log ends at step {now:g}: give the step at which the run ends")
    if (noise_variance is None) == (fast_curvature is None):
        raise ValueError("give noise_variance or fast_curvature, one of the two: how fast the win comes depends on it")
    if fast_curvature is None:
        noise = positive("noise_variance", cast(float, noise_variance))
        lam_fast = 2 * (1 - noise / square) / eta1  # of one curvature, whose floor has this noise and this E‖g‖²
        if not 0 < eta1 * lam_fast < 2:
            raise ValueError(
                f"noise_variance = {noise:g} does not lie well between 0 and E‖g‖² = {square:g}: the full gradient has "
                "to be measured"
            )
    else:
        lam_fast = positive("fast_curvature", fast_curvature)
        if eta1 * lam_fast >= 2:
            raise ValueError(
                f"fast_curvature = {lam_fast:g} is not below 2 / learning_rate = {2 / eta1:g}, where a run diverges: "
                "give that of directions that have settled"
            )
        noise = square * (2 - eta1 * lam_fast) / 2

    def curve(t: Array, floor: float, excess: float, rate: float) -> Array:
        return floor + excess * np.exp(-rate * (t - now))

    # means over stretches, so that the residuals are nearly independent
    bins = np.array_split(np.arange(len(t)), min(len(t), 8 * BATCHES))
    times, means = np.array([[t[b].mean(), loss[b].mean()] for b in bins]).T

    def linear(rate: float) -> tuple[float, Array]:
        basis = np.stack([np.ones_like(times), curve(times, 0, 1, rate)], axis=1)
        found, *_ = np.linalg.lstsq(basis, means, rcond=None)
        return float(np.sum((basis @ found - means) ** 2)), found

    span = now - t[0]
    first = min(np.geomspace(0.1, 50, 60) / span, key=lambda rate: linear(rate)[0])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", OptimizeWarning)  # no covariance: nothing was determined
            found, covariance = curve_fit(curve, times, means, [*linear(first)[1], first], maxfev=2000)
    except (RuntimeError, OptimizeWarning):
        found, covariance = np.zeros(3), np.full((3, 3), np.inf)
    (floor, excess, rate), errors = found, np.sqrt(np.diag(covariance))
    if not (rate > 0 and excess > 0 and errors[2] < rate / 2 and errors[1] < excess):
        raise ValueError(
            f"the losses from step {t[0]:g} to {now:g} do not show a slow fall towards a level: if the run is at its "
            "floor (ask at_the_floor), only the last steps need the lower rate; else log more of the run"
        )
    slow = {"eta1": eta1, "eta2": eta2, "lam_fast": lam_fast, "lam_slow": -np.expm1(-rate / 2) / eta1}
    slow["sigma"] = noise**0.5
    left = claim("slow_road.best_steps_after_drop")(**slow, slow_excess0=excess, horizon=end - now)
    after = min(round(left), int(end - now))
    shrunk = np.exp(-rate * (end - now))
    kept, slope = floor + excess * shrunk, np.array([1, shrunk, -excess * (end - now) * shrunk])
    at_drop = excess * np.exp(-rate * (end - now - after))
    change = claim("slow_road.gap")(**slow, slow_excess=at_drop, k=after) if after else 0.0
    return DropPlan(
        drop_at=int(end) - after,
        horizon=int(end),
        loss_if_dropped=float(kept + change),
        loss_if_kept=float(kept),
        loss_error=float(np.sqrt(slope @ covariance @ slope)),
        slow_time=float(1 / rate),
        slow_time_error=float(errors[2] / rate**2),
    )
