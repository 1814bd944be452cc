"""The best rates for a horizon, found by descending the exact curve.

One mode has a closed form (`schedules.optimal`); with several, the best rates are a compromise that has to be searched
for.  Each search follows the exact gradient of the final expected loss with respect to every rate.  With several
modes the loss may have more than one local minimum: what is returned is the best of a few starts.

>>> plan = best_constant(lams=[1, 0.01], noise=[1, 0.01], theta0=1, steps=100)
>>> best_drop([1, 0.01], [1, 0.01], 1, 100).loss < plan.loss
True
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from .inputs import Array, affordable, shown, whole
from .schedules import Piecewise, expected_loss, piecewise

_DEEP = -700.0  # stands for the logarithm of 0
_FAR = 1e4  # stands for the logarithm of infinity
_ARRIVED = 1e-18  # of the loss at the start: no need to search for less
_STOP = {"maxiter": 3000, "maxfun": 9000, "ftol": 1e-15, "gtol": 1e-11}  # where the descent of a logarithm ends


@dataclass(frozen=True, eq=False)
class Plan:
    """Rates that were searched for: `values[i]` for `lengths[i]` steps, and the expected loss in the end."""

    values: Array
    lengths: Array
    loss: float

    @property
    def rates(self) -> Array:
        """The rate of every step."""
        affordable(f"the rates of {sum(self.lengths)} steps", 8 * float(sum(self.lengths)), "use the schedule instead")
        return np.repeat(self.values, self.lengths)

    @property
    def schedule(self) -> Piecewise:
        """The same as a schedule.

        >>> best_constant(lams=1, noise=1, theta0=1, steps=1).schedule(0)
        0.5
        """
        return piecewise(list(self.values), list(self.lengths))


def _loss(plan: Plan) -> float:
    return plan.loss if np.isfinite(plan.loss) else np.inf


@dataclass(frozen=True, eq=False)
class _Problem:
    """Curvatures, noise variances and second moments at the start, each an array with one element for each mode."""

    lams: Array
    noise: Array
    moment: Array
    steps: int

    @classmethod
    def of(cls, lams: Any, noise: Any, theta0: Any, steps: int) -> _Problem:
        steps = whole("steps", steps, 1)
        expected_loss([], lams, noise, theta0, 0)  # refuses what it cannot use
        lams = np.atleast_1d(np.asarray(lams, dtype=float))
        noise, theta0 = (np.broadcast_to(np.asarray(x, dtype=float), lams.shape) for x in (noise, theta0))
        if not np.any(theta0):
            raise ValueError("theta0 = 0: the run starts at the minimum, where the best rate is 0")
        return cls(lams, noise, theta0**2, steps)

    def each_step(self) -> None:
        """Refuse a search for a rate of every step that would not fit into memory."""
        need = 8 * 6 * float(self.steps) * self.lams.size
        affordable(f"a rate for each of {self.steps} steps", need, "search for the best pieces instead")


def loss_and_gradient(rates: Array, lams: Any, noise: Any, theta0: Any) -> tuple[float, Array]:
    """The expected loss after one step at each of the rates, and its derivative with respect to each rate.

    The derivatives cost about as much as the loss, however many there are: the sensitivity of the final loss to each
    moment is carried backwards (the adjoint of the recursion).

    >>> loss, gradient = loss_and_gradient(np.array([0.5]), lams=1, noise=1, theta0=1)
    >>> loss, gradient[0]  # half a step is the best one
    (0.25, np.float64(0.0))
    """
    problem = _Problem.of(lams, noise, theta0, max(len(rates), 1))
    return _every_step(problem, np.asarray(rates, dtype=float))


# a diverging run overflows to infinity, which no search takes for a minimum
@np.errstate(over="ignore", invalid="ignore")
def _every_step(problem: _Problem, rates: Array) -> tuple[float, Array]:
    lams, noise = problem.lams, problem.noise
    a = 1 - np.multiply.outer(rates, lams)
    square, forced = a**2, np.multiply.outer(rates**2, noise)
    moments = np.empty((len(rates) + 1, lams.size))  # before each step, and in the end
    moments[0] = problem.moment
    for t in range(len(rates)):
        moments[t + 1] = square[t] * moments[t] + forced[t]
    sensitivity = np.empty_like(square)  # of the final loss to the moment after each step
    now = lams / 2
    for t in reversed(range(len(rates))):
        sensitivity[t] = now
        now = square[t] * now
    slope = 2 * (np.multiply.outer(rates, noise) - lams * a * moments[:-1])
    return float(lams @ moments[-1] / 2), np.sum(sensitivity * slope, axis=1)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _every_run(problem: _Problem, values: Array, lengths: Array) -> tuple[float, Array, Array]:
    """The final loss of runs of equal rates, and its derivatives by each rate and by each length, a real number."""
    lams, noise = problem.lams, problem.noise
    x = np.multiply.outer(values, lams)
    n = np.asarray(lengths, dtype=float)[:, None]
    log = np.maximum(2 * np.log1p(np.where(x < 1, -x, x - 2)), _DEEP)  # of f = (1 - x)², the factor of one step
    gap = x * (2 - x)  # 1 - f
    # f**n, the sum of f**j over j < n, and their derivatives by f and n; where f is 1 to rounding, their Taylor series
    power, below = np.exp(n * log), np.exp((n - 1) * log)
    near = np.abs(n * gap) < 1e-5
    safe = np.where(near, 1, gap)
    total = np.where(near, n * (1 - (n - 1) / 2 * gap), -np.expm1(n * log) / safe)
    total_by_f = np.where(near, n * (n - 1) / 2 * (1 - 2 * (n - 2) / 3 * gap), (total - n * below) / safe)
    total_by_n = np.where(near, 1 - (n - 0.5) * gap, -power * log / safe)
    rate = np.asarray(values)[:, None]
    moments = [problem.moment]
    for p, s in zip(power, rate**2 * noise * total, strict=True):
        moments.append(p * moments[-1] + s)
    before, f_by_rate = np.array(moments[:-1]), -2 * lams * (1 - x)
    by_value = (n * below * before + rate**2 * noise * total_by_f) * f_by_rate + 2 * rate * noise * total
    by_length = power * log * before + rate**2 * noise * total_by_n
    sensitivity = np.empty_like(power)
    now = lams / 2
    for i in reversed(range(len(power))):
        sensitivity[i] = now
        now = power[i] * now
    by_value, by_length = (np.sum(sensitivity * by, axis=1) for by in (by_value, by_length))
    return float(lams @ moments[-1] / 2), by_value, by_length


@np.errstate(over="ignore", invalid="ignore")
def _minimum(problem: _Problem, objective: Callable[[Array], tuple[float, Array]], start: Array) -> Array:
    """Where a loss is smallest near `start`, found on its logarithm: losses span many powers of ten."""
    from scipy.optimize import minimize

    arrived = _ARRIVED * (problem.lams @ problem.moment) / 2

    def logarithm(x: Array) -> tuple[float, Array]:
        value, slope = objective(x)
        if np.isfinite(value) and np.all(np.isfinite(slope)):
            return float(np.log(value + arrived)), slope / (value + arrived)
        return _FAR, np.zeros(x.size)

    return minimize(logarithm, start, jac=True, method="L-BFGS-B", options=_STOP).x


def _descend(problem: _Problem, values: Array, lengths: Array) -> Plan:
    """The best rates near these ones, for given lengths."""
    single = np.all(lengths == 1)

    def final(rates: Array) -> tuple[float, Array]:
        return _every_step(problem, rates) if single else _every_run(problem, rates, lengths)[:2]

    def objective(logs: Array) -> tuple[float, Array]:
        rates = np.exp(logs)
        loss, slope = final(rates)
        return loss, slope * rates

    found = np.exp(_minimum(problem, objective, np.log(values)))
    return Plan(found, lengths, final(found)[0])


def _refine(problem: _Problem, plan: Plan) -> Plan:
    """The best rates and lengths near these: lengths as real numbers first, then rounded."""
    runs, free = len(plan.values), problem.steps - len(plan.values)
    if runs == 1 or free == 0:
        return plan

    def real_lengths(z: Array) -> tuple[Array, Array]:
        share = np.exp(z - z.max())
        share /= share.sum()
        return 1 + free * share, share  # one step each, and shares of the rest

    def objective(x: Array) -> tuple[float, Array]:
        values, (n, share) = np.exp(x[:runs]), real_lengths(x[runs:])
        loss, by_value, by_length = _every_run(problem, values, n)
        return loss, np.concatenate([by_value * values, free * share * (by_length - share @ by_length)])

    found = _minimum(
        problem, objective, np.concatenate([np.log(plan.values), np.log(np.maximum(plan.lengths - 1, 0.1))])
    )
    cuts = np.floor(np.cumsum(real_lengths(found[runs:])[0]) + 0.5).astype(int)
    cuts[-1] = problem.steps
    return min(plan, _descend(problem, np.exp(found[:runs]), np.diff(cuts, prepend=0)), key=_loss)


def _split(problem: _Problem, plan: Plan) -> Plan:
    """One run more: the run is halved whose halves would most like to have rates of their own."""
    halves = np.stack([plan.lengths // 2, plan.lengths - plan.lengths // 2], axis=1)
    values = np.repeat(plan.values, 2)
    used = halves.ravel() > 0
    slope = np.zeros(used.size)
    slope[used] = _every_run(problem, values[used], halves.ravel()[used])[1]
    wish = np.abs(np.diff(slope.reshape(-1, 2), axis=1).ravel()) * plan.values
    i = int(np.argmax(np.where(plan.lengths > 1, wish, -1)))
    lengths = np.insert(plan.lengths, i, halves[i, 0])
    lengths[i + 1] = halves[i, 1]
    return _descend(problem, np.insert(plan.values, i, plan.values[i]), lengths)


def _polish(problem: _Problem, plan: Plan) -> Plan:
    """Every change of rate moved by single steps, as long as that helps."""
    moves = [(i, by) for i in range(len(plan.lengths) - 1) for by in (1, -1)]
    tried = 0
    while moves and tried < len(moves):
        i, by = moves[0]
        lengths = plan.lengths.copy()
        lengths[i : i + 2] += (by, -by)
        better = _descend(problem, plan.values, lengths) if lengths.min() > 0 else plan
        if better.loss < plan.loss * (1 - 1e-12):
            plan, tried = better, 0
        else:
            moves, tried = [*moves[1:], moves[0]], tried + 1
    return plan


def _alone(problem: _Problem) -> Array:
    """About the best constant rate of each mode that has something to learn, if it were alone."""
    alive = problem.moment > 0
    lams, noise, moment = problem.lams[alive], problem.noise[alive], problem.moment[alive]
    return 1 / (lams * (problem.steps + noise / (lams**2 * moment)))


def _constant(problem: _Problem) -> Plan:
    from scipy.optimize import brentq

    def slope(rate: float) -> float:
        return float(_every_run(problem, np.array([rate]), steps)[1][0])

    steps, most = np.array([problem.steps]), 2 / problem.lams.min()
    least = _alone(problem).min() / 30
    grid = np.geomspace(least, most, 40 + int(20 * np.log10(most / least)))
    losses = [_every_run(problem, grid[i : i + 1], steps)[0] for i in range(grid.size)]
    i = int(np.nanargmin(losses))
    below, above = max(i - 1, 0), min(i + 1, grid.size - 1)
    while slope(grid[above]) < 0 and above + 1 < grid.size:  # where noise is all, the losses are equal to rounding
        below, above = above, above + 1
    low, high = grid[below], grid[above]
    # a slope that rises from the start: to stand still is best, and the rate is as good as 0
    value = brentq(slope, low, high, xtol=1e-15 * low, maxiter=1000) if slope(low) < 0 else 1e-12 * least
    return Plan(np.array([value]), steps, _every_run(problem, np.array([value]), steps)[0])


def _two(problem: _Problem) -> Plan:
    """The best single drop, searched for from the best constant rate and from the best of a few rough drops."""
    alone, steps = _alone(problem), problem.steps
    grid = np.geomspace(alone.min() / 2, alone.max() * steps, 12)
    rough = [
        Plan(np.array(pair), np.array([cut, steps - cut]), np.inf)
        for cut in {min(max(int(share * steps), 1), steps - 1) for share in (0.5, 0.8, 0.95)}
        for pair in product(grid, grid)
        if pair[0] > pair[1]
    ]
    losses = [_every_run(problem, plan.values, plan.lengths)[0] for plan in rough]
    nearest = rough[int(np.nanargmin(losses))]
    starts = (_split(problem, _constant(problem)), _descend(problem, nearest.values, nearest.lengths))
    return _polish(problem, min((_refine(problem, start) for start in starts), key=_loss))


def _pieces(problem: _Problem, pieces: int) -> Plan:
    if pieces == 1:
        return _constant(problem)
    plan = _two(problem)
    for _ in range(pieces - 2):
        plan = _polish(problem, _refine(problem, _split(problem, plan)))
    return plan


def best_constant(lams: Any, noise: Any, theta0: Any, steps: int) -> Plan:
    """The constant rate with the lowest expected loss after `steps` steps.

    Arguments as for `expected_loss` (additive noise).  Returns a `Plan`; raises `ValueError` for wrong values.

    >>> best_constant(lams=1, noise=1, theta0=1, steps=1).rates
    array([0.5])
    """
    return _constant(_Problem.of(lams, noise, theta0, steps))


def best_drop(lams: Any, noise: Any, theta0: Any, steps: int) -> Plan:
    """The best single drop: `.values` are the rates before and after it, `.lengths` their numbers of steps.

    Arguments as for `expected_loss` (additive noise), with two steps or more.  Returns a `Plan`.

    >>> best_drop(lams=1, noise=1, theta0=1, steps=2).values.round(6)
    array([0.5     , 0.333333])
    """
    return best_pieces(lams, noise, theta0, steps, 2)


def best_pieces(lams: Any, noise: Any, theta0: Any, steps: int, pieces: int | Sequence[int]) -> Plan:
    """The best schedule of so many constant pieces, or of pieces of the given lengths.

    Arguments as for `expected_loss` (additive noise).  With a number of `pieces` their lengths are searched for too,
    one piece after the other: a local minimum.  Returns a `Plan`; raises `ValueError` for impossible pieces.

    >>> best_pieces(lams=1, noise=1, theta0=1, steps=4, pieces=[2, 2]).lengths
    array([2, 2])
    """
    problem = _Problem.of(lams, noise, theta0, steps)
    if np.ndim(pieces) == 0:
        count = whole("pieces", pieces)
        if not 1 <= count <= steps:
            raise ValueError(f"pieces = {count} for {steps} steps: give 1 to {steps} pieces")
        return _pieces(problem, count)
    lengths = np.array([whole("a length", length, 1) for length in pieces])  # type: ignore[union-attr]
    if lengths.ndim != 1 or lengths.sum() != steps:
        raise ValueError(f"pieces = {shown(pieces)}: give lengths of 1 or more that add up to {steps} steps")
    return _descend(problem, np.repeat(_constant(problem).values, lengths.size), lengths)


def best_schedule(lams: Any, noise: Any, theta0: Any, steps: int) -> Plan:
    """The best rates, one for each step.

    Arguments as for `expected_loss` (additive noise).  Started from the best six pieces and from the best rates of
    the steepest and of the flattest mode alone; in one mode it is `schedules.optimal`, in several a local minimum.

    >>> best_schedule(lams=1, noise=1, theta0=1, steps=3).rates.round(6)
    array([0.5     , 0.333333, 0.25    ])
    """
    problem = _Problem.of(lams, noise, theta0, steps)
    problem.each_step()
    starts = [_pieces(problem, min(6, steps)).rates]
    alive = np.flatnonzero(problem.moment)
    for mode in {alive[np.argmin(problem.lams[alive])], alive[np.argmax(problem.lams[alive])]}:
        lam = problem.lams[mode]
        starts.append(1 / (lam * (np.arange(1, steps + 1) + problem.noise[mode] / (lam**2 * problem.moment[mode]))))
    return min((_descend(problem, rates, np.ones(steps, dtype=int)) for rates in starts), key=_loss)
