"""The best rates for a horizon, found by descending the exact curve.

One mode has a closed form (`schedules.optimal`); with several, the best rates are a compromise that has to be searched
for.  Each search follows the exact gradient of the final expected loss with respect to every rate.  With several
modes the loss may have more than one local minimum: what is returned is the best that is found from a few starts.

>>> plan = best_constant(lams=[1, 0.01], noise=[1, 0.01], theta0=1, steps=100)
>>> best_drop([1, 0.01], [1, 0.01], 1, 100).loss < plan.loss
True
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .inputs import Array, affordable, shown, whole
from .schedules import Piecewise, expected_loss, piecewise

_DEEP = -700.0  # stands for the logarithm of 0
_FAR = 1e4  # stands for the logarithm of infinity
_ARRIVED = 1e-18  # of the loss at the start: no need to search for less
_STARTS = 6  # drops of a rough search that are descended from
_BLOCK = 1 << 16  # numbers of one block of that search
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
        moves = (theta0 != 0) | (noise > 0)  # the others stay at their minimum, whatever the rate
        return cls(lams[moves], noise[moves], theta0[moves] ** 2, steps)

    def bounds(self) -> tuple[float, float]:
        """Two rates between which every minimum of the loss along constant rates lies.

        Below 1 / max(lams), the slope at the rate eta is at most -steps * (fall - eta * rise), with
        fall = sum(lams**2 * moment) and rise = sum(lams * ((2 * steps - 1) * lams**2 * moment + noise)): the loss falls
        until fall / rise.  Above 1 / min(lams) it grows.
        """
        steepest, largest = self.lams.max(), self.moment.max()
        share, moment = self.lams / steepest, self.moment / largest
        with np.errstate(over="ignore", divide="ignore"):
            rise = share @ ((2 * self.steps - 1) * share**2 * moment + self.noise / largest / steepest / steepest)
            least = min(share**2 @ moment / rise, 1) / 2 / steepest
            most = 2 / self.lams.min()
        if not 0 < least < most < np.inf:
            raise ValueError(
                f"lams = {shown(self.lams)}, noise = {shown(self.noise)}: the best rates leave the range of floats; "
                "measure in other units, or leave out modes with too little to learn"
            )
        return least, most

    def judged(self, plan: Plan) -> Plan:
        """The plan with the exact loss of its rates: the search rounds losses below exp(_DEEP) of the start up."""
        start = np.sqrt(self.moment)
        loss = expected_loss(plan.schedule, self.lams, self.noise, start, self.steps, at=[self.steps])[0]
        return replace(plan, loss=float(loss))

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


def _powers(x: Array, n: Any) -> tuple[Array, ...]:
    """Of the factor of one step, f = (1 - x)²: log f, 1 - f, whether f is 1 to rounding, f**n and Σ f**j, j < n.

    Where f is 1 to rounding, the sum is its Taylor series.
    """
    log = np.maximum(2 * np.log1p(np.where(x < 1, -x, x - 2)), _DEEP)
    gap = x * (2 - x)
    near = np.abs(n * gap) < 1e-5
    total = np.where(near, n * (1 - (n - 1) / 2 * gap), -np.expm1(n * log) / np.where(near, 1, gap))
    return log, gap, near, np.exp(n * log), total


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _every_run(problem: _Problem, values: Array, lengths: Array) -> tuple[float, Array, Array]:
    """The final loss of runs of equal rates, and its derivatives by each rate and by each length, a real number."""
    lams, noise = problem.lams, problem.noise
    x = np.multiply.outer(values, lams)
    n = np.asarray(lengths, dtype=float)[:, None]
    log, gap, near, power, total = _powers(x, n)
    below, safe = np.exp((n - 1) * log), np.where(near, 1, gap)
    # the derivatives of the power and of the total by f and by n
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


def _constant(problem: _Problem) -> Plan:
    from scipy.optimize import brentq

    def slope(rate: float) -> float:
        return float(np.nan_to_num(_every_run(problem, np.array([rate]), steps)[1][0], nan=np.inf, posinf=np.inf))

    steps, (least, most) = np.array([problem.steps]), problem.bounds()
    grid = np.geomspace(least, most, 40 + int(20 * np.log10(most / least)))
    losses = [_every_run(problem, grid[i : i + 1], steps)[0] for i in range(grid.size)]
    i = int(np.nanargmin(losses))
    below, above = max(i - 1, 0), min(i + 1, grid.size - 1)
    # where noise is all, the losses are equal to rounding, and only the slopes tell
    while slope(grid[below]) >= 0 and below > 0:
        below -= 1
    while slope(grid[above]) < 0 and above + 1 < grid.size:
        below, above = above, above + 1
    value = brentq(slope, grid[below], grid[above], xtol=1e-15 * grid[below], maxiter=1000)
    return Plan(np.array([value]), steps, _every_run(problem, np.array([value]), steps)[0])


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _rough(problem: _Problem) -> list[Plan]:
    """The best pair of rates on a grid for a drop after 1, 2, 4 … steps, and so many before the end; the best first."""
    steps, (least, most) = problem.steps, problem.bounds()
    grid = np.geomspace(least, most, 12 + int(5 * np.log10(most / least)))
    cuts = {steps // 2, *(2**k for k in range(steps.bit_length() - 1))}
    cuts |= {steps - cut for cut in cuts}
    losses = {cut: np.zeros((grid.size, grid.size)) for cut in cuts}
    modes = max(1, _BLOCK // grid.size)
    for first in range(0, problem.lams.size, modes):
        here = slice(first, first + modes)
        lams, noise = problem.lams[here], problem.noise[here]
        kept, added = {}, {}  # by a run of so many steps, at each rate and for each mode
        for n in cuts:
            *_, kept[n], total = _powers(np.multiply.outer(grid, lams), float(n))
            added[n] = grid[:, None] ** 2 * noise * total
        for cut, left in losses.items():
            before, after = kept[cut] * problem.moment[here] + added[cut], steps - cut
            left += before @ (kept[after] * lams / 2).T + added[after] @ lams / 2
    plans = []
    for cut, left in losses.items():
        i, j = np.unravel_index(np.argmin(np.where(np.isnan(left), np.inf, left)), left.shape)
        plans.append(Plan(grid[[i, j]], np.array([cut, steps - cut]), float(left[i, j])))
    return sorted(plans, key=lambda plan: (_loss(plan), plan.lengths[0]))


def _two(problem: _Problem) -> Plan:
    """The best single drop that is found from the best constant rate and from the best rough ones."""
    rough = [_descend(problem, plan.values, plan.lengths) for plan in _rough(problem)[:_STARTS]]
    starts = (_split(problem, _constant(problem)), *rough)
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
    The search looks at twenty rates or more in every factor of ten between bounds that are certain, and goes on from
    the best of them.

    >>> best_constant(lams=1, noise=1, theta0=1, steps=1).rates
    array([0.5])
    """
    problem = _Problem.of(lams, noise, theta0, steps)
    return problem.judged(_constant(problem))


def best_drop(lams: Any, noise: Any, theta0: Any, steps: int) -> Plan:
    """The best single drop found: `.values` are the rates before and after it, `.lengths` their numbers of steps.

    Arguments as for `expected_loss` (additive noise), with two steps or more.  Returns a `Plan`: the best of seven
    local minima, those next to the best constant rate and to the six best of a rough grid of rates, with drops after
    1, 2, 4 … steps and as long before the end.  A better one may exist.  The second rate may be the higher one.

    >>> best_drop(lams=1, noise=1, theta0=1, steps=2).values.round(6)
    array([0.5     , 0.333333])
    """
    return best_pieces(lams, noise, theta0, steps, 2)


def best_pieces(lams: Any, noise: Any, theta0: Any, steps: int, pieces: int | Sequence[int]) -> Plan:
    """The best schedule found of so many constant pieces, or of pieces of the given lengths.

    Arguments as for `expected_loss` (additive noise).  With a number of `pieces` their lengths are searched for too,
    from the best drop found on, one piece after the other; for given lengths, the rates from the best constant one on.
    Either way it is a local minimum: another schedule may be better.  Returns a `Plan`; raises `ValueError` for
    impossible pieces.

    >>> best_pieces(lams=1, noise=1, theta0=1, steps=4, pieces=[2, 2]).lengths
    array([2, 2])
    """
    problem = _Problem.of(lams, noise, theta0, steps)
    if np.ndim(pieces) == 0:
        count = whole("pieces", pieces)
        if not 1 <= count <= steps:
            raise ValueError(f"pieces = {count} for {steps} steps: give 1 to {steps} pieces")
        return problem.judged(_pieces(problem, count))
    lengths = np.array([whole("a length", length, 1) for length in pieces])  # type: ignore[union-attr]
    if lengths.ndim != 1 or lengths.sum() != steps:
        raise ValueError(f"pieces = {shown(pieces)}: give lengths of 1 or more that add up to {steps} steps")
    return problem.judged(_descend(problem, np.repeat(_constant(problem).values, lengths.size), lengths))


def best_schedule(lams: Any, noise: Any, theta0: Any, steps: int) -> Plan:
    """The best rates found, one for each step.

    Arguments as for `expected_loss` (additive noise).  In one mode they are `schedules.optimal`.  In several they are
    the best of three local minima, those next to the best six pieces found and to the best rates of the steepest and
    of the flattest mode alone: another schedule may be better.

    >>> best_schedule(lams=1, noise=1, theta0=1, steps=3).rates.round(6)
    array([0.5     , 0.333333, 0.25    ])
    """
    problem = _Problem.of(lams, noise, theta0, steps)
    problem.each_step()
    steps = problem.steps
    starts = [_pieces(problem, min(6, steps)).rates]
    alive = np.flatnonzero(problem.moment)
    for mode in {alive[np.argmin(problem.lams[alive])], alive[np.argmax(problem.lams[alive])]}:
        lam = problem.lams[mode]
        with np.errstate(over="ignore", divide="ignore"):
            rates = 1 / (lam * (np.arange(1, steps + 1) + problem.noise[mode] / (lam**2 * problem.moment[mode])))
        starts.append(np.maximum(rates, np.finfo(float).tiny))
    plans = [_descend(problem, rates, np.ones(steps, dtype=int)) for rates in starts]
    return problem.judged(min(plans, key=_loss))
