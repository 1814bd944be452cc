"""Averages of the iterates: of all of them, of the last ones, and with weights that fade; SGD itself is unchanged."""

import math

import numpy as np
import sympy as sp

from ..expectation import THETA as theta
from ..expectation import E, Rule, derived
from ..landscapes import quadratic
from ..ledger import Claim, Condition, Rival
from ..letters import symbols
from ..optimizers import averaged, summed
from ..recursion import Recursion, trace
from .noise_floor import AT, STABLE

eta, lam, sigma, gamma, theta0, n, t = symbols("eta lam sigma gamma theta0 n t")
eta1, eta2, total, average = symbols("eta1 eta2 total average")
oo, R = sp.oo, sp.Rational

SUMMED: Rule = (summed, quadratic())
AVERAGED: Rule = (averaged, quadratic())
FADES = Condition(gamma < 1, "the average would never move; choose gamma below 1")

a = 1 - eta * lam
floor = eta * sigma**2 / (lam * (2 - eta * lam))
A = sp.Symbol("a", real=True)  # how the formulas are printed
V = sp.Symbol("V", positive=True)
B, H, RATIO = sp.Symbol("b", real=True), sp.Symbol("h", positive=True), sp.Symbol("r", real=True)


# --- the plain mean -----------------------------------------------------------------------------------------------


def _weights(claim: Claim, tail: bool = False) -> tuple[float, float, float]:
    """The variance of a mean of n iterates from the weight that it gives to the noise of each step."""
    at = {name: float(claim.settings[name]) for name in claim.parameters}
    shrink, count = 1 - at["eta"] * at["lam"], int(at["n"])
    before = 2000 if tail else 0  # steps before the first of the iterates
    powers = np.tril(shrink ** np.abs(np.subtract.outer(np.arange(before + count), np.arange(before + count))))
    weights = powers[before:].mean(axis=0)  # of each step's noise in the mean
    return claim(**at), float((at["eta"] * at["sigma"]) ** 2 * weights @ weights), 1e-12


WEIGHTS = "the weights of the noise of each step, by NumPy"
_mean_variance = (
    sigma**2
    / (lam**2 * n**2)
    * (n - a * (1 - a**n) * 2 / (eta * lam) + a**2 * (1 - a ** (2 * n)) / (eta * lam * (2 - eta * lam)))
)
mean_variance = Claim(
    id="averaging.mean_variance",
    says="The variance of the mean of the first n iterates: neighbours move together, so that it averages slowly.",
    lhs=r"\mathrm{Var}\Big[\frac1n\sum_{t=1}^{n}\theta_t\Big]",
    parameters=("eta", "lam", "sigma", "n"),
    formula=_mean_variance,
    abbreviations={A: a},
    about=(E(total**2, (eta, n), rule=SUMMED) - E(total, (eta, n), rule=SUMMED) ** 2) / n**2,
    many_digits=True,
    conditions=(STABLE,),
    rivals=(
        Rival(floor / n, "as if the iterates were independent"),
        Rival(sigma**2 / (lam**2 * n), "the limit for many iterates"),
    ),
    settings=AT | {"theta0": 1, "n": 4},
    outside=_weights,
    outside_source=WEIGHTS,
    source="{cite:t}`polyak1992`, who give the limit for large n.",
)


def _powers(claim: Claim) -> tuple[float, float, float]:
    at = {name: float(claim.settings[name]) for name in claim.parameters}
    return claim(**at), float(np.mean((1 - at["eta"] * at["lam"]) ** np.arange(1, at["n"] + 1))), 1e-14


mean_bias = Claim(
    id="averaging.mean_bias",
    says="The mean of all iterates remembers the start: its share of θ₀ falls like 1/n, not geometrically.",
    lhs=r"\mathbb{E}\Big[\frac1n\sum_{t=1}^{n}\theta_t\Big]\Big/\theta_0",
    parameters=("eta", "lam", "n"),
    formula=a * (1 - a**n) / (n * eta * lam),
    abbreviations={A: a},
    about=E(total, (eta, n), rule=SUMMED) / (n * theta0),
    conditions=(STABLE,),
    rivals=(Rival(a**n, "the last iterate"),),
    settings=AT | {"theta0": 3, "n": 4},
    outside=_powers,
    outside_source="the powers added up, by NumPy",
    source="The geometric sum of {eq}`noise_floor.mean`.",
)
_tail_variance = floor / n**2 * (n * (1 + a) / (eta * lam) - a * (1 - a**n) * 2 / (eta * lam) ** 2)
tail_variance = Claim(
    id="averaging.tail_variance",
    says="The variance of the mean of n iterates at the floor.",
    lhs=r"\mathrm{Var}\,m_n",
    parameters=("eta", "lam", "sigma", "n"),
    formula=_tail_variance,
    abbreviations={V: floor, A: a, H: eta * lam},
    # a run at the floor starts with its variance; the mean does not ask more of the start's law than that
    about=E(total**2, (eta, n), rule=SUMMED, start=sp.sqrt(floor)) / n**2,
    many_digits=True,
    conditions=(STABLE,),
    rivals=(
        Rival(floor / n, "as if the iterates were independent"),
        Rival(floor * (1 + a) / (n * eta * lam), "so many independent samples as correlation times"),
    ),
    settings={"eta": R(4, 15), "lam": R(3, 2), "sigma": 2, "n": 4},  # the floor is a square
    outside=lambda claim: _weights(claim, tail=True),
    outside_source=WEIGHTS,
    source="$m_n=\\frac1n\\sum_{t=1}^{n}\\theta_{\\infty+t}$, the mean of a first-order autoregression "
    "{cite:p}`box1970time`.",
)

# --- the exponential moving average -------------------------------------------------------------------------------


def _zhang(claim: Claim) -> tuple[float, float, float]:
    # their Theorem 2, in their letters: rate alpha, curvature h, noise variance c, batch B
    alpha, h, noise, g = (float(claim.settings[name]) for name in ("eta", "lam", "sigma", "gamma"))
    c, B = noise**2, 1
    sgd = alpha * c / (2 * B * (2 - alpha * h))
    loss = sgd * (1 - g) * (1 + (1 - alpha * h) * g) / ((1 + g) * (1 - (1 - alpha * h) * g))
    return claim(**claim.settings), 2 * loss / h, 1e-14


ema_variance = Claim(
    id="averaging.ema_variance",
    says="The scatter of the exponential moving average in the long run.",
    lhs=r"\mathbb{E}[\bar\theta_\infty^2]",
    parameters=("eta", "lam", "sigma", "gamma"),
    formula=floor * (1 - gamma) * (1 + gamma * a) / ((1 + gamma) * (1 - gamma * a)),
    abbreviations={V: floor, A: a},
    about=E(average**2, rule=AVERAGED),
    conditions=(STABLE, FADES),
    rivals=(
        Rival(floor * (1 - gamma) / (1 + gamma), "as if the iterates were independent"),
        Rival(floor, "as if averaging did nothing"),
    ),
    settings=AT | {"gamma": R(1, 3)},
    outside=_zhang,
    outside_source="the noise term of Theorem 2 of Zhang et al. (2019)",
    source="{cite:t}`zhang2019which`, Theorem 2.",
)
_apart = theta0 * (gamma**t + (1 - gamma) * a * (a**t - gamma**t) / (a - gamma))
_together = theta0 * gamma**t * (1 + (1 - gamma) * t)


def _ema_mean(eta: float, lam: float, gamma: float, theta0: float, t: float) -> float:
    shrink = 1 - eta * lam
    low, high = sorted((shrink, gamma), key=abs)
    if high == 0:
        ratio = float(t == 1)  # (a**t - gamma**t) / (a - gamma)
    elif low == high:
        ratio = t * high ** (t - 1)
    elif low / high > 0.5:  # the difference of two nearly equal powers, without loss of digits
        ratio = high ** (t - 1) * math.expm1(t * math.log1p((low - high) / high)) / ((low - high) / high)
    else:
        ratio = (high**t - low**t) / (high - low)
    return theta0 * (gamma**t + (1 - gamma) * shrink * ratio)


def _mean_of(where: dict[str, sp.Expr]) -> sp.Expr:
    return E(average, (eta, t), rule=AVERAGED, start={theta: theta0, average: theta0}, **where)


def _zhang_bias(claim: Claim) -> tuple[np.ndarray, np.ndarray, float]:
    # the factor that Theorem 2 squares, for several steps, with the roots r1 and r2
    at = {name: float(claim.settings[name]) for name in ("eta", "lam", "gamma", "theta0")}
    r1, r2, k = 1 - at["eta"] * at["lam"], at["gamma"], np.arange(12)
    factor = (r1 ** (k + 1) - r2 ** (k + 1) - r1 * r2 * (r1**k - r2**k)) / (r1 - r2)
    return claim(**at, t=k), at["theta0"] * factor, 1e-12


ema_mean = Claim(
    id="averaging.ema_mean",
    says="The mean of the exponential moving average, which starts where the run starts.",
    lhs=r"\mathbb{E}[\bar\theta_t]",
    parameters=("eta", "lam", "gamma", "theta0", "t"),
    formula=sp.Piecewise((_apart, sp.Ne(gamma, a)), (_together, True)),
    abbreviations={A: a, RATIO: (A**t - gamma**t) / (A - gamma)},
    evaluate=_ema_mean,
    about=_mean_of({}),
    conditions=(FADES,),
    rivals=(
        Rival(theta0 * (1 - gamma) * a * (a**t - gamma**t) / (a - gamma), "an average that starts at 0"),
        Rival(theta0 * a**t, "the parameter itself"),
    ),
    settings=AT | {"gamma": R(1, 3), "theta0": 3, "t": 3},
    derivation=lambda: [_apart - derived(_mean_of({})), (_together - derived(_mean_of({"gamma": a}))).subs(gamma, a)],
    outside=_zhang_bias,
    outside_source="the factor in Theorem 2 of Zhang et al. (2019)",
    source="{cite:t}`zhang2019which`, Theorem 2; their factor has a limit where its two roots meet.",
)
_a1, _a2 = 1 - eta1 * lam, 1 - eta2 * lam


def _one_step(rate: sp.Expr, weight: sp.Expr, names: str) -> tuple[Recursion, list[sp.Symbol]]:
    """An averaged run with its own names for its parameter and its average, and the noise of them all."""
    rec = trace(*AVERAGED).where({"eta": rate, "gamma": weight})
    own = list(symbols(names))
    change = dict(zip(rec.state, own, strict=True))
    return Recursion(
        tuple(own), rec.parameters, rec.noises, tuple(f.subs(change, simultaneous=True) for f in rec.next_state)
    ), own


def _path_by_path() -> list[sp.Expr]:
    # Two runs with the same noise: at eta1 with the average of weight 1 - eta2 lam, and at eta2 with 1 - eta1 lam.
    # The averages differ by d.  With e, whose noise cancels, d' = a1 d + lam e and e' = a2 e; both start at 0.
    first, (x1, m1) = _one_step(eta1, _a2, "theta_1 average_1")
    second, (x2, m2) = _one_step(eta2, _a1, "theta_2 average_2")
    d, e = m1 - m2, (eta1 - eta2) * m1 + eta2 * _a1 * x1 - eta1 * _a2 * x2
    then = dict(zip((x1, m1, x2, m2), (*first.next_state, *second.next_state), strict=True))
    return [
        d.subs(then, simultaneous=True) - _a1 * d - lam * e,
        e.subs(then, simultaneous=True) - _a2 * e,
        twin_variance.formula - derived(twin_variance.about),
        twin_variance.formula - derived(E(average**2, (eta2, oo), rule=AVERAGED, gamma=_a1)),
    ]


def _two_filters(claim: Claim) -> tuple[np.ndarray, float, float]:
    """The mean square of both averages, from one stretch of the noise's response through SciPy's filters."""
    from scipy.signal import lfilter

    rate1, rate2, lam, noise = (float(claim.settings[name]) for name in claim.parameters)
    unit = np.zeros(2000)
    unit[0] = noise
    squares = []
    for rate, weight in ((rate1, 1 - rate2 * lam), (rate2, 1 - rate1 * lam)):
        run = lfilter([-rate], [1, -(1 - rate * lam)], unit)
        squares.append(np.sum(lfilter([1 - weight], [1, -weight], run) ** 2))
    return np.array(squares), claim(**claim.settings), 1e-12


twin_variance = Claim(
    id="averaging.twin_variance",
    says="Averaging the run at η₁ with the weight 1 − η₂λ gives the win of a drop to η₂, without a drop.",
    lhs=r"\mathbb{E}[\bar\theta_\infty^2]",
    parameters=("eta1", "eta2", "lam", "sigma"),
    formula=eta1
    * eta2
    * sigma**2
    * (1 + _a1 * _a2)
    / ((2 - eta1 * lam) * (2 - eta2 * lam) * (eta1 + eta2 - eta1 * eta2 * lam) * lam),
    abbreviations={
        sp.Symbol("a_1", real=True): _a1,
        sp.Symbol("a_2", real=True): _a2,
        B: eta1 + eta2 - eta1 * eta2 * lam,
    },
    about=E(average**2, (eta1, oo), rule=AVERAGED, gamma=_a2),
    conditions=(
        Condition(eta1 * lam < 2, "the run would diverge; lower eta1 below 2/lam"),
        Condition(eta2 * lam <= 1, "the weight of the average would be negative; lower eta2 to 1/lam or less"),
    ),
    rivals=(
        Rival(eta2 * sigma**2 / (lam * (2 - eta2 * lam)), "the floor of the lower rate"),
        Rival(eta1 * sigma**2 / (lam * (2 - eta1 * lam)), "the floor of the rate that is run"),
    ),
    settings={"eta1": R(1, 2), "eta2": R(1, 4), "lam": R(3, 2), "sigma": 2},
    derivation=_path_by_path,
    outside=_two_filters,
    outside_source="both filters, by SciPy",
    source=(
        "{eq}`averaging.ema_variance` at that weight; the average is, path by path, the average with the weight "
        "1 − η₁λ of a run at η₂ on the same noise. See {cite:t}`sandler2023training`."
    ),
)
