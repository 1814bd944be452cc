"""Gradient descent on one data set: each mode of least squares first learns the signal, then the noise of its labels.

In the directions of the eigenvectors of X'X/n (eigenvalue s, true coefficient b) gradient descent from 0 goes to the
coefficient of least squares, b + sigma xi / sqrt(n s).  The labels' noise xi is drawn once, with the data.
"""

from importlib.util import find_spec

import numpy as np
import sympy as sp

from ..early_stopping import on_fixed_data
from ..expectation import THETA as theta
from ..landscapes import XI, Landscape
from ..ledger import Claim, Condition, Minimum, Rival
from ..letters import symbols
from ..noise import any_law
from ..optimizers import sgd

eta, s, b2, n, sigma, k = symbols("eta s b2 n sigma k")
R = sp.Rational

truth, spread = sp.sqrt(b2), sigma / sp.sqrt(n * s)
MODE = Landscape("one mode of least squares", s * (theta - truth - spread * XI) ** 2 / 2, ((XI, any_law),))
risk = on_fixed_data((theta - truth) ** 2, k, rule=(sgd, MODE))
AT = {"eta": R(1, 10), "s": R(9, 16), "b2": R(9, 4), "n": 9, "sigma": 2}

NO_OVERSHOOT = Condition(eta * s < 1, "the mode is overshot, and the risk is not smooth in k; lower eta below 1/s")

_left = (1 - eta * s) ** k
mode_risk = Claim(
    id="overfitting.mode_risk",
    says="The squared error of a coefficient after k steps: the bias falls, and the noise of the labels is learned.",
    lhs=r"\mathbb{E}(\theta_k-b)^2",
    parameters=("eta", "s", "b2", "n", "sigma", "k"),
    formula=_left**2 * b2 + sigma**2 / (n * s) * (1 - _left) ** 2,
    about=risk,
    rivals=(
        Rival(
            _left**2 * b2 + sigma**2 / (n * s) * eta * s * (1 - _left**2) / (2 - eta * s),
            "labels whose noise is drawn anew at each step",
        ),
        Rival(_left**2 * b2 + sigma**2 / (n * s) * (1 - _left**2), "a variance that grows as the squared bias falls"),
    ),
    settings=AT | {"k": 9},
    source="{cite:t}`ali2019continuous`, in discrete steps and one mode.",
)


def _slope_in_what_is_left() -> list[sp.Expr]:
    """With p = (1 - eta s)**k the derived risk is a parabola in p, whose lowest point is known."""
    p = sp.Symbol("p", positive=True)
    parabola = sp.expand(risk.derive()).subs((1 - eta * s) ** (2 * k), p**2).subs((1 - eta * s) ** k, p)
    best = sp.exp(sp.expand_log(_best_step * sp.log(1 - eta * s)))
    curvature = sp.diff(parabola, p, 2)
    return [
        parabola.diff(k),
        sp.diff(parabola, p).subs(p, best),
        curvature - 2 * (b2 + spread**2),  # positive, so that it is the lowest
        parabola.subs(p, best) - mode_best_risk.formula,
    ]


_best_step = sp.log(sigma**2 / (sigma**2 + n * s * b2)) / sp.log(1 - eta * s)
mode_best_step = Claim(
    id="overfitting.mode_best_step",
    says="The best moment to stop, for one mode: the stronger the signal is against the noise, the later.",
    lhs=r"k^\star",
    parameters=("eta", "s", "b2", "n", "sigma"),
    formula=_best_step,
    many_digits=True,
    about=risk,
    relation=Minimum("k"),
    conditions=(NO_OVERSHOOT,),
    derivation=_slope_in_what_is_left,
    rivals=(
        Rival(1 / (eta * s), "stop when the mode has been learned by a factor e"),
        Rival(
            sp.log(sigma**2 / (n * s * b2)) / (2 * sp.log(1 - eta * s)),
            "stop when the squared bias has fallen to what the noise will add",
        ),
    ),
    settings=AT,
    source="The slope of {eq}`overfitting.mode_risk`; a whole number of steps next to it is best.",
)


def _by_ridge(claim: Claim) -> tuple[float, float, float]:
    """The mean squared error of scikit-learn's Ridge with the best penalty, over all data sets with noise ±sigma."""
    from sklearn.linear_model import Ridge

    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 6)).reshape(6, -1)  # every label noise of six samples
    x = np.array([1.0, -0.5, 2.0, 0.3, -1.2, 0.7])
    eigenvalue, b, sd = float(x @ x) / 6, 1.5, 2.0
    fit = Ridge(alpha=sd**2 / b**2, fit_intercept=False, solver="cholesky")
    found = fit.fit(x[:, None], x[:, None] * b + sd * signs).coef_[:, 0]
    return claim(s=eigenvalue, b2=b**2, n=6, sigma=sd), float(np.mean((found - b) ** 2)), 1e-12


mode_best_risk = Claim(
    id="overfitting.mode_best_risk",
    says="Stopped at the best moment, a mode has the squared error of the best ridge penalty.",
    lhs=r"\min_k\mathbb{E}(\theta_k-b)^2",
    parameters=("s", "b2", "n", "sigma"),
    formula=b2 * sigma**2 / (n * s * b2 + sigma**2),
    # at this rate the best moment comes after one step
    about=on_fixed_data((theta - truth) ** 2, 1, rule=(sgd, MODE), eta=n * b2 / (n * s * b2 + sigma**2)),
    rivals=(
        Rival(sp.Min(b2, sigma**2 / (n * s)), "keep the mode or drop it, whichever is better"),
        Rival(b2 * sigma**2 / (n * b2 + sigma**2), "the same for every eigenvalue"),
    ),
    settings=AT,
    outside=_by_ridge if find_spec("sklearn") else None,
    outside_source="scikit-learn's Ridge, over all signs of the noise",
    source="{eq}`overfitting.mode_risk` at {eq}`overfitting.mode_best_step`; {cite:t}`ali2019continuous` compare the "
    "two paths.",
)


_x = sp.Symbol("x", positive=True)
_ratio = (1 - sp.exp(-_x)) * (1 + _x) / _x


def _largest_ratio() -> float:
    from scipy.optimize import brentq

    x = brentq(lambda x: np.exp(x) - 1 - x - x**2, 1, 3, xtol=1e-14)
    return float(((1 + x) ** 2 / (1 + x + x**2)) ** 2)


def _stationary_ratio() -> list[sp.Expr]:
    # the variances: flow for a time t learns the share 1 - exp(-x) of the noise, ridge with the penalty 1/t the share
    # x / (1 + x), where x = s t: the first is the limit of `risk` without signal, the second its own lowest point
    flow = sp.limit((1 - eta * s) ** (_x / (eta * s)), eta, 0) - sp.exp(-_x)
    penalty = sp.Symbol("penalty", positive=True)
    a = sp.Symbol("a", real=True)
    penalized = sp.solve(sp.diff(s * (a - 1) ** 2 + penalty * a**2, a), a)[0].subs(penalty, s / _x)
    # where exp(x) = 1 + x + x**2 the slope of the logarithm vanishes, and the ratio is what is evaluated
    at_root = {sp.exp(-_x): 1 / (1 + _x + _x**2), sp.exp(_x): 1 + _x + _x**2}
    slope = sp.together(sp.diff(sp.log(_ratio), _x)).subs(at_root)
    return [
        flow,
        penalized - _x / (1 + _x),
        _ratio - (1 - sp.exp(-_x)) / penalized,
        sp.cancel(slope),
        sp.cancel(_ratio.subs(at_root) - (1 + _x) ** 2 / (1 + _x + _x**2)),
    ]


flow_versus_ridge = Claim(
    id="overfitting.flow_versus_ridge",
    says="On any data, the risk of gradient flow stopped at time t is at most this multiple of the risk of ridge "
    "regression with penalty 1/t.",
    lhs=r"\sup_{x>0}\left[(1-e^{-x})\,\frac{1+x}{x}\right]^2",
    parameters=(),
    formula=None,
    definition=r"\frac{(1+x)^4}{(1+x+x^2)^2},\ \ e^x=1+x+x^2",
    evaluate=_largest_ratio,
    derivation=_stationary_ratio,
    outside=lambda claim: (claim(), 1.69, 0.005 / 1.69),
    outside_source="the 1.69 of Ali, Kolter & Tibshirani (2019)",
    rivals=(
        Rival(sp.S.One, "stopping and shrinking are the same"),
        Rival(_ratio.subs(_x, R(9, 5)), "the ratio of the learned shares, not squared"),
    ),
    settings={},
    source="{cite:t}`ali2019continuous`; a root, no closed form.",
)
