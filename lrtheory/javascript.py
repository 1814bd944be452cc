"""A formula, or a recursion, as the text of a plain JavaScript function: the figures that move run these.

The function that the browser runs is printed from the same expression that the claims are about, so a moving
figure cannot drift away from the text.

>>> from lrtheory.letters import symbols
>>> eta, lam, sigma = symbols("eta lam sigma")
>>> print(to_javascript(eta * sigma**2 / (2 * (2 - eta * lam)), name="floor"))
function floor(eta, lam, sigma) {
  return eta*Math.pow(sigma, 2)/(-2*eta*lam + 4);
}
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import sympy as sp
from sympy.printing.codeprinter import PrintMethodNotImplementedError
from sympy.printing.jscode import JavascriptCodePrinter

from .inputs import expression, shown
from .recursion import Recursion

Argument: TypeAlias = sp.Symbol | tuple[str, Sequence[sp.Symbol]]

_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_RESERVED = (
    "arguments await break case catch class const continue debugger default delete do else enum eval export "
    "extends false finally for function if implements import in instanceof interface let new null package "
    "private protected public return static super switch this throw true try typeof var void while with "
    "yield Math Number Infinity NaN undefined"
)


class _Printer(JavascriptCodePrinter):
    """SymPy's printer, strict: what JavaScript has no name for is an error; numbers keep their digits."""

    reserved_words = frozenset(_RESERVED.split())

    def __init__(self) -> None:
        super().__init__({"strict": True})

    def _print_not_supported(self, expr: sp.Basic) -> str:
        raise NotImplementedError(
            f"JavaScript has no function {type(expr).__name__!r} (found in {expr}): rewrite the formula with "
            "exp, log, sqrt, powers, Abs, sign, floor, Mod, Min, Max, Piecewise or a trigonometric function, "
            "or compute it in Python"
        )

    _print_Basic = _print_ImaginaryUnit = _print_not_supported
    _print_Sum = _print_Product = _print_Integral = _print_Derivative = _print_not_supported

    def _print_Function(self, expr: sp.Function) -> str:
        try:
            return str(super()._print_Function(expr))
        except PrintMethodNotImplementedError:
            return self._print_not_supported(expr)

    _print_Expr = _print_Function  # Min and Max are no Functions to SymPy

    def _print_Float(self, expr: sp.Float) -> str:
        return repr(float(expr))

    def _print_Integer(self, expr: sp.Integer) -> str:
        return str(expr.p) if abs(expr.p) < 2**53 else repr(float(expr.p))

    def _print_Rational(self, expr: sp.Rational) -> str:
        return f"{self._print(sp.Integer(expr.p))}/{self._print(sp.Integer(expr.q))}"

    def _print_NumberSymbol(self, expr: sp.Expr) -> str:
        return repr(float(expr))

    def _print_BooleanTrue(self, expr: sp.Basic) -> str:
        return "true"

    def _print_BooleanFalse(self, expr: sp.Basic) -> str:
        return "false"

    def _print_Relational(self, expr: sp.Rel) -> str:
        return f"({super()._print_Relational(expr)})"

    def _print_Piecewise(self, expr: sp.Piecewise) -> str:
        if expr.args[-1].cond != sp.true:
            raise ValueError(f"{expr} has no value where no condition holds: end it with (value, True)")
        text = self._print(expr.args[-1].expr)
        for value, condition in reversed(expr.args[:-1]):
            text = f"({self._print(condition)} ? {self._print(value)} : {text})"
        return f"({text})" if len(expr.args) == 1 else text


def to_javascript(
    formula: sp.Basic | Recursion | Sequence[sp.Basic],
    name: str | None = None,
    arguments: Iterable[Argument] | None = None,
) -> str:
    """The text of a JavaScript function that computes `formula`.

    A SymPy expression (or condition) becomes a function of its free symbols in alphabetical order, or of
    `arguments` in the order given; an argument `("s", [eta, lam])` is an array `s` that holds eta and lam.  A
    sequence of expressions becomes a function that returns an array.  A `Recursion` becomes its step,
    `step(state, noise, parameters)`, three arrays in the recursion's own order, returning the new state.
    Repeated sub-expressions are computed once where that makes the function shorter.

    Raises `NotImplementedError` naming a function that JavaScript lacks, `TypeError` for an argument that is no
    symbol, and `ValueError` for a symbol that is no argument, a name that is no identifier, a formula without a
    value (nan), or a Piecewise without a last `(value, True)`.

    >>> import lrtheory as lr
    >>> print(to_javascript(lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic())))
    function step(state, noise, parameters) {
      const theta = state[0], xi = noise[0], eta = parameters[0], lam = parameters[1], sigma = parameters[2];
      return [-eta*(lam*theta + sigma*xi) + theta];
    }
    """
    expressions: list[Any]
    groups: list[Argument]
    if isinstance(formula, Recursion):
        groups = [
            ("state", formula.state),
            ("noise", [noise for noise, _ in formula.noises]),
            ("parameters", formula.parameters),
        ]
        expressions, many, name = list(formula.next_state), True, name or "step"
        if arguments is not None:
            raise ValueError("a recursion becomes step(state, noise, parameters): leave `arguments` out")
    else:
        many = isinstance(formula, (list, tuple, sp.Tuple))
        expressions = [expression(f) for f in formula] if many else [expression(formula)]
        free = set().union(*(f.free_symbols for f in expressions)) if expressions else set()
        groups = sorted(free, key=str) if arguments is None else list(arguments)
        name = name or "f"

    for group in groups:
        held = group[1] if isinstance(group, tuple) and len(group) == 2 else [group]
        if not (isinstance(held, (list, tuple, sp.Tuple)) and all(isinstance(s, sp.Symbol) for s in held)):
            raise TypeError(f"argument {shown(group)}: give a symbol, or a name and its symbols, ('s', [eta, lam])")
    for f in expressions:
        if f.has(sp.nan, sp.zoo):
            raise ValueError(f"{name} = {shown(f)} has no value: give a formula that is a number everywhere")
    used = set().union(*(f.free_symbols for f in expressions)) if expressions else set()
    given = [s for g in groups for s in ([g] if isinstance(g, sp.Symbol) else g[1])]
    names = [name, *(s.name for s in given), *(g[0] for g in groups if not isinstance(g, sp.Symbol))]
    for text in names:
        if not (isinstance(text, str) and _IDENTIFIER.fullmatch(text)):
            raise ValueError(f"{text!r} is no JavaScript identifier: name it with letters, digits and _")
    if missing := sorted(used - set(given), key=str):
        raise ValueError(f"{missing[0]} occurs in {formula} but is no argument: add it to `arguments`")
    if len({s.name for s in given}) < len(given):
        raise ValueError(f"two of the symbols {given} share a name: use one symbol for both")

    printer = _Printer()
    arguments_text, unpacked = [], []
    for group in groups:
        if isinstance(group, sp.Symbol):
            arguments_text.append(printer.doprint(group))
        else:
            arguments_text.append(group[0])
            places = ((s, f"{group[0]}[{i}]") for i, s in enumerate(group[1]))
            unpacked += [f"{printer.doprint(s)} = {place}" for s, place in places if s in used]

    def body(shared: Sequence[tuple[sp.Symbol, sp.Expr]], results: Sequence[sp.Basic]) -> str:
        lines = [f"  const {', '.join(unpacked)};"] if unpacked else []
        lines += [f"  const {printer.doprint(s)} = {printer.doprint(e)};" for s, e in shared]
        values = ", ".join(printer.doprint(r) for r in results)
        return "\n".join([*lines, f"  return {f'[{values}]' if many else values};"])

    plain = body([], expressions)
    taken = set(names)
    fresh = (s for s in sp.numbered_symbols("c") if s.name not in taken)
    with_shared = body(*sp.cse(expressions, symbols=fresh)) if expressions else plain
    shorter = min(plain, with_shared, key=len)
    return f"function {name}({', '.join(arguments_text)}) {{\n{shorter}\n}}"
