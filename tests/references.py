"""What a claim is about, computed again: moments of the traced rules in many digits, from numbers and no formula.

Only `trace` is taken from the package.  A rule that is a polynomial in its state and its noise takes the moments of
the state to those of the next state; `moments` multiplies this out, power by power, and solves or iterates.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache, wraps
from itertools import product
from math import prod

import mpmath
import sympy as sp
from mpmath import mpf

from lrtheory.early_stopping import OnFixedData
from lrtheory.expectation import ETA, WAS, Expectation, atoms
from lrtheory.ledger import over_modes, written_out
from lrtheory.recursion import Recursion

DIGITS = 100
AGREE = mpf("1e-30")  # of two ways to the same number in that many digits: what steps and solves may lose in them
NOTHING = mpf("1e-60")  # beside what any number here is made of: two ways to a sum that cancels agree relative to it
OTHER = mpf(3) / 7  # of letters that must not matter, such as the skewness of the noise


def many_digits(function):
    """The function with its arithmetic in many digits."""

    @wraps(function)
    def wrapped(*args, **kwargs):
        with mpmath.workdps(DIGITS):
            return function(*args, **kwargs)

    return wrapped


@many_digits
def number(value):
    """A Fraction, a float, a SymPy number or an int in many digits, exactly if it is a float or a fraction."""
    if isinstance(value, sp.Basic):
        value = written_out(value)
        return mpf(int(value.p)) / int(value.q) if value.is_Rational else mpmath.mpmathify(sp.N(value, DIGITS))
    return mpf(value.numerator) / value.denominator if hasattr(value, "numerator") else mpf(value)


@many_digits
def at_numbers(values):
    """Parameters in many digits, by name; several curvatures also as lam_1, lam_2 …"""
    numbers = {k: number(v) for k, v in values.items() if k != "lams" and not isinstance(v, str)}
    return numbers | {f"lam_{i + 1}": number(c) for i, c in enumerate(values.get("lams", ()))}


@cache
def _compiled(expressions):
    letters = sorted(set().union(*(e.free_symbols for e in expressions)), key=str)
    return letters, sp.lambdify(letters, list(expressions), "mpmath")


def evaluate(expr, at):
    """The expression at numbers, in many digits."""
    return evaluate_all((sp.sympify(expr),), at)[0]


@many_digits
def evaluate_all(expressions, at):
    letters, function = _compiled(tuple(expressions))
    return [
        mpf(x) if isinstance(x, int) else number(x) if isinstance(x, sp.Basic) else x
        for x in function(*(at.get(s.name, OTHER) for s in letters))
    ]


@many_digits
def typed(claim, values, formula=None):
    """The claim's formula at these values, in many digits."""
    curvatures = [sp.Rational(Fraction(c)) for c in values.get("lams", ())]  # in a formula a float has 15 digits
    formula = over_modes(claim.formula if formula is None else formula, curvatures)
    at = at_numbers(values)
    whole = {s: int(at[s.name]) for s in formula.free_symbols if s.is_integer}  # sums and products are written out
    formula = formula.subs(whole).replace(
        lambda e: isinstance(e, (sp.Product, sp.Sum)),
        lambda e: (sp.Mul if isinstance(e, sp.Product) else sp.Add)(
            *(e.function.subs(e.limits[0][0], k) for k in range(int(e.limits[0][1]), int(e.limits[0][2]) + 1))
        ),
    )
    return evaluate(formula, at)


@cache
def _rule(rec):
    """Each next state as (powers of the state, powers of the noise, coefficient) and the coefficients' expressions."""
    generators = (*rec.state, *(s for s, _ in rec.noises))
    terms = [sp.Poly(f, *generators).terms() for f in rec.next_state]
    size = len(rec.state)
    return (
        [[(powers[:size], powers[size:]) for powers, _ in each] for each in terms],
        tuple(c for each in terms for _, c in each),
    )


class Moving:
    """The moments of a traced rule at numbers: `now[powers]`, from a point, a step or the long run at a time."""

    def __init__(self, rec: Recursion, at):
        self.rec = rec
        monomials, coefficients = _rule(rec)
        numbers = iter(evaluate_all(coefficients, at))
        self.rule = [[(*powers, next(numbers)) for powers in each] for each in monomials]
        self.noise = [cache(lambda n, law=law: evaluate(law.moment(n), at)) for _, law in rec.noises]

    def step(self, powers):
        """The mean of a monomial of the next state, as the coefficients of this state's monomials."""
        total = {((0,) * len(self.rec.state), (0,) * len(self.noise)): mpf(1)}
        for polynomial, power in zip(self.rule, powers, strict=True):
            for _ in range(power):
                out = {}
                for (a, b), c in total.items():
                    for d, e, f in polynomial:
                        key = tuple(map(sum, zip(a, d, strict=True))), tuple(map(sum, zip(b, e, strict=True)))
                        out[key] = out.get(key, 0) + c * f
                total = out
        mean = {}
        for (state, noise), c in total.items():
            weight = prod((moment(n) for moment, n in zip(self.noise, noise, strict=True)), start=mpf(1))
            if weight:
                mean[state] = mean.get(state, 0) + c * weight
        return {state: c for state, c in mean.items() if c}

    def closure(self, wanted):
        steps, queue = {}, [p for p in wanted if any(p)]
        while queue:
            powers = queue.pop()
            if powers not in steps:
                steps[powers] = self.step(powers)
                queue += [p for p in steps[powers] if any(p)]
        return steps


def at_point(start):
    """The moments of a run that starts at a point."""
    start = tuple(start)
    return lambda powers: prod((x**p for x, p in zip(start, powers, strict=True)), start=mpf(1))


@many_digits
def after_steps(rec, at, wanted, start, count):
    """The wanted moments after so many steps from a law that `start` gives the moments of."""
    moving = Moving(rec, at)
    steps = moving.closure(wanted)
    nothing = (0,) * len(rec.state)
    now = {p: start(p) for p in steps} | {nothing: mpf(1)}
    for _ in range(count):
        now = {p: mpmath.fsum(c * now[q] for q, c in steps[p].items()) for p in steps} | {nothing: mpf(1)}
    return now


@many_digits
def long_run(rec, at, wanted):
    """The wanted moments that a step leaves as they are."""
    moving = Moving(rec, at)
    steps = moving.closure(wanted)
    nothing = (0,) * len(rec.state)
    order = list(steps)
    index = {p: i for i, p in enumerate(order)}
    matrix, right = mpmath.eye(len(order)), mpmath.zeros(len(order), 1)
    for i, p in enumerate(order):
        for q, c in steps[p].items():
            if q == nothing:
                right[i] += c
            else:
                matrix[i, index[q]] -= c
    solved = mpmath.lu_solve(matrix, right) if order else []
    return {p: solved[i] for i, p in enumerate(order)} | {nothing: mpf(1)}


def _terms(observable, state, at):
    terms = sp.Poly(observable, *state).terms()
    return dict(zip([p for p, _ in terms], evaluate_all([c for _, c in terms], at), strict=True))


@many_digits
def expectation(e: Expectation, at, settled=None):
    """An expectation of the package, in many digits; `settled`: so many steps stand for an endless phase."""
    run = e.run
    rec = run.recursion
    phases = [(evaluate(rate, at), n if n is sp.oo else int(evaluate(n, at))) for rate, n in run.phases]
    starts = {x: evaluate(v, at) for x, v in run.starts.items()}
    remembered = WAS in e.observable.free_symbols
    # backwards, which moments each phase must hand over
    recs = [rec] * len(phases)
    if remembered:
        recs[-1] = rec.remembering()
    wanted = list(_terms(e.observable, recs[-1].state, at))
    degree = max(map(sum, wanted))
    everything = [p for p in product(range(degree + 1), repeat=len(rec.state)) if 0 < sum(p) <= degree]
    law = at_point([starts.get(x, mpf(0)) for x in rec.state])
    for i, (rate, count) in enumerate(phases):
        here = at | {ETA.name: rate}
        last = i == len(phases) - 1
        asked = wanted if last else everything
        if last and remembered:
            half, before = len(rec.state), law

            def law(p, half=half, before=before):
                return before(tuple(a + b for a, b in zip(p[:half], p[half:], strict=True)))

        if count is sp.oo and settled is None:
            table = long_run(recs[i], here, asked)
        else:
            table = after_steps(recs[i], here, asked, law, settled if count is sp.oo else count)
        law = table.__getitem__
    return mpmath.fsum(c * law(p) for p, c in _terms(e.observable, recs[-1].state, at).items())


@many_digits
def on_fixed_data(e: OnFixedData, at):
    """The noise is drawn once: the run is followed as a polynomial in it, which is affine for an affine rule."""
    run = e.run
    (xi, law), *more = run.noises
    (theta,) = run.rule[1].coordinates
    assert not more
    (rule,) = (f for s, f in zip(run.recursion.state, run.recursion.next_state, strict=True) if s is theta)
    letters, step = _compiled((rule,))
    ends = []
    for draw in (mpf(0), mpf(1)):
        x = evaluate(run.start, at)
        here = at | {xi.name: draw}
        for _ in range(int(evaluate(run.steps, at))):
            here[theta.name] = x
            (x,) = step(*(here[s.name] for s in letters))
        ends.append(x)
    fixed, slope = ends[0], ends[1] - ends[0]
    line = sp.Symbol("fixed", real=True) + sp.Symbol("slope", real=True) * xi
    terms = _terms(sp.expand(e.observable.subs(theta, line)), (xi,), at | {"fixed": fixed, "slope": slope})
    return mpmath.fsum(c * evaluate(law.moment(p), at) for (p,), c in terms.items())


def read(atom, at):
    """A reading of the package, in many digits; `NotImplementedError` for those that have references of their own."""
    if isinstance(atom, OnFixedData):
        return on_fixed_data(atom, at)
    if type(atom) is not Expectation:
        raise NotImplementedError(f"{atom} is not a moment")
    return expectation(atom, at)


@cache
def _with_places(expr):
    """An expression of readings with letters for the readings."""
    places = {e: sp.Symbol(f"reading_{i}", real=True) for i, e in enumerate(atoms(expr))}
    return expr.xreplace(places), tuple((s.name, e) for e, s in places.items())


@many_digits
def about(expr, at):
    """An expression of readings at numbers, in many digits."""
    smooth, places = _with_places(expr)
    return evaluate(smooth, at | {name: read(e, at) for name, e in places})


@many_digits
def same(found, expected, within=AGREE, scale=0):
    """Whether two numbers agree, relative to the larger (or to the scale of what they are made of)."""
    found, expected = (x if isinstance(x, mpf) else mpmath.mpmathify(x) for x in (found, expected))
    if mpmath.isinf(found) or mpmath.isinf(expected):
        return found == expected
    return abs(found - expected) <= within * max(abs(found), abs(expected), abs(scale))
