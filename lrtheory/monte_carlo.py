"""Simulation: independent chains in blocks that fit the cache, of which only the sample moments are kept.

Each block of chains carries its own spawned seed, and blocks are merged in their order: the numbers are the same for
any number of threads, processes or cluster workers, and memory grows with neither the steps nor the chains.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial, reduce
from typing import Any, TypeVar

import numpy as np
import sympy as sp

from .inputs import Array, affordable, expression, named, number, numbers, shown, whole
from .noise import Noise
from .recursion import Recursion, traced

T = TypeVar("T")
BLOCK = 1 << 14  # chains: a few arrays of this length stay in the second-level cache
_BLOCKS_PER_TASK = 2  # what one worker takes at a time
_MOST_CHAIN_STEPS = 1e15  # a core takes about a hundred million a second


@dataclass(frozen=True)
class Simulation:
    """Sample means over independent chains.

    `means` and `standard_errors` have one row for each step in `at` and one column for each observable;
    `covariance[i]` is the covariance matrix of the means at step `at[i]`.
    """

    observables: tuple[sp.Expr, ...]
    at: tuple[int, ...]
    chains: int
    means: Array
    covariance: Array

    @property
    def standard_errors(self) -> Array:
        return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2))

    def __getitem__(self, observable: sp.Expr) -> tuple[float, float]:
        """The mean of an observable at the last step and its standard error."""
        if (observable := expression(observable)) not in self.observables:
            raise ValueError(
                f"{observable} was not observed: ask for one of {', '.join(map(str, self.observables))}, or simulate "
                "with it among the observables"
            )
        column = self.observables.index(observable)
        return float(self.means[-1, column]), float(self.standard_errors[-1, column])


def _copy(value: Any, _: Any, out: Array) -> None:
    out[...] = value


Operation = tuple[Callable[..., Any], int, int, int]  # what is done, to which two operands, and where the result goes


class _Stepper:
    """A rule as one step of blocks of chains, in as few passes over memory as it takes.

    A step works in place on `arrays` arrays: the states, the draws, which it uses up, and what else it needs.  A
    polynomial becomes a list of `operations`, whose operands are numbers of arrays, or of coefficients from the end.
    """

    def __init__(self, rec: Recursion):
        self.size, draws = len(rec.state), [s for s, _ in rec.noises]
        self.arrays = inputs = self.size + len(draws)
        self.operations: list[Operation] | None = None
        new = [sp.Dummy(f"new_{s}", real=True) for s in rec.state]
        # the shortest rule first: one that contains another as a whole, as theta - eta * v' does, reads its result
        rules: dict[int, sp.Expr] = {}
        for i in sorted(range(self.size), key=lambda i: rec.next_state[i].count_ops()):
            known = {rec.next_state[j]: new[j] for j in rules if not rec.next_state[j].is_Atom}
            rules[i] = rec.next_state[i].subs(known)
        try:
            polys = {i: sp.Poly(rule, *rec.state, *draws, *new) for i, rule in rules.items()}
        except sp.PolynomialError:
            self._whole = sp.lambdify((rec.parameters, rec.state, draws), rec.next_state, "numpy", cse=True)
            return
        # A value is known by its number: the inputs come first, then what is made; coefficients count from -1 down.
        made: list[tuple[Callable[..., Any], int, int]] = []
        coefficients: list[sp.Expr] = []
        value = dict(enumerate(range(inputs)))  # of each symbol of a polynomial

        def make(operation: Callable[..., Any], one: int, other: int) -> int:
            made.append((operation, one, other))
            return inputs + len(made) - 1

        for i, poly in polys.items():
            terms = []
            for powers, coefficient in poly.terms():
                factors = [value[k] for k, power in enumerate(powers) for _ in range(power)]
                if coefficient != 1 or not factors:
                    coefficients.append(coefficient)
                    factors.insert(1, -len(coefficients))
                terms.append(reduce(partial(make, np.multiply), factors))
            value[inputs + i] = reduce(partial(make, np.add), terms)
        self._place(made, [value[inputs + i] for i in range(self.size)])
        self._coefficients = sp.lambdify((rec.parameters,), coefficients[::-1], "math")

    def _place(self, made: list[tuple[Callable[..., Any], int, int]], new: list[int]) -> None:
        """Give each value an array in which nothing is left to be read, its own state's where that can be."""
        inputs, self.operations = self.arrays, []
        last = {value: k for k, (_, *operands) in enumerate(made) for value in operands}  # where a value is read last
        last |= dict.fromkeys(new, len(made))
        array = dict(enumerate(range(inputs)))
        free = [k for k in range(inputs) if k not in last]
        for k, (operation, one, other) in enumerate(made):
            free += [array[value] for value in {one, other} if value >= 0 and last[value] == k]
            home = new.index(inputs + k) if inputs + k in new else None
            out = array[inputs + k] = home if home in free else free[-1] if free else self.arrays
            if out == self.arrays:
                self.arrays += 1
            else:
                free.remove(out)
            self.operations.append((operation, array.get(one, one), array.get(other, other), out))
        # what another state takes over is put aside, before something else is copied over it
        moves = [(array.get(value, value), i) for i, value in enumerate(new) if array.get(value, value) != i]
        for k, (source, i) in enumerate(moves):
            if 0 <= source < self.size:
                self.operations.append((_copy, source, source, self.arrays))
                moves[k] = (self.arrays, i)
                self.arrays += 1
        self.operations += [(_copy, source, source, i) for source, i in moves]

    def bind(self, parameters: Sequence[float], arrays: Sequence[Array]) -> Callable[[], None]:
        """The step that works on these arrays."""
        if self.operations is None:
            return partial(self._all_at_once, parameters, arrays[: self.size], arrays[self.size :])
        # an array without dimensions is read faster than a number
        values = [*arrays, *(np.asarray(c, arrays[0].dtype) for c in self._coefficients(parameters))]
        bound = [(operation, values[one], values[other], values[out]) for operation, one, other, out in self.operations]

        def step() -> None:
            for operation, one, other, out in bound:
                operation(one, other, out)

        return step

    def _all_at_once(self, parameters: Sequence[float], state: Sequence[Array], draws: Sequence[Array]) -> None:
        # a new state may be an old one as it is, which must not be written over before it is copied
        for old, new in zip(state, [np.array(x) for x in self._whole(parameters, state, draws)], strict=True):
            old[...] = new


@lru_cache(maxsize=256)
def _stepper(rec: Recursion) -> _Stepper:
    return _Stepper(rec)


@lru_cache(maxsize=256)
def _observer(state: tuple[sp.Symbol, ...], observables: tuple[sp.Expr, ...]) -> Callable[..., list[Any]]:
    return sp.lambdify((*state,), list(observables), "numpy", cse=True)


@dataclass(frozen=True)
class _Plan:
    rec: Recursion
    observables: tuple[sp.Expr, ...]
    phases: tuple[tuple[int, tuple[float, ...]], ...]  # (steps, parameters): constant runs of the schedule
    at: tuple[int, ...]
    average: bool
    start: tuple[tuple[Noise | None, float], ...]
    recall: int | None
    seed: int
    chains: int
    dtype: str


Moments = tuple[int, Array, Array]  # number, mean (rows, columns), sum of squared deviations (rows, columns, columns)


def _merge(a: Moments, b: Moments) -> Moments:
    n = a[0] + b[0]
    delta = b[1] - a[1]
    mean = a[1] + delta * (b[0] / n)
    spread = a[2] + b[2] + np.einsum("ri,rj->rij", delta, delta) * (a[0] * b[0] / n)
    return n, mean, spread


def _generator(seed: int, index: int) -> np.random.Generator:
    """The random numbers of a block of chains, which belong to the block and not to who runs it."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(index,))))


def _block(plan: _Plan, index: int) -> Moments:
    rng = _generator(plan.seed, index)
    chains = min(BLOCK, plan.chains - index * BLOCK)
    stepper = _stepper(plan.rec)
    observe = _observer(plan.rec.state, plan.observables)
    size = len(plan.rec.state)
    # one piece of memory, which the allocator keeps for the next block: many small ones would go back to the system
    arrays = list(np.empty((stepper.arrays, chains), plan.dtype))
    state = arrays[:size]
    for array, (law, value) in zip(state, plan.start, strict=True):
        if law is None:
            array[...] = value
        else:
            law.draw(rng, array)  # type: ignore[misc]  # checked by simulate
            array *= value
    drawing = [(law.draw, out) for out, (_, law) in zip(arrays[size:], plan.rec.noises, strict=False)]
    rows: list[tuple[Array, Array]] = []
    looks, wanted = set(plan.at), {*plan.at, plan.recall}
    t = 0
    total = np.zeros((len(plan.observables), chains))

    def look() -> None:
        if t == plan.recall:  # a remembering recursion: the second half of the state recalls the first
            for new, old in zip(state[size // 2 :], state[: size // 2], strict=True):
                new[...] = old
        if t in looks:
            with np.errstate(all="ignore"):
                seen = np.array([np.broadcast_to(x, chains) for x in observe(*state)], dtype=float)
            if plan.average:
                total[...] += seen
                if t < plan.at[-1]:
                    return
                seen = total / len(plan.at)
            mean = seen.mean(axis=1)
            seen -= mean[:, None]
            rows.append((mean, seen @ seen.T))

    look()
    with np.errstate(all="ignore"):  # divergence is reported by simulate, once
        for steps, parameters in plan.phases:
            step = stepper.bind(parameters, arrays)
            for _ in range(steps):
                for draw, out in drawing:
                    draw(rng, out)  # type: ignore[misc]
                step()
                t += 1
                if t in wanted:
                    look()
    return chains, np.array([m for m, _ in rows]), np.array([s for _, s in rows])


def _task(block: Callable[[int], T], merge: Callable[[T, T], T], blocks: int, first: int) -> T:
    return reduce(merge, (block(index) for index in range(first, min(first + _BLOCKS_PER_TASK, blocks))))


def _in_order(executor: Executor, task: Callable[[int], T], firsts: Iterable[int]) -> Iterator[T]:
    # executor.map would hold one future per task at once; a window keeps memory constant
    window: deque[Future[T]] = deque()
    for first in firsts:
        window.append(executor.submit(task, first))
        if len(window) > 4 * (os.cpu_count() or 1):
            yield window.popleft().result()
    while window:
        yield window.popleft().result()


def _over_blocks(
    block: Callable[[int], T],
    chains: int,
    executor: Executor | None,
    merge: Callable[[T, T], T],
    progress: Callable[[int, int], Any] | None = None,
) -> T:
    """The blocks that make up so many chains, run by the executor (default: threads) and merged in their order."""
    blocks = -(-chains // BLOCK)
    own = None if executor else ThreadPoolExecutor(os.cpu_count())

    def results() -> Iterator[T]:
        task, firsts = partial(_task, block, merge, blocks), range(0, blocks, _BLOCKS_PER_TASK)
        for first, result in zip(firsts, _in_order(executor or own, task, firsts), strict=True):  # type: ignore[arg-type]
            if progress:
                progress(min((first + _BLOCKS_PER_TASK) * BLOCK, chains), chains)
            yield result

    try:
        return reduce(merge, results())
    finally:
        if own:
            own.shutdown(cancel_futures=True)


def _constant_runs(rows: list[tuple[float, ...]]) -> tuple[tuple[int, tuple[float, ...]], ...]:
    runs: list[tuple[int, tuple[float, ...]]] = []
    for row in rows:
        if runs and runs[-1][1] == row:
            runs[-1] = (runs[-1][0] + 1, row)
        else:
            runs.append((1, row))
    return tuple(runs)


def _start(rec: Recursion, start: Mapping[sp.Symbol | str, Any] | None) -> tuple[tuple[Noise | None, float], ...]:
    """The law (None: a point) and the scale of each state at the start."""
    given = named("start", {} if start is None else start)
    if unknown := given.keys() - {s.name for s in rec.state}:
        raise ValueError(
            f"start names {', '.join(sorted(unknown))}: the state is {', '.join(map(str, rec.state))}; name these"
        )
    starts = []
    for s in rec.state:
        value = given.get(s.name, 0.0)
        law, scale = value if isinstance(value, tuple) and len(value) == 2 else (None, value)
        if law is not None and getattr(law, "draw", None) is None:
            raise TypeError(f"{s} starts from {shown(law)}, which cannot be drawn: give a law such as noise.gaussian")
        starts.append((law, number(f"the start of {s}", scale)))
    return tuple(starts)


def simulate(
    rec: Recursion,
    parameters: Mapping[sp.Symbol | str, Any],
    steps: int,
    chains: int,
    seed: int = 0,
    executor: Executor | None = None,
    *,
    observables: Sequence[sp.Expr] | None = None,
    start: Mapping[sp.Symbol | str, Any] | None = None,
    at: Sequence[int] | None = None,
    average: bool = False,
    recall: int | None = None,
    dtype: str = "float64",
    progress: Callable[[int, int], Any] | None = None,
) -> Simulation:
    """Sample means of observables over `chains` independent runs of `steps` steps.

    `parameters` are numbers; one that is a sequence of `steps` values is a schedule.  `observables` are
    expressions in the state (default: each state and its square), looked at after the steps `at` (default: the
    last); with `average` they are averaged over these looks in each run: a time average, whose standard error is
    honest since the runs are independent.  The state starts at 0, or where `start` says: a number, or a pair
    (law, scale) for a random start.
    `recall` is the step at which a `remembering` recursion takes its memory.  `executor` is any
    `concurrent.futures.Executor`; the numbers do not depend on it.  `dtype` "float32" more than halves the time of
    normal noise; the last bits may then depend on the kind of processor.  `progress` is called now and then with the
    number of chains that are done and that of all chains; `lrtheory.progress_bar` draws them.

    Returns a `Simulation`.  Raises `TypeError` for what is no number, `ValueError` for sizes, names or a noise that
    cannot be drawn, and `FloatingPointError` if the chains leave the range of floats.

    >>> import lrtheory as lr
    >>> rec = lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic(lr.noise.gaussian))
    >>> result = simulate(rec, {"eta": 0.5, "lam": 1, "sigma": 1}, steps=40, chains=20_000)
    >>> mean, error = result[rec.state[0] ** 2]
    >>> abs(mean - 1 / 3) < 4 * error < 0.02
    True
    """
    steps, chains, seed = whole("steps", steps), whole("chains", chains, 2), whole("seed", seed, 0, None)
    affordable(f"the rates of {steps} steps", 200 * float(steps), "give fewer steps")
    if chains * steps > _MOST_CHAIN_STEPS:
        raise ValueError(
            f"{chains} chains of {steps} steps would take months: give fewer, {_MOST_CHAIN_STEPS:g} in all"
        )
    if executor is not None and not hasattr(executor, "submit"):
        raise TypeError(f"executor = {shown(executor)}: give one of concurrent.futures, or None for threads")
    if dtype not in ("float64", "float32"):
        raise ValueError(f"dtype = {shown(dtype)}: give 'float64' or 'float32'")
    for symbol, law in traced(rec).noises:
        if law.draw is None:
            raise ValueError(
                f"the noise {symbol} is {law.name}: choose one to draw from, for instance "
                "recursion.with_noise(noise.gaussian)"
            )
    values = rec.values(parameters)
    columns = []
    for symbol, value in values.items():
        if callable(value):
            raise TypeError(
                f"{symbol} is a function: give its values, for instance lrtheory.schedules.rates(it, {steps})"
            )
        column = numbers(str(symbol), value)
        if not np.all(np.isfinite(column)):
            raise ValueError(f"{symbol} = {shown(value)}: give finite numbers")
        if column.shape not in ((), (steps,)):
            raise ValueError(
                f"{symbol} has shape {column.shape} for {steps} steps: give one value, or one for each step"
            )
        columns.append(np.broadcast_to(column, steps).tolist())
    starts = _start(rec, start)
    asked = np.atleast_1d(numbers("at", steps if at is None else at))
    if asked.ndim > 1 or not asked.size or not np.all((asked >= 0) & (asked <= steps) & (asked == np.floor(asked))):
        raise ValueError(f"at = {shown(at)}: give whole steps between 0 and {steps}")
    looks = tuple(int(x) for x in np.unique(asked))
    if recall is not None and (len(rec.state) % 2 or whole("recall", recall) > steps):
        raise ValueError(f"recall = {recall}: give a step up to {steps}, and a recursion made by .remembering()")
    if observables is None:
        observables = [f(s) for s in rec.state for f in (lambda x: x, lambda x: x**2)]
    seen = tuple(map(expression, observables if isinstance(observables, Sequence) else [observables]))
    if not seen or not all(isinstance(o, sp.Expr) for o in seen):
        raise ValueError(f"observables = {shown(observables)}: give one or more expressions in the state")
    if progress is not None and not callable(progress):
        raise TypeError(f"progress = {shown(progress)}: give a function of two counts, or lrtheory.progress_bar")
    if foreign := set().union(*(o.free_symbols for o in seen)) - set(rec.state):
        raise ValueError(
            f"the observables have {', '.join(sorted(map(str, foreign)))}, and the state is "
            f"{', '.join(map(str, rec.state))}: put in numbers"
        )
    plan = _Plan(
        rec,
        seen,
        _constant_runs(list(zip(*columns, strict=True))),
        looks,
        bool(average),
        starts,
        recall,
        seed,
        chains,
        dtype,
    )
    count, means, spread = _over_blocks(partial(_block, plan), chains, executor, _merge, progress)
    if not np.all(np.isfinite(means)) or not np.all(np.isfinite(spread)):
        raise FloatingPointError(
            f"the chains left the range of floats within {steps} steps at "
            f"{', '.join(f'{s} = {v}' for s, v in values.items())}: choose a stable rate or fewer steps"
        )
    return Simulation(seen, looks[-1:] if average else looks, count, means, spread / (count * (count - 1)))
