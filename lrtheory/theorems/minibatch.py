"""Mini-batches: noise that depends on where the run is, and what a larger batch does.

Linear regression on fresh samples: independent Gaussian inputs whose variances are the curvatures, labels with noise
of standard deviation sigma.  A step averages the gradients of `batch` samples.
"""

import json
import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import sympy as sp

from ..expectation import THETA as theta
from ..expectation import E, Rule, derived
from ..landscapes import XI, Landscape, batched, linear_regression, quadratic
from ..ledger import DIM, LAMS, MODE, Claim, Condition, Rival, Root, largest, over_modes
from ..letters import symbol, symbols
from ..moments import after
from ..noise import Noise, any_law, finite
from ..optimizers import sgd
from ..recursion import trace
from .noise_floor import STABLE, loss

eta, lam, sigma, batch, dim, factor, p = symbols("eta lam sigma batch dim factor p")
t1, t2, lam_1, lam_2, lam_3 = symbols("theta_1 theta_2 lam_1 lam_2 lam_3")
oo, R, half = sp.oo, sp.Rational, sp.Rational(1, 2)

# --- linear regression --------------------------------------------------------------------------------------------

each = LAMS[MODE]
trace_H = sp.Sum(each, (MODE, 1, DIM))
K = sp.Sum(eta * each / (batch * (2 - eta * (1 + 1 / batch) * each)), (MODE, 1, DIM))
SHORT = {sp.Symbol("K", positive=True): K}
_LOWER = "the loss would grow without bound; lower eta below minibatch.lms_limit"
BOUNDED = (Condition(eta * (1 + 1 / batch) * largest(each) < 2, _LOWER), Condition(K < 1, _LOWER))


def _regression(dim: int, batch: int) -> Rule:
    return sgd, batched(linear_regression(dim=dim), batch)


def _square(landscape: Landscape, x: sp.Symbol) -> sp.Expr:
    """The mean square of a coordinate after one step from anywhere, for a batch of any size.

    A step on a batch is the mean of so many independent steps on one sample: in its square a share 1/batch are
    squares of one of them, and the others are products of two, whose mean is the square of the mean.
    """
    one = after(trace(sgd, landscape), 1, start={c: c for c in landscape.coordinates})
    return sp.expand(one[x**2] / batch + (1 - 1 / batch) * one[x] ** 2)


def _as_traced(landscape: Landscape, *sizes: int) -> list[sp.Expr]:
    """What that argument says, less what the traced rule says for batches of these sizes."""
    x, start = landscape.coordinates[0], {c: c for c in landscape.coordinates}
    whole = {b: after(trace(sgd, batched(landscape, b)), 1, start=start)[x**2] for b in sizes}
    return [_square(landscape, x).subs(batch, b) - traced for b, traced in whole.items()]


def _own(curvature: sp.Expr) -> sp.Expr:
    """What one step leaves of a coordinate's own square, before the share that every coordinate adds to all."""
    return 1 - 2 * eta * curvature + (1 + 1 / batch) * (eta * curvature) ** 2


def _moves(dim: int) -> list[sp.Expr]:
    """The mean square of each of so many coordinates after one step."""
    landscape = linear_regression(dim=dim)
    return [_square(landscape, x) for x in landscape.coordinates]


@cache
def _one_step() -> tuple[sp.Expr, ...]:
    """One step of linear regression for every batch and every number of coordinates.

    A coefficient of one square involves the inputs of three coordinates at most: three show every number.
    """
    residuals = []
    for dim in (1, 2, 3):
        states = linear_regression(dim=dim).coordinates
        curvatures = (lam_1, lam_2, lam_3)[:dim] if dim > 1 else (lam,)
        all_of_them = sp.Add(*(c * x**2 for c, x in zip(curvatures, states, strict=True)))
        for x, c, found in zip(states, curvatures, _moves(dim), strict=True):
            residuals.append(found - _own(c) * x**2 - eta**2 * c / batch * (all_of_them + sigma**2))
    return (*residuals, *_as_traced(linear_regression(), 1, 2, 3), *_as_traced(linear_regression(dim=2), 2))


def _balance() -> list[sp.Expr]:
    """The fixed point, with S the sum of curvature times square; each coordinate has the same share in it as in K."""
    S, k = sp.symbols("S k", positive=True)
    share = K.function.subs(each, lam)
    square = share * (S + sigma**2) / lam
    stays = _own(lam) * square + eta**2 * lam / batch * (S + sigma**2) - square
    found = sigma**2 * k / (1 - k)  # S, for the sum k of the shares
    return [
        *_one_step(),
        stays,
        found - k * (found + sigma**2),
        lms_misadjustment.formula.xreplace({K: k}) - found / sigma**2,  # type: ignore[union-attr]
        lms_excess.formula.xreplace({K: k}) - found / 2,  # type: ignore[union-attr]
    ]


@cache
def _recorded() -> dict[str, Any]:
    """Runs of padasip's LMS filter; tests/test_minibatch.py shows how they were made."""
    return json.loads((files("lrtheory") / "data" / "padasip_lms.json").read_text())


def _by_an_adaptive_filter(claim: Claim) -> tuple[float, float, float]:
    """The excess loss, or its ratio to the least loss, within four standard errors of what a filter was seen to do."""
    run = _recorded()
    measured, off = run["excess"], 4 * run["standard_error"] / run["excess"]
    at = {"eta": run["eta"], "lams": run["lams"], "batch": 1}
    if "sigma" in claim.parameters:
        return claim(**at, sigma=run["sigma"]), measured, off
    return claim(**at), measured / (run["sigma"] ** 2 / 2), off


def _excess(batch: int) -> sp.Expr:
    return E((lam_1 * t1**2 + lam_2 * t2**2) / 2, rule=_regression(2, batch))


_additive = sp.Sum(eta * each / (batch * (2 - eta * each)), (MODE, 1, DIM))
_widrow = eta * trace_H / (2 * batch - eta * trace_H)
lms_misadjustment = Claim(
    id="minibatch.lms_misadjustment",
    says="The excess loss of regression on fresh samples in the long run, as a share of the least possible loss.",
    lhs=r"\frac{\mathbb{E}[L_\infty]-L_{\min}}{L_{\min}}",
    parameters=("eta", "lams", "batch"),
    formula=K / (1 - K),
    abbreviations=SHORT,
    about=2 * _excess(batch=2) / sigma**2,
    conditions=BOUNDED,
    rivals=(
        Rival(_additive, "noise that is the same everywhere"),
        Rival(eta * trace_H / (2 * batch), "the small-rate limit"),
        Rival(_widrow, "the textbook's correction of it"),
    ),
    settings={"eta": R(1, 6), "lams": (R(16, 9), R(9, 4)), "sigma": 2, "batch": 2},
    derivation=_balance,
    outside=_by_an_adaptive_filter,
    outside_source="runs of padasip's LMS filter",
    source="{cite:t}`feuer1985convergence` and {cite:t}`horowitz1981performance`, here for batches; the rivals are in "
    "{cite:t}`widrow1976stationary`.",
)
lms_excess = Claim(
    id="minibatch.lms_excess",
    says="The noise floor of regression on fresh samples: higher than noise that is the same everywhere would make it.",
    lhs=r"\mathbb{E}[L_\infty]-L_{\min}",
    parameters=("eta", "lams", "sigma", "batch"),
    formula=sigma**2 * K / (2 * (1 - K)),
    abbreviations=SHORT,
    about=_excess(batch=2),
    conditions=BOUNDED,
    rivals=(
        Rival(sigma**2 * _additive / 2, "noise that is the same everywhere"),
        Rival(sigma**2 * eta * trace_H / (4 * batch), "the small-rate limit"),
        Rival(sigma**2 * _widrow / 2, "the textbook's correction of it"),
    ),
    settings={"eta": R(1, 10), "lams": (1, R(9, 4)), "sigma": 2, "batch": 2},
    derivation=_balance,
    outside=_by_an_adaptive_filter,
    outside_source="runs of padasip's LMS filter",
    source="{eq}`minibatch.lms_misadjustment` times the least loss, half of the variance of the labels' noise.",
)


def _largest_rate(lams: np.ndarray, batch: float) -> float:
    """K = 1, between the roots of what K would be if all curvatures were the largest one, and if it were alone."""
    from scipy.optimize import brentq

    top, own = lams.max(), 1 + 1 / batch
    low, high = 2 / (lams.sum() / batch + own * top), 2 / (top / batch + own * top)
    return brentq(
        lambda rate: float(np.sum(rate * lams / (batch * (2 - own * rate * lams)))) - 1,
        low * (1 - 1e-12),
        high * (1 + 1e-12),
        xtol=1e-15 * high,
    )


def _singular() -> list[sp.Expr]:
    """Some squares stay as they are where 1 - map has determinant 0: a product of gaps, times 1 - K.

    The map has no negative entries, so that its largest eigenvalue reaches 1 first; the products of two coordinates
    are bounded by their squares.
    """
    curvatures = (lam_1, lam_2, lam_3)
    states = linear_regression(dim=3).coordinates
    rows = [sp.Poly(move.subs(sigma, 0), *states) for move in _moves(3)]
    moved = sp.Matrix([[row.coeff_monomial(x**2) for x in states] for row in rows])
    gaps = sp.prod([1 - _own(c) for c in curvatures])
    return [*_one_step(), sp.expand((sp.eye(3) - moved).det()) - gaps * (1 - over_modes(K, curvatures))]


def _determinant(dim: int) -> sp.Expr:
    """The determinant of 1 - map, read from one step without label noise from each axis."""
    states = linear_regression(dim=dim).coordinates
    starts = [tuple(int(i == j) for i in range(dim)) for j in range(dim)]
    rule = _regression(dim, batch=1)
    after_one = [[E(x**2, (eta, 1), rule=rule, start=start, sigma=0) for start in starts] for x in states]
    return (sp.eye(dim) - sp.Matrix(after_one)).det()


_gradient_descent = "gradient descent, without the noise"
lms_limit = Claim(
    id="minibatch.lms_limit",
    says="Above this rate the mean loss grows without bound, although the mean of the run converges for a while yet.",
    lhs=r"\eta_{\max}",
    parameters=("lams", "batch"),
    formula=None,
    definition=r"\min\Big\{\eta:\;\sum_{i=1}^{d}\frac{\eta\lambda_i}{B\left(2-\eta\left(1+\frac1B\right)\lambda_i"
    r"\right)}=1\Big\}",
    evaluate=_largest_rate,
    about=_determinant(3),
    relation=Root("eta"),
    rivals=(
        Rival(2 / largest(each), _gradient_descent),
        Rival(2 / (trace_H / batch + (1 + 1 / batch) * largest(each)), "as if every curvature were the largest"),
    ),
    # one of the few settings with rational roots of the curvatures and a rational limit
    settings={"lams": (R(9, 4), R(9, 4), 4), "batch": 1},
    derivation=_singular,
    source="{cite:t}`horowitz1981performance`; {cite:t}`feuer1985convergence`; a root, in closed form for equal "
    "curvatures.",
)


def _isotropic() -> list[sp.Expr]:
    at_limit = lms_limit_isotropic.formula
    growth = _own(lam) + dim * (eta * lam) ** 2 / batch
    residuals = [growth.subs(eta, at_limit) - 1, dim * K.function.subs(each, lam).subs(eta, at_limit) - 1]
    for n in (1, 2, 3):
        together = sp.Add(*_moves(n)).subs(dict.fromkeys((lam_1, lam_2, lam_3), lam) | {sigma: 0})
        distance = sp.Add(*(x**2 for x in linear_regression(dim=n).coordinates))
        residuals.append(sp.expand(together) - growth.subs(dim, n) * distance)
    return [*_one_step(), *residuals]


lms_limit_isotropic = Claim(
    id="minibatch.lms_limit_isotropic",
    says="For equal curvatures the largest stable rate in closed form: it falls with the dimension, and batches of the "
    "size of the dimension bring it back.",
    lhs=r"\eta_{\max}",
    parameters=("lam", "dim", "batch"),
    formula=2 * batch / (lam * (batch + dim + 1)),
    about=E(t1**2 + t2**2, (eta, 1), rule=_regression(2, 2), start=(1, 0), sigma=0, lam_1=lam, lam_2=lam) - 1,
    relation=Root("eta"),
    rivals=(
        Rival(2 / lam, _gradient_descent),
        Rival(2 / (lam * (dim + 2)), "the limit of one sample, whatever the batch"),
        Rival(2 * batch / (lam * (dim + 2)), "the limit of one sample, times the batch"),
    ),
    settings={"lam": R(9, 4), "dim": 2, "batch": 2},
    derivation=_isotropic,
    source="{cite:t}`horowitz1981performance`, here for batches.",
)


def _fastest() -> list[sp.Expr]:
    factor = _square(linear_regression(), theta).subs(sigma, 0) / theta**2
    slope, best = sp.diff(factor, eta), 1 / (lam * (1 + 2 / batch))
    return [
        *_one_step(),
        slope.subs(eta, best),
        sp.diff(slope, eta) - 2 * lam**2 * (1 + 2 / batch),  # positive: the best rate is a minimum
        factor.subs(eta, best) - lms_best_contraction.formula,
    ]


lms_best_contraction = Claim(
    id="minibatch.lms_best_contraction",
    says="Without label noise, in one dimension, even the best rate leaves this share of the loss at every step.",
    lhs=r"\min_\eta\frac{\mathbb{E}[L_{t+1}]}{\mathbb{E}[L_t]}",
    parameters=("batch",),
    formula=2 / (batch + 2),
    about=E(theta**2, (1 / (lam * (1 + 2 / batch)), 1), rule=_regression(1, 3), start=1, sigma=0),
    rivals=(
        Rival((2 / (batch + 2)) ** 2, "the mean's factor, squared"),
        Rival(sp.S.Zero, "a step that reaches the minimum, as without noise"),
    ),
    settings={"lam": R(9, 4), "batch": 3},
    derivation=_fastest,
    source="Reached at the rate $B/(\\lambda(B+2))$; the batches that pay off are studied in {cite:t}`ma2018power`.",
)

# --- additive noise -----------------------------------------------------------------------------------------------


def _floor(rate: sp.Expr, size: sp.Expr) -> sp.Expr:
    """The derived floor of a batch of any size, whose noise has the standard deviation sigma / sqrt(size)."""
    return derived(E(loss, (rate, oo), sigma=sigma / sp.sqrt(size)))


def _additive_noise() -> list[sp.Expr]:
    step = (1 - eta * lam) ** 2 * theta**2 + (eta * sigma) ** 2 / batch
    return [
        _square(quadratic(), theta) - step,
        *_as_traced(quadratic(), 1, 2, 3),
        _floor(eta, batch) - batch_floor.formula,
    ]


def _of_batch(size: int, rate: sp.Expr = eta) -> sp.Expr:
    """E of the loss in the long run, with every sample of the batch drawn."""
    return E(loss, (rate, oo), rule=(sgd, batched(quadratic(), size)))


HERE = {"eta": R(4, 15), "lam": R(3, 2), "sigma": 2}
batch_floor = Claim(
    id="minibatch.batch_floor",
    says="Where the noise is the same everywhere, the floor falls in inverse proportion to the batch, at every rate.",
    lhs=r"\mathbb{E}[L_\infty]",
    parameters=("eta", "lam", "sigma", "batch"),
    formula=eta * sigma**2 / (2 * batch * (2 - eta * lam)),
    about=_of_batch(3),
    conditions=(STABLE,),
    rivals=(
        Rival(eta * sigma**2 / (2 * batch**2 * (2 - eta * lam)), "the batch taken for a standard deviation"),
        Rival(eta / batch * sigma**2 / (2 * (2 - eta / batch * lam)), "a larger batch is a smaller rate"),
    ),
    settings=HERE | {"batch": 3},
    derivation=_additive_noise,
    source="{eq}`noise_floor.excess_loss` with the variance divided by the batch.",
)
batch_versus_rate: Claim = Claim(
    id="minibatch.batch_versus_rate",
    says="The floor of a batch c times as large, over the floor of a rate c times smaller: they are not the same.",
    lhs=r"\frac{F(\eta,\,cB)}{F(\eta/c,\,B)}",
    parameters=("eta", "lam", "factor"),
    formula=(2 - eta * lam / factor) / (2 - eta * lam),
    about=_of_batch(3) / _of_batch(1, eta / factor),
    conditions=(STABLE, Condition(eta * lam < 2 * factor, "the smaller batch would diverge; lower eta below 2c/lam")),
    rivals=(Rival(sp.S.One, "a larger batch is a smaller rate"),),
    settings=HERE | {"factor": 3},
    derivation=lambda: [
        *_additive_noise(),
        _floor(eta, factor * batch) / _floor(eta / factor, batch) - batch_versus_rate.formula,
    ],
    source="Two floors, {eq}`minibatch.batch_floor`, divided; {cite:t}`smith2018dont` trade the one for the other.",
)
matching_batch_factor: Claim = Claim(
    id="minibatch.matching_batch_factor",
    says="A batch has to be so many times as large to bring the floor down as far as a rate c times smaller.",
    lhs="m",
    parameters=("eta", "lam", "factor"),
    formula=(2 * factor - eta * lam) / (2 - eta * lam),
    about=_of_batch(1) / _of_batch(1, eta / factor),
    conditions=(STABLE, Condition(eta * lam < 2 * factor, "the smaller rate would diverge; lower eta below 2c/lam")),
    rivals=(Rival(factor, "a batch as many times larger as the rate is smaller"),),
    settings=HERE | {"factor": R(13, 5)},
    derivation=lambda: [
        *_additive_noise(),
        _floor(eta, matching_batch_factor.formula * batch) - _floor(eta / factor, batch),
        _floor(eta, batch) / _floor(eta / factor, batch) - matching_batch_factor.formula,
    ],
    source="{eq}`minibatch.batch_versus_rate`, solved for equal floors.",
)
linear_scaling: Claim = Claim(
    id="minibatch.linear_scaling",
    says="The linear scaling rule keeps the floor at small rates only: batch and rate c times as large raise it.",
    lhs=r"\frac{F(c\eta,\,cB)}{F(\eta,\,B)}",
    parameters=("eta", "lam", "factor"),
    formula=(2 - eta * lam) / (2 - factor * eta * lam),
    about=_of_batch(3, factor * eta) / _of_batch(1),
    conditions=(
        STABLE,
        Condition(factor * eta * lam < 2, "the larger rate would diverge; lower factor below 2/(eta lam)"),
    ),
    rivals=(Rival(sp.S.One, "rate and batch scaled together change nothing"),),
    settings=HERE | {"factor": 3},
    derivation=lambda: [
        *_additive_noise(),
        _floor(factor * eta, factor * batch) / _floor(eta, batch) - linear_scaling.formula,
    ],
    source="Two floors, {eq}`minibatch.batch_floor`, divided; the rule is that of {cite:t}`goyal2017accurate`.",
)

# --- rare features, and rare large steps --------------------------------------------------------------------------


def _at(share: sp.Rational, values: Callable[[sp.Expr], dict[sp.Expr, sp.Expr]]) -> Noise:
    """The law of these values and their probabilities, at one share p."""
    law = values(share)
    return finite("rare", [(_fraction(v), _fraction(q)) for v, q in law.items()])


def _fraction(x: sp.Expr) -> Fraction:
    return Fraction(int(x.p), int(x.q))


def _for_any_share(values: Callable[[sp.Expr], dict[sp.Expr, sp.Expr]]) -> Noise:
    """The same for every p: its moments only."""
    return Noise("rare", lambda n: sp.Add(*(q * v**n for v, q in values(p).items())))


def _feature(share: sp.Expr) -> dict[sp.Expr, sp.Expr]:
    return {1 / sp.sqrt(share): share, sp.S.Zero: 1 - share}


def _sparse(inputs: Noise) -> Rule:
    return sgd, linear_regression(inputs=inputs)


_P = R(4, 9)
sparse_variance: Claim = Claim(
    id="minibatch.sparse_variance",
    says="A rare feature, seen with probability p and of mean square one, scatters more the rarer it is.",
    lhs=r"\mathbb{E}[\theta_\infty^2]",
    parameters=("eta", "sigma", "p"),
    formula=eta * sigma**2 / (2 - eta / p),
    about=E(theta**2, rule=_sparse(_at(_P, _feature)), lam=1),
    conditions=(
        Condition(p <= 1, "a probability is at most 1; give a share"),
        Condition(eta < 2 * p, "the variance would grow without bound; lower eta below 2p"),
    ),
    rivals=(
        Rival(eta * sigma**2 / (2 - eta), "noise that is the same everywhere"),
        Rival(eta * sigma**2 / 2, "the small-rate limit"),
    ),
    settings={"eta": R(1, 4), "sigma": 2, "p": _P},
    derivation=lambda: [derived(E(theta**2, rule=_sparse(_for_any_share(_feature)), lam=1)) - sparse_variance.formula],
    source="One step in two squares: the feature is seen, or it is not.",
)
sparse_limit: Claim = Claim(
    id="minibatch.sparse_limit",
    says="The rarer the feature, the smaller the largest stable rate, although the curvature is the same.",
    lhs=r"\eta_{\max}",
    parameters=("p",),
    formula=2 * p,
    about=E(theta**2, (eta, 1), rule=_sparse(_at(_P, _feature)), start=1, lam=1, sigma=0) - 1,
    relation=Root("eta"),
    conditions=(Condition(p <= 1, "a probability is at most 1; give a share"),),
    rivals=(
        Rival(sp.Integer(2), "gradient descent: the curvature is 1"),
        Rival(2 * sp.sqrt(p), "the limit of the largest gradient, not of its square"),
    ),
    settings={"p": _P},
    derivation=lambda: [
        (derived(E(theta**2, (eta, 1), rule=_sparse(_for_any_share(_feature)), start=1, lam=1, sigma=0)) - 1).subs(
            eta, sparse_limit.formula
        )
    ],
    source="{eq}`minibatch.sparse_variance`: where its denominator vanishes.",
)

A = symbol("A")


def _slope(share: sp.Expr) -> dict[sp.Expr, sp.Expr]:
    return {half: 1 - share, sp.Integer(-2): share}


def _kesten(slope: Noise) -> Rule:
    """theta' = A theta + xi, as a step at the rate 1."""
    return sgd, Landscape("random slope", (1 - A) * theta**2 / 2 - XI * theta, ((A, slope), (XI, any_law)))


_RARE = R(1, 50)
kesten_variance: Claim = Claim(
    id="minibatch.kesten_variance",
    says="Steps that halve the distance, but with probability p double it to the other side: below p = 1/5 there is a "
    "variance.",
    lhs=r"\mathbb{E}[\theta_\infty^2]",
    parameters=("p",),
    formula=4 / (3 * (1 - 5 * p)),
    about=E(theta**2, (1, oo), rule=_kesten(_at(_RARE, _slope))),
    conditions=(Condition(p < R(1, 5), "the variance is infinite; ask minibatch.kesten_tail what is left"),),
    rivals=(
        Rival(R(4, 3), "the rare steps left out"),
        Rival(1 / (1 - ((1 - p) / 2 - 2 * p) ** 2), "the mean step at every step"),
    ),
    settings={"p": _RARE},
    derivation=lambda: [derived(E(theta**2, (1, oo), rule=_kesten(_for_any_share(_slope)))) - kesten_variance.formula],
    source="$\\theta'=A\\theta+\\varepsilon$ with A = 1/2 or -2 and $\\mathrm{Var}\\,\\varepsilon=1$, as in "
    "{cite:t}`kesten1973random`.",
)


def _stays() -> list[sp.Expr]:
    """The moment of order alpha is neither halved nor doubled by the random slope, and log|A| is negative on average.

    The moment is convex in its order and 1 at order 0, so that there is one other order, and it is positive, at which
    it is 1.
    """
    (rule,) = trace(*_kesten(_for_any_share(_slope))).next_state
    alpha = sp.Symbol("alpha", positive=True)
    moment = sum(q * sp.exp(alpha * sp.log(abs(v))) for v, q in _slope(p).items())
    slope_at_0 = sp.diff(moment, alpha).subs(alpha, 0)
    return [
        sp.expand(rule.subs(eta, 1)) - A * theta - XI,
        sp.simplify(moment.subs(alpha, kesten_tail.formula)) - 1,
        slope_at_0 + (1 - 2 * p) * sp.log(2),
    ]


def _tail_of_runs(claim: Claim) -> tuple[float, float, float]:
    """How often runs are further away than x, over how often further than 16 x: 16 to the power of the tail index.

    Along powers of 2 the ratio does not depend on x where the noise is small against x.
    """
    share = float(claim.settings["p"])
    rng, runs, counts = np.random.default_rng(0), np.zeros(20_000), np.zeros(2)
    for step in range(900):
        slope = np.where(rng.random(runs.size) < share, -2.0, 0.5)
        runs = slope * runs + rng.standard_normal(runs.size)
        if step >= 100:
            counts += [np.sum(np.abs(runs) > far) for far in (32, 512)]
    # from seed to seed the measured index varies by 0.9 %
    return math.log(counts[0] / counts[1]) / math.log(16), float(claim(p=share)), 0.05


kesten_tail = Claim(
    id="minibatch.kesten_tail",
    says="The chance to be further away than x falls like x to the power -alpha: from p = 1/5 on the variance is "
    "infinite, although the run settles.",
    lhs=r"\alpha",
    parameters=("p",),
    formula=sp.log((1 - p) / p) / sp.log(2),
    conditions=(Condition(p < half, "the run does not settle; choose p below 1/2"),),
    rivals=(
        Rival(sp.log(1 / p) / sp.log(2), "the chance of so many large steps in a row"),
        Rival(sp.Integer(2), "a variance that only just exists"),
    ),
    settings={"p": R(3, 10)},
    derivation=_stays,
    outside=_tail_of_runs,
    outside_source="the tail of simulated runs",
    source="The order at which $\\mathbb{E}|A|^\\alpha=1$ {cite:p}`kesten1973random`; in SGD, "
    "{cite:t}`gurbuzbalaban2021heavy`.",
)
