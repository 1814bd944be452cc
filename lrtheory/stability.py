"""When a rule converges, and how fast: read off the matrix by which it multiplies the mean.

E[next state] = A E[state] + b for a rule that is affine in its state.  The mean converges if all eigenvalues of A
lie inside the unit circle; Jury's table turns that into inequalities in the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from itertools import product

import mpmath
import numpy as np
import sympy as sp

from .inputs import named, number, whole
from .moments import _Algebra
from .recursion import Recursion, traced


def moment_map(rec: Recursion, degree: int = 1) -> sp.Matrix:
    """The matrix A of E[next] = A E[now] + lower degrees, for the monomials of this degree in the state.

    Raises `ValueError` if the rule is not affine in its state.

    >>> import lrtheory as lr
    >>> moment_map(lr.trace(lr.optimizers.heavy_ball, lr.landscapes.quadratic()))
    Matrix([
    [-eta*lam + 1, -beta*eta],
    [         lam,      beta]])
    """
    degree, algebra = whole("degree", degree, 1), _Algebra(traced(rec))
    if not algebra.affine:
        raise ValueError(f"the rule {rec.next_state} is not affine in its state: it has no matrix; simulate it")
    size = len(rec.state)
    powers = product(reversed(range(degree + 1)), repeat=size)
    block = [m + (0,) * size for m in powers if sum(m) == degree]
    steps = [algebra.step(m) for m in block]
    return sp.Matrix([[sp.expand(step.get(n, sp.S.Zero)) for n in block] for step in steps])


@cache
def _compiled_map(rec: Recursion, degree: int) -> tuple[list[sp.Symbol], Callable[..., mpmath.matrix]]:
    matrix = moment_map(rec, degree)
    letters = sorted(matrix.free_symbols, key=str)
    return letters, sp.lambdify(letters, matrix, "mpmath")


def _jury(coefficients: list[sp.Expr]) -> list[sp.Expr]:
    """Expressions that are positive exactly when all roots lie in the open unit disc (leading coefficient 1)."""
    positive = []
    while len(coefficients) > 1:
        first, last = coefficients[0], coefficients[-1]
        positive += [first - last, first + last]
        # one row of Jury's table, of one degree less, whose first coefficient is positive where these two are
        row = [first * c - last * d for c, d in zip(coefficients, reversed(coefficients), strict=True)][:-1]
        common = sp.gcd_list(row) if len(row) > 1 else sp.S.One
        coefficients = [sp.cancel(c / common) if common.is_positive else sp.expand(c) for c in row]
    return positive


def stable_when(rec: Recursion, degree: int = 1) -> sp.Basic:
    """The condition on the parameters under which the moments of this degree converge (degree 1: the mean).

    Returns a SymPy relation, or a conjunction of them (the parameters are positive anyway).
    Raises `ValueError` if the rule is not affine in its state.

    >>> import lrtheory as lr
    >>> lr.stable_when(lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic()))
    eta*lam < 2
    >>> lr.stable_when(lr.trace(lr.optimizers.sgd, lr.landscapes.linear_regression()), degree=2)
    (3*eta*lam < 2) & (-3*eta**2*lam**2 + 2*eta*lam < 2)
    """
    z = sp.Dummy("z")
    polynomial = sp.Poly(moment_map(rec, degree).charpoly().all_coeffs(), z)
    conditions: list[sp.Basic] = []
    for factor, _ in sp.factor_list(polynomial.as_expr(), z)[1]:
        lead, *rest = sp.Poly(factor, z).all_coeffs()
        known: list[sp.Expr] = []  # to be positive, once the conditions so far hold
        for expression in _jury([sp.S.One, *(sp.cancel(c / lead) for c in rest)]):
            conditions.append(_positive(expression, known))
    return sp.And(*conditions)


def _positive(expr: sp.Expr, known: list[sp.Expr]) -> sp.Basic:
    """The condition that an expression is positive, written as "sum of products < constant"."""
    sign, factors = sp.factor_list(expr)
    open_factors = []
    for factor, power in factors:
        if power % 2 == 0 or factor.is_positive or factor in known:  # an even power changes no sign
            continue
        if factor.is_negative or sp.expand(-factor) in known:
            sign = -sign
        else:
            open_factors.append(factor)
    product = sp.expand(sp.sign(sign) * sp.Mul(*open_factors))
    known.append(product)
    if product.is_number:
        return sp.true if product.is_positive else sp.false
    constant = product.subs(dict.fromkeys(product.free_symbols, 0))
    return sp.true if product.is_positive else sp.Lt(sp.expand(constant - product), constant)


def moment_radius(rec: Recursion, parameters: Mapping[sp.Symbol | str, float], degree: int) -> float:
    """How much the moments of this degree grow per step: they converge if it is below 1.

    For additive noise it is the mean's factor to that power; for noise that grows with the state it is more, and
    a sample mean of theta**2 has a standard error only where the radius of degree 4 is below 1.
    Raises `ValueError` if the rule is not affine in its state.

    >>> import lrtheory as lr
    >>> lms = lr.trace(lr.optimizers.sgd, lr.landscapes.linear_regression())
    >>> round(moment_radius(lms, {"eta": 0.5, "lam": 1, "sigma": 1}, 4), 4)
    2.5625
    """
    values, (letters, matrix) = named("parameters", parameters), _compiled_map(rec, degree)
    if missing := [s.name for s in letters if s.name not in values]:
        raise ValueError(f"the growth depends on {', '.join(missing)}: give a value for each")
    at = [number(s.name, values[s.name]) for s in letters]
    eigenvalues = np.linalg.eigvals(np.array(matrix(*at).tolist(), dtype=float))
    distances = abs(np.subtract.outer(eigenvalues, eigenvalues)) + np.diag(np.full(len(eigenvalues), np.inf))
    if np.min(distances) < 0.01 * np.max(abs(eigenvalues)):  # nearly equal ones take most digits with them
        with mpmath.workdps(60):
            eigenvalues, _ = mpmath.eig(matrix(*map(mpmath.mpf, at)))
    return float(max(map(abs, eigenvalues)))


def contraction(rec: Recursion, parameters: Mapping[sp.Symbol | str, float]) -> float:
    """The factor by which the mean's distance to its limit shrinks per step, in the long run.

    >>> import lrtheory as lr
    >>> rec = lr.trace(lr.optimizers.heavy_ball, lr.landscapes.quadratic())
    >>> round(contraction(rec, {"eta": 1, "lam": 1, "beta": 0.25}), 12)
    0.5
    """
    return moment_radius(rec, parameters, 1)


def spirals_when(rec: Recursion) -> sp.Basic:
    """The condition under which a rule of two states turns as it converges: complex eigenvalues.

    >>> import lrtheory as lr
    >>> spirals_when(lr.trace(lr.optimizers.heavy_ball, lr.landscapes.quadratic()))
    (beta - eta*lam + 1)**2 < 4*beta
    """
    matrix = moment_map(rec)
    if matrix.shape != (2, 2):
        raise ValueError(f"the rule has {len(rec.state)} states: whether it spirals is decided for two")
    return sp.Lt(sp.factor(matrix.trace()) ** 2, sp.factor(4 * matrix.det()))
