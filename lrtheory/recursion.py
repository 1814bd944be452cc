"""`trace` runs an optimizer once on symbols; what it writes down is the recursion, from which all else is read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import sympy as sp
from sympy.matrices.exceptions import MatrixError

from .inputs import expression, named, shown
from .landscapes import Landscape
from .letters import latex, symbol
from .noise import Noise


@dataclass(frozen=True)
class Recursion:
    """state' = next_state(state, parameters, noises), with the law of each noise; nothing else.

    `state`, `parameters` are tuples of symbols, `noises` pairs (symbol, law) drawn afresh at each step, and
    `next_state` one expression for each element of the state.
    """

    state: tuple[sp.Symbol, ...]
    parameters: tuple[sp.Symbol, ...]
    noises: tuple[tuple[sp.Symbol, Noise], ...]
    next_state: tuple[sp.Expr, ...]

    def values(self, parameters: Mapping[sp.Symbol | str, Any]) -> dict[sp.Symbol, Any]:
        """The parameters (keyed by symbol or by name) that the rule has, keyed by symbol.

        Raises `ValueError` if one is missing or unknown.

        >>> import lrtheory as lr
        >>> lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic()).values({"eta": 1, "lam": 2})
        Traceback (most recent call last):
        ...
        ValueError: the rule needs a value for sigma: it has the parameters eta, lam, sigma
        """
        given = named("parameters", parameters)
        names = [s.name for s in self.parameters]
        has = f"it has the parameters {', '.join(names)}"
        if missing := [name for name in names if name not in given]:
            raise ValueError(f"the rule needs a value for {', '.join(missing)}: {has}")
        if unknown := [name for name in given if name not in names]:
            raise ValueError(f"the rule has no parameter {', '.join(unknown)}: {has}")
        return {s: given[s.name] for s in self.parameters}

    def where(self, replacements: Mapping[sp.Symbol | str, Any]) -> Recursion:
        """The same rule with parameters replaced by numbers or expressions.

        >>> import lrtheory as lr
        >>> lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic()).where({"eta": 1 / lr.symbol("lam")}).parameters
        (lam, sigma)
        """
        given = {name: expression(value) for name, value in named("replacements", replacements).items()}
        if unknown := given.keys() - {s.name for s in self.parameters}:
            raise ValueError(
                f"the rule has no parameter {', '.join(sorted(unknown))}: it has the parameters "
                f"{', '.join(s.name for s in self.parameters)}"
            )
        if wrong := [name for name, value in given.items() if value.has(sp.nan, sp.oo, sp.zoo)]:
            raise ValueError(f"{wrong[0]} = {given[wrong[0]]}: give a finite number or an expression")
        change = {s: given[s.name] for s in self.parameters if s.name in given}
        kept = [s for s in self.parameters if s not in change]
        new = sorted(set().union(*(e.free_symbols for e in change.values())) - set(kept), key=str)
        rule = tuple(f.subs(change, simultaneous=True) for f in self.next_state)
        return replace(self, parameters=(*kept, *new), next_state=rule)

    def with_noise(self, law: Noise) -> Recursion:
        """The same rule with every noise drawn from `law`.

        Raises `TypeError` if that is no law.

        >>> import lrtheory as lr
        >>> lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic()).with_noise(lr.noise.rademacher).noises
        ((xi, <noise ±1>),)
        """
        if not isinstance(law, Noise):
            raise TypeError(f"{shown(law)} is no law of noise: give one, for instance lrtheory.noise.gaussian")
        return replace(self, noises=tuple((s, law) for s, _ in self.noises))

    def remembering(self) -> Recursion:
        """The same rule with one more state for each old one: its value at the start, named `theta_was` …

        Two-time averages, such as E[theta_t * theta_0], are one-time averages of this recursion.

        >>> import lrtheory as lr
        >>> lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic()).remembering().state
        (theta, theta_was)
        """
        was = tuple(symbol(f"{s.name}_was") for s in self.state)
        return replace(self, state=self.state + was, next_state=self.next_state + was)

    def _repr_latex_(self) -> str:
        rows = (rf"{latex(s)}' &= {latex(sp.expand(f))}" for s, f in zip(self.state, self.next_state, strict=True))
        return "$$\\begin{aligned}" + r"\\ ".join(rows) + "\\end{aligned}$$"


def traced(rec: Recursion) -> Recursion:
    """The recursion itself; `TypeError` for anything else, such as an optimizer that was not traced.

    >>> traced(3)
    Traceback (most recent call last):
    ...
    TypeError: 3 is no recursion: make one with lrtheory.trace(optimizer, landscape)
    """
    if not isinstance(rec, Recursion):
        raise TypeError(f"{shown(rec)} is no recursion: make one with lrtheory.trace(optimizer, landscape)")
    return rec


def trace(optimizer: Callable[..., Any], landscape: Landscape) -> Recursion:
    """The recursion of `optimizer` on `landscape`.

    Returns a `Recursion`; its parameters are the optimizer's keywords, then the landscape's letters.  On a
    landscape of several coordinates each state of the rule is a vector, whose elements are numbered from 1.
    Raises `TypeError` if the optimizer has no `grad` keyword, asks for more than one gradient per step, takes one of
    the landscape's letters for its state, cannot be run on symbols, or does something else on numbers.

    >>> import lrtheory as lr
    >>> lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic()).next_state
    (-eta*(lam*theta + sigma*xi) + theta,)
    """
    if not isinstance(landscape, Landscape):
        raise TypeError(f"{shown(landscape)} is no landscape: give one, for instance lrtheory.landscapes.quadratic()")
    if not callable(optimizer):
        raise TypeError(f"{shown(optimizer)} is no update rule: give a function, for instance lrtheory.optimizers.sgd")
    try:
        signature = inspect.signature(optimizer).parameters.values()
    except ValueError:  # a type such as int
        signature = ()  # type: ignore[assignment]
    names = [p.name for p in signature if p.kind is p.POSITIONAL_OR_KEYWORD]
    keywords = [p.name for p in signature if p.kind is p.KEYWORD_ONLY]
    called = getattr(optimizer, "__name__", shown(optimizer))
    if "grad" not in keywords or not names:
        raise TypeError(
            f"{called} is not an update rule: write it as "
            "rule(theta, ..., *, grad, eta, ...), the state before the star and `grad` after it"
        )
    noise_symbols = {s for s, _ in landscape.noises}
    letters = set().union(*(g.free_symbols for g in landscape.gradients)) - noise_symbols - {*landscape.coordinates}
    dim = len(landscape.coordinates)
    state: list[Any] = (
        [symbol(name) for name in names]
        if dim == 1
        else [sp.Matrix([symbol(f"{name}_{i + 1}") for i in range(dim)]) for name in names]
    )
    hyper = {name: symbol(name) for name in keywords if name != "grad"}
    if taken := sorted(map(str, ({*_flat(state)} & letters) | ({*_flat(state), *hyper.values()} & noise_symbols))):
        raise TypeError(
            f"{called} has a letter {', '.join(taken)}, and so has the {landscape.name} landscape, where it means "
            "something else: give it another name"
        )
    parameters = (*hyper.values(), *sorted(letters - set(hyper.values()), key=str))

    calls: list[Any] = []

    def run(change: Mapping[sp.Symbol, sp.Expr]) -> tuple[Any, ...]:
        """What the rule returns, with numbers (or nothing) put in for its letters."""

        def grad(theta: Any) -> Any:
            calls.append(theta)
            at = [expression(theta)] if dim == 1 else list(theta)
            here = {**change, **dict(zip(landscape.coordinates, at, strict=True))}
            slopes = [g.xreplace(here) for g in landscape.gradients]
            return slopes[0] if dim == 1 else sp.Matrix(slopes)

        given = [x.xreplace(change) for x in state]
        result = optimizer(*given, grad=grad, **{name: s.xreplace(change) for name, s in hyper.items()})
        return tuple(map(expression, result if isinstance(result, tuple) else (result,)))

    remedy = (
        "write it with + - * / and the sign and root of lrtheory.optimizers, without deciding by the value of its state"
    )
    try:
        result = run({})
    except (TypeError, AttributeError, ArithmeticError, MatrixError) as error:  # an `if x < 0`, NumPy's functions
        why = str(error) or type(error).__name__
        raise TypeError(f"{called} cannot be run on symbols ({why}): {remedy}") from error
    if len(calls) > 1:
        raise TypeError(f"{called} asks for two gradients in one step: call grad once and keep its value")
    if len(result) != len(state):
        raise TypeError(f"{called} takes {len(state)} states {names} and returns {len(result)}: return each")
    for old, new in zip(state, result, strict=True):
        formulas = all(isinstance(f, sp.Expr) and not f.has(sp.nan, sp.zoo, sp.oo) for f in _flat([new]))
        if not formulas or getattr(old, "shape", ()) != getattr(new, "shape", ()):
            raise TypeError(f"{called} returns {shown(new)} for {shown(old)}: return a formula for each state")
    rec = Recursion(_flat(state), parameters, landscape.noises, _flat(result))
    known = {*rec.state, *parameters, *noise_symbols}
    if strangers := sorted(map(str, set().union(*(f.free_symbols for f in rec.next_state)) - known)):
        raise TypeError(f"{called} uses {', '.join(strangers)}, which it does not take: add it behind the star")
    for numbers in _trials(rec):  # SymPy compares symbols as they are written, so that `if x == 0` raises nothing
        try:
            found = _flat(run(numbers))
        except (ArithmeticError, TypeError, ValueError):  # a rule may divide by its state, or differentiate by it
            continue
        for f, x in zip(rec.next_state, found, strict=True):
            wanted = f.subs(numbers)
            if x.is_finite and not (wanted.is_finite and abs(sp.N(wanted - x, 20)) < 1e-12):
                at = ", ".join(f"{s} = {numbers[s]}" for s in rec.state)
                raise TypeError(f"{called} does something else at {at} than for other values: {remedy}")
    return rec


def _trials(rec: Recursion) -> Iterator[dict[sp.Symbol, sp.Expr]]:
    """Numbers for all letters: anywhere, and with each element of the state 0 and 1, where an `if` would decide."""
    letters = (*rec.state, *rec.parameters, *(s for s, _ in rec.noises))
    anywhere = {s: sp.Rational(i + 2, i + 5) for i, s in enumerate(letters)}
    yield anywhere
    for s, n in product(rec.state, (0, 1)):
        yield anywhere | {s: sp.Integer(n)}


def _flat(parts: Sequence[Any]) -> tuple[Any, ...]:
    """The elements of vectors and scalars, one after the other."""
    return tuple(x for part in parts for x in (part if isinstance(part, sp.MatrixBase) else [part]))
