"""E(observable, phases …): the expectation that a claim is about, to be read in three independent ways.

`E(theta**2, (eta1, oo), (eta2, k))` is E[theta²] after a run at the rate eta1 for so long that nothing changes any
more, followed by k steps at eta2.  It is an ordinary SymPy atom, so that a claim can say `lam / 2 * E(...)`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any, Self

import numpy as np
import sympy as sp

from . import landscapes, monte_carlo
from .enumeration import Paths, enumerate_paths, exact, limit, long_run, stationary_law
from .inputs import expression, shown
from .landscapes import THETA
from .ledger import written_out
from .letters import symbol
from .moments import After, Moments, Stationary, _Algebra, _Point, after, stationary
from .noise import Noise, any_law, gaussian, gaussian_to_fifth, phase, rademacher
from .optimizers import sgd
from .recursion import Recursion, trace

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

    def __post_init__(self) -> None:
        if not isinstance(self.rule, tuple) or len(self.rule) != 2:
            raise TypeError(
                f"rule = {shown(self.rule)}: give a pair (optimizer, landscape), for instance "
                "(lrtheory.optimizers.sgd, lrtheory.landscapes.quadratic())"
            )

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

    @classmethod
    def side_by_side(cls, samples: Sequence[Sample], places: Sequence[Sequence[int]]) -> Sample:
        """Independent samples as one; `places` says which settings each of them is about."""
        size = len(samples[0].means) // len(places[0])
        total = size * sum(map(len, places))
        means, covariance = np.zeros(total), np.zeros((total, total))
        for sample, settings in zip(samples, places, strict=True):
            own = [i * size + j for i in settings for j in range(size)]
            means[own], covariance[np.ix_(own, own)] = sample.means, sample.covariance
        return cls(means, covariance, sum(s.chain_steps for s in samples))


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

    def sample_at(
        self,
        members: Sequence[Any],
        several: Sequence[Mapping[str, Any]],
        law: Noise,
        chains: int,
        seed: int,
        executor: Executor | None,
    ) -> Sample:
        """The samples at several settings, one after the other; independent, unless a reading knows better."""
        samples = [
            self.sample(members, settings, law, chains, _own_seed(seed, i), executor)
            for i, settings in enumerate(several)
        ]
        return Sample.side_by_side(samples, [[i] for i in range(len(samples))])


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
        return self.sample_at(members, [settings], law, chains, seed, executor)

    def sample_at(
        self,
        members: Sequence[Any],
        several: Sequence[Mapping[str, Any]],
        law: Noise,
        chains: int,
        seed: int,
        executor: Executor | None,
    ) -> Sample:
        """Settings whose runs are of one length share their noise: a difference between them is seen more sharply."""
        courses = [_course(self.run, [e.observable for e in members], settings, law) for settings in several]
        longest = max(len(course.etas) for course in courses)
        if all(course.settles for course in courses):
            courses = [course.from_earlier(longest - len(course.etas)) for course in courses]
        groups: dict[Any, list[int]] = {}
        for i, course in enumerate(courses):
            groups.setdefault((len(course.etas), course.recall), []).append(i)
        samples = [
            _simulate([courses[i] for i in group], chains, _own_seed(seed, n), executor)
            for n, group in enumerate(groups.values())
        ]
        return Sample.side_by_side(samples, list(groups.values()))


def replaced(where: Mapping[str, Any]) -> tuple[tuple[str, sp.Expr], ...]:
    """Replaced parameters, in an order that makes equal runs equal."""
    return tuple(sorted((name, expression(value)) for name, value in where.items()))


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
        tuple((expression(rate), expression(n)) for rate, n in map(_phase, phases)) or ((ETA, sp.oo),),
        start if isinstance(start, AnyPhase) else expression(start),
        replaced(where),
        settle,
    )
    return Expectation(expression(observable), run)


def _phase(phase: Any) -> tuple[Any, Any]:
    if not isinstance(phase, tuple) or len(phase) != 2:
        raise TypeError(f"{shown(phase)} is no phase: give a pair (rate, steps), for instance (eta, 10) or (eta, oo)")
    return phase


def atoms(expr: sp.Expr) -> list[Reading]:
    """The readings in an expression, in a fixed order."""
    return sorted(expr.atoms(Reading), key=lambda e: (str(e), str(e.run)))


# --- first reading: derived from the moment equations ------------------------------------------------------------


def _at_rate(rec: Recursion, rate: Any) -> Recursion:
    return rec.where({ETA: rate}) if ETA in rec.parameters else rec


@cache
def _derive(e: Expectation) -> sp.Expr:
    rec = e.run.recursion
    law: Moments = _Point(dict.fromkeys(rec.state, sp.S.Zero) | e.run.starts)
    for i, (rate, steps) in enumerate(e.run.phases):
        now = _at_rate(rec, rate)
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
    return written_out(expr.subs({s: expression(settings[s.name]) for s in expr.free_symbols if s.name in settings}))


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

# the share of its start that a chain has kept when it counts as settled; the standard error of two million chains is
# 7e-4 of what one chain scatters
_LEFT = 1e-8
_LOOKS = 18  # in as many steps again: about one for each time in which the slowest moment forgets itself by a factor e


@dataclass(frozen=True)
class Estimate:
    """A simulated value with its standard error."""

    value: float
    error: float
    chains: int
    chain_steps: int


@cache
def _settling_steps(rec: Recursion, etas: tuple[float, ...], observables: tuple[sp.Expr, ...]) -> int:
    """How many steps at the first rate stand for an endless phase, with the others still to come.

    `rec` has numbers for all its parameters but the rate.  Of the start is left what the slowest of the moments that
    the observables need, directly or through others, leaves of it.
    """
    for power in (2, 1):  # the squares: without their mean, a sample mean has no standard error
        algebras = [_Algebra(_at_rate(rec, eta)) for eta in etas]
        steps: dict[Any, Any] = {}
        wanted = {m: sp.S.One for o in observables for m in algebras[-1].terms(o.xreplace({WAS: THETA}) ** power)}
        for algebra in reversed(algebras):
            steps = algebra.closure(wanted)
            wanted = dict.fromkeys(steps, sp.S.One)
        matrix = np.array([[float(steps[m].get(n, 0)) for n in steps] for m in steps]).reshape(len(steps), -1)
        shrink = max(abs(np.linalg.eigvals(matrix)), default=0.0)
        if shrink >= 1:
            degree = max(map(sum, steps))
            raise ValueError(
                f"moments of degree {degree} grow by {shrink:.3g} a step at {ETA} = {etas[0]}: a sample mean would "
                "have no standard error; choose a smaller rate"
            )
    return 1 if shrink < _LEFT else math.ceil(math.log(_LEFT) / math.log(shrink))


@dataclass(frozen=True)
class _Course:
    """A run at its settings: numbers for the parameters, the rate at each step, and what is seen at the end."""

    rec: Recursion
    at: dict[str, float]
    etas: list[float]
    settles: bool  # an endless phase first, so that it may as well be longer
    window: int  # over how many of the last steps it may be averaged
    recall: int | None  # the step at which a memory is taken
    start: dict[sp.Symbol, Any]
    seen: list[sp.Expr]

    def from_earlier(self, steps: int) -> _Course:
        recall = None if self.recall is None else self.recall + steps
        return replace(self, etas=[self.etas[0]] * steps + self.etas, recall=recall)


def _course(run: Run, observables: Sequence[sp.Expr], settings: Mapping[str, Any], law: Noise) -> _Course:
    rec = run.recursion
    rec = replace(rec, noises=tuple((s, law if n is any_law else n) for s, n in rec.noises))
    seen = [exact_value(o, settings) for o in observables]
    at = {s.name: float(settings[s.name]) for s in rec.parameters if s is not ETA}
    settles = run.phases[0][1] is sp.oo and _Algebra(rec).affine
    rates = tuple(float(exact_value(rate, settings)) for rate, _ in run.phases)
    etas: list[float] = []
    recall = window = 0
    for eta, (_, steps) in zip(rates, run.phases, strict=True):
        recall = len(etas)
        if steps is not sp.oo:
            count = _whole(steps, settings)
        else:
            count = _settling_steps(rec.where(at), rates, tuple(seen)) if settles else run.settle
        etas += [eta] * count
    if settles and len(rates) == 1:  # the long run goes on: as many steps again tell more than as many runs
        window = len(etas)
        etas += etas
    remember = any(WAS in o.free_symbols for o in observables)
    start: dict[sp.Symbol, Any] = {}
    for x, value in run.starts.items():
        if isinstance(value, AnyPhase):
            start[x] = (phase, float(exact_value(value.width, settings)))
        elif not settles:
            start[x] = float(exact_value(value, settings))
    return _Course(rec, at, etas, settles, window, recall if remember else None, start, seen)


def _simulate(courses: Sequence[_Course], chains: int, seed: int, executor: Executor | None) -> Sample:
    """Courses of one length as one recursion: a copy of the rule for each, all moved by the same noise."""
    rec = courses[0].rec
    own: list[dict[sp.Symbol, sp.Symbol]] = [{}]  # the letters of each copy
    if len(courses) > 1:
        own = [{s: symbol(f"{s}_copy{i}") for s in (*rec.state, *rec.parameters)} for i in range(len(courses))]
        own = [copy | {symbol(f"{s}_was"): symbol(f"{copy[s]}_was") for s in rec.state} for copy in own]
    at: dict[sp.Symbol, Any] = {}
    start: dict[sp.Symbol, Any] = {}
    seen: list[sp.Expr] = []
    for course, copy in zip(courses, own, strict=True):
        at |= {copy.get(s, s): course.etas if s is ETA else course.at[s.name] for s in rec.parameters}
        start |= {copy.get(s, s): value for s, value in course.start.items()}
        seen += [o.xreplace(copy) for o in course.seen]
    joint = Recursion(
        tuple(copy.get(s, s) for copy in own for s in rec.state),
        tuple(at),
        rec.noises,
        tuple(f.xreplace(copy) for copy in own for f in rec.next_state),
    )
    steps, recall, window = len(courses[0].etas), courses[0].recall, min(course.window for course in courses)
    result = monte_carlo.simulate(
        joint if recall is None else joint.remembering(),
        at,
        steps,
        chains,
        seed,
        executor,
        observables=tuple(dict.fromkeys(seen)),
        start=start,
        at=range(steps - window, steps + 1, max(1, window // _LOOKS)),
        average=window > 0,
        recall=recall,
    )
    return Sample.last(result, seen, chains * steps * len(courses))


def _own_seed(seed: int, index: int) -> int:
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])


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
    (value,), ((variance,),), chain_steps = simulated_at(expr, [settings], chains, seed, law, executor)
    return Estimate(float(value), math.sqrt(max(variance, 0.0)), chains, chain_steps)


def simulated_at(
    expr: sp.Expr,
    several: Sequence[Mapping[str, Any]],
    chains: int,
    seed: int = 0,
    law: Noise = gaussian,
    executor: Executor | None = None,
) -> tuple[np.ndarray, np.ndarray, int]:
    """`expr` at several settings: the values, their covariance matrix, and the chain-steps that it took.

    On the same noise, where that is possible, so that their differences are seen more sharply than each of them.

    >>> rates = [{"eta": eta, "lam": 1, "sigma": 1} for eta in (0.1, 0.11)]
    >>> (low, high), spread, _ = simulated_at(E(THETA**2), rates, chains=20_000)
    >>> bool(spread[0, 0] + spread[1, 1] - 2 * spread[0, 1] < spread[0, 0] / 50)
    True
    """
    by_run: dict[Any, list[Reading]] = {}
    for e in atoms(expr):
        by_run.setdefault(e.run, []).append(e)
    letters = {e: sp.Dummy(real=True) for members in by_run.values() for e in members}
    samples = [
        members[0].sample_at(members, several, law, chains, _own_seed(seed, i), executor)
        for i, members in enumerate(by_run.values())
    ]
    tables = [np.reshape(sample.means, (len(several), -1)) for sample in samples]
    values, slopes = [], []
    for row, settings in enumerate(several):
        smooth = exact_value(expr, settings).xreplace(letters)
        means = np.concatenate([table[row] for table in tables]) if tables else ()
        at = {letter: sp.Float(mean, 17) for letter, mean in zip(letters.values(), means, strict=True)}
        values.append(float(smooth.xreplace(at)))
        slopes.append([float(sp.diff(smooth, letter).xreplace(at)) for letter in letters.values()])
    covariance, first = np.zeros((len(several), len(several))), 0
    for sample, table in zip(samples, tables, strict=True):
        slope = np.array(slopes)[:, first : first + table.shape[1]]
        shaped = sample.covariance.reshape(table.shape * 2)
        covariance += np.einsum("ki,kilj,lj->kl", slope, shaped, slope)
        first += table.shape[1]
    return np.array(values), covariance, sum(sample.chain_steps for sample in samples)
