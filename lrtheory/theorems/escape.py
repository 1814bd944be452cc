"""Leaving a valley: large steps and large noise on the double well, and gradient descent on two parabolas.

The double well (theta**2 - 1)**2 / 4 has its minima at -1 and 1, where the curvature is 2, and a ridge at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import sympy as sp

from ..expectation import THETA as theta
from ..expectation import WAS, AnyPhase, E, Rule
from ..first_passage import escape_time, steps_until
from ..landscapes import XI, double_well, two_valleys
from ..ledger import Claim, Condition, Rival, Root
from ..letters import symbols
from ..optimizers import sgd
from ..recursion import trace

eta, sigma, theta0, t, slope = symbols("eta sigma theta0 t slope")
h_sharp, h_flat, distance = symbols("h_sharp h_flat distance")
R, oo, sqrt = sp.Rational, sp.oo, sp.sqrt
WELL: Rule = (sgd, double_well())
loss = double_well().loss


def with_slope(theta: Any, slope: Any, *, grad: Any, eta: Any) -> Any:
    """SGD, traced, that carries the slope of the steps so far along, minus 1: a memory starts at 0."""
    g = grad(theta)
    return theta - eta * g, (1 + slope) * (1 - eta * sp.diff(g, theta)) - 1


SLOPE: Rule = (with_slope, double_well())


def _step(position: sp.Expr) -> sp.Expr:
    """The traced rule without noise, from this position."""
    (rule,) = trace(*WELL).next_state
    return rule.subs({theta: position, XI: 0}, simultaneous=True)


@cache
def _in_floats() -> Callable[..., Any]:
    """The traced rule for floats: step(theta, eta, push), where the push takes the place of the noise."""
    (rule,) = trace(*WELL).next_state
    return sp.lambdify((theta, eta, XI), rule.subs(sigma, 1), "numpy")


def _bisected(happens: Callable[[float], bool], low: float, high: float, times: int) -> float:
    """Where something begins to happen."""
    for _ in range(times):
        middle = (low + high) / 2
        low, high = (low, middle) if happens(middle) else (middle, high)
    return (low + high) / 2


# --- large steps without noise -----------------------------------------------------------------------------------

_half_sum, _half_gap = sqrt(1 + 3 / eta) / 2, sqrt(1 - 1 / eta) / 2
_high, _low = _half_sum + _half_gap, _half_sum - _half_gap
CYCLE_EXISTS = Condition(eta > 1, "below it gradient descent converges to the minimum; raise eta above 1")
# a rate at which both points of the cycle are rational: 5/7 and 8/7
AT = {"eta": R(49, 40)}


def _cycle(*residuals: sp.Expr) -> list[sp.Expr]:
    """The two points are mapped to each other, and two steps have no other fixed points than these and the known."""
    known = theta * (theta**2 - 1) * (theta**2 - 1 - 2 / eta)  # fixed, or mapped to their negatives
    others = sp.expand(sp.prod(theta - sign * x for x in (_high, _low) for sign in (1, -1)))
    return [
        _step(_high) - _low,
        _step(_low) - _high,
        sp.expand(_step(_step(theta)) - theta - eta**4 * known * others),
        *residuals,
    ]


@cache
def _settled() -> tuple[float, float, float, float]:
    """Gradient descent in 80 digits: the cycle that it settles on at the rate 6/5, its contraction, its mean loss."""
    import mpmath

    with mpmath.workdps(80):
        step = sp.lambdify(theta, _step(theta).subs(eta, R(6, 5)), "mpmath")
        height = sp.lambdify(theta, loss, "mpmath")
        orbit = [mpmath.mpf("0.9")]
        for _ in range(400):
            orbit.append(step(orbit[-1]))
        moved = orbit[202] - orbit[200], orbit[204] - orbit[202]
        low, high = sorted(orbit[-2:])
        return float(high), float(low), float(moved[1] / moved[0]), float((height(high) + height(low)) / 2)


def _observed(which: int) -> Callable[[Claim], tuple[float, float, float]]:
    return lambda claim: (float(claim(eta=R(6, 5))), _settled()[which], 1e-12)


_SETTLING = "a run in 80 digits from beside the cycle"
_two_steps = E(theta, (eta, 2), rule=WELL, start=theta0, sigma=0) - theta0
two_cycle_high = Claim(
    id="escape.two_cycle_high",
    says="Above the rate 1 gradient descent jumps back and forth across the minimum: the outer of its two points.",
    lhs=r"\theta_+",
    parameters=("eta",),
    formula=_high,
    about=_two_steps,
    relation=Root("theta0"),
    conditions=(CYCLE_EXISTS,),
    rivals=(Rival(1 + _half_gap, "centered on the minimum"),),
    settings=AT,
    derivation=_cycle,
    outside=_observed(0),
    outside_source=_SETTLING,
    simulable=False,
    source="The period of {cite:t}`chen2024stability`; it attracts up to {eq}`escape.two_cycle_limit`.",
)
two_cycle_low = Claim(
    id="escape.two_cycle_low",
    says="The inner point of the two-cycle, nearer to the ridge.",
    lhs=r"\theta_-",
    parameters=("eta",),
    formula=_low,
    about=_two_steps,
    relation=Root("theta0"),
    conditions=(CYCLE_EXISTS,),
    rivals=(Rival(1 - _half_gap, "centered on the minimum"),),
    settings=AT,
    derivation=_cycle,
    outside=_observed(1),
    outside_source=_SETTLING,
    simulable=False,
    source="One step from {eq}`escape.two_cycle_high`.",
)


def _slope(position: sp.Expr) -> sp.Expr:
    return sp.diff(_step(theta), theta).subs(theta, position)


_multiplier = 9 - 2 * (1 + eta) ** 2
two_cycle_multiplier = Claim(
    id="escape.two_cycle_multiplier",
    says="What two steps make of a small distance from the two-cycle: it attracts while this lies between -1 and 1.",
    lhs="m",
    parameters=("eta",),
    formula=_multiplier,
    about=1 + E(slope, (eta, 2), rule=SLOPE, start=_high, sigma=0),
    conditions=(CYCLE_EXISTS,),
    rivals=(Rival((1 - 2 * eta) ** 2, "the slope at the minimum, twice"),),
    settings=AT,
    derivation=lambda: _cycle(_slope(_high) * _slope(_low) - _multiplier),
    outside=_observed(2),
    outside_source=_SETTLING,
    simulable=False,
    source="The product of the slopes of the two steps.",
)
_cycle_loss = (1 - 1 / eta**2) / 8
two_cycle_loss = Claim(
    id="escape.two_cycle_loss",
    says="The mean loss on the two-cycle: a floor without any noise.",
    lhs=r"\bar L",
    parameters=("eta",),
    formula=_cycle_loss,
    about=E((loss + loss.subs(theta, WAS)) / 2, (eta, 0), (eta, 1), rule=WELL, start=_high, sigma=0),
    conditions=(CYCLE_EXISTS,),
    rivals=(Rival((1 - 1 / eta) / 4, "half the distance of the two points, on the parabola of the minimum"),),
    settings=AT,
    derivation=lambda: _cycle((loss.subs(theta, _high) + loss.subs(theta, _low)) / 2 - _cycle_loss),
    outside=_observed(3),
    outside_source=_SETTLING,
    simulable=False,
    source="The loss at the two points, averaged.",
)
_flat_enough = sp.S.One
minimum_limit = Claim(
    id="escape.minimum_limit",
    says="Up to this rate the minimum attracts: 2 over its curvature, which is 2.",
    lhs=r"\eta_1",
    parameters=(),
    formula=_flat_enough,
    about=2 + E(slope, (eta, 1), rule=SLOPE, start=1, sigma=0),
    relation=Root("eta"),
    rivals=(Rival(sp.Integer(2), "2 over a curvature of 1"),),
    settings={},
    derivation=lambda: [_step(sp.S.One) - 1, _slope(sp.S.One).subs(eta, _flat_enough) + 1],
    simulable=False,
    source="The slope of a step at the minimum reaches -1.",
)


@cache
def _where_the_period_doubles(claim: Claim) -> tuple[float, float, float]:
    """The rate at which alternate visits of a settled run begin to differ; the square of the gap starts linearly."""
    rates = np.array([1.238, 1.24, 1.242, 1.244])
    x = np.full(4, 0.9)
    step = _in_floats()
    for _ in range(4000):
        x = step(x, rates, 0)
    gap = (step(step(x, rates, 0), rates, 0) - x) ** 2
    fit = np.polynomial.Polynomial.fit(gap, rates, 3)  # the rate as a function of the square: its value at 0
    return float(claim()), float(fit(0.0)), 1e-5


_doubling = sqrt(5) - 1
two_cycle_limit = Claim(
    id="escape.two_cycle_limit",
    says="Up to this rate the two-cycle attracts; above it the period doubles, again and again.",
    lhs=r"\eta_2",
    parameters=(),
    formula=_doubling,
    rivals=(Rival(3 / sqrt(2) - 1, "where the multiplier vanishes"),),
    settings={},
    derivation=lambda: [_multiplier.subs(eta, _doubling) + 1],
    outside=_where_the_period_doubles,
    outside_source="the gap of alternate visits of settled runs, extrapolated to 0",
    source="{eq}`escape.two_cycle_multiplier` reaches -1.",
)


@cache
def _first_rate(goal: Callable[[np.ndarray], np.ndarray], low: float, high: float) -> float:
    """The lowest rate at which one of many runs from inside a well reaches a goal, by bisection."""
    step = _in_floats()

    def reached(rate: float) -> bool:
        x = np.linspace(0.1, 1.1, 512)
        for _ in range(800):
            x = step(x, rate, 0)
            if goal(x).any():
                return True
        return False

    return _bisected(reached, low, high, 25)


def _changed_sides(x: np.ndarray) -> np.ndarray:
    return x < 0


def _far_away(x: np.ndarray) -> np.ndarray:
    return abs(x) > 10


_crest = sqrt((1 + eta) / (3 * eta))  # where a step lands farthest to the right
_hopping = 3 * sqrt(3) / 2 - 1
hopping_limit = Claim(
    id="escape.hopping_limit",
    says="Above this rate plain gradient descent hops from one well to the other, from almost every start in a well.",
    lhs=r"\eta_3",
    parameters=(),
    formula=_hopping,
    rivals=(
        Rival(_doubling, "where the two-cycle ceases to attract"),
        Rival(sp.Integer(2), "where gradient descent diverges"),
    ),
    settings={},
    # The positive points from which a step stays positive end at sqrt(1 + 1 / eta).  Until the farthest landing
    # reaches that end, the interval is mapped into itself; above, a start near the crest lands beyond it.
    derivation=lambda: [
        _slope(_crest),
        _step(sqrt(1 + 1 / eta)),
        _step(_crest) ** 2 - (1 + 1 / eta) * 4 * (1 + eta) ** 2 / 27,
        (4 * (1 + eta) ** 2 / 27 - 1).subs(eta, _hopping),
    ],
    outside=lambda claim: (float(claim()), _first_rate(_changed_sides, 1.3, 1.9), 1e-6),
    outside_source="the lowest rate at which a run changes sides, by bisection",
    source=(
        "The farthest landing reaches the outer end of the well. Beyond, no cycle inside a well attracts, since one "
        "would attract the crest {cite:p}`singer1978stable`."
    ),
)
_divergence = sp.Integer(2)
divergence_limit = Claim(
    id="escape.divergence_limit",
    says="Above this rate gradient descent diverges, from almost every start.",
    lhs=r"\eta_4",
    parameters=(),
    formula=_divergence,
    rivals=(
        Rival(_flat_enough, "2 over the curvature of the minimum"),
        Rival(_hopping, "where gradient descent begins to hop"),
    ),
    settings={},
    # Points beyond sqrt(1 + 2 / eta), which is mapped to its negative, run away.  The farthest landing squared over
    # that end squared is 4 (1 + eta)^3 / (27 (2 + eta)): less than 1 below eta = 2, more above.
    derivation=lambda: [
        _slope(_crest),
        _step(sqrt(1 + 2 / eta)) + sqrt(1 + 2 / eta),
        _step(_crest) ** 2 - (1 + 2 / eta) * 4 * (1 + eta) ** 3 / (27 * (2 + eta)),
        4 * (1 + eta) ** 3 - 27 * (2 + eta) - (eta - _divergence) * (2 * eta + 5) ** 2,
    ],
    outside=lambda claim: (float(claim()), _first_rate(_far_away, 1.7, 2.6), 1e-6),
    outside_source="the lowest rate at which a run leaves for infinity, by bisection",
    source="The farthest landing reaches the points from which steps lead outwards for ever.",
)

# --- chaos at the rate 2 -------------------------------------------------------------------------------------------

_angle = sp.Symbol("phi", real=True)
_tripled = sqrt(2) * sp.sin(3 * _angle)
_position = sqrt(2) * sp.sin(3**t * sp.asin(theta0 / sqrt(2)))


def _tripling() -> sp.Expr:
    """At the rate 2 a step from sqrt(2) sin(phi) leads to sqrt(2) sin(3 phi)."""
    return sp.expand(sp.expand_trig(_step(sqrt(2) * sp.sin(_angle)).subs(eta, 2) - _tripled))


@cache
def _followed(claim: Claim) -> tuple[list[float], list[float], float]:
    """The orbit in fractions for five steps and in 120 digits for a hundred, which triple an error 48 digits up."""
    import mpmath

    assert claim.formula is not None
    (start, steps), step = claim.settings.values(), sp.lambdify(theta, _step(theta).subs(eta, 2), "mpmath")
    found, expected = [], []
    with mpmath.workdps(120):
        x: Any = sp.Rational(start)
        for _ in range(steps):
            x = _step(x).subs(eta, 2)
        y = mpmath.mpf(start.p) / start.q
        for _ in range(100):
            y = step(y)
        for value, after in ((x, steps), (y, 100)):
            found.append(float(sp.N(claim.formula.subs({theta0: start, t: after}), 30)))
            expected.append(float(value))
    return found, expected, 1e-13


chaos_position = Claim(
    id="escape.chaos_position",
    says="At the rate 2 the run is chaotic, and yet known in closed form: each step triples an angle.",
    lhs=r"\theta_t",
    parameters=("theta0", "t"),
    formula=_position,
    conditions=(Condition(sp.Abs(theta0) <= sqrt(2), "from there the run diverges; start between -sqrt(2), sqrt(2)"),),
    rivals=(
        Rival(_position.subs(3**t, 2**t), "an angle doubled, as for the logistic map"),
        Rival(_position.subs(3**t, 3 * t), "an angle that grows linearly"),
    ),
    settings={"theta0": R(1, 3), "t": 5},
    derivation=lambda: [_tripling(), _position.subs(t, 0) - theta0],
    outside=_followed,
    outside_source="the orbit in fractions and in 120 digits",
    source="The cubic Chebyshev polynomial; {cite:t}`ulam1947combination` for the quadratic one.",
)
_chaotic = R(1, 8)
chaos_loss = Claim(
    id="escape.chaos_loss",
    says="The mean loss of this chaos, from almost every start: half of the loss on the ridge.",
    lhs=r"\overline{L}",
    parameters=(),
    formula=_chaotic,
    # Angles are forgotten threefold each step.  Few steps do, and more would give rounding the time to push one of
    # the chains over the end of the interval.
    about=E(loss, (2, oo), rule=WELL, start=AnyPhase(sp.S.One), sigma=0, settle=15),
    rivals=(
        Rival(R(7, 60), "positions spread evenly"),
        Rival(R(3, 32), "the two-cycle, which no longer attracts"),
    ),
    settings={},
    derivation=lambda: [
        _tripling(),  # it leaves an even spread of the angle as it is
        sp.integrate(loss.subs(theta, sqrt(2) * sp.sin(_angle)), (_angle, 0, 2 * sp.pi)) / (2 * sp.pi) - _chaotic,
    ],
    enumerable=False,
    source="The angle of {eq}`escape.chaos_position` is spread evenly in the long run.",
)

# --- noise over the ridge ------------------------------------------------------------------------------------------

_kramers = sp.pi * sqrt(2) / eta * sp.exp(1 / (2 * eta * sigma**2))


def _laplace() -> list[sp.Expr]:
    # The run is a diffusion of temperature eps = eta sigma^2 / 2 in the time eta t, whose mean passage is 1 / eps
    # times the integral of exp(L / eps) over the ridge times that of exp(-L / eps) over the well.
    x, curvature = sp.Symbol("x", real=True), sp.Symbol("c", positive=True)
    eps = eta * sigma**2 / 2
    bell = sp.integrate(sp.exp(-curvature * x**2 / (2 * eps)), (x, -oo, oo))
    well, ridge = (sp.Abs(sp.diff(loss, theta, 2).subs(theta, at)) for at in (-1, 0))
    height = loss.subs(theta, 0) - loss.subs(theta, -1)
    passage = bell.subs(curvature, well) * bell.subs(curvature, ridge) * sp.exp(height / eps) / eps
    return [sp.simplify(passage / eta / _kramers - 1)]


@cache
def _as_the_rate_vanishes(claim: Claim) -> tuple[float, float, float]:
    """The formula, and the exact time without its relative error of order eta, which an extrapolation removes.

    Two and three rates extrapolate the ratio of exact to typed to 1 with a difference of about 1e-4 between them.
    """
    rate, noise = (float(claim.settings[name]) for name in ("eta", "sigma"))
    at = [escape_time(rate / 2**i, noise) / claim(eta=rate / 2**i, sigma=noise) for i in range(3)]
    typed = claim(eta=rate, sigma=noise)
    return typed, typed * (at[0] - 6 * at[1] + 8 * at[2]) / 3, 3e-4


kramers_time = Claim(
    id="escape.kramers_time",
    says="Gaussian noise carries SGD over the ridge, from one minimum to the other, after this many steps on average.",
    lhs=r"\mathbb{E}[T]",
    parameters=("eta", "sigma"),
    formula=_kramers,
    rivals=(
        Rival(_kramers / 2, "the time to the ridge, from where half of the runs fall back"),
        Rival(sp.pi * sqrt(2) / eta * sp.exp(1 / (eta * sigma**2)), "the variance of the noise not halved"),
    ),
    settings={"eta": R(3, 50), "sigma": R(4, 5)},
    derivation=_laplace,
    outside=_as_the_rate_vanishes,
    outside_source="the exact time by its integral equation at three rates, extrapolated",
    source=(
        "{cite:t}`kramers1940brownian`. A limit: the relative error is of order η at fixed σ; "
        "`lrtheory.escape_time` gives the exact number."
    ),
)
_threshold = 2 / (3 * sqrt(3))


@cache
def _least_push(claim: Claim) -> tuple[float, float, float]:
    """The least constant push that takes a run over the ridge: no sequence of signs is faster."""
    step = _in_floats()

    def escapes(push: float) -> bool:
        x = -1.0
        for _ in range(20_000):
            x = step(x, 0.3, -push)
            if x > 0:
                return True
        return False

    return float(claim()), _bisected(escapes, 0.3, 0.5, 25), 1e-6


escape_threshold = Claim(
    id="escape.escape_threshold",
    says="Noise that is bounded by less than this never leaves its well, at any rate up to 1/3.",
    lhs=r"s^\star",
    parameters=(),
    formula=_threshold,
    rivals=(
        Rival(R(1, 4), "the height of the ridge over the distance to it"),
        Rival(sp.S.One, "the slope that the curvature of the ridge would give at the minimum"),
    ),
    settings={},
    # The steepest slope between minimum and ridge is the threshold.  Pushed by less, both ways, a run from -1 stays
    # between two rest points, the left one at -2/sqrt(3) or right of it; a step keeps the order of two runs right of
    # there for rates up to 1/3, so that no mixture of pushes goes beyond.
    derivation=lambda: [
        sp.diff(loss, theta, 2).subs(theta, -1 / sqrt(3)),
        sp.diff(loss, theta).subs(theta, -1 / sqrt(3)) - _threshold,
        sp.diff(loss, theta).subs(theta, -2 / sqrt(3)) + _threshold,
        _slope(-2 / sqrt(3)) - (1 - 3 * eta),
    ],
    outside=_least_push,
    outside_source="the least push that crosses the ridge, by bisection",
    source="The steepest slope of the well. Hence {eq}`escape.kramers_time` holds for Gaussian noise only.",
)

# --- a sharp valley and a flat one ---------------------------------------------------------------------------------

_ratio = sqrt(h_sharp / h_flat)
_right, _left = 2 / (1 + _ratio), 2 / (_ratio - 1)  # where the valleys meet, from -1
_growth = sp.Abs(1 - eta * h_sharp)


def _even_exit(reach: sp.Expr, growth: sp.Expr) -> sp.Expr:
    """The first even step at which the distance has outgrown the reach to the right."""
    return 2 * sp.floor(sp.log(reach / distance) / (2 * sp.log(growth))) + 2


def _odd_exit(reach: sp.Expr, growth: sp.Expr) -> sp.Expr:
    """The first odd step at which the distance has outgrown the reach to the left."""
    return 2 * sp.floor((sp.log(reach / distance) / sp.log(growth) + 1) / 2) + 1


_even, _odd = _even_exit(_right, _growth), _odd_exit(_left, _growth)
_a, _r, _D_right, _D_left = sp.symbols("a r D_+ D_-", positive=True)


def _inside() -> list[sp.Expr]:
    (rule,) = trace(sgd, two_valleys()).next_state
    d = sp.Symbol("d", real=True)
    flat_is_higher = rule.replace(sp.sign, lambda gap: sp.S.One if _positive_at(gap, -1) else sp.S.NegativeOne)
    return [
        flat_is_higher.subs(theta, -1 + d) - (-1 + (1 - eta * h_sharp) * d),
        h_sharp * _right**2 - h_flat * (_right - 2) ** 2,
        h_sharp * _left**2 - h_flat * (-_left - 2) ** 2,
    ]


def _positive_at(gap: sp.Expr, position: int) -> bool:
    """Whether a difference of the two parabolas is positive there."""
    return bool(sp.factor(gap.subs(theta, position)).is_positive)


valley_exit = Claim(
    id="escape.valley_exit",
    says=r"Gradient descent on the smaller of two parabolas, $\min(h_{\mathrm s}(\theta+1)^2/2,\ "
    r"h_{\mathrm f}(\theta-1)^2/2)$, from $d_0$ to the right of the sharp minimum: the step that leaves too sharp a "
    "valley, right if even, left if odd.",
    lhs=r"T_{\mathrm{exit}}",
    parameters=("h_sharp", "h_flat", "eta", "distance"),
    formula=sp.Min(_even, _odd),
    abbreviations={
        _a: _growth,
        _r: _ratio,
        _D_right: 2 / (1 + _r),
        _D_left: 2 / (_r - 1),
        sp.Symbol("T_+", positive=True): _even_exit(_D_right, _a),
        sp.Symbol("T_-", positive=True): _odd_exit(_D_left, _a),
    },
    about=steps_until(
        h_sharp * (theta + 1) ** 2 > h_flat * (theta - 1) ** 2, rule=(sgd, two_valleys()), start=-1 + distance
    ),
    conditions=(
        Condition(h_flat < h_sharp, "the valley at -1 is the sharp one; swap the curvatures"),
        Condition(eta * h_sharp > 2, "the sharp valley attracts; raise eta above 2/h_sharp"),
        Condition(distance < _right, "the start lies outside the sharp valley; start nearer to -1"),
    ),
    rivals=(
        Rival(sp.ceiling(sp.log(_right / distance) / sp.log(_growth)), "as if both sides were as near as the ridge"),
        Rival(_odd, "to the left only"),
    ),
    settings={"h_sharp": 24, "h_flat": R(1, 2), "eta": R(3, 32), "distance": R(1, 150)},
    derivation=_inside,
    simulable=False,
    source=(
        "The distance grows by the factor $a$, from side to side, and the sharp valley ends $D_+$ to the right of its "
        "minimum and $D_-$ to the left; a run that lands exactly between the valleys is left out. The first phase of a "
        "catapult {cite:p}`lewkowycz2020large`."
    ),
)
