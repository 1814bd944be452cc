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


def _fill(value: Any, _: Any, out: Array) -> None:
    out[...] = value


class _Stepper:
    """The rule as operations on whole blocks of chains.

    A rule that is a polynomial becomes a list of (operation, operand, operand, result), each of them the number of an
    array or of a coefficient: as few passes over memory as it takes, in place where the old state is not read again.
    A new state that contains another one as a whole, as theta - eta * v' does, reads it.
    """

    def __init__(self, rec: Recursion):
        self.size = len(rec.state)
        draws = tuple(s for s, _ in rec.noises)
        new = [sp.Dummy(f"new_{s}", real=True) for s in rec.state]
        arrays = [*rec.state, *draws, *new]
        scratch, first = len(arrays), len(arrays) - self.size
        self.operations: list[tuple[Callable[..., Any], int, int, int]] | None = None
        rules: dict[int, sp.Expr] = {}
        for i in sorted(range(self.size), key=lambda i: rec.next_state[i].count_ops()):
            known = {rec.next_state[j]: new[j] for j in rules if not rec.next_state[j].is_Atom}
            rules[i] = rec.next_state[i].subs(known)
        try:
            polys = {i: sp.Poly(rule, *arrays) for i, rule in rules.items()}
        except sp.PolynomialError:
            self._whole = sp.lambdify((rec.parameters, rec.state, draws), rec.next_state, "numpy", cse=True)
            return
        self.operations, coefficients = [], list[sp.Expr]()
        reads = [f for poly in polys.values() for powers in poly.monoms() for f, power in enumerate(powers) if power]
        once = {f for f in reads if reads.count(f) == 1}
        place = list(range(scratch))  # where the value of each symbol is
        while polys:
            i = next(iter(polys))
            poly = polys.pop(i)
            own = tuple(int(f == i) for f in range(scratch))
            readers = sum(powers[i] > 0 and powers != own for powers in poly.monoms())
            in_place = readers < 2 and not any(later.degree(rec.state[i]) > 0 for later in polys.values())
            out = place[first + i] = i if in_place else first + i
            found = -1  # where the sum of the terms so far is
            # what needs the old state besides, its own term, then the rest, of which plain arrays are added as they are
            for powers, coefficient in sorted(
                poly.terms(), key=lambda term: (not term[0][i], term[0] == own, sum(term[0]) + (term[1] != 1) < 2)
            ):
                factors = [place[f] for f, power in enumerate(powers) for _ in range(power)]
                if coefficient != 1 or not factors:
                    factors.insert(1, scratch + 1 + len(coefficients))
                    coefficients.append(coefficient)
                if found < 0:
                    target = scratch if in_place and powers[i] and powers != own else out
                else:
                    target = out if found == scratch else scratch
                value = factors[0]
                if target == scratch and self.size <= value < first and value in once and value not in factors[1:]:
                    target = value  # a draw that nothing else reads
                for factor in factors[1:]:
                    self.operations.append((np.multiply, value, factor, target))
                    value = target
                if found >= 0:
                    self.operations.append((np.add, found, value, out))
                found = value if found < 0 else out
            if found != out:
                self.operations.append((_fill, found, found, out))
        self.operations += [(_fill, k, k, i) for i, k in enumerate(place[first:]) if k != i]
        self._coefficients = sp.lambdify((rec.parameters,), coefficients, "math")

    def prepare(self, parameters: Sequence[float]) -> Sequence[float]:
        """What a step needs of the parameters: computed again only when the rate changes."""
        return parameters if self.operations is None else self._coefficients(parameters)

    def bind(
        self, prepared: Sequence[float], state: list[Array], draws: list[Array], spare: list[Array]
    ) -> list[tuple[Callable[..., Any], Any, Any, Any]]:
        """The operations of one step: the next state goes over the old one; draws and spare arrays are used up."""
        if self.operations is None:
            return [(self._all_at_once, (prepared, state, draws), spare, state)]
        # an array without dimensions is read faster than a number
        values = [*state, *draws, *spare, *(np.asarray(c, state[0].dtype) for c in prepared)]
        return [(operation, values[one], values[other], values[out]) for operation, one, other, out in self.operations]

    def _all_at_once(self, arguments: tuple[Any, ...], spare: list[Array], state: list[Array]) -> None:
        for found, new in zip(spare, self._whole(*arguments), strict=False):
            found[...] = new  # which may be an old state that is about to be written over
        for old, found in zip(state, spare, strict=False):
            old[...] = found

    def step(self, prepared: Sequence[float], state: list[Array], draws: list[Array], spare: list[Array]) -> None:
        """One step, after which the next state is in `spare[:size]` and `state` is free; the draws stay."""
        for operation, one, other, out in self.bind(prepared, state, [draw.copy() for draw in draws], spare):
            operation(one, other, out)
        state[:], spare[: self.size] = spare[: self.size], state[:]


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
    arrays = list(np.empty((2 * size + 1 + len(plan.rec.noises), chains), plan.dtype))
    state, spare, draws = arrays[:size], arrays[size : 2 * size + 1], arrays[2 * size + 1 :]
    for array, (law, value) in zip(state, plan.start, strict=True):
        if law is None:
            array[...] = value
        else:
            law.draw(rng, array)  # type: ignore[misc]  # checked by simulate
            array *= value
    drawing = [(law.draw, out) for out, (_, law) in zip(draws, plan.rec.noises, strict=True)]
    rows: list[tuple[Array, Array]] = []
    looks, wanted = set(plan.at), {*plan.at, plan.recall}
    t = 0

    def look() -> None:
        nonlocal t
        if t == plan.recall:  # a remembering recursion: the second half of the state recalls the first
            for new, old in zip(state[size // 2 :], state[: size // 2], strict=True):
                new[...] = old
        if t in looks:
            with np.errstate(all="ignore"):
                seen = np.array([np.broadcast_to(x, chains) for x in observe(*state)], dtype=float)
            mean = seen.mean(axis=1)
            seen -= mean[:, None]
            rows.append((mean, seen @ seen.T))

    look()
    with np.errstate(all="ignore"):  # divergence is reported by simulate, once
        for steps, parameters in plan.phases:
            operations = stepper.bind(stepper.prepare(parameters), state, draws, spare)
            for _ in range(steps):
                for draw, out in drawing:
                    draw(rng, out)  # type: ignore[misc]
                for operation, one, other, out in operations:
                    operation(one, other, out)
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
    recall: int | None = None,
    dtype: str = "float64",
    progress: Callable[[int, int], Any] | None = None,
) -> Simulation:
    """Sample means of observables over `chains` independent runs of `steps` steps.

    `parameters` are numbers; one that is a sequence of `steps` values is a schedule.  `observables` are
    expressions in the state (default: each state and its square), looked at after the steps `at` (default: the
    last).  The state starts at 0, or where `start` says: a number, or a pair (law, scale) for a random start.
    `recall` is the step at which a `remembering` recursion takes its memory.  `executor` is any
    `concurrent.futures.Executor`; the numbers do not depend on it.  `progress` is called now and then with the number
    of chains that are done and that of all chains.

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
    return Simulation(seen, looks, count, means, spread / (count * (count - 1)))
