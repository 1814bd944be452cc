"""Exact expectations by following every noise path: rationals only, no seed, no tolerance.

The noise must have a finite support.  Paths that meet in the same state are added up, so that a path is never
followed twice.  Nothing here uses the moment equations: agreement with `moments` is evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise, product
from typing import Any

import numpy as np
import sympy as sp
from sympy.polys.matrices import DomainMatrix

from .inputs import expression, named, shown, whole
from .recursion import Recursion, traced

State = tuple[Fraction, ...]
Law = dict[State, Fraction]  # the probability of each state
MAX_STATES = 1 << 17
MAX_BITS = 1 << 17  # of a denominator: on a cubic loss each step triples its length
_LARGEST_LAW = 1 << 12  # states of a law that is solved for


def exact(name: Any, value: Any) -> Fraction:
    """The value as a Fraction; a float is refused, since it is rarely the number that was meant.

    >>> exact("eta", sp.Rational(1, 10))
    Fraction(1, 10)
    >>> exact("eta", 0.1)
    Traceback (most recent call last):
    ...
    TypeError: eta = 0.1 is not an exact number: pass an integer or a Fraction, for instance Fraction(1, 10)
    """
    if isinstance(value, (int, np.integer, Fraction)) and not isinstance(value, bool):
        return Fraction(int(value)) if isinstance(value, np.integer) else Fraction(value)
    if isinstance(value, sp.Rational):
        return Fraction(int(value.p), int(value.q))
    near = float(value) if isinstance(value, (float, sp.Float)) else math.nan
    hint = Fraction(near).limit_denominator(1000) if math.isfinite(near) else "p, q"
    hint = f"{hint.numerator}, {hint.denominator}" if isinstance(hint, Fraction) else hint
    raise TypeError(
        f"{name} = {shown(value)} is not an exact number: pass an integer or a Fraction, for instance Fraction({hint})"
    )


def _sign(x: Fraction) -> int:
    return (x > 0) - (x < 0)


def _sqrt(x: Fraction) -> Fraction:
    root = Fraction(math.isqrt(x.numerator), math.isqrt(x.denominator))
    if root * root != x:
        raise ValueError(f"the square root of {x} is not a fraction: choose a square, for instance {root**2}")
    return root


def _rational(x: Any) -> Fraction:
    if not isinstance(x, (int, Fraction)):
        raise TypeError(f"the rule gave {x!r}, which is not a fraction: enumeration is for rules made of + - * / sign")
    return Fraction(x)


def _plain(x: Fraction) -> int | Fraction:
    return x.numerator if x.denominator == 1 else x


def _function(arguments: Sequence[sp.Symbol], expressions: Sequence[sp.Expr]) -> Callable[..., list[Fraction]]:
    """The expressions as a function of Fractions: nothing in them may be printed as an operation on floats."""
    root, sign = sp.Function("exact_root"), sp.Function("exact_sign")
    expressions = [
        f.replace(sp.sign, sign).replace(
            lambda e: e.is_Pow and e.exp.is_Rational and e.exp.q == 2, lambda e: root(e.base) ** (2 * e.exp)
        )
        for f in expressions
    ]
    fractions = {r: sp.Dummy() for f in expressions for r in f.atoms(sp.Rational) if not r.is_Integer}
    compiled = sp.lambdify(
        (*arguments, *fractions.values()),
        [f.xreplace(fractions) for f in expressions],
        modules=[{"exact_sign": _sign, "Abs": abs, "exact_root": _sqrt}],
    )
    constants = [Fraction(int(r.p), int(r.q)) for r in fractions]
    return lambda *values: [_rational(x) for x in compiled(*values, *constants)]


class Paths:
    """The exact law of the state after each step: `paths[observable]`, `paths.curve(observable)`, `paths.law(t)`."""

    def __init__(self, rec: Recursion, laws: list[Law]):
        self.recursion = rec
        self._laws = laws

    def law(self, step: int = -1) -> Law:
        """The probability of each state after that many steps (default: the last)."""
        if not -1 <= step < len(self._laws):
            raise ValueError(f"step = {step}: {len(self._laws) - 1} steps were enumerated; ask for one of 0 to that")
        return self._laws[step]

    def _mean(self, observable: sp.Expr, law: Law) -> sp.Rational:
        observable = expression(observable)
        if unknown := observable.free_symbols - set(self.recursion.state):
            raise ValueError(
                f"{observable} has {', '.join(sorted(map(str, unknown)))}, which is not in the state: it has "
                f"{', '.join(map(str, self.recursion.state))}; put in a number"
            )
        value = _function(self.recursion.state, [observable])
        total = sum((p * value(*state)[0] for state, p in law.items()), Fraction(0))
        return sp.Rational(total.numerator, total.denominator)

    def __getitem__(self, observable: sp.Expr) -> sp.Rational:
        return self._mean(observable, self._laws[-1])

    def curve(self, observable: sp.Expr) -> list[sp.Rational]:
        """The expectation after 0, 1, 2 … steps."""
        return [self._mean(observable, law) for law in self._laws]


def _kernel(rec: Recursion) -> tuple[Callable[..., list[Fraction]], list[tuple[State, Fraction]]]:
    supports = []
    for symbol, law in rec.noises:
        if law.support is None:
            raise ValueError(
                f"the noise {symbol} is {law.name}: its support is not finite, so that its paths cannot be "
                "listed; use recursion.with_noise(noise.rademacher), or simulate"
            )
        supports.append(law.support)
    if (count := math.prod(map(len, supports))) > MAX_STATES:
        raise ValueError(
            f"a step has {count} outcomes, and {MAX_STATES} can be followed: give the noise fewer values, or simulate"
        )
    outcomes = []
    for draw in product(*supports):
        p = Fraction(1)
        for _, probability in draw:
            p *= probability
        outcomes.append((tuple(value for value, _ in draw), p))
    arguments = (*rec.state, *(s for s, _ in rec.noises), *rec.parameters)
    return _function(arguments, rec.next_state), outcomes


def _start(rec: Recursion, start: Mapping[sp.Symbol | str, Any] | None) -> State:
    given = named("start", {} if start is None else start)
    if unknown := given.keys() - {s.name for s in rec.state}:
        raise ValueError(
            f"start names {', '.join(sorted(unknown))}: the state is {', '.join(map(str, rec.state))}; name these"
        )
    return tuple(exact(s.name, given.get(s.name, 0)) for s in rec.state)


def enumerate_paths(
    rec: Recursion,
    parameters: Mapping[sp.Symbol | str, Any],
    steps: int,
    start: Mapping[sp.Symbol | str, Any] | Paths | None = None,
) -> Paths:
    """The exact law of the state after 0 … `steps` steps.

    `parameters` are exact numbers; one that is a sequence gives its value at each step (a schedule).
    The state starts at 0, or where `start` says; `Paths` are continued from their last law, and a `remembering`
    rule then recalls the state there.
    Raises `TypeError` for floats, `ValueError` for a noise without finite support, too many states, or fractions that
    grow too long.

    >>> import lrtheory as lr
    >>> rec = lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic(lr.noise.rademacher))
    >>> paths = enumerate_paths(rec, {"eta": Fraction(1, 2), "lam": 1, "sigma": 1}, steps=3)
    >>> paths[rec.state[0] ** 2]
    21/64
    """
    steps = whole("steps", steps)
    if steps > MAX_STATES:
        raise ValueError(
            f"steps = {steps}: the law of every step is kept; enumerate {MAX_STATES} steps at most, or use "
            "stationary_law or simulate"
        )
    values = {s: list(v) if isinstance(v, (list, tuple)) else v for s, v in traced(rec).values(parameters).items()}
    for s, v in values.items():
        if isinstance(v, list) and len(v) != steps:
            raise ValueError(f"{s} has {len(v)} values for {steps} steps: give one for each step")
    step, outcomes = _kernel(rec)
    if isinstance(start, Paths):
        copies = len(rec.state) // len(start.recursion.state)
        laws: list[Law] = [{state * copies: p for state, p in start.law().items()}]
    else:
        laws = [{_start(rec, start): Fraction(1)}]
    for t in range(steps):
        now = [exact(s, v[t] if isinstance(v, list) else v) for s, v in values.items()]
        law: Law = {}
        for state, p in laws[-1].items():
            for draw, q in outcomes:
                new = tuple(step(*state, *draw, *now))
                law[new] = law.get(new, Fraction(0)) + p * q
            if len(law) > MAX_STATES:
                raise ValueError(
                    f"step {t + 1} has more than {MAX_STATES} different states: enumerate fewer than {t + 1} steps, "
                    "or simulate"
                )
            if any(x.denominator.bit_length() > MAX_BITS for x in new):
                raise ValueError(
                    f"the fractions of step {t + 1} grow beyond {MAX_BITS} bits: enumerate fewer than {t + 1} steps, "
                    "or simulate"
                )
        laws.append(law)
    return Paths(rec, laws)


def limit(sequence: Sequence[Any]) -> sp.Rational:
    """The limit of a sum of decaying exponentials, exactly, from its first terms.

    The moments of an affine rule are such sums, so that their differences obey a linear recurrence.  With d
    exponentials, 2 d + 1 terms determine it; one more is required, as the proof that d was enough.
    Raises `ValueError` if no recurrence fits, or if the terms grow, `TypeError` if they are not exact.

    >>> limit([sp.Rational(1, 3) * (1 - sp.Rational(1, 4) ** n) for n in range(4)])
    1/3
    """
    terms = [sp.Rational(*exact("a term", x).as_integer_ratio()) for x in sequence]
    steps = [b - a for a, b in pairwise(terms)]
    for order in range((len(steps) + 1) // 2):
        windows = sp.Matrix([steps[n : n + order + 1] for n in range(len(steps) - order)])
        if kernel := DomainMatrix.from_Matrix(windows).to_field().nullspace().to_Matrix().tolist():
            recurrence = kernel[0]  # sum_j recurrence[j] * steps[n + j] = 0 for every n
            if any(abs(root) >= 1 for root in np.roots([float(c) for c in reversed(recurrence)])):
                raise ValueError("the terms do not converge: choose a stable rate")
            # summed over n: sum_j recurrence[j] * (total - the first j steps) = 0
            first = sp.Add(*(c * sum(steps[:j], sp.S.Zero) for j, c in enumerate(recurrence)))
            return terms[0] + first / sp.Add(*recurrence)
    raise ValueError(f"{len(terms)} terms do not settle on a limit: give more terms")


def long_run(rec: Recursion, parameters: Mapping[sp.Symbol | str, Any], observable: sp.Expr) -> sp.Rational:
    """The long-run expectation of a polynomial in the state of an affine rule, from single steps only.

    For rules with too many outcomes to follow for several steps: the outcomes of one step from enough starts
    determine the map of the moments, whose fixed point is the answer.
    Raises `ValueError` if the moments do not converge.

    >>> import lrtheory as lr
    >>> rec = lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic(lr.noise.rademacher))
    >>> long_run(rec, {"eta": Fraction(1, 2), "lam": 1, "sigma": 1}, rec.state[0] ** 2)
    1/3
    """
    values = [exact(s, v) for s, v in traced(rec).values(parameters).items()]
    for f in rec.next_state:
        if not (f.is_polynomial(*rec.state) and sp.Poly(f, *rec.state).total_degree() <= 1):
            raise ValueError(f"{f} is not affine in the state: follow the paths for some steps, or use stationary_law")
    step, outcomes = _kernel(rec)
    divides = not all(f.is_polynomial(*rec.state, *(s for s, _ in rec.noises)) for f in rec.next_state)
    # whole numbers are faster as such, where nothing is divided by them
    number: Callable[[Fraction], Any] = Fraction if divides else _plain
    outcomes = [(tuple(map(number, draw)), p) for draw, p in outcomes]

    def move(state: State) -> list[tuple[State, Fraction]]:
        now = tuple(map(number, state))
        return [(tuple(step(*now, *draw, *values)), p) for draw, p in outcomes]

    return fixed_moment(move, rec.state, observable)


def fixed_moment(
    move: Callable[[State], Sequence[tuple[State, Fraction]]], state: Sequence[sp.Symbol], observable: sp.Expr
) -> sp.Rational:
    """The long-run expectation of a polynomial in `state` under a random affine map of it.

    `move` gives the states that a state can go to, each with its probability.
    Raises `ValueError` if the moments do not converge.

    >>> half, theta = Fraction(1, 2), sp.Symbol("theta")
    >>> fixed_moment(lambda state: [((state[0] / 2 + kick,), half) for kick in (0, 1)], [theta], theta**2)
    4/3
    """
    observable = expression(observable)
    if not observable.is_polynomial(*state):
        raise ValueError(f"{observable} is not a polynomial in the state: its long-run value is not a moment; simulate")
    degree = sp.Poly(observable, *state).total_degree()
    powers = [p for p in product(range(degree + 1), repeat=len(state)) if sum(p) <= degree]

    def of(point: Sequence[Fraction]) -> list[Fraction]:
        return [math.prod((x**n for x, n in zip(point, p, strict=True)), start=Fraction(1)) for p in powers]

    before, after = [], []
    for start in powers:  # whole-number points of the same pattern determine a polynomial of this degree
        point = tuple(map(Fraction, start))
        ends = move(point)
        # in whole numbers, since there are many ends: a coordinate in so many parts, a probability too
        parts = math.lcm(*(x.denominator for end, _ in ends for x in end))
        shares = math.lcm(*(p.denominator for _, p in ends))
        whole_ends = [([int(x * parts) for x in end], int(p * shares)) for end, p in ends]
        sums = [sum(w * math.prod(map(pow, end, p)) for end, w in whole_ends) for p in powers]
        before.append(of(point))
        after.append([Fraction(total, shares * parts ** sum(p)) for total, p in zip(sums, powers, strict=True)])

    def matrix(rows: list[list[Fraction]]) -> DomainMatrix:
        return DomainMatrix.from_list([[sp.QQ(x.numerator, x.denominator) for x in row] for row in rows], sp.QQ)

    growth = (matrix(before).lu_solve(matrix(after))).transpose()  # moments after = growth * moments before
    radii = sorted(abs(np.linalg.eigvals(np.array(growth.to_Matrix(), dtype=float))))
    if len(radii) > 1 and radii[-2] >= 1 - 1e-12:  # the largest is 1: the constant monomial
        raise ValueError(f"the moments grow by {radii[-1]:.4g} a step: choose a stable rate")
    identity = DomainMatrix.eye(len(powers), sp.QQ)
    (fixed,) = (growth - identity).nullspace().to_Matrix().tolist()
    constant = fixed[powers.index((0,) * len(state))]
    return sp.Rational(sum(c * fixed[powers.index(p)] for p, c in sp.Poly(observable, *state).terms()) / constant)


def stationary_law(
    rec: Recursion,
    parameters: Mapping[sp.Symbol | str, Any],
    start: Mapping[sp.Symbol | str, Any] | None = None,
    max_states: int = 400,
) -> Paths:
    """The exact long-run law (the share of time spent in each state), for a rule that visits finitely many states.

    Returns `Paths` with this one law.  Raises `ValueError` if the start leads to more than `max_states` states,
    or to several laws depending on the noise.

    >>> import lrtheory as lr
    >>> rec = lr.trace(lr.optimizers.sgd, lr.landscapes.absolute())
    >>> stationary_law(rec, {"eta": 1}, start={"theta": Fraction(-11, 2)}).law()
    {(Fraction(-1, 2),): Fraction(1, 2), (Fraction(1, 2),): Fraction(1, 2)}
    """
    max_states = whole("max_states", max_states, 1, _LARGEST_LAW)
    values = [exact(s, v) for s, v in traced(rec).values(parameters).items()]
    step, outcomes = _kernel(rec)
    index = {_start(rec, start): 0}
    moves: list[dict[int, Fraction]] = []
    for state in (queue := list(index)):
        row: dict[int, Fraction] = {}
        for draw, p in outcomes:
            new = tuple(step(*state, *draw, *values))
            if new not in index:
                if len(index) == max_states:
                    raise ValueError(
                        f"more than {max_states} states can be reached: enumerate a number of steps, or simulate"
                    )
                index[new] = len(index)
                queue.append(new)
            row[index[new]] = row.get(index[new], Fraction(0)) + p
        moves.append(row)
    size = len(index)
    rows = [[sp.QQ.zero] * size for _ in range(size)]
    for i, row in enumerate(moves):
        rows[i][i] -= 1
        for j, p in row.items():
            rows[j][i] += sp.QQ(p.numerator, p.denominator)
    kernel = DomainMatrix(rows, (size, size), sp.QQ).nullspace().to_list()
    if len(kernel) != 1:
        raise ValueError("the long run depends on the noise of the first steps: choose a start inside one cycle")
    total = sum(kernel[0], sp.QQ.zero)
    weights = [x / total for x in kernel[0]]
    law = {state: Fraction(int(w.numerator), int(w.denominator)) for state, w in zip(index, weights, strict=True) if w}
    return Paths(rec, [dict(sorted(law.items()))])
