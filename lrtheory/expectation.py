"""E(observable, phases …): the expectation that a claim is about, to be read in three independent ways.

`E(theta**2, (eta1, oo), (eta2, k))` is E[theta²] after a run at the rate eta1 for so long that nothing changes any
more, followed by k steps at eta2.  It is an ordinary SymPy atom, so that a claim can say `lam / 2 * E(...)`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, Self

import numpy as np
import sympy as sp

from . import landscapes, monte_carlo
from .enumeration import Paths, enumerate_paths, exact, limit, long_run, stationary_law
from .landscapes import THETA
from .ledger import written_out
from .letters import symbol
from .moments import After, Moments, Stationary, _Algebra, _Point, after, stationary
from .noise import Noise, any_law, gaussian, gaussian_to_fifth, phase, rademacher
from .optimizers import sgd
from .recursion import Recursion, trace
from .stability import contraction, moment_radius

ETA, THETA0, WAS = symbol("eta"), symbol("theta0"), symbol("theta_was")
Phase = tuple[sp.Expr, sp.Expr]  # (rate, steps), steps = oo: until nothing changes any more
Rule = tuple[Any, landscapes.Landscape]

NOISY_QUADRATIC: Rule = (sgd, landscapes.quadratic())
_traced = cache(trace)


@dataclass(frozen=True)
class AnyPhase:
    """A start that is uniform on [0, width): what a long run forgets unless its steps lie on a lattice."""

    width: sp.Expr


@dataclass(frozen=True)
class Run:
    """Where an expectation is taken: the rule, its phases, its start, and replaced parameters."""

    rule: Rule
    phases: tuple[Phase, ...]
    start: sp.Expr | sp.Tuple | sp.Dict | AnyPhase
    where: tuple[tuple[str, sp.Expr], ...]
    settle: int  # steps that stand for oo in a simulation of a rule that is not affine

    @property
    def recursion(self) -> Recursion:
        return _traced(*self.rule).where(dict(self.where))

    @property
    def starts(self) -> dict[sp.Symbol, Any]:
        """Where each coordinate starts: a tuple gives each its own; the rule's memory starts at 0, unless named."""
        if isinstance(self.start, sp.Dict):
            return dict(self.start.items())
        coordinates = self.rule[1].coordinates
        if isinstance(self.start, sp.Tuple):
            return dict(zip(coordinates, self.start, strict=True))
        return dict.fromkeys(coordinates, self.start)


@dataclass(frozen=True)
class Sample:
    """Sample means of some readings, the covariance matrix of these means, and the steps that it took."""

    means: Sequence[float] | np.ndarray
    covariance: np.ndarray
    chain_steps: int

    @classmethod
    def last(cls, result: monte_carlo.Simulation, observables: Sequence[sp.Expr], chain_steps: int) -> Sample:
        """What a simulation saw of some of its observables at its last step."""
        columns = [result.observables.index(o) for o in observables]
        return cls(result.means[-1, columns], result.covariance[-1][np.ix_(columns, columns)], chain_steps)


class Reading(sp.AtomicExpr):
    """Something that can be read off a rule in up to three independent ways; claims are made of such atoms.

    A reading that cannot be derived, enumerated or simulated inherits the method that says so.
    """

    is_commutative = True
    is_real = True

    @property
    def run(self) -> Any:
        """Readings with equal runs are simulated on the same chains."""
        return self

    def derive(self) -> sp.Expr:
        """The reading as an expression in the parameters."""
        raise NotImplementedError(f"{self} has no derivation: give the claim one of its own")

    def enumerate(self, settings: Mapping[str, Any]) -> sp.Rational:
        """Its exact value at exact settings."""
        raise NotImplementedError(f"{self} cannot be enumerated: say enumerable=False in the claim")

    def sample(
        self,
        members: Sequence[Any],
        settings: Mapping[str, Any],
        law: Noise,
        chains: int,
        seed: int,
        executor: Executor | None,
    ) -> Sample:
        """Sample means of `members`, which are this reading and others on the same run."""
        raise NotImplementedError(f"{self} cannot be simulated: say simulable=False in the claim")


class Observed(Reading):
    """A reading that is the expectation of an observable, taken somewhere on a run."""

    observable: sp.Expr
    _run: Any

    def __new__(cls, observable: sp.Expr, run: Any) -> Self:
        obj = super().__new__(cls)
        obj.observable, obj._run = observable, run
        return obj

    @property
    def run(self) -> Any:
        return self._run

    def _hashable_content(self) -> tuple[Any, ...]:
        # SymPy orders atoms by their content: the text decides before two runs would have to be compared
        return (self.observable, repr(self.run), self.run)

    def _sympystr(self, printer: Any) -> str:
        return f"E[{self.observable}]"

    def _latex(self, printer: Any) -> str:
        return rf"\mathbb{{E}}\left[{printer._print(self.observable)}\right]"


class Expectation(Observed):
    """An atom with an observable and the run that it is observed on; made by `E`."""

    _run: Run

    def derive(self) -> sp.Expr:
        return _derive(self)

    def enumerate(self, settings: Mapping[str, Any]) -> sp.Rational:
        return _enumerate(self, settings)

    def sample(
        self,
        members: Sequence[Any],
        settings: Mapping[str, Any],
        law: Noise,
        chains: int,
        seed: int,
        executor: Executor | None,
    ) -> Sample:
        observables = [e.observable for e in members]
        result, work = _simulate_run(self.run, observables, settings, law, chains, seed, executor)
        return Sample.last(result, [exact_value(o, settings) for o in observables], work)


def replaced(where: Mapping[str, Any]) -> tuple[tuple[str, sp.Expr], ...]:
    """Replaced parameters, in an order that makes equal runs equal."""
    return tuple(sorted((name, sp.sympify(value)) for name, value in where.items()))


def E(  # the letter of the field
    observable: Any,
    *phases: tuple[Any, Any],
    rule: Rule = NOISY_QUADRATIC,
    start: Any = THETA0,
    settle: int = 400,
    **where: Any,
) -> Expectation:
    """The expectation of `observable` at the end of the phases (default: in the long run at the rate eta).

    Observables are expressions in the state; `theta_was` is the parameter at the start of the last phase.
    `start` is where the parameter starts, or a mapping from states to values, for a rule whose memory does not
    start at 0.

    >>> theta, lam = THETA, symbol("lam")
    >>> E(lam * theta**2 / 2)
    E[lam*theta**2/2]
    >>> derived(E(theta, (ETA, 2)))
    theta0*(eta*lam - 1)**2
    """
    run = Run(
        rule,
        tuple((sp.sympify(rate), sp.sympify(n)) for rate, n in phases) or ((ETA, sp.oo),),
        start if isinstance(start, AnyPhase) else sp.sympify(start),
        replaced(where),
        settle,
    )
    return Expectation(sp.sympify(observable), run)


def atoms(expr: sp.Expr) -> list[Reading]:
    """The readings in an expression, in a fixed order."""
    return sorted(expr.atoms(Reading), key=lambda e: (str(e), str(e.run)))


# --- first reading: derived from the moment equations ------------------------------------------------------------


@cache
def _derive(e: Expectation) -> sp.Expr:
    rec = e.run.recursion
    law: Moments = _Point(dict.fromkeys(rec.state, sp.S.Zero) | e.run.starts)
    for i, (rate, steps) in enumerate(e.run.phases):
        now = rec.where({ETA: rate})
        if WAS in e.observable.free_symbols and i == len(e.run.phases) - 1:
            now = now.remembering()
        law = stationary(now) if steps is sp.oo else after(now, steps, start=law)
    assert isinstance(law, (Stationary, After))
    return law[e.observable]


def derived(expr: sp.Expr) -> sp.Expr:
    """`expr` with every expectation replaced by what the moment equations give.

    >>> derived(E(THETA**2, (ETA, 1), start=0))
    eta**2*sigma**2
    """
    return expr.xreplace({e: e.derive() for e in atoms(expr)})


# --- second reading: every path of ±1 noise, exactly --------------------------------------------------------------


def exact_value(expr: sp.Expr, settings: Mapping[str, Any]) -> sp.Expr:
    """The expression with its letters replaced by the settings."""
    return written_out(expr.subs({s: settings[s.name] for s in expr.free_symbols if s.name in settings}))


def _whole(steps: sp.Expr, settings: Mapping[str, Any]) -> int:
    value = exact_value(steps, settings)
    if not value.is_Integer:
        raise ValueError(f"{steps} = {value} is not a whole number of steps: choose settings that make it one")
    return int(value)


def _paths(e: Expectation, rec: Recursion, settings: Mapping[str, Any], first: int | Paths) -> Paths:
    """The phases one after the other; `first` steps (or a ready law) stand for an endless first phase."""
    endless = e.run.phases[0][1] is sp.oo  # then the start does not matter
    start = {x: sp.S.Zero if endless else exact_value(value, settings) for x, value in e.run.starts.items()}
    paths: Paths | None = None
    for i, (rate, steps) in enumerate(e.run.phases):
        last = i == len(e.run.phases) - 1
        now = rec.remembering() if WAS in e.observable.free_symbols and last else rec
        at = {s.name: settings[s.name] for s in now.parameters if s is not ETA}
        if any(s is ETA for s in now.parameters):
            at["eta"] = exact("eta", exact_value(rate, settings))
        if paths is None and now is not rec:  # a memory of the start itself
            start |= {symbol(f"{x}_was"): value for x, value in start.items()}
        if steps is sp.oo and isinstance(first, Paths):
            paths = first
        else:
            count = first if steps is sp.oo and isinstance(first, int) else _whole(steps, settings)
            paths = enumerate_paths(now, at, count, start=paths or start)
    assert paths is not None
    return paths


# the finite laws that stand for others: the first has the moments that every law has, the second all Gaussian ones
# up to the fifth, which is enough for second moments of rules whose gradient is of degree two in the noise
_FINITE = {any_law: rademacher, gaussian: gaussian_to_fifth}


def _enumerate(e: Expectation, settings: Mapping[str, Any]) -> sp.Rational:
    rec = e.run.recursion
    rec = rec.where({s.name: settings[s.name] for s in rec.parameters if s is not ETA})
    rec = Recursion(
        rec.state,
        rec.parameters,
        tuple((s, _FINITE.get(law, law)) for s, law in rec.noises),
        rec.next_state,
    )
    observable = exact_value(e.observable, settings)
    if e.run.phases[0][1] is not sp.oo:
        return _paths(e, rec, settings, 0)[observable]
    if _Algebra(rec).affine:
        outcomes = math.prod(len(law.support or ()) for _, law in rec.noises)
        if len(e.run.phases) == 1 and outcomes > 4:  # too many paths to follow for ten steps
            return long_run(rec, {"eta": exact_value(e.run.phases[0][0], settings)}, observable)
        for terms in (4, 6, 8, 10):
            try:
                return limit([_paths(e, rec, settings, n)[observable] for n in range(terms)])
            except ValueError:
                if terms == 10:
                    raise
    at = {"eta": exact("eta", exact_value(e.run.phases[0][0], settings))}

    def from_start(start: Fraction) -> sp.Rational:
        law = stationary_law(rec, at, start={THETA: start})
        return _paths(e, rec, settings, law)[observable]

    if not isinstance(e.run.start, AnyPhase):
        return from_start(exact("start", exact_value(e.run.start, settings)))
    # Over the cells of the lattice the expectation is a polynomial of the phase, of degree 3 at most: Milne's three
    # inner points integrate it exactly.
    width = exact("width", exact_value(e.run.start.width, settings))
    weights = {Fraction(1, 4): Fraction(2, 3), Fraction(1, 2): Fraction(-1, 3), Fraction(3, 4): Fraction(2, 3)}
    return sp.Add(*(sp.Rational(w) * from_start(width * p) for p, w in weights.items()))


def enumerated(expr: sp.Expr, settings: Mapping[str, Any]) -> sp.Expr:
    """`expr` at exact settings, every expectation an exact average over all paths of ±1 noise.

    >>> enumerated(E(THETA**2), {"eta": Fraction(1, 2), "lam": 1, "sigma": 1})
    1/3
    """
    return exact_value(expr.xreplace({e: e.enumerate(settings) for e in atoms(expr)}), settings)


# --- third reading: simulated --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A simulated value with its standard error."""

    value: float
    error: float
    chains: int
    chain_steps: int


def _settling_steps(rec: Recursion, run: Run, at: Mapping[str, float], observables: Sequence[sp.Expr]) -> int:
    if not _Algebra(rec).affine:
        return run.settle
    squares = [sp.Poly(o.xreplace({WAS: THETA}) ** 2, *rec.state).total_degree() for o in observables]
    for degree in set(squares):
        if (growth := moment_radius(rec, at, degree)) >= 1:
            raise ValueError(
                f"moments of degree {degree} grow by {growth:.3g} a step at {dict(at)}: a sample mean would have no "
                "standard error; choose a smaller rate"
            )
    shrink = contraction(rec, at)
    if shrink >= 1:
        raise ValueError(f"the rule does not settle at {dict(at)}: choose a stable rate")
    # what is left of the start is then far below any standard error
    return 1 if shrink < 1e-12 else math.ceil(math.log(1e-12) / math.log(shrink))


def _simulate_run(
    run: Run,
    observables: Sequence[sp.Expr],
    settings: Mapping[str, Any],
    law: Noise,
    chains: int,
    seed: int,
    executor: Executor | None,
) -> tuple[monte_carlo.Simulation, int]:
    rec = run.recursion
    rec = Recursion(
        rec.state, rec.parameters, tuple((s, law if n is any_law else n) for s, n in rec.noises), rec.next_state
    )
    at = {s.name: float(settings[s.name]) for s in rec.parameters if s is not ETA}
    etas: list[float] = []
    recall = 0
    for rate, steps in run.phases:
        eta = float(exact_value(rate, settings))
        recall = len(etas)
        count = _settling_steps(rec, run, at | {"eta": eta}, observables) if steps is sp.oo else _whole(steps, settings)
        etas += [eta] * count
    remember = any(WAS in o.free_symbols for o in observables)
    rec = rec.remembering() if remember else rec
    if ETA in rec.parameters:
        at["eta"] = etas  # type: ignore[assignment]
    start: dict[Any, Any] = {}
    for x, value in run.starts.items():
        if isinstance(value, AnyPhase):
            start[x] = (phase, float(exact_value(value.width, settings)))
        elif run.phases[0][1] is not sp.oo or not _Algebra(rec).affine:
            start[x] = float(exact_value(value, settings))
    seen = tuple(dict.fromkeys(exact_value(o, settings) for o in observables))
    result = monte_carlo.simulate(
        rec,
        at,
        len(etas),
        chains,
        seed,
        executor,
        observables=seen,
        start=start,
        recall=recall if remember else None,
    )
    return result, chains * len(etas)


def simulated(
    expr: sp.Expr,
    settings: Mapping[str, Any],
    chains: int,
    seed: int = 0,
    law: Noise = gaussian,
    executor: Executor | None = None,
) -> Estimate:
    """`expr` at the settings with every expectation a sample mean, and its standard error (delta method).

    Expectations on the same run are taken from the same chains, with their covariance; other runs are independent.

    >>> estimate = simulated(E(THETA**2), {"eta": 0.5, "lam": 1, "sigma": 1}, chains=20_000)
    >>> abs(estimate.value - 1 / 3) < 4 * estimate.error < 0.02
    True
    """
    by_run: dict[Any, list[Reading]] = {}
    for e in atoms(expr):
        by_run.setdefault(e.run, []).append(e)
    means: dict[Reading, float] = {}
    blocks: list[tuple[list[Reading], np.ndarray]] = []
    chain_steps = 0
    for i, members in enumerate(by_run.values()):
        own_seed = int(np.random.SeedSequence([seed, i]).generate_state(1, np.uint64)[0])
        sample = members[0].sample(members, settings, law, chains, own_seed, executor)
        chain_steps += sample.chain_steps
        means |= {e: float(m) for e, m in zip(members, sample.means, strict=True)}
        blocks.append((members, sample.covariance))
    at_means = {e: sp.Float(m, 17) for e, m in means.items()}
    numeric = exact_value(expr, settings)
    value = float(numeric.xreplace(at_means))
    variance = 0.0
    for members, covariance in blocks:
        placeholders = {e: sp.Dummy(real=True) for e in means}
        smooth = numeric.xreplace(placeholders)
        back = {placeholders[e]: at_means[e] for e in means}
        slope = np.array([float(sp.diff(smooth, placeholders[e]).xreplace(back)) for e in members])
        variance += float(slope @ covariance @ slope)
    return Estimate(value, math.sqrt(max(variance, 0.0)), chains, chain_steps)
