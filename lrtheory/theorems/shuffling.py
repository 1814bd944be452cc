"""Shuffling: n samples a, each with the loss lam (theta - a)**2 / 2, taken in epochs; theta = 0 is their mean.

Samples without replacement are not independent: what one step of an epoch does, the others partly undo.
"""

from importlib.util import find_spec
from itertools import permutations

import numpy as np
import sympy as sp

from ..expectation import THETA as theta
from ..expectation import E, Rule
from ..landscapes import XI, Landscape, quadratic_to_sample
from ..ledger import Claim, Condition, Order, Rival
from ..letters import symbols
from ..noise import Noise, empirical, rademacher
from ..optimizers import sgd
from ..permutations import in_epoch

eta, lam, variance, n, j, batch = symbols("eta lam variance n j batch")
h1, h2, a1, a2 = symbols("h1 h2 a1 a2")
R, sd = sp.Rational, sp.sqrt(variance)
h, q = eta * lam, 1 - eta * lam
S2 = variance * n / (n - 1)  # the variance that the n samples would be an estimate of
Q, V = sp.Symbol("q", real=True), sp.Symbol(r"V_{\mathrm{end}}", positive=True)  # where formulas would become long
SHORT = {Q: q}
H, S, W = (sp.Symbol(letter, positive=True) for letter in ("h", "S", "w"))

STABLE = Condition(eta * lam < 2, "the run would diverge; lower eta below 2/lam")
SEVERAL = Condition(n > 1, "one sample has no order; give two or more")

# data of mean 0 and variance 1, and not symmetric
_four = empirical([R(x, 3) for x in (-3, -1, -1, 5)])
_five = empirical([R(x, 4) for x in (-7, -1, 1, 2, 5)])
_six = empirical([R(x, 4) for x in (-5, -4, -1, 1, 2, 7)])
AT = {"eta": R(1, 4), "lam": R(3, 2), "variance": R(9, 4), "n": 5}


def _rule(data: Noise) -> Rule:
    return sgd, quadratic_to_sample(data)


with_replacement_variance = Claim(
    id="shuffling.with_replacement_variance",
    says="Samples drawn with replacement leave the run with this variance, of the order of the rate.",
    lhs=r"\mathbb{E}[\theta_\infty^2]",
    parameters=("eta", "lam", "variance"),
    formula=variance * h / (2 - h),
    about=E(theta**2, rule=_rule(_five), scale=sd),
    conditions=(STABLE,),
    rivals=(Rival(variance * h / 2, "the diffusion limit"),),
    settings=AT,
    source="{eq}`noise_floor.variance` with the variance of one sample's gradient.",
)


def _by_scikit_learn(claim: Claim) -> tuple[float, float, float]:
    """The second moment from one epoch of SGDRegressor along each order: theta' = shrink * theta + end."""
    from sklearn.linear_model import SGDRegressor

    rate, root, scale = float(AT["eta"]), float(AT["lam"]) ** 0.5, float(AT["variance"]) ** 0.5
    samples = [scale * float(value) for value, _ in _five.support or ()]
    model = SGDRegressor(
        penalty=None, fit_intercept=False, learning_rate="constant", eta0=rate, shuffle=False, max_iter=1, tol=None
    )
    inputs = np.full((len(samples), 1), root)

    def epoch(start: float, order: tuple[float, ...]) -> float:
        return float(model.fit(inputs, root * np.array(order), coef_init=np.array([start])).coef_[0])

    ends = [epoch(0.0, order) for order in permutations(samples)]
    shrink = epoch(1.0, tuple(samples)) - epoch(0.0, tuple(samples))
    return claim(**{k: float(v) for k, v in AT.items()}), float(np.mean(np.square(ends)) / (1 - shrink**2)), 1e-9


_epoch_end = S2 * (h / (2 - h) - (1 - q**n) / (1 + q**n) / n)
epoch_end_variance = Claim(
    id="shuffling.epoch_end_variance",
    says="With a new order for each epoch the steps of an epoch nearly cancel: at its end the variance is of third "
    "order in the rate.",
    lhs=r"\mathbb{E}[\theta_{\mathrm{end}}^2]",
    parameters=("eta", "lam", "variance", "n"),
    formula=_epoch_end,
    many_digits=True,
    abbreviations=SHORT,
    about=in_epoch(theta**2, _rule(_five), scale=sd),
    conditions=(STABLE, SEVERAL),
    rivals=(
        Rival(variance * h**2 * (n + 1) / 6, "the mean over an epoch at a small rate, of second order"),
        Rival(_epoch_end * (n - 1) / n, "the variance of the samples, without n/(n-1)"),
        Rival(with_replacement_variance.formula, "as if drawn with replacement"),
    ),
    settings=AT,
    outside=_by_scikit_learn if find_spec("sklearn") else None,
    outside_source="scikit-learn's SGDRegressor, one epoch along each order",
    source="For any n samples; {cite:t}`gurbuzbalaban2021why`, {cite:t}`haochen2019random` and "
    "{cite:t}`mishchenko2020random` bound the error on more general losses.",
)


small_rate_variance = variance * n * (n + 1) * h**3 / 24  # at the end of an epoch, where n eta lam is far below 1


def _leading_term() -> list[sp.Expr]:
    """(1 - q**n) / (1 + q**n) is tanh(x), x = -n log(1 - h) / 2, which makes the series short."""
    small = sp.Symbol("h", positive=True)
    x = sp.series(-n * sp.log(1 - small) / 2, small, 0, 5).removeO()
    power = sp.exp(-2 * x)  # q**n
    tanh = (1 - power) / (1 + power)
    rest = sp.series(small / (2 - small), small, 0, 4).removeO() - sp.series(tanh / n, small, 0, 4).removeO()
    typed = _epoch_end.subs(q**n, power).subs(eta, small / lam)
    exact = S2 * (small / (2 - small) - tanh / n)
    leading = small_rate_variance.subs(eta, small / lam)
    power_of_rate = sp.degree(leading, small) - epoch_end_order.formula
    return [sp.simplify(typed - exact), S2 * rest - leading, power_of_rate]


epoch_end_order = Claim(
    id="shuffling.epoch_end_order",
    says="At the ends of epochs the variance shrinks like the rate to this power.",
    lhs="p",
    parameters=(),
    formula=sp.Integer(3),
    about=in_epoch(theta**2, _rule(_four), scale=sd),
    relation=Order("eta"),
    derivation=_leading_term,
    rivals=(
        Rival(sp.Integer(2), "the order inside an epoch, and of the bounds for unequal curvatures"),
        Rival(sp.Integer(1), "the order with replacement"),
    ),
    settings=AT | {"n": 4, "eta": R(1, 12)},
    source="Expanded from {eq}`shuffling.epoch_end_variance`.",
)
_mid_epoch = q ** (2 * j) * _epoch_end + h**2 * S2 * ((1 - q ** (2 * j)) / (1 - q**2) - ((1 - q**j) / h) ** 2 / n)
mid_epoch_variance = Claim(
    id="shuffling.mid_epoch_variance",
    says="Inside an epoch the variance rises and falls again: after j of its n steps it is of second order.",
    lhs=r"\mathbb{E}[\theta_j^2]",
    parameters=("eta", "lam", "variance", "n", "j"),
    formula=_mid_epoch,
    many_digits=True,
    abbreviations=SHORT | {S: S2, H: h, V: S * (H / (1 + Q) - (1 - Q**n) / (1 + Q**n) / n), W: (1 - Q**j) / H},
    about=in_epoch(theta**2, _rule(_five), at=j, scale=sd),
    conditions=(STABLE, SEVERAL, Condition(j <= n, "an epoch has n steps; choose j up to n")),
    rivals=(
        Rival(_epoch_end, "the variance at the ends of epochs"),
        Rival(with_replacement_variance.formula, "as if drawn with replacement"),
    ),
    settings=AT | {"j": 2},
    source="From {eq}`shuffling.epoch_end_variance`, j steps on.",
)
_once = _epoch_end * (1 + q**n) / (1 - q**n)
shuffle_once_variance = Claim(
    id="shuffling.shuffle_once_variance",
    says="One order for all epochs ends in a cycle, whose ends scatter over the orders with this variance, of second "
    "order in the rate.",
    lhs=r"\mathbb{E}[\theta_{\mathrm{end}}^2]",
    parameters=("eta", "lam", "variance", "n"),
    formula=_once,
    many_digits=True,
    abbreviations=SHORT | {V: _epoch_end.subs(q, Q)},
    about=in_epoch(theta**2, _rule(_four), reshuffle=False, scale=sd),
    conditions=(STABLE, SEVERAL),
    rivals=(
        Rival(_epoch_end, "a new order for each epoch"),
        Rival(_epoch_end / (1 - q**n), "errors that add up from epoch to epoch at random"),
    ),
    settings=AT | {"n": 4},
    source="The fixed point of an epoch's map, averaged over the orders; {cite:t}`mishchenko2020random` have a bound.",
)
_batches = n / batch
_batched = S2 / batch * (h / (2 - h) - (1 - q**_batches) / (1 + q**_batches) / _batches)
batched_variance = Claim(
    id="shuffling.batched_variance",
    says="In batches of B samples an epoch has m = n/B steps, and the sample variance of the batches' means, with "
    "m − 1 below, is on the average the B-th part of that of the samples.",
    lhs=r"\mathbb{E}[\theta_{\mathrm{end}}^2]",
    parameters=("eta", "lam", "variance", "n", "batch"),
    formula=_batched,
    many_digits=True,
    abbreviations=SHORT,
    about=in_epoch(theta**2, _rule(_six), batch=batch, scale=sd),
    conditions=(
        STABLE,
        SEVERAL,
        Condition(sp.Eq(sp.Mod(n, batch), 0), "the last batch would be smaller; choose a batch that divides n"),
    ),
    rivals=(
        Rival(_epoch_end / batch, "as many steps as samples"),
        Rival(_batched * (n - 1) / (n - batch), "batches as m samples of a B-th of the variance"),
    ),
    settings=AT | {"n": 6, "batch": 2},
    source="As {eq}`shuffling.epoch_end_variance`, with the means of batches for samples.",
)

# two samples, xi = 1 and xi = -1, that differ in their curvature too
_slope, _sample = ((one + two) / 2 + XI * (one - two) / 2 for one, two in ((h1, h2), (a1, a2)))
_two_parabolas: Rule = (sgd, Landscape("two parabolas", _slope * (theta - _sample) ** 2 / 2, ((XI, rademacher),)))
_minimum = (h1 * a1 + h2 * a2) / (h1 + h2)
_bias = eta * h1 * h2 * (_minimum - (a1 + a2) / 2) / (h1 + h2 - eta * h1 * h2)
unequal_bias = Claim(
    id="shuffling.unequal_bias",
    says="If the samples' curvatures differ, the run is off on the average: at the ends of epochs its mean is not the "
    "minimum, by the order of the rate, so that the squared error is of second order.",
    lhs=r"\mathbb{E}[\theta_{\mathrm{end}}]-\theta^\star",
    parameters=("eta", "h1", "h2", "a1", "a2"),
    formula=_bias,
    many_digits=True,
    abbreviations={sp.Symbol(r"\theta^\star"): _minimum, sp.Symbol(r"\bar a"): (a1 + a2) / 2},
    about=in_epoch(theta, _two_parabolas) - _minimum,
    conditions=(Condition(sp.Abs((1 - eta * h1) * (1 - eta * h2)) < 1, "an epoch would diverge; lower eta"),),
    rivals=(
        Rival(sp.S.Zero, "no bias, as with equal curvatures"),
        Rival(-_bias, "the other sign"),
    ),
    settings={"eta": R(1, 4), "h1": R(1, 2), "h2": 3, "a1": 2, "a2": R(-1, 2)},
    source="Two samples, both orders; compare the bounds of {cite:t}`mishchenko2020random`, of second order too.",
)
