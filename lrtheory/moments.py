"""Moments of a recursion, derived: the expectation of the next state's monomials, solved exactly.

For a rule that is affine in its state (the coefficients may be random), the moments of degree d at the next step
need only moments of degree d and less at this one.  Solving degree by degree gives every moment, in the long run
(`stationary`) or after any number of steps (`after`), for any noise whose moments exist.

With sign(theta) in the rule the equations do not close, but each of them still holds in the long run, and the
first few determine what is wanted more often than one would think: `stationary` uses those too.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import product
from typing import Protocol

import sympy as sp
from sympy.polys.matrices import DomainMatrix

from .inputs import expression, shown, whole
from .recursion import Recursion, traced

Monomial = tuple[int, ...]  # the powers of the generators
Terms = dict[Monomial, sp.Expr]  # a polynomial: the coefficient of each monomial
_MOST_STEPS = 10_000
_MOST_DEGREE = 10  # a minute, for two states
Form = dict[tuple[sp.Expr, int], sp.Expr]  # a function of t: the coefficient of base**t * t**power


class Moments(Protocol):
    """Anything that answers `moments[observable]` with its expectation."""

    def __getitem__(self, observable: sp.Expr) -> sp.Expr: ...


class _Algebra:
    """Polynomials in the state and in the signs of its elements, with sign(x)**2 = 1 (never exactly at a kink)."""

    def __init__(self, rec: Recursion):
        self.rec = rec
        self.signs = tuple(sp.Dummy(f"s_{x}", real=True) for x in rec.state)
        self.generators = rec.state + self.signs
        self._kinks: dict[sp.Expr, sp.Expr] = {}
        for x, s in zip(rec.state, self.signs, strict=True):
            self._kinks |= {sp.sign(x): s, sp.Abs(x): s * x}
        self._noise = tuple(s for s, _ in rec.noises)
        self._laws = tuple(law for _, law in rec.noises)

    def terms(self, expr: sp.Expr) -> Terms:
        """The expectation of `expr` over this step's noise, given the state."""
        expr = expression(expr)
        if not isinstance(expr, sp.Expr):
            raise TypeError(f"{shown(expr)} is no single expression: ask for one observable at a time")
        if expr.has(sp.nan, sp.oo, sp.zoo):
            raise ValueError(f"{expr} has no expectation: ask for a finite expression")
        letters = {s.name: s for s in (*self.rec.state, *self.rec.parameters, *self._noise)}
        for s in expr.free_symbols:
            if letters.get(s.name, s) != s:
                raise ValueError(
                    f"{s} is another symbol of that name than the rule's: take it from recursion.state, or "
                    f"lrtheory.symbol({s.name!r})"
                )
        smooth = expr.xreplace(self._kinks)
        try:
            poly = sp.Poly(smooth, *self.generators, *self._noise)
        except sp.PolynomialError:
            poly = None
        n = len(self.rec.state)
        if poly is None or any(c.has(*self.generators, *self._noise) for c in poly.coeffs()):
            raise ValueError(
                f"{expr} is not a polynomial in {', '.join(map(str, self.rec.state))}, their signs and the noise: "
                "its moments cannot be derived; use enumerate_paths or simulate"
            )
        out: dict[Monomial, list[sp.Expr]] = {}
        for powers, coefficient in poly.terms():
            state, signs, noise = powers[:n], powers[n : 2 * n], powers[2 * n :]
            weight = sp.prod([law.moment(p) for law, p in zip(self._laws, noise, strict=True)])
            if weight != 0:
                monomial = state + tuple(p % 2 for p in signs)
                out.setdefault(monomial, []).append(coefficient * weight)
        summed = {m: sp.factor(sp.Add(*c)) for m, c in out.items()}
        return {m: c for m, c in summed.items() if c != 0}

    def step(self, monomial: Monomial) -> Terms:
        """The expectation of a monomial of the *next* state, given this one."""
        return self.terms(sp.prod([f**p for f, p in zip(self.rec.next_state, monomial, strict=False)]))

    def name(self, monomial: Monomial) -> str:
        back = {s: sp.sign(x) for x, s in zip(self.rec.state, self.signs, strict=True)}
        expr = sp.prod([g**p for g, p in zip(self.generators, monomial, strict=True)]).xreplace(back)
        return f"E[{str(expr).replace('**', '^')}]"

    @cached_property
    def affine(self) -> bool:
        """Whether the rule is of degree one in its state, so that the moments close."""
        try:
            return all(sp.Poly(f, *self.rec.state).total_degree() <= 1 for f in self.rec.next_state)
        except sp.PolynomialError:
            return False

    def closure(self, wanted: Terms) -> dict[Monomial, Terms]:
        """The step of every monomial that the wanted ones need, directly or not."""
        if (degree := max(map(sum, wanted), default=0)) > _MOST_DEGREE:
            raise ValueError(
                f"a moment of degree {degree} was asked for, and up to {_MOST_DEGREE} are derived: simulate it"
            )
        steps: dict[Monomial, Terms] = {}
        queue = list(wanted)
        while queue:
            monomial = queue.pop()
            if monomial in steps or not any(monomial):
                continue
            if any(monomial[len(self.rec.state) :]):
                raise ValueError(
                    f"the moments do not close: {self.name(monomial)} of the next state is no polynomial in this one; "
                    "use enumerate_paths or simulate"
                )
            steps[monomial] = self.step(monomial)
            higher = [m for m in steps[monomial] if sum(m) > sum(monomial)]
            if higher:
                raise ValueError(
                    f"the moments do not close: {self.name(monomial)} needs {self.name(max(higher, key=sum))}; "
                    "use enumerate_paths or simulate"
                )
            queue += steps[monomial]
        return steps


class Stationary:
    """Long-run expectations: `stationary(rec)[theta**2]` is an expression, valid where `.condition` holds."""

    def __init__(self, rec: Recursion):
        self.recursion = rec
        self._algebra = _Algebra(rec)
        self._known: dict[Monomial, sp.Expr] = {(0,) * len(self._algebra.generators): sp.S.One}

    @cached_property
    def condition(self) -> sp.Basic:
        """Where the stationary state exists (of the mean; higher moments of random slopes need more)."""
        from .stability import stable_when

        return stable_when(self.recursion)

    def __getitem__(self, observable: sp.Expr) -> sp.Expr:
        wanted = self._algebra.terms(observable)
        if self._algebra.affine:
            self._solve_by_degree(self._algebra.closure(wanted))
        else:
            self._solve_by_balance(wanted)
        return sp.factor(sp.Add(*(c * self._known[m] for m, c in wanted.items())))

    def evaluate(self, observable: sp.Expr, parameters: Mapping[sp.Symbol | str, object]) -> sp.Expr:
        """The value at the given parameters (keyed by symbol or name).

        Raises `ValueError` outside the condition, naming the condition and the values.

        >>> import lrtheory as lr
        >>> rec = lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic())
        >>> lr.stationary(rec).evaluate(rec.state[0] ** 2, {"eta": 1, "lam": 1, "sigma": 1})
        1
        >>> lr.stationary(rec).evaluate(rec.state[0] ** 2, {"eta": 3, "lam": 1, "sigma": 1})
        Traceback (most recent call last):
        ...
        ValueError: no stationary state at eta = 3, lam = 1, sigma = 1: it needs eta*lam < 2; lower the learning rate
        """
        from .stability import moment_radius, stable_when

        at = {s: expression(v) for s, v in self.recursion.values(parameters).items()}
        for s, v in at.items():
            if v.is_number and not sp.N(v).is_real:
                raise ValueError(f"{s} = {v}: give a finite number")
        given = ", ".join(f"{s} = {v}" for s, v in at.items())

        def unstable() -> ValueError:
            never = self.condition == sp.false
            remedy = "the rule has none at any rate" if never else f"it needs {self.condition}; lower the learning rate"
            return ValueError(f"no stationary state at {given}: {remedy}")

        degrees = {1, *map(sum, self._algebra.terms(observable))} - {0} if self._algebra.affine else set()
        for degree in sorted(degrees):
            growth = moment_radius(self.recursion, at, degree)
            near = abs(growth - 1) < 1e-9  # for floats to tell
            grows = stable_when(self.recursion, degree).subs(at) != sp.true if near else growth > 1
            if grows and degree == 1:
                raise unstable()
            if grows:
                raise ValueError(
                    f"the moments of degree {degree} grow by {growth:.4g} a step at {given}: "
                    "they have no stationary value; lower the learning rate"
                )
        value = self[observable].subs(at)
        if value.has(sp.nan, sp.zoo, sp.oo):  # on the edge, where floats divide by 0
            raise unstable()
        return value

    def _solve_by_degree(self, steps: dict[Monomial, Terms]) -> None:
        todo = sorted((m for m in steps if m not in self._known), key=lambda m: (sum(m), m))
        for degree in sorted({sum(m) for m in todo}):
            block = [m for m in todo if sum(m) == degree]
            matrix = sp.Matrix([[(1 if m == n else 0) - steps[m].get(n, sp.S.Zero) for n in block] for m in block])
            lower = sp.Matrix(
                [sp.Add(*(c * self._known[n] for n, c in steps[m].items() if n not in block)) for m in block]
            )
            if len(block) == 1:
                if matrix[0] == 0:
                    raise ValueError(f"{self._algebra.name(block[0])} has no stationary value: it keeps its start")
                solution = [lower[0] / matrix[0]]
            else:
                joined = DomainMatrix.from_Matrix(matrix.row_join(lower)).to_field()
                solution = list((joined[:, :-1].lu_solve(joined[:, -1:])).to_Matrix())
            self._known |= {m: sp.factor(x) for m, x in zip(block, solution, strict=True)}

    def _solve_by_balance(self, wanted: Terms) -> None:
        # In the long run the expectation of any f(theta) stays put: one linear equation for each monomial f.
        # Whenever one of them has a single unknown, it is known.
        degree = max(sum(m[: len(self.recursion.state)]) for m in wanted) + 1
        size = len(self.recursion.state)
        tests = [m for m in product(range(degree + 1), repeat=size) if 0 < sum(m) <= degree]
        equations = []
        for test in tests:
            balance = dict(self._algebra.step(test))
            own = test + (0,) * size
            balance[own] = sp.factor(balance.get(own, 0) - 1)
            equations.append({m: c for m, c in balance.items() if c != 0})
        for _ in equations:
            for equation in equations:
                unknown = [m for m in equation if m not in self._known]
                if len(unknown) == 1:
                    rest = sp.Add(*(c * self._known[m] for m, c in equation.items() if m in self._known))
                    self._known[unknown[0]] = sp.factor(-rest / equation[unknown[0]])
        missing = [m for m in wanted if m not in self._known]
        if missing:
            near = next((e for e in equations if missing[0] in e), {})
            need = next((m for m in sorted(near, key=sum, reverse=True) if m not in self._known), None)
            because = f" needs {self._algebra.name(need)}" if need and need != missing[0] else " is not determined"
            raise ValueError(
                f"the moments do not close: {self._algebra.name(missing[0])}{because}; use enumerate_paths or simulate"
            )


class After:
    """Expectations after `steps` steps from a given start: a point, or the moments of a law."""

    def __init__(self, rec: Recursion, steps: sp.Expr | int, start: Moments):
        self._algebra = _Algebra(rec)
        self._steps = expression(steps)
        if self._steps.is_number:
            self._steps = sp.Integer(whole("steps", steps))
        elif not all(s.is_integer for s in self._steps.free_symbols) or self._steps.is_nonpositive:
            raise ValueError(f"steps = {self._steps}: give a whole number, or a letter for one, lrtheory.symbol('t')")
        self._start = start

    def __getitem__(self, observable: sp.Expr) -> sp.Expr:
        wanted = self._algebra.terms(observable)
        if self._steps == 0:
            return self._start[expression(observable)]
        moment = self._iterate(wanted) if self._steps.is_Integer else self._closed_form(wanted)
        return sp.Add(*(c * moment[m] for m, c in wanted.items()))

    def _at_start(self, monomial: Monomial) -> sp.Expr:
        return self._start[sp.prod([g**p for g, p in zip(self._algebra.generators, monomial, strict=True)])]

    def _iterate(self, wanted: Terms) -> dict[Monomial, sp.Expr]:
        if self._steps > _MOST_STEPS:
            raise ValueError(
                f"steps = {self._steps} are taken one by one: give {_MOST_STEPS} at most, or a symbol for a closed form"
            )
        steps = self._algebra.closure(wanted)
        one = (0,) * len(self._algebra.generators)
        now = {m: self._at_start(m) for m in steps} | {one: sp.S.One}
        for _ in range(int(self._steps)):
            now = {m: sp.factor(sp.Add(*(c * now[n] for n, c in steps[m].items()))) for m in steps} | {one: sp.S.One}
        return now

    def _closed_form(self, wanted: Terms) -> dict[Monomial, sp.Expr]:
        # each moment is a sum of coefficient * base**t * t**power; one whose forcing is known gains its own base
        steps = self._algebra.closure(wanted)
        solved: dict[Monomial, Form] = {(0,) * len(self._algebra.generators): {(sp.S.One, 0): sp.S.One}}
        while pending := [m for m in steps if m not in solved]:
            ready = [m for m in pending if all(n in solved or n == m for n in steps[m])]
            if not ready:
                raise ValueError(
                    "the moments are coupled, so that powers of a matrix would be needed: give the number of steps "
                    f"as an integer (it is {self._steps})"
                )
            for m in ready:
                own = sp.factor(steps[m].get(m, sp.S.Zero))
                form: Form = {}
                for n, c in steps[m].items():
                    for (base, power), amount in solved[n].items() if n != m else ():
                        for p, q in enumerate(_particular(base, own, power)):
                            form[base, p] = sp.factor(form.get((base, p), 0) + c * amount * q)
                at_start = sp.Add(*(c for (_, p), c in form.items() if p == 0))
                form[own, 0] = sp.factor(form.get((own, 0), 0) + self._at_start(m) - at_start)
                solved[m] = {key: c for key, c in form.items() if c != 0}
        t = self._steps
        return {m: sp.Add(*(c * _power(base, t) * t**p for (base, p), c in form.items())) for m, form in solved.items()}


def _particular(base: sp.Expr, own: sp.Expr, power: int) -> list[sp.Expr]:
    """The coefficients of a polynomial Q with base * Q(t + 1) - own * Q(t) = t**power, from the constant up."""
    resonant = sp.simplify(base - own) == 0
    q = [sp.S.Zero] * (power + 1 + resonant)
    for j in range(power, -1, -1):  # the coefficient of t**j; where base = own, it determines that of t**(j + 1)
        known = base * sp.Add(*(sp.binomial(i, j) * q[i] for i in range(j + 1 + resonant, len(q))))
        q[j + resonant] = (int(j == power) - known) / (base * (j + 1) if resonant else base - own)
    return q


def _power(base: sp.Expr, steps: sp.Expr) -> sp.Expr:
    """base**steps, where an even power is written with the sign that is positive for a small rate."""
    base = sp.factor(base)
    if base.is_Pow and base.exp.is_Integer and base.exp % 2 == 0:
        inner = sp.expand(base.base)
        if inner.subs(dict.fromkeys(inner.free_symbols, 0)).is_negative:
            inner = -inner
        return inner ** (base.exp * steps)
    return sp.expand(base) ** steps


class _Point:
    """The moments of a start at one point."""

    def __init__(self, values: Mapping[sp.Symbol, sp.Expr]):
        self._values = dict(values)

    def __getitem__(self, observable: sp.Expr) -> sp.Expr:
        return expression(observable).subs(self._values)


class _Recalled:
    """The start of a `remembering` recursion: the remembered state equals the state."""

    def __init__(self, start: Moments, was: Mapping[sp.Symbol, sp.Expr]):
        self._start, self._was = start, dict(was)

    def __getitem__(self, observable: sp.Expr) -> sp.Expr:
        return self._start[expression(observable).xreplace(self._was)]


def stationary(rec: Recursion) -> Stationary:
    """Long-run expectations of `rec`, exact, with the condition under which they exist.

    Returns an object `s`: `s[observable]` is a SymPy expression in the parameters, `s.condition` says where it
    holds, and `s.evaluate(observable, parameters)` checks the condition first.
    Raises `ValueError` if the moments do not close, naming the moment that is missing.

    >>> import lrtheory as lr
    >>> rec = lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic())
    >>> theta, = rec.state
    >>> lr.stationary(rec)[theta**2]
    -eta*sigma**2/(lam*(eta*lam - 2))
    >>> lr.stationary(lr.trace(lr.optimizers.sgd, lr.landscapes.double_well()))[theta]
    Traceback (most recent call last):
    ...
    ValueError: the moments do not close: E[theta] needs E[theta^3]; use enumerate_paths or simulate
    """
    return Stationary(traced(rec))


def after(rec: Recursion, steps: sp.Expr | int, start: Mapping[sp.Symbol, sp.Expr] | Moments | None = None) -> After:
    """Expectations after `steps` steps (an integer, or a symbol for a closed form).

    `start` is a mapping from state symbols to values, or the moments of a law (for instance `stationary(...)`);
    without it the parameter starts at the symbol `theta0` and every memory at 0.
    Returns an object `a` with `a[observable]`, a SymPy expression.
    Raises `ValueError` if the moments do not close, or have no closed form for a symbolic number of steps.

    >>> import lrtheory as lr
    >>> rec = lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic())
    >>> theta, = rec.state
    >>> lr.after(rec, lr.symbol("t"))[theta]
    theta0*(-eta*lam + 1)**t
    """
    from .letters import symbol

    if start is None:
        start = dict.fromkeys(traced(rec).state, sp.S.Zero) | {rec.state[0]: symbol("theta0")}
    if isinstance(start, Mapping):
        if unknown := {str(k) for k in start} - {s.name for s in rec.state}:
            raise ValueError(
                f"start names {', '.join(sorted(unknown))}: the state is {', '.join(map(str, rec.state))}; name these"
            )
        start = _Point({symbol(str(k)): expression(v) for k, v in start.items()})
    if not hasattr(start, "__getitem__"):
        raise TypeError(f"start = {shown(start)}: give a mapping from states to values, or the moments of a law")
    was = {s: x for s in rec.state for x in rec.state if s.name == f"{x.name}_was"}
    return After(rec, steps, _Recalled(start, was) if was else start)
