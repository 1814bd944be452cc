"""First passages: how many steps a run takes until a condition on its state holds.

`steps_until(goal, rule=…, start=…)` is a reading, like an expectation: an atom that a claim can be made of.  It is
enumerated (a run without noise is followed; finite noise gives an absorbing chain, solved in fractions) and
simulated.  `escape_time` reads one first passage in a third way, for Gaussian noise: by its integral equation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, partial
from itertools import count
from typing import Any

import numpy as np
import sympy as sp
from sympy.core.relational import Relational
from sympy.polys.matrices import DomainMatrix

from .enumeration import MAX_BITS, State, _function, _kernel, exact
from .expectation import ETA, THETA0, Reading, Rule, Run, Sample, exact_value, replaced
from .inputs import expression, positive, shown, whole
from .landscapes import SIGMA, THETA, XI, double_well
from .monte_carlo import BLOCK, _generator, _over_blocks, _stepper
from .noise import Noise, any_law
from .optimizers import sgd
from .recursion import Recursion, trace

_TESTS: dict[str, Callable[[Any], Any]] = {
    ">": lambda gap: gap > 0,
    ">=": lambda gap: gap >= 0,
    "<": lambda gap: gap < 0,
    "<=": lambda gap: gap <= 0,
}


class FirstPassage(Reading):
    """The mean number of steps until the goal holds (0 if it holds at the start); made by `steps_until`."""

    goal: Relational
    where_from: Run
    cap: int

    def __new__(cls, goal: Relational, where_from: Run, cap: int) -> FirstPassage:
        obj = super().__new__(cls)
        obj.goal, obj.where_from, obj.cap = goal, where_from, cap
        return obj

    def _hashable_content(self) -> tuple[Any, ...]:
        return (self.goal, repr(self.where_from), self.where_from, self.cap)

    def _sympystr(self, printer: Any) -> str:
        return f"T[{self.goal}]"

    def _latex(self, printer: Any) -> str:
        return rf"\mathbb{{E}}\left[T_{{{printer._print(self.goal)}}}\right]"

    def _at(self, settings: Mapping[str, Any]) -> tuple[Recursion, sp.Expr, Callable[[Any], Any], list[sp.Expr]]:
        """The rule, the goal (a gap, and the test that it must pass) and the start at these settings."""
        rec = self.where_from.recursion
        rec = rec.where({s.name: settings[s.name] for s in rec.parameters})
        occurring = set().union(*(f.free_symbols for f in rec.next_state))
        rec = replace(rec, noises=tuple((s, law) for s, law in rec.noises if s in occurring))
        starts = self.where_from.starts
        start = [exact_value(expression(starts.get(s, 0)), settings) for s in rec.state]
        gap = exact_value(self.goal.lhs - self.goal.rhs, settings)
        if unknown := gap.free_symbols - set(rec.state):
            raise ValueError(
                f"the goal {self.goal} has {', '.join(map(str, unknown))}: give it a value in the settings"
            )
        return rec, gap, _TESTS[self.goal.rel_op], start

    def enumerate(self, settings: Mapping[str, Any]) -> sp.Rational:
        """The exact mean; `oo` if some runs never arrive.

        Raises `ValueError` if a run without noise neither arrives nor repeats itself within `cap` steps, if noise
        leads to more than `MAX_STATES` states, or if the fractions grow too long.
        """
        rec, gap, test, at = self._at(settings)
        rule, outcomes = _kernel(rec)
        value = _function(rec.state, [gap])
        start: State = tuple(exact(s.name, x) for s, x in zip(rec.state, at, strict=True))

        def arrived(state: State) -> bool:
            return bool(test(value(*state)[0]))

        def step(state: State) -> list[tuple[State, Fraction]]:
            moves = [(tuple(rule(*state, *draw)), p) for draw, p in outcomes]
            if any(x.denominator.bit_length() > MAX_BITS for new, _ in moves for x in new):
                raise ValueError(
                    f"the fractions on the way to {self.goal} grow beyond {MAX_BITS} bits: simulate, or choose a "
                    "start nearer to the goal"
                )
            return moves

        if len(outcomes) == 1:
            return _followed(lambda state: step(state)[0][0], arrived, start, self.cap)
        return _absorbed(step, arrived, start)

    def sample(
        self,
        members: Sequence[Any],
        settings: Mapping[str, Any],
        law: Noise,
        chains: int,
        seed: int,
        executor: Executor | None,
    ) -> Sample:
        rec, gap, _, start = self._at(settings)
        rec = replace(rec, noises=tuple((s, law if n is any_law else n) for s, n in rec.noises))
        rec = replace(rec, next_state=tuple(sp.N(f, 17) for f in rec.next_state))
        plan = _Plan(
            rec, sp.N(gap, 17), self.goal.rel_op, tuple(float(x) for x in start), seed, chains, self.cap, str(self.goal)
        )
        total, squares = _over_blocks(partial(_block, plan), chains, executor, _added)  # whole numbers: no rounding
        variance = float(Fraction(squares * chains - total**2, chains**2 * (chains - 1)))
        return Sample([total / chains] * len(members), np.full((len(members), len(members)), variance), total)


def steps_until(goal: Any, *, rule: Rule, start: Any = THETA0, cap: int = 100_000, **where: Any) -> FirstPassage:
    """The mean number of steps until the goal, an inequality in the state, holds for the first time.

    `start` is where the run starts, `where` replaces parameters of the rule.  A run that has not arrived after `cap`
    steps is an error: a mean over the runs that have would be too small.
    Raises `TypeError` if the goal is not an inequality.

    >>> import lrtheory as lr
    >>> from lrtheory.expectation import enumerated
    >>> halving = (lr.optimizers.sgd, lr.landscapes.quadratic())
    >>> passage = steps_until(THETA < Fraction(1, 5), rule=halving, start=1, sigma=0)
    >>> enumerated(passage, {"eta": Fraction(1, 2), "lam": 1})
    3
    """
    if not isinstance(goal, Relational) or goal.rel_op not in _TESTS:
        raise TypeError(f"the goal {shown(goal)} is not an inequality in the state: write one, for instance theta >= 1")
    return FirstPassage(goal, Run(rule, (), expression(start), replaced(where), 0), whole("cap", cap))


# --- exactly ------------------------------------------------------------------------------------------------------

MAX_STATES = 400


def _followed(step: Callable[[State], State], arrived: Callable[[State], bool], start: State, cap: int) -> sp.Rational:
    """The steps of the only path; oo if it comes back to where it was."""
    seen, state = set(), start
    for t in range(cap + 1):
        if arrived(state):
            return sp.Integer(t)
        if state in seen:
            return sp.oo
        seen.add(state)
        state = step(state)
    raise ValueError(f"after {cap} steps the run has neither arrived nor repeated itself: raise cap")


def _absorbed(
    step: Callable[[State], list[tuple[State, Fraction]]], arrived: Callable[[State], bool], start: State
) -> sp.Rational:
    """The mean steps of a chain on finitely many states, from m = 1 + K m."""
    if arrived(start):
        return sp.S.Zero
    index = {start: 0}
    moves: list[dict[int, Fraction]] = []
    leads_out: set[int] = set()
    for i, state in enumerate(queue := [start]):
        row: dict[int, Fraction] = {}
        for new, p in step(state):
            if arrived(new):
                leads_out.add(i)
                continue
            if new not in index:
                if len(index) == MAX_STATES:
                    raise ValueError(
                        f"more than {MAX_STATES} states can be reached before the goal: choose a start and a rate that "
                        "share a lattice, or simulate"
                    )
                index[new] = len(index)
                queue.append(new)
            row[index[new]] = row.get(index[new], Fraction(0)) + p
        moves.append(row)
    while grown := {i for i, row in enumerate(moves) if i not in leads_out and leads_out & row.keys()}:
        leads_out |= grown
    size = len(index)
    if len(leads_out) < size:
        return sp.oo
    rows = [[sp.QQ(int(i == j)) for j in range(size)] for i in range(size)]
    for i, row in enumerate(moves):
        for j, p in row.items():
            rows[i][j] -= sp.QQ(p.numerator, p.denominator)
    ones = DomainMatrix([[sp.QQ.one]] * size, (size, 1), sp.QQ)
    mean = DomainMatrix(rows, (size, size), sp.QQ).lu_solve(ones).to_list()[0][0]
    return sp.Rational(int(mean.numerator), int(mean.denominator))


# --- simulated ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    rec: Recursion
    gap: sp.Expr
    rel_op: str
    start: tuple[float, ...]
    seed: int
    chains: int
    cap: int
    goal: str


@lru_cache(maxsize=64)
def _gap(state: tuple[sp.Symbol, ...], gap: sp.Expr) -> Callable[..., Any]:
    return sp.lambdify(state, gap, "numpy")


def _block(plan: _Plan, index: int) -> tuple[int, int]:
    """The sum of the steps of a block of chains, and of their squares; chains that have arrived are dropped."""
    rng = _generator(plan.seed, index)
    size, stepper, test = len(plan.rec.state), _stepper(plan.rec), _TESTS[plan.rel_op]
    gap = _gap(plan.rec.state, plan.gap)
    left = min(BLOCK, plan.chains - index * BLOCK)
    arrays = np.empty((stepper.arrays, left))
    arrays[:size] = np.transpose([plan.start])
    step = stepper.bind((), list(arrays))
    total = squares = 0
    with np.errstate(all="ignore"):
        for t in count():
            here = np.broadcast_to(test(gap(*arrays[:size])), left)
            if arrivals := int(np.count_nonzero(here)):
                total, squares, left = total + arrivals * t, squares + arrivals * t * t, left - arrivals
                if not left:
                    return total, squares
                arrays = np.compress(~here, arrays, axis=1)
                step = stepper.bind((), list(arrays))
            if t == plan.cap:
                break
            for out, (_, law) in zip(arrays[size:], plan.rec.noises, strict=False):
                law.draw(rng, out)  # type: ignore[misc]
            step()
    raise ValueError(
        f"{left} chains of a block have not reached {plan.goal} after {plan.cap} steps, and a mean over the others "
        "would be too small: raise cap, or choose settings at which all arrive sooner"
    )


def _added(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return a[0] + b[0], a[1] + b[1]


# --- by the integral equation, for Gaussian noise -----------------------------------------------------------------

_MOST_NODES = 1600
_LEAST_TOLERANCE = 1e-12
_LARGEST = 1e6


def escape_time(eta: float, sigma: float, tolerance: float = 1e-8) -> float:
    """The mean number of steps that SGD takes from one minimum of the double well to the other.

    From -1 until theta >= 1 for the first time, with Gaussian gradient noise of standard deviation sigma at the rate
    eta: the solution of m(x) = 1 + E[m(x')], x' one step from x, by Gauss quadrature.  Resolutions are refined until
    two agree to the relative `tolerance`.
    Raises `ValueError` for parameters that are not positive, and where the finest resolution does not agree.

    Source: Nyström's method (Atkinson 1997); the linear system is solved by the elimination of Grassmann, Taksar &
    Heyman (1985), which subtracts nothing: the digits that a plain solver loses when escapes are rare are kept.

    >>> round(escape_time(0.1, 1), 2)
    7055.28
    """
    eta, sigma, tolerance = positive("eta", eta), positive("sigma", sigma), positive("tolerance", tolerance)
    if tolerance < _LEAST_TOLERANCE:
        raise ValueError(f"tolerance = {tolerance}: rounding allows no less than {_LEAST_TOLERANCE}; give that or more")
    if max(eta, sigma) > _LARGEST:
        raise ValueError(
            f"eta = {eta}, sigma = {sigma}: give numbers up to {_LARGEST:g}, beyond which a step is a leap"
        )
    (rule,) = trace(sgd, double_well()).next_state
    mean = sp.lambdify(THETA, rule.subs({XI: 0, ETA: eta}), "numpy")
    spread = abs(float(rule.expand().coeff(XI).subs({ETA: eta, SIGMA: sigma})))
    before, margin, finer = math.inf, 80.0, 1.7
    while True:
        # Left of `edge` runs are so rare (the weight of their height over the barrier is exp(-margin / 2)), or the
        # slope throws them so far, that the next step may be counted as an arrival.
        rare = -math.sqrt(1 + math.sqrt(1 + margin * eta * sigma**2))
        edge = max(rare, _thrown_over(mean, 1 + 9 * spread))
        nodes = 16 + math.ceil(finer * (1 - edge) / spread)
        if nodes > _MOST_NODES:
            raise ValueError(
                f"escape_time(eta={eta}, sigma={sigma}) would need {nodes} nodes to be sure of {tolerance:g}: "
                "raise eta * sigma or the tolerance"
            )
        now = _mean_steps(mean, spread, edge, nodes)
        if abs(now - before) <= tolerance * now < math.inf:
            return now
        before, margin, finer = now, margin * 1.5, finer * 1.3


def _thrown_over(mean: Callable[[float], float], target: float) -> float:
    """The point on the far left from which a step without noise lands at the target."""
    from scipy.optimize import brentq

    low = -2.0
    while mean(low) < target:
        low *= 2
    return float(brentq(lambda x: mean(x) - target, low, -1))


def _mean_steps(mean: Callable[[Any], Any], spread: float, edge: float, nodes: int) -> float:
    from scipy.special import ndtr, roots_legendre

    x, weight = roots_legendre(nodes)
    x, weight = edge + (1 - edge) * (x + 1) / 2, weight * (1 - edge) / 2
    x = np.append(x, -1.0)  # the start, which no step leads to
    weight = np.append(weight, 0.0)
    to = mean(x)
    move = np.exp(-(((x - to[:, None]) / spread) ** 2) / 2) / (math.sqrt(2 * math.pi) * spread) * weight
    beyond = ndtr((edge - to) / spread)
    leave, steps = ndtr((to - 1) / spread) + beyond, 1 + beyond
    # States are eliminated one after the other; a state is left with the probability of all its exits, which is a sum.
    exits = np.empty(len(x))
    for k in range(nodes):
        rest = slice(k + 1, None)
        exits[k] = move[k, rest].sum() + leave[k]
        share = move[rest, k] / exits[k]
        move[rest, rest] += share[:, None] * move[k, rest]
        leave[rest] += share * leave[k]
        steps[rest] += share * steps[k]
    return float(steps[-1] / leave[-1])
