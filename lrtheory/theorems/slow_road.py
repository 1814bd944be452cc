"""The slow road: two curvatures, the crossing of the curves, and when to drop.

The steep mode is at its floor, the flat one is noiseless and still on its way.
"""

import math

import sympy as sp

from ..expectation import THETA as theta
from ..expectation import E
from ..ledger import Claim, Condition, Minimum, Rival, Root
from ..letters import symbols
from . import quick_win
from .quick_win import LOWER, STABLE_BEFORE

eta, eta1, eta2, lam, sigma, theta0, k, tau = symbols("eta eta1 eta2 lam sigma theta0 k tau")
lam_fast, lam_slow, slow_excess, slow_excess0, horizon = symbols("lam_fast lam_slow slow_excess slow_excess0 horizon")
oo, R = sp.oo, sp.Rational

STABLE = Condition(eta1 * lam_fast < 2, "the steep mode would diverge; lower eta1 below 2/lam_fast")
WITHIN = Condition(eta1 * lam < 1, "a step would overshoot the minimum; lower eta1 below 1/lam")
NO_JUMP = tuple(
    Condition(sp.Ne(rate * lam, 1), "a step would reach the minimum, and no step remain; move the rate off 1/lam")
    for rate in (eta1, eta2)
)
# a positive letter is never 0 to SymPy, but a caller may give 0
NOISY = Condition(sp.Gt(sigma, 0, evaluate=False), "without noise there is no quick win; keep the rate")
SLOW = Condition(eta1 * lam_slow < 1, "the flat mode must not overshoot; lower eta1 below 1/lam_slow")

A, b, B_fast = (1 - eta1 * lam_slow) ** 2, (1 - eta2 * lam_slow) ** 2, (1 - eta2 * lam_fast) ** 2
Q = quick_win.size.formula.subs(lam, lam_fast)  # type: ignore[union-attr]
# how the formulas are printed
_win, _kept, _lowered, _steep = sp.symbols("Q A b B", positive=True)
SHORT = {_win: Q, _kept: A, _lowered: b, _steep: B_fast}

slowdown = Claim(
    id="slow_road.slowdown",
    says="After the drop the rest of the road takes this many times as many steps.",
    lhs=r"\tau_2/\tau_1",
    parameters=("eta1", "eta2", "lam"),
    formula=sp.log(sp.Abs(1 - eta1 * lam)) / sp.log(sp.Abs(1 - eta2 * lam)),
    many_digits=True,
    about=sp.log(sp.Abs(E(theta, (eta1, 1)) / theta0)) / sp.log(sp.Abs(E(theta, (eta2, 1)) / theta0)),
    conditions=(STABLE_BEFORE, *NO_JUMP, LOWER),
    rivals=(
        Rival(eta1 / eta2, "the ratio of the rates"),
        Rival(sp.S.One, "a smaller rate is as fast"),
    ),
    settings={"eta1": R(1, 2), "eta2": R(1, 8), "lam": R(3, 2), "sigma": R(1, 2), "theta0": 4},
    source="Two relaxation times, {eq}`noise_floor.relaxation_time`, divided.",
)


def _slow(rate: sp.Expr) -> sp.Expr:
    """The noiseless flat mode's loss after k steps, from slow_excess."""
    return slow_excess * E(theta**2, (rate, k), start=1, lam=lam_slow, sigma=0)


def _fast(rate: sp.Expr) -> sp.Expr:
    """The steep mode's loss k steps after the rate changed, from its old floor."""
    return E(lam_fast / 2 * theta**2, (eta1, oo), (rate, k), lam=lam_fast)


_difference = _slow(eta2) + _fast(eta2) - _slow(eta1) - E(lam_fast / 2 * theta**2, (eta1, oo), lam=lam_fast)
gap = Claim(
    id="slow_road.gap",
    says="How far the curve of the lowered rate lies above that of the kept rate: the debt minus the quick win.",
    lhs=r"\Delta_k",
    parameters=("eta1", "eta2", "lam_fast", "lam_slow", "sigma", "slow_excess", "k"),
    formula=slow_excess * (b**k - A**k) - Q * (1 - B_fast**k),
    many_digits=True,
    abbreviations=SHORT,
    about=_difference,
    conditions=(STABLE, LOWER),
    rivals=(
        Rival(slow_excess * (b**k - A**k), "a drop without a quick win"),
        Rival(-Q * (1 - B_fast**k), "a drop that costs nothing"),
        Rival(slow_excess * (b**k - A**k) - Q, "the whole quick win at once"),
        Rival(
            slow_excess * (b**k - A**k) - (eta1 - eta2) * sigma**2 / 4 * (1 - B_fast**k),
            "the diffusion limit of the quick win",
        ),
    ),
    settings={
        "eta1": R(4, 5),
        "eta2": R(1, 4),
        "lam_fast": R(3, 2),
        "lam_slow": R(1, 5),
        "sigma": 2,
        "slow_excess": 20,
        "k": 2,
    },
    source="Two modes, each relaxing on its own.",
)


def _crossings(
    eta1: float, eta2: float, lam_fast: float, lam_slow: float, sigma: float, slow_excess: float
) -> tuple[float, float]:
    """The first and the second step, as real numbers, at which the curves cross; inf where they do not.

    The gap is a sum of four exponentials (one of them constant), which has three roots at most; one is k = 0.  So it
    has one maximum at most where it is positive, and the crossings lie on its two sides.
    """
    from scipy.optimize import brentq

    kept, lowered = (2 * math.log1p(-rate * lam_slow) for rate in (eta1, eta2))  # ln A, ln b
    shrink = (1 - eta2 * lam_fast) ** 2
    paying = math.log(shrink) if shrink else -math.inf  # ln B
    win = sigma**2 / 2 * (eta1 / (2 - eta1 * lam_fast) - eta2 / (2 - eta2 * lam_fast))
    if slow_excess == 0:
        return math.inf, math.inf
    if win == 0:
        return 0.0, math.inf  # behind for ever: there is nothing to win

    def above(k: float) -> float:
        return slow_excess * (math.expm1(k * lowered) - math.expm1(k * kept)) + win * math.expm1(k * paying)

    def slope(k: float) -> float:
        paid = win * paying * math.exp(k * paying) if shrink else 0.0
        return slow_excess * (lowered * math.exp(k * lowered) - kept * math.exp(k * kept)) + paid

    # the debt e b**k alone is below the win by then, and half of the win or more is paid
    end = max(math.log(2 + 4 * slow_excess / win) / -lowered, 1 / -paying)
    grid = [end * (i / 4000) ** 3 for i in range(1, 4001)]
    top = max(range(4000), key=lambda i: above(grid[i]))
    low, high = grid[max(top - 1, 0)], grid[min(top + 1, 3999)]
    # where the slope keeps its sign the gap has no maximum, and is negative
    peak = brentq(slope, low, high, xtol=1e-14 * high) if slope(low) > 0 > slope(high) else grid[top]
    if abs(above(peak)) <= 1e-13 * (win + slow_excess):
        return peak, peak
    if above(peak) < 0:
        return math.inf, math.inf
    second = brentq(above, peak, end, xtol=1e-14 * end)
    first = 0.0 if above(1e-12 * peak) >= 0 else brentq(above, 1e-12 * peak, peak, xtol=1e-14 * peak)
    return float(first), float(second)


def _by_quadratic(claim: Claim) -> tuple[list[float], list[float], float]:
    """Where b**2 = A and eta2 lam_fast = 1, the crossings solve a quadratic; elsewhere a scan brackets them."""
    import numpy as np

    from ..schedules import constant, drop, expected_loss

    first = claim.id.endswith("first_crossing")
    exact = {"eta1": 0.19, "eta2": 0.1, "lam_fast": 10.0, "lam_slow": 1.0, "sigma": 1.5, "slow_excess": 20.0}
    win = quick_win.size(eta1=0.19, eta2=0.1, lam=10.0, sigma=1.5)
    root = (1 + (1 if first else -1) * math.sqrt(1 - 4 * win / exact["slow_excess"])) / 2
    # the step loss of the two schedules, from the floor, with no formula for the gap
    at = {"eta1": 0.2, "eta2": 0.03, "lam_fast": 1.5, "lam_slow": 0.01, "sigma": 1.0, "slow_excess": 0.3}
    floor = at["eta1"] / (2 - at["eta1"] * at["lam_fast"]) * at["sigma"] ** 2 / at["lam_fast"]
    start = [math.sqrt(floor), math.sqrt(2 * at["slow_excess"] / at["lam_slow"])]
    kept, lowered = (
        expected_loss(rate, [at["lam_fast"], at["lam_slow"]], [at["sigma"] ** 2, 0], start, 3000)
        for rate in (constant(at["eta1"]), drop(at["eta1"], at["eta2"], 0))
    )
    behind = np.flatnonzero(lowered[1:] > kept[1:]) + 1
    step = int(behind[0] if first else behind[-1])
    whole = math.ceil if first else math.floor
    return [claim(**exact), whole(claim(**at))], [math.log(root) / math.log(0.9**2), step], 1e-9


_crossing_parameters = ("eta1", "eta2", "lam_fast", "lam_slow", "sigma", "slow_excess")
_crossing_conditions = (STABLE, SLOW, LOWER)
# where b**2 = A and eta2 lam_fast = 1 the crossings solve a quadratic equation; here at whole steps
_near = R(6561, 10000)  # b**2, which is the first root; the second is 1 - b**2
_exact_case = {
    "eta1": R(19, 100),
    "eta2": R(1, 10),
    "lam_fast": 10,
    "lam_slow": 1,
    "sigma": 1,
    "slow_excess": R(9, 10) / (_near * (1 - _near)),
}
first_crossing = Claim(
    id="slow_road.first_crossing",
    says="The step at which the curve of the lowered rate rises above that of the kept rate: the quick win is used up.",
    lhs="k_1",
    parameters=_crossing_parameters,
    formula=None,
    definition=r"\min\{k>0:\ \Delta_k=0\}",
    evaluate=lambda **at: _crossings(**at)[0],
    about=_difference,
    relation=Root("k"),
    conditions=_crossing_conditions,
    settings=_exact_case,
    outside=_by_quadratic,
    outside_source="the quadratic where there is one, and a scan of every step",
    source="The first root of {eq}`slow_road.gap`, found numerically; never is infinity.",
)
second_crossing = Claim(
    id="slow_road.second_crossing",
    says="The step at which the lowered rate is ahead again, for good: its floor is lower.",
    lhs="k_2",
    parameters=_crossing_parameters,
    formula=None,
    definition=r"\max\{k>0:\ \Delta_k=0\}",
    evaluate=lambda **at: _crossings(**at)[1],
    about=_difference,
    relation=Root("k"),
    conditions=_crossing_conditions,
    settings={"eta1": R(3, 4), "eta2": R(1, 2), "lam_fast": 2, "lam_slow": 1, "sigma": 1, "slow_excess": R(128, 15)},
    outside=_by_quadratic,
    outside_source="the quadratic where there is one, and a scan of every step",
    source="The last root of {eq}`slow_road.gap`, found numerically; never is infinity.",
)
_rho = sp.Symbol("rho", positive=True)
_w = sp.Symbol("w", positive=True)
_ratio = sp.log(sp.Abs(1 - eta2 * lam_slow)) / sp.log(sp.Abs(1 - eta1 * lam_slow))


def _largest_lag_derivation() -> list[sp.Expr]:
    # with w = A**k the lag is w**rho - w
    lag, best = _w**_rho - _w, _rho ** (1 / (1 - _rho))
    largest = _rho ** (_rho / (1 - _rho)) * (1 - _rho)
    residuals = sp.diff(lag, _w).subs(_w, best), lag.subs(_w, best) - largest
    return [
        sp.powsimp(sp.powdenest(sp.expand(r), force=True)).replace(
            lambda e: e.is_Pow, lambda e: e.base ** sp.ratsimp(e.exp)
        )
        for r in residuals
    ]


def _largest_by_search(claim: Claim) -> tuple[float, float, float]:
    from scipy.optimize import minimize_scalar

    at = {name: float(value) for name, value in claim.settings.items()}
    low, high = (1 - at["eta1"] * at["lam_slow"]) ** 2, (1 - at["eta2"] * at["lam_slow"]) ** 2
    found = minimize_scalar(lambda k: low**k - high**k, bounds=(0, 100), method="bounded", options={"xatol": 1e-10})
    return claim(**at), -found.fun, 1e-9


largest_lag = Claim(
    id="slow_road.largest_lag",
    says="The largest share of the flat mode's loss that the lowered rate ever lags behind; a step leaves the share "
    "A = (1 − η₁λₛ)² of it at the kept rate, and b = (1 − η₂λₛ)² at the lowered one.",
    lhs=r"\max_k\,(b^k-A^k)",
    parameters=("eta1", "eta2", "lam_slow"),
    formula=_ratio ** (_ratio / (1 - _ratio)) * (1 - _ratio),
    many_digits=True,
    abbreviations={_rho: _ratio},
    conditions=(SLOW, LOWER),
    derivation=_largest_lag_derivation,
    outside=_largest_by_search,
    outside_source="a search over k",
    rivals=(Rival(1 - _ratio, "the ratio of the rates alone"),),
    settings={"eta1": R(1, 2), "eta2": R(1, 8), "lam_slow": R(1, 3)},
    source="The maximum over k; the curves cross if this, times the flat mode's loss, exceeds the quick win.",
)
_log_ratio = sp.log(b / A)
# A**horizon is taken out of the logarithm: it would underflow in a long run
_unclipped = (sp.log(Q * sp.Abs(sp.log(B_fast)) / (slow_excess0 * _log_ratio)) - horizon * sp.log(A)) / sp.log(
    b / (A * B_fast)
)


def _final_losses(**at: float) -> list[float]:
    """The loss at the horizon, for a drop with 0, 1, 2 … steps left, step by step."""
    from ..schedules import drop, expected_loss

    steps, fast, slow = int(at["horizon"]), at["lam_fast"], at["lam_slow"]
    before = at["eta1"] * at["sigma"] ** 2 / (fast * (2 - at["eta1"] * fast))
    start = [math.sqrt(before), math.sqrt(2 * at["slow_excess0"] / slow)]
    return [
        float(
            expected_loss(
                drop(at["eta1"], at["eta2"], steps - left),
                [fast, slow],
                [at["sigma"] ** 2, 0],
                start,
                steps,
                at=[steps],
            )[0]
        )
        for left in range(steps + 1)
    ]


def _best_by_trying(claim: Claim) -> tuple[float, float, float]:
    at = {name: float(value) for name, value in claim.settings.items()}
    losses = _final_losses(**at)
    best = min(range(len(losses)), key=losses.__getitem__)
    return claim(**at), float(best), 0.5 / best  # the best whole number of steps is the nearest one


# the steep mode from its old floor, the flat one from e0 at step 0
_last_loss = E(lam_fast / 2 * theta**2, (eta1, oo), (eta2, tau), lam=lam_fast) + slow_excess0 * E(
    theta**2, (eta1, horizon - tau), (eta2, tau), start=1, lam=lam_slow, sigma=0
)


def _slope_at_best() -> list[sp.Expr]:
    # the loss at the horizon is e0 A**(T - tau) b**tau + Q B**tau and a constant; here in logarithms of A, b and B,
    # with p = -ln B, the pace of the quick win
    ln_a, ln_b = sp.symbols("ln_a ln_b", real=True)
    e, q, p = sp.symbols("e q p", positive=True)
    last = e * sp.exp(ln_a * (horizon - tau) + ln_b * tau) + q * sp.exp(-p * tau)
    best = (sp.log(q * p / (e * (ln_b - ln_a))) - horizon * ln_a) / (ln_b - ln_a + p)
    ratio = sp.diff(last - q * sp.exp(-p * tau), tau) / sp.diff(-q * sp.exp(-p * tau), tau)
    return [sp.simplify(sp.expand_log(sp.log(sp.powsimp(ratio)), force=True).subs(tau, best))]


best_steps_after_drop = Claim(
    id="slow_road.best_steps_after_drop",
    says="When to drop: the best number of steps to leave after it, until a horizon.",
    lhs=r"\tau^\star",
    parameters=("eta1", "eta2", "lam_fast", "lam_slow", "sigma", "slow_excess0", "horizon"),
    formula=sp.Min(horizon, sp.Max(0, _unclipped)),
    many_digits=True,
    abbreviations=SHORT,
    conditions=(
        STABLE,
        SLOW,
        LOWER,
        NOISY,
        Condition(sp.Ne(eta2 * lam_fast, 1), "the steep mode would arrive in one step; move eta2 off 1/lam_fast"),
    ),
    about=_last_loss,
    relation=Minimum("tau"),
    derivation=_slope_at_best,
    outside=_best_by_trying,
    outside_source="every whole number of steps, tried",
    rivals=(Rival(horizon / 2, "half of the run"), Rival(horizon, "from the start")),
    settings={
        "eta1": R(2, 5),
        "eta2": R(1, 5),
        "lam_fast": R(1, 2),
        "lam_slow": R(1, 5),
        "sigma": 2,
        "slow_excess0": 2,
        "horizon": 13,
    },
    source="The minimum of the loss at the horizon over the step of the drop, clipped to the run.",
)


_E1, _E2 = (rate * sigma**2 / (2 * (2 - rate * lam)) for rate in (eta1, eta2))
_E0 = lam * theta0**2 / 2
_log1, _log2 = (sp.log((1 - rate * lam) ** 2) for rate in (eta1, eta2))
_share = _log2 * (_E1 - _E2) / ((_log1 - _log2) * (_E0 - _E1))


def _drop_by_search(claim: Claim) -> tuple[float, float, float]:
    from scipy.optimize import minimize_scalar

    at = {name: float(value) for name, value in claim.settings.items()}
    a1, a2 = (1 - at["eta1"] * at["lam"]) ** 2, (1 - at["eta2"] * at["lam"]) ** 2
    e1, e2 = (at[r] * at["sigma"] ** 2 / (2 * (2 - at[r] * at["lam"])) for r in ("eta1", "eta2"))
    e0 = at["lam"] * at["theta0"] ** 2 / 2
    found = minimize_scalar(
        lambda t: (e1 + (e0 - e1) * a1**t - e2) * a2 ** (50 - t),  # any horizon
        bounds=(0, 50),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return claim(**at), float(found.x), 1e-6


def _drop_derivation() -> list[sp.Expr]:
    l1, l2, e0, e1, e2, t, end = sp.symbols("l1 l2 e0 e1 e2 t end", real=True)
    left = (e1 + (e0 - e1) * sp.exp(l1 * t) - e2) * sp.exp(l2 * (end - t))
    found = sp.solve(sp.diff(left, t).subs(sp.exp(l1 * t), _w) / sp.exp(l2 * (end - t)), _w)[0]
    return [sp.simplify(found - l2 * (e1 - e2) / ((l1 - l2) * (e0 - e1)))]


best_drop_step = Claim(
    id="slow_road.best_drop_step",
    says="With one curvature the best step to drop at does not depend on the horizon.",
    lhs=r"t^\star",
    parameters=("eta1", "eta2", "lam", "sigma", "theta0"),
    formula=sp.Max(0, sp.log(_share) / _log1),
    many_digits=True,
    abbreviations=dict(zip(sp.symbols("F_1 F_2 L_0 p_1 p_2"), (_E1, _E2, _E0, _log1, _log2), strict=True)),
    conditions=(
        WITHIN,
        LOWER,
        NOISY,
        Condition(_E0 > _E1, "the run starts at or below the old floor; drop at once"),
    ),
    derivation=_drop_derivation,
    outside=_drop_by_search,
    outside_source="a search over the step of the drop",
    rivals=(
        Rival(sp.S.Zero, "at once"),
        Rival(sp.log(eta2 / (eta1 - eta2) * (_E1 - _E2) / (_E0 - _E1)) / _log1, "the small-rate rule of thumb"),
        Rival(sp.log((_E1 - _E2) / (_E0 - _E1)) / _log1, "once the excess over the floor equals the quick win"),
    ),
    settings={"eta1": R(1, 5), "eta2": R(1, 20), "lam": R(3, 2), "sigma": 2, "theta0": 5},
    source="The minimum over the step of the drop of the loss at any later step.",
)
