"""A claim is data: a formula, its conditions, the expectation that it is about, and the rivals that it must beat.

Calling a claim evaluates it; `doubt.check` questions it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp

from .inputs import numbers, shown
from .letters import latex, symbol
from .noise import Noise, gaussian

_MAY_BE_ZERO = {"sigma", "slow_excess", "gamma"}
_MOST_DIGITS = 100_000  # of an exact number
_MANY = 5000  # steps, beyond which exact numbers may grow long
_MOST_TERMS = {True: 10_000, False: 10_000_000}  # of a sum, or steps taken one by one: exact, in floats


@dataclass(frozen=True)
class Equals:
    """The expectation is the formula."""


@dataclass(frozen=True)
class AtLeast:
    """The expectation is the formula or more."""


@dataclass(frozen=True)
class AtMost:
    """The expectation is the formula or less."""


@dataclass(frozen=True)
class Root:
    """The expectation vanishes where this parameter takes the formula's value."""

    of: str


@dataclass(frozen=True)
class Minimum:
    """The expectation is smallest where this parameter takes the formula's value."""

    of: str


@dataclass(frozen=True)
class Order:
    """The expectation shrinks like this parameter to the power that the formula gives, as the parameter goes to 0."""

    of: str


Relation = Equals | AtLeast | AtMost | Root | Minimum | Order

# several curvatures: `lams` is called with a list, and stands in formulas as Sum(... lams[i] ..., (i, 1, d))
LAMS, MODE, DIM = sp.IndexedBase("lams", positive=True), sp.Symbol("i", integer=True), sp.Symbol("d", positive=True)
largest = sp.Function("max", positive=True)  # largest(LAMS[MODE]), for conditions


def over_modes(expr: sp.Basic, curvatures: Sequence[Any]) -> sp.Basic:
    """The expression with its sums over the curvatures written out.

    >>> eta = symbol("eta")
    >>> over_modes(sp.Sum(eta * LAMS[MODE], (MODE, 1, DIM)), [1, 2])
    3*eta
    """
    if not expr.has(LAMS):
        return expr

    def each(inner: sp.Expr) -> list[sp.Expr]:
        return [inner.subs(LAMS[MODE], c) for c in curvatures]

    expr = expr.replace(sp.Sum, lambda inner, limits: sp.Add(*each(inner)))
    expr = expr.replace(sp.Product, lambda inner, limits: sp.Mul(*each(inner)))
    return expr.replace(largest, lambda inner: sp.Max(*each(inner))).subs(DIM, len(curvatures))


def written_out(expr: sp.Basic) -> sp.Basic:
    """The expression with its sums between whole numbers written out, which SymPy leaves to the asker.

    >>> t = symbol("t")
    >>> written_out(sp.Sum(t**2, (t, 1, 3)))
    14
    """
    return expr.replace(
        lambda e: isinstance(e, sp.Sum) and len(e.limits) == 1 and all(b.is_Integer for b in e.limits[0][1:]),
        lambda e: sp.Add(*(e.function.subs(e.limits[0][0], n) for n in range(e.limits[0][1], e.limits[0][2] + 1))),
    )


@dataclass(frozen=True)
class Condition:
    """A relation that the parameters must satisfy, and what to do when they do not."""

    holds: sp.Basic
    remedy: str


@dataclass(frozen=True)
class Rival:
    """A wrong formula that people quote or would type, and the story behind it."""

    formula: sp.Expr
    story: str


def _in_many_digits(letters: Sequence[sp.Symbol], formula: sp.Expr) -> Callable[..., Any]:
    """The formula as a function of floats and arrays, worked out in 60 digits."""
    import mpmath

    compiled = sp.lambdify(letters, formula, "mpmath")

    def one(*at: float) -> float:
        with mpmath.workdps(60):
            return float(compiled(*map(mpmath.mpf, at)))

    return np.vectorize(one, otypes=[float])


@dataclass(frozen=True)
class Claim:
    """A formula with its conditions, the expectation that it is about, and its rivals; calling it evaluates it.

    `parameters`: the names it is called with.  `formula`: the typed SymPy expression; where no closed form exists it
    is None, `definition` (LaTeX) says what is computed, and `evaluate` computes it.  `about`, `relation`: what the
    formula says of which expectation.  `given`: parameters that are measured rather than set, each with its
    expectation.  `abbreviations`: letters that the printed formula uses for parts of it, in the order in which they
    are put in.  `many_digits`: floats are worked out in 60 digits, since 16 would leave too few of a small difference.
    `choices`: parameters that are words, each with the words that it admits.  `derivation`: residuals that must
    vanish, where the default (derive `about`, compare) does not do.  `outside`: a check that returns (found,
    expected, tolerance).
    """

    id: str
    says: str
    lhs: str
    parameters: tuple[str, ...]
    formula: sp.Expr | None
    source: str
    settings: Mapping[str, Any]
    about: sp.Expr | None = None
    relation: Relation = Equals()
    conditions: tuple[Condition, ...] = ()
    rivals: tuple[Rival, ...] = ()
    given: Mapping[str, sp.Expr] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    upper: sp.Expr | None = None
    abbreviations: Mapping[sp.Symbol, sp.Expr] = field(default_factory=dict)
    definition: str | None = None
    evaluate: Callable[..., Any] | None = None
    many_digits: bool = False
    derivation: Callable[[], list[sp.Expr]] | None = None
    outside: Callable[[Claim], tuple[Any, Any, float]] | None = None
    outside_source: str = ""
    noise: Noise = gaussian  # the law that the simulation draws from where the rule accepts any
    enumerable: bool = True
    simulable: bool = True

    def __hash__(self) -> int:
        return hash(self.id)

    def __call__(self, /, *unnamed: Any, **parameters: Any) -> Any:
        """The value: exact for exact numbers (integers, Fractions, SymPy numbers), floats for floats and arrays.

        Raises `TypeError` for names and for what is no number, `ValueError` for values outside the conditions and for
        numbers of steps that would take hours, each with what to do.
        """
        if unnamed:
            raise TypeError(f"{self.id} takes its parameters by name: write {self.parameters[0]}={shown(unnamed[0])}")
        values = self._admitted(parameters)
        if self.upper is not None and all(s.name in values for s in self.upper.free_symbols):
            return self._value(self.formula, values), self._value(self.upper, values)
        return self._value(self.formula, values)

    def _value(self, formula: sp.Expr | None, values: Mapping[str, Any]) -> Any:
        is_exact = all(isinstance(v, sp.Basic) for name, v in values.items() if name not in self.choices)
        typed = formula
        whole = {name: values[name] for name in (*self.choices, "lams") if name in values}  # not broadcast
        values = {name: value for name, value in values.items() if name not in whole}
        if "lams" in whole:
            formula = None if formula is None else over_modes(formula, whole["lams"])
        self._feasible(formula, values, is_exact)
        if is_exact and formula is not None:
            result = written_out(formula.xreplace({s: values[s.name] for s in formula.free_symbols}))
            if not self._many(values):  # simplifying writes n log a as log a**n
                result = sp.simplify(result)
            if not result.is_finite and result is not sp.oo:
                raise ValueError(f"{self.id} has no value at {_listed(values)}: move off this exact point")
            return result
        floats = {k: np.asarray(v, dtype=float) if np.ndim(v) else np.float64(v) for k, v in values.items()}
        for name, value in floats.items():
            if not np.all(np.isfinite(value)):
                raise ValueError(
                    f"{name} = {shown(values[name])} is too large for a float: give a smaller one, or exact numbers"
                )
        with np.errstate(all="ignore"):
            if self.evaluate is not None and typed is self.formula:
                if "lams" in whole:
                    whole["lams"] = np.asarray([float(c) for c in whole["lams"]])

                def one(*at: float) -> float:
                    return self.evaluate(**dict(zip(floats, at, strict=True)), **whole)  # type: ignore[misc]

                result = np.vectorize(one, otypes=[float])(*floats.values()) if floats else one()
            else:
                letters = sorted(formula.free_symbols, key=str)  # type: ignore[union-attr]
                compiled = (
                    _in_many_digits(letters, formula)
                    if self.many_digits
                    else sp.lambdify(letters, formula, ["scipy", "numpy"])
                )
                result = compiled(*(floats[s.name] for s in letters))
        result = np.asarray(np.broadcast_arrays(result, *floats.values())[0], dtype=float)
        if np.any(np.isnan(result)):
            raise ValueError(
                f"{self.id} has no value at {_listed(values)}: check the parameters against its conditions"
            )
        return result if result.ndim else float(result)

    def _counts(self, values: Mapping[str, Any]) -> dict[str, float]:
        """The largest value of each parameter that counts something."""
        return {name: float(np.max(v)) for name, v in values.items() if self.letter(name).is_integer and np.size(v)}

    def _many(self, values: Mapping[str, Any]) -> bool:
        return max(self._counts(values).values(), default=0) > _MANY

    def _feasible(self, formula: sp.Expr | None, values: Mapping[str, Any], is_exact: bool) -> None:
        """Raise `ValueError` for a number of steps that would take hours, or a number too long to be printed."""
        most = _MOST_TERMS[is_exact]
        counts = self._counts(values)
        stepwise = (sp.Sum, sp.Product, sp.chebyshevt) if is_exact else (sp.Sum, sp.Product)
        if self.evaluate is not None or (formula is not None and formula.has(*stepwise)):
            for name, count in counts.items():
                if count > most:
                    raise ValueError(
                        f"{name} = {shown(values[name])}: {self.id} takes step by step; give {most} at most"
                    )
        if not is_exact or formula is None or not self._many(values):
            return
        at = {s: values[s.name] for s in formula.free_symbols if s.name in values}
        for power in formula.atoms(sp.Pow):
            if power.exp.free_symbols:
                base, exponent = power.base.xreplace(at), power.exp.xreplace(at)
                digits = 0.3 * int(base.p * base.q).bit_length() if base.is_Rational else 1
                if base not in (0, 1, -1) and exponent.is_number and abs(float(exponent)) * digits > _MOST_DIGITS:
                    long = max(counts, key=lambda name: counts[name])
                    raise ValueError(
                        f"{long} = {shown(values[long])} makes exact numbers of more than {_MOST_DIGITS} digits: "
                        "give a smaller one, or floats"
                    )

    def _admitted(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        known = (*self.parameters, *self.optional)
        takes = f"{self.id} takes {', '.join(known)}"
        for name in parameters:
            if name not in known:
                close = get_close_matches(name, known, 1)
                raise TypeError(f"{takes}; there is no {name!r}" + (f": did you mean {close[0]!r}?" if close else ""))
        if missing := [name for name in self.parameters if parameters.get(name) is None]:
            raise TypeError(f"{takes}; {', '.join(missing)} is missing: give it a value")
        words = {name: _word(name, parameters[name], admitted) for name, admitted in self.choices.items()}
        values = {
            name: _numbers(name, value) if name == "lams" else _number(name, value)
            for name, value in parameters.items()
            if value is not None and name not in words
        }
        for name, value in values.items():
            for number in value if name == "lams" else [value]:
                _in_domain(symbol("lam") if name == "lams" else self.letter(name), number)
        shapes = {name: np.shape(value) for name, value in values.items() if name != "lams" and np.ndim(value)}
        try:
            np.broadcast_shapes(*shapes.values())
        except ValueError:
            listed = ", ".join(f"{name} has {shape}" for name, shape in shapes.items())
            raise ValueError(f"the shapes do not fit together: {listed}; give arrays that broadcast") from None
        self.require(values)
        return values | words

    def letter(self, name: str) -> sp.Symbol:
        """The symbol of a parameter: the formula's own where it uses a name with other assumptions."""
        own = self.formula.free_symbols if self.formula is not None else set()
        return next((s for s in own if s.name == name), symbol(name))

    def require(self, values: Mapping[str, Any]) -> None:
        """Raise `ValueError` unless the conditions hold at these values."""
        for condition in self.conditions:
            asked = over_modes(condition.holds, values["lams"]) if "lams" in values else condition.holds
            names = sorted(s.name for s in asked.free_symbols)
            if not all(n in values for n in names):
                continue
            if all(isinstance(values[n], sp.Basic) for n in names):
                holds = asked.subs({s: values[s.name] for s in asked.free_symbols})
            else:
                test = sp.lambdify(sorted(asked.free_symbols, key=str), asked, "numpy")
                alike = np.broadcast_arrays(*(np.asarray(values[n], dtype=float) for n in names))
                holds = np.all(test(*alike))
            if not bool(holds):
                at = _listed({n: values[n] for n in (*names, "lams") if n in values})
                raise ValueError(f"{self.id} needs {condition.holds}, and here {at}: {condition.remedy}")

    # -- how a claim is shown --

    @cached_property
    def equation(self) -> str:
        """The typed formula as LaTeX, with its left-hand side."""
        if self.formula is None:
            return f"{self.lhs} = {self.definition}"
        if self.upper is not None:
            return rf"{latex(self.formula)} \le {self.lhs} \le {latex(self.upper)}"
        sign = {AtLeast: r"\ge", AtMost: r"\le"}.get(type(self.relation), "=")
        return f"{self.lhs} {sign} {latex(self.shortened(self.formula))}"

    def shortened(self, expr: sp.Basic) -> sp.Basic:
        """An expression (the formula, a condition) with the claim's abbreviations put in."""
        for letter, meaning in self.abbreviations.items():
            expr = expr.subs(meaning, letter)
        return expr

    def markdown(self, label: bool = True) -> str:
        """The claim as MyST: statement, numbered equation (with the claim's id as its label), conditions, source."""
        conditions = [self.shortened(c.holds) for c in self.conditions]
        holds = ", ".join(f"${latex(c)}$" for c in conditions)
        shown = [self.shortened(f) for f in (self.formula, self.upper) if f is not None] + conditions
        used = set().union(*(e.free_symbols for e in shown))
        for letter, meaning in reversed(tuple(self.abbreviations.items())):  # one may be made of others
            used |= meaning.free_symbols if letter in used else set()
        where = ", ".join(f"${latex(s)} = {latex(e)}$" for s, e in self.abbreviations.items() if s in used)
        notes = [f"Here {where}." if where else "", f"Holds for {holds}." if holds else "", self.source]
        tag = f" ({self.id})" if label else ""
        return (
            f"::::{{div}} claim\n**{self.says}** `{self.id}`\n\n$$\n{self.equation}\n$${tag}\n\n"
            f"{' '.join(filter(None, notes))}\n::::\n"
        )

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def __repr__(self) -> str:
        return f"<claim {self.id}: {self.formula if self.formula is not None else self.definition}>"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {shown(v)}" for k, v in values.items())


def _word(name: str, value: Any, admitted: Sequence[str]) -> str:
    if value not in admitted:
        raise ValueError(f"{name} = {shown(value)}: give {' or '.join(map(repr, admitted))}")
    return str(value)


def _number(name: str, value: Any) -> Any:
    if isinstance(value, (int, Fraction)) and not isinstance(value, bool):
        return sp.Rational(value)
    if isinstance(value, sp.Basic):
        if not value.is_number:
            raise TypeError(f"{name} = {value} is not a number: use claim.formula.subs for symbols")
        if not sp.N(value).is_real:
            raise ValueError(f"{name} = {value}: give finite numbers")
        return value if not value.atoms(sp.Float) else float(value)
    array = numbers(name, value)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} = {shown(value)}: give finite numbers")
    return array if array.ndim else float(array)


def _numbers(name: str, value: Any) -> Any:
    """Several curvatures: a tuple of exact numbers, or an array of floats."""
    if isinstance(value, str) or not np.iterable(value):
        raise TypeError(f"{name} = {shown(value)} is not a list: give the curvatures as a list, for instance [1, 0.1]")
    numbers = [_number(name, v) for v in value]
    if not numbers or any(np.ndim(n) for n in numbers):
        raise ValueError(f"{name} = {shown(value)}: give one or more curvatures, each a number")
    exact = all(isinstance(n, sp.Basic) for n in numbers)
    return sp.Tuple(*numbers) if exact else np.array([float(n) for n in numbers])


def _in_domain(letter: sp.Symbol, value: Any) -> None:
    name = letter.name
    # an exact number may be too small for a float
    numbers = np.asarray(float(value) or float(sp.sign(value)) if isinstance(value, sp.Basic) else value, dtype=float)
    least_is_zero = name in _MAY_BE_ZERO or (letter.is_nonnegative and not letter.is_positive)
    if letter.is_integer and np.any(numbers != np.floor(numbers)):
        raise ValueError(f"{name} = {shown(value)}: it is counted in whole numbers")
    if least_is_zero and np.any(numbers < 0):
        raise ValueError(f"{name} = {shown(value)}: give 0 or more")
    if not least_is_zero and letter.is_positive and np.any(numbers <= 0):
        raise ValueError(f"{name} = {shown(value)}: give a positive number")
