"""Boosting a linear base learner: gradient descent on least squares again, with the rounds for steps.

Each round fits the base learner to the residuals and adds a share nu of the fit.  In a direction that the base learner
shrinks by s (an eigenvector of its smoothing matrix) the fit goes from 0 to the label, f + sigma xi, drawn once.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import sympy as sp

from ..early_stopping import on_fixed_data
from ..expectation import THETA as theta
from ..expectation import Rule
from ..landscapes import XI, Landscape
from ..ledger import Claim, Rival
from ..letters import symbols
from ..noise import any_law

nu, s, sigma, f = symbols("nu s sigma f")
m = sp.Symbol("m", integer=True, nonnegative=True)  # rounds; the letter belongs to Adam's memory elsewhere
R = sp.Rational
LABEL = Landscape("squared loss of one label", (theta - f - sigma * XI) ** 2 / 2, ((XI, any_law),))


def l2_boost(theta: Any, *, grad: Any, nu: Any, s: Any) -> Any:
    """One round of L2 boosting: the base learner, which shrinks by s, is fitted to the residuals -grad."""
    return theta - nu * s * grad(theta)


BOOSTED: Rule = (l2_boost, LABEL)
fit, square = (on_fixed_data(theta**power, m, rule=BOOSTED) for power in (1, 2))
AT = {"nu": R(1, 4), "s": R(2, 3), "m": 4, "f": R(5, 3), "sigma": 2}


def _by_ridge(claim: Claim) -> tuple[float, float, float]:
    """Rounds of scikit-learn's Ridge on labels along one direction of the inputs: how much of them is fitted."""
    from sklearn.linear_model import Ridge

    shrinks, shrinkage, rounds = (float(claim.settings[name]) for name in ("s", "nu", "m"))
    X = np.random.default_rng(0).normal(size=(20, 3))
    left, singular, _ = np.linalg.svd(X, full_matrices=False)
    label = left[:, 1]
    learner = Ridge(alpha=singular[1] ** 2 * (1 - shrinks) / shrinks, fit_intercept=False, solver="cholesky")
    fitted = np.zeros_like(label)
    for _ in range(int(rounds)):
        fitted += shrinkage * learner.fit(X, label - fitted).predict(X)
    # boosting is linear: the same share of the signal and of the noise is fitted
    share = (fitted - label) @ (fitted - label) if claim is bias_factor else fitted @ fitted
    return claim(s=shrinks, nu=shrinkage, m=int(rounds)), float(share), 1e-12


@cache
def _grown_trees(shrinkage: float, rounds: int) -> float:
    """The training error of scikit-learn's gradient boosting with fully grown trees, in units of the variance."""
    from sklearn.datasets import load_diabetes
    from sklearn.ensemble import GradientBoostingRegressor

    X, y = load_diabetes(return_X_y=True)
    X, first = np.unique(X, axis=0, return_index=True)  # equal inputs could not be told apart
    X, y = X[::4], y[first][::4]
    trees = GradientBoostingRegressor(learning_rate=shrinkage, n_estimators=rounds, max_depth=None, random_state=0)
    return float(np.mean((trees.fit(X, y).predict(X) - y) ** 2) / np.var(y))


def _by_trees(claim: Claim) -> tuple[list[float], list[float], float]:
    rounds, shrinkage = (1, 2, 4, 20), float(claim.settings["nu"])
    return [claim(nu=shrinkage, m=m) for m in rounds], [_grown_trees(shrinkage, m) for m in rounds], 1e-9


bias_factor = Claim(
    id="boosting.bias_factor",
    says="What m rounds leave of the squared bias.",
    lhs=r"(\mathbb{E}F_m-f)^2/f^2",
    parameters=("s", "nu", "m"),
    formula=(1 - nu * s) ** (2 * m),
    about=(fit - f) ** 2 / f**2,
    rivals=(
        Rival((1 - nu * s) ** m, "the bias itself"),
        Rival((1 - nu * s) ** (2 * (m + 1)), "rounds counted from 0"),
        Rival((1 - s) ** (2 * m * nu), "ν rounds of full size for each"),
    ),
    settings=AT,
    outside=_by_ridge if find_spec("sklearn") else None,
    outside_source="rounds of scikit-learn's Ridge",
    source="{cite:t}`buhlmann2003boosting`, who count the rounds from 0; the shrinkage is due to "
    "{cite:t}`friedman2001greedy`.",
)
variance_factor = Claim(
    id="boosting.variance_factor",
    says="How much of the variance of the labels m rounds have learned; there is no floor, it goes on to 1.",
    lhs=r"\mathrm{Var}(F_m)/\sigma^2",
    parameters=("s", "nu", "m"),
    formula=(1 - (1 - nu * s) ** m) ** 2,
    about=(square - fit**2) / sigma**2,
    rivals=(
        Rival(1 - (1 - nu * s) ** (2 * m), "what the squared bias has lost"),
        Rival((1 - (1 - nu * s) ** (m + 1)) ** 2, "rounds counted from 0"),
        Rival(nu * s * (1 - (1 - nu * s) ** (2 * m)) / (2 - nu * s), "labels whose noise is drawn anew in each round"),
    ),
    settings=AT,
    outside=_by_ridge if find_spec("sklearn") else None,
    outside_source="rounds of scikit-learn's Ridge",
    source="{cite:t}`buhlmann2003boosting`, who count the rounds from 0.",
)
saturated_trees_mse = Claim(
    id="boosting.saturated_trees_mse",
    says="Fully grown trees fit every residual, s = 1: the training error after m rounds, in units of Var y.",
    lhs=r"\overline{(y-F_m)^2}/\mathrm{Var}\,y",
    parameters=("nu", "m"),
    formula=(1 - nu) ** (2 * m),
    about=on_fixed_data((theta - sigma * XI) ** 2, m, rule=BOOSTED, s=1, f=0) / sigma**2,
    rivals=(
        Rival((1 - nu) ** m, "the residual itself"),
        Rival(sp.exp(-2 * nu * m), "the limit of small shrinkage"),
    ),
    settings={"nu": R(1, 4), "m": 4, "sigma": 2},
    outside=_by_trees if find_spec("sklearn") else None,
    outside_source="scikit-learn's GradientBoostingRegressor on its diabetes data",
    source="{eq}`boosting.bias_factor` with s = 1, from the mean of y, for inputs without repeats; "
    "{cite:t}`friedman2001greedy`.",
)
