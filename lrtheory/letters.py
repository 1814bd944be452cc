"""The letters of the theory, each fixed once: `symbol("eta")` is the same object everywhere.

Parameters are positive; states are real; steps are whole numbers.  A name that is not in the table becomes a
real symbol, so that a new landscape can use its own letters.
"""

from __future__ import annotations

from functools import cache

import sympy as sp
from sympy.printing.latex import LatexPrinter

_POSITIVE = {
    "eta": r"\eta",
    "eta1": r"\eta_1",
    "eta2": r"\eta_2",
    "eta0": r"\eta_0",
    "lam": r"\lambda",
    "lam_fast": r"\lambda_{\mathrm f}",
    "lam_slow": r"\lambda_{\mathrm s}",
    "sigma": r"\sigma",
    "gamma": r"\gamma",
    "second_moment": "M",
    "mean_squared_gradient": "G",
    "mean_squared_update": "U",
    "noise_variance": "C",
    "slow_excess": "e",
    "slow_excess0": "e_0",
    "target": r"L^{\star}",
    "dist": "D",
    "scale": "s",
    "h_sharp": r"h_{\mathrm s}",
    "h_flat": r"h_{\mathrm f}",
    "distance": "d_0",
    "c": "c",
    "t0": "t_0",
    "decay": r"\gamma",
    "variance": r"\sigma_{\mathrm p}^2",
    "h1": "h_1",
    "h2": "h_2",
    "x": "x",
    "mu": r"\mu",
    "big_l": "L",
    "factor": "c",
    "p": "p",
    "s": "s",
    "b2": "{b^2}",
    "nu": r"\nu",
    "radius": "R",
    "g": "G",
    "width": "w",
}
_NONNEGATIVE = {"beta": r"\beta", "q": "q", "tau_level": r"\tau"}
_STEPS = {"t": "t", "k": "k", "steps": "T", "horizon": "T", "lag": "k", "tau": r"\tau", "j": "j"}
_COUNTS = {"n": "n", "batch": "B", "dim": "d"}  # 1 or more
_REAL = {
    "theta": r"\theta",
    "theta0": r"\theta_0",
    "v": "v",
    "u": "u",
    "total": "S",
    "xi": r"\xi",
    "chi": r"\chi",
    "average": r"\bar\theta",
    "kurtosis": r"\kappa",
    "skewness": r"\kappa_3",
    "a1": "a_1",
    "a2": "a_2",
}
LATEX = {**_POSITIVE, **_NONNEGATIVE, **_STEPS, **_COUNTS, **_REAL}


@cache
def symbol(name: str) -> sp.Symbol:
    """The symbol of that name with the assumptions that the theory makes about it.

    >>> symbol("eta").is_positive, symbol("t").is_integer, symbol("theta").is_real
    (True, True, True)
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise TypeError(f"{name!r} is no name of a letter: give a word, for instance 'eta'")
    if name in _POSITIVE or name.startswith("lam_"):  # lam_1, lam_2 …: the curvatures of several coordinates
        return sp.Symbol(name, positive=True)
    if name in _NONNEGATIVE:
        return sp.Symbol(name, nonnegative=True)
    if name in _STEPS:
        return sp.Symbol(name, integer=True, nonnegative=True)
    if name in _COUNTS:
        return sp.Symbol(name, integer=True, positive=True)
    return sp.Symbol(name, real=True)


def symbols(names: str) -> tuple[sp.Symbol, ...]:
    """Several letters at once: `eta, lam = symbols("eta lam")`.

    >>> symbols("eta lam")
    (eta, lam)
    """
    if not isinstance(names, str):
        raise TypeError(f"{names!r} are no names of letters: give words in one text, for instance 'eta lam'")
    return tuple(symbol(name) for name in names.split())


class _Printer(LatexPrinter):
    """Prints a formula the way it was typed: constants first, |1 - x| rather than |x - 1|."""

    def _print_Abs(self, expr: sp.Abs, exp: str | None = None) -> str:
        inner = expr.args[0]
        text = rf"\left|{self._print(-inner if inner.as_coeff_Add()[0].is_negative else inner)}\right|"
        return f"{text}^{{{exp}}}" if exp else text

    def _as_ordered_terms(self, expr: sp.Add, order: str | None = None) -> list[sp.Expr]:
        return sorted(super()._as_ordered_terms(expr, order), key=lambda term: term.as_coeff_Mul()[0].is_negative)

    def _print_log(self, expr: sp.log, exp: str | None = None) -> str:
        if not isinstance(expr.args[0], sp.Abs):
            return super()._print_log(expr, exp)
        return rf"\ln{f'^{{{exp}}}' if exp else ''}{self._print(expr.args[0])}"

    def _print_Indexed(self, expr: sp.Indexed) -> str:
        return rf"\lambda_{{{self._print(expr.indices[0])}}}"

    def _print_AppliedUndef(self, expr: sp.Expr) -> str:  # the name by which SymPy asks for functions of ours
        return r"\lambda_{\max}" if expr.func.__name__ == "max" else self._print_Function(expr)


def latex(expr: sp.Basic) -> str:
    """The expression as LaTeX in the book's letters.

    >>> eta, lam = symbols("eta lam")
    >>> latex(eta / (2 * (2 - eta * lam)))
    '\\\\frac{\\\\eta}{2 \\\\left(2 - \\\\eta \\\\lambda\\\\right)}'
    """
    # SymPy multiplies 2 * (2 - x) out as soon as it is typed; a common factor below the line is taken out again
    shown = expr.replace(
        lambda e: e.is_Pow and e.base.is_Add and e.exp.is_negative,
        lambda e: sp.Mul(*(part**e.exp for part in e.base.as_content_primitive())),
    )
    names = {s: LATEX[s.name] for s in shown.free_symbols if s.name in LATEX}
    return _Printer({"symbol_names": names, "order": "none", "ln_notation": True}).doprint(shown)
