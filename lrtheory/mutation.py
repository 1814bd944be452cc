"""Machine-made wrong formulas: the fixed list of slips that a person makes when typing one.

The list has no exceptions for any claim.  A check that cannot tell a formula from its mutants is no check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import sympy as sp

Edit = Callable[[sp.Expr], Iterator[sp.Expr]]

# pairs of letters that are easily confused, and parameters that are easily replaced by their complement
_PAIRS = (("eta1", "eta2"), ("lam_fast", "lam_slow"), ("eta", "lam"), ("dist", "eta"), ("scale", "eta"))
_COMPLEMENTS = ("beta", "gamma", "q", "tau")


def _positions(expr: sp.Expr, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], sp.Expr]]:
    yield path, expr
    for i, arg in enumerate(expr.args):
        yield from _positions(arg, (*path, i))


def _replaced(expr: sp.Expr, path: tuple[int, ...], new: sp.Expr) -> sp.Expr:
    if not path:
        return new
    args = list(expr.args)
    args[path[0]] = _replaced(args[path[0]], path[1:], new)
    return expr.func(*args)


def _drop_a_factor_two(expr: sp.Expr) -> Iterator[sp.Expr]:
    yield expr * 2
    yield expr / 2


def _flip_a_sign(expr: sp.Expr) -> Iterator[sp.Expr]:
    for path, node in _positions(expr):
        if node.is_Add:
            for i in range(len(node.args)):
                args = list(node.args)
                args[i] = -args[i]
                yield _replaced(expr, path, sp.Add(*args))


def _change_a_constant(expr: sp.Expr) -> Iterator[sp.Expr]:
    for path, node in _positions(expr):
        if node.is_Integer and node > 1:
            yield _replaced(expr, path, node - 1)
            yield _replaced(expr, path, node + 1)


def _letters(expr: sp.Expr) -> list[sp.Expr]:
    """The letters of a formula: of the curvatures their element in a sum, not the name of them all."""
    return sorted(expr.free_symbols - {base.label for base in expr.atoms(sp.IndexedBase)}, key=str)


def _square_a_letter(expr: sp.Expr) -> Iterator[sp.Expr]:
    for s in _letters(expr):
        yield expr.xreplace({s: s**2})
        yield expr.xreplace({s: sp.sqrt(s)})


def _halve_a_letter(expr: sp.Expr) -> Iterator[sp.Expr]:
    for s in _letters(expr):
        yield expr.xreplace({s: s / 2})
        yield expr.xreplace({s: 2 * s})


def _swap_two_letters(expr: sp.Expr) -> Iterator[sp.Expr]:
    letters = {s.name: s for s in expr.free_symbols}
    for a, b in _PAIRS:
        if a in letters and b in letters:
            yield expr.subs({letters[a]: letters[b], letters[b]: letters[a]}, simultaneous=True)


def _take_the_complement(expr: sp.Expr) -> Iterator[sp.Expr]:
    for s in sorted(expr.free_symbols, key=str):
        if s.name in _COMPLEMENTS:
            yield expr.subs(s, 1 - s)


OPERATORS: tuple[Edit, ...] = (
    _drop_a_factor_two,
    _flip_a_sign,
    _change_a_constant,
    _square_a_letter,
    _halve_a_letter,
    _swap_two_letters,
    _take_the_complement,
)


def _lively(expr: sp.Expr) -> sp.Expr:
    made = {sp.Function(f.__name__): f for f in (sp.Min, sp.Max)}
    return expr.replace(lambda e: e.func in made, lambda e: made[e.func](*e.args, evaluate=False))


def mutants(formula: sp.Expr) -> list[sp.Expr]:
    """The distinct formulas that one slip makes of this one.

    >>> from lrtheory.letters import symbols
    >>> eta, lam = symbols("eta lam")
    >>> sp.Integer(2) / lam in mutants(1 / lam)
    True
    """
    # SymPy compares the arguments of a minimum whenever one is made, at length: here they are functions without a rule
    still = formula.replace(sp.Min, sp.Function("Min")).replace(sp.Max, sp.Function("Max"))
    found = dict.fromkeys(m for operator in OPERATORS for m in operator(still))
    return [_lively(m) for m in found if m != still]
