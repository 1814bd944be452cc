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

from .noise import Noise
from .recursion import Recursion

Array = np.ndarray
T = TypeVar("T")
BLOCK = 4096  # chains: a few arrays of this length stay in the second-level cache
_BLOCKS_PER_TASK = 8  # what one worker takes at a time


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
        column = self.observables.index(sp.sympify(observable))
        return float(self.means[-1, column]), float(self.standard_errors[-1, column])


class _Stepper:
    """The rule as operations on whole blocks, without temporary arrays where it is a polynomial."""

    def __init__(self, rec: Recursion):
        self.size = len(rec.state)
        draws = tuple(s for s, _ in rec.noises)
        try:
            polys = [sp.Poly(f, *rec.state, *draws) for f in rec.next_state]
        except sp.PolynomialError:
            polys = None
        self.terms: list[list[tuple[int, list[int]]]] | None = None
        if polys is None:
            self._whole = sp.lambdify((rec.parameters, rec.state, draws), rec.next_state, "numpy", cse=True)
            return
        coefficients: list[sp.Expr] = []
        self.terms = []
        for poly in polys:
            row = []
            for powers, coefficient in poly.terms():
                factors = [i for i, power in enumerate(powers) for _ in range(power)]
                row.append((len(coefficients), factors))
                coefficients.append(coefficient)
            self.terms.append(row)
        self._coefficients = sp.lambdify((rec.parameters,), coefficients, "math")

    def prepare(self, parameters: Sequence[float]) -> Sequence[float]:
        """What a step needs of the parameters: computed again only when the rate changes."""
        return parameters if self.terms is None else self._coefficients(parameters)

    def step(self, prepared: Sequence[float], state: list[Array], draws: list[Array], spare: list[Array]) -> None:
        """Write the next state into `spare[:size]` (spare[size] is scratch)."""
        if self.terms is None:
            for out, new in zip(spare, self._whole(prepared, state, draws), strict=False):
                out[...] = new
            return
        arrays = state + draws
        for row, out in zip(self.terms, spare, strict=False):
            target = out
            for index, factors in row:
                if factors:
                    np.multiply(arrays[factors[0]], prepared[index], out=target)
                    for f in factors[1:]:
                        np.multiply(target, arrays[f], out=target)
                else:
                    target[...] = prepared[index]
                if target is not out:
                    np.add(out, target, out=out)
                target = spare[-1]
            if not row:
                out[...] = 0


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
    empty = partial(np.empty, chains, plan.dtype)
    size = len(plan.rec.state)
    state, spare, draws = [empty() for _ in range(size)], [empty() for _ in range(size + 1)], []
    for array, (law, value) in zip(state, plan.start, strict=True):
        if law is None:
            array[...] = value
        else:
            law.draw(rng, array)  # type: ignore[misc]  # checked by simulate
            array *= value
    draws = [empty() for _ in plan.rec.noises]
    rows: list[tuple[Array, Array]] = []
    wanted = set(plan.at)
    t = 0

    def look() -> None:
        nonlocal t
        if t == plan.recall:  # a remembering recursion: the second half of the state recalls the first
            for new, old in zip(state[size // 2 :], state[: size // 2], strict=True):
                new[...] = old
        if t in wanted:
            with np.errstate(all="ignore"):
                seen = np.array([np.broadcast_to(x, chains) for x in observe(*state)], dtype=float)
            mean = seen.mean(axis=1)
            seen -= mean[:, None]
            rows.append((mean, seen @ seen.T))

    look()
    with np.errstate(all="ignore"):  # divergence is reported by simulate, once
        for steps, parameters in plan.phases:
            prepared = stepper.prepare(parameters)
            for _ in range(steps):
                for out, (_, law) in zip(draws, plan.rec.noises, strict=True):
                    law.draw(rng, out)  # type: ignore[misc]
                stepper.step(prepared, state, draws, spare)
                state, spare[:size] = spare[:size], state
                t += 1
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


def _over_blocks(block: Callable[[int], T], chains: int, executor: Executor | None, merge: Callable[[T, T], T]) -> T:
    """The blocks that make up so many chains, run by the executor (default: threads) and merged in their order."""
    blocks = -(-chains // BLOCK)
    own = None if executor else ThreadPoolExecutor(os.cpu_count())
    try:
        task = partial(_task, block, merge, blocks)
        return reduce(merge, _in_order(executor or own, task, range(0, blocks, _BLOCKS_PER_TASK)))  # type: ignore[arg-type]
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


def _whole_number(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or value != int(value) or value < least:
        raise ValueError(f"{name} = {value}: give a whole number, {least} or more")
    return int(value)


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
) -> Simulation:
    """Sample means of observables over `chains` independent runs of `steps` steps.

    `parameters` are numbers; one that is a sequence of `steps` values is a schedule.  `observables` are
    expressions in the state (default: each state and its square), looked at after the steps `at` (default: the
    last).  The state starts at 0, or where `start` says: a number, or a pair (law, scale) for a random start.
    `recall` is the step at which a `remembering` recursion takes its memory.  `executor` is any
    `concurrent.futures.Executor`; the numbers do not depend on it.

    Returns a `Simulation`.  Raises `ValueError` for sizes, names or a noise that cannot be drawn, and
    `FloatingPointError` if the chains leave the range of floats.

    >>> import lrtheory as lr
    >>> rec = lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic(lr.noise.gaussian))
    >>> result = simulate(rec, {"eta": 0.5, "lam": 1, "sigma": 1}, steps=40, chains=20_000)
    >>> mean, error = result[rec.state[0] ** 2]
    >>> abs(mean - 1 / 3) < 4 * error < 0.02
    True
    """
    steps, chains = _whole_number("steps", steps, 0), _whole_number("chains", chains, 2)
    for symbol, law in rec.noises:
        if law.draw is None:
            raise ValueError(
                f"the noise {symbol} is {law.name}: choose one to draw from, for instance "
                "recursion.with_noise(noise.gaussian)"
            )
    values = rec.values(parameters)
    columns = []
    for symbol, value in values.items():
        column = list(value) if isinstance(value, (Sequence, np.ndarray)) else [value] * steps
        if len(column) != steps:
            raise ValueError(f"{symbol} has {len(column)} values for {steps} steps: give one for each step")
        columns.append([float(x) for x in column])
        if not np.all(np.isfinite(columns[-1])):
            raise ValueError(f"{symbol} = {value}: give finite numbers")
    given = {str(k): v for k, v in (start or {}).items()}
    if unknown := set(given) - {s.name for s in rec.state}:
        raise ValueError(f"start names {', '.join(sorted(unknown))}: the state is {', '.join(map(str, rec.state))}")
    starts = [given.get(s.name, 0.0) for s in rec.state]
    looks = tuple(sorted(at)) if at is not None else (steps,)
    if not looks or looks[0] < 0 or looks[-1] > steps:
        raise ValueError(f"at = {list(looks)}: give steps between 0 and {steps}")
    seen = tuple(map(sp.sympify, observables or [f(s) for s in rec.state for f in (lambda x: x, lambda x: x**2)]))
    plan = _Plan(
        rec,
        seen,
        _constant_runs(list(zip(*columns, strict=True))),
        looks,
        tuple((s[0], float(s[1])) if isinstance(s, tuple) else (None, float(s)) for s in starts),
        recall,
        seed,
        chains,
        dtype,
    )
    count, means, spread = _over_blocks(partial(_block, plan), chains, executor, _merge)
    if not np.all(np.isfinite(means)) or not np.all(np.isfinite(spread)):
        raise FloatingPointError(
            f"the chains left the range of floats within {steps} steps at "
            f"{', '.join(f'{s} = {v}' for s, v in values.items())}: choose a stable rate or fewer steps"
        )
    return Simulation(seen, looks, count, means, spread / (count * (count - 1)))
