"""The noise floor: one curvature, additive noise of any law, theta' = theta - eta (lam theta + sigma xi)."""

import math

import sympy as sp

from ..expectation import THETA as theta
from ..expectation import WAS as theta_was
from ..expectation import E
from ..ledger import Claim, Condition, Minimum, Order, Rival, Root
from ..letters import symbols
from ..noise import rademacher

eta, lam, sigma, theta0, t, lag = symbols("eta lam sigma theta0 t lag")
target, second_moment, kurtosis = symbols("target second_moment kurtosis")
oo, half = sp.oo, sp.Rational(1, 2)

STABLE = Condition(eta * lam < 2, "the run would diverge; lower eta below 2/lam")
loss = lam / 2 * theta**2
floor = eta * sigma**2 / (2 * (2 - eta * lam))
F = sp.Symbol("F", positive=True)  # the floor, where a formula would become long
# a setting without special values, so that a slip in any letter shows
AT = {"eta": sp.Rational(1, 4), "lam": sp.Rational(3, 2), "sigma": 2}

mean = Claim(
    id="noise_floor.mean",
    says="The noise averages out of the mean, which shrinks by the same factor at every step.",
    lhs=r"\mathbb{E}[\theta_t]",
    parameters=("eta", "lam", "theta0", "t"),
    formula=(1 - eta * lam) ** t * theta0,
    about=E(theta, (eta, t)),
    rivals=(Rival(sp.exp(-eta * lam * t) * theta0, "continuous time"),),
    settings=AT | {"sigma": half, "theta0": 4, "t": 3},
    source="The first-order autoregression {cite:p}`box1970time`.",
)
variance = Claim(
    id="noise_floor.variance",
    says="At a constant rate the parameter never settles: in the long run it scatters with this variance.",
    lhs=r"\mathbb{E}[\theta_\infty^2]",
    parameters=("eta", "lam", "sigma"),
    formula=eta * sigma**2 / (lam * (2 - eta * lam)),
    about=E(theta**2),
    conditions=(STABLE,),
    rivals=(Rival(eta * sigma**2 / (2 * lam), "the diffusion limit, blind to the size of a step"),),
    settings=AT,
    source="{cite:t}`liu2021noise`; the diffusion limit is in {cite:t}`mandt2017stochastic`.",
)
excess_loss = Claim(
    id="noise_floor.excess_loss",
    says="The noise floor: the mean loss in the long run, above the minimum.",
    lhs=r"\mathbb{E}[L_\infty]",
    parameters=("eta", "lam", "sigma"),
    formula=floor,
    about=E(loss),
    conditions=(STABLE,),
    rivals=(Rival(eta * sigma**2 / 4, "the diffusion limit"),),
    settings=AT,
    source="{cite:t}`liu2021noise`.",
)
diffusion_order = Claim(
    id="noise_floor.diffusion_order",
    says="The diffusion limit is a limit: its relative error shrinks like the rate to this power.",
    lhs="p",
    parameters=(),
    formula=sp.Integer(1),
    about=2 * lam * E(theta**2) / (eta * sigma**2) - 1,
    relation=Order("eta"),
    rivals=(Rival(sp.Integer(2), "an error that cancels to first order"),),
    settings=AT,
    source="Expanded from {eq}`noise_floor.variance`.",
)
variance_at = Claim(
    id="noise_floor.variance_at",
    says="The scatter grows towards its long-run value, wherever the run starts.",
    lhs=r"\mathrm{Var}[\theta_t]",
    parameters=("eta", "lam", "sigma", "t"),
    formula=(1 - (1 - eta * lam) ** (2 * t)) * variance.formula,
    about=E(theta**2, (eta, t)) - E(theta, (eta, t)) ** 2,
    conditions=(STABLE,),
    rivals=(Rival((1 - (1 - eta * lam) ** t) * variance.formula, "the rate of the mean, not of its square"),),
    settings=AT | {"theta0": 1, "t": 2},
    source="The first-order autoregression {cite:p}`box1970time`.",
)
loss_at = Claim(
    id="noise_floor.loss_at",
    says="The mean loss goes from its start to the floor, its distance shrinking by the square of the mean's factor.",
    lhs=r"\mathbb{E}[L_t]",
    parameters=("eta", "lam", "sigma", "theta0", "t"),
    formula=floor + (lam * theta0**2 / 2 - floor) * (1 - eta * lam) ** (2 * t),
    many_digits=True,
    abbreviations={F: floor},
    about=E(loss, (eta, t)),
    conditions=(STABLE,),
    rivals=(Rival(floor + (lam * theta0**2 / 2 - floor) * (1 - eta * lam) ** t, "the rate of the mean for the loss"),),
    settings=AT | {"theta0": 2, "t": 2},
    source="{cite:t}`schaul2013no`, in discrete time.",
)
autocovariance = Claim(
    id="noise_floor.autocovariance",
    says="At the floor, where the parameter is now still shows where it was.",
    lhs=r"\mathbb{E}[\theta_t\,\theta_{t+k}]",
    parameters=("eta", "lam", "sigma", "lag"),
    formula=variance.formula * (1 - eta * lam) ** lag,
    about=E(theta * theta_was, (eta, oo), (eta, lag)),
    conditions=(STABLE,),
    rivals=(Rival(variance.formula * (1 - eta * lam) ** (2 * lag), "the memory of the loss"),),
    settings=AT | {"lag": 2},
    source="The first-order autoregression {cite:p}`box1970time`.",
)
relaxation_time = Claim(
    id="noise_floor.relaxation_time",
    says="The mean comes closer by a factor e in this many steps.",
    lhs=r"\tau_\theta",
    parameters=("eta", "lam"),
    formula=-1 / sp.log(sp.Abs(1 - eta * lam)),
    about=-1 / sp.log(sp.Abs(E(theta, (eta, 1)) / theta0)),
    conditions=(STABLE,),
    rivals=(
        Rival(-1 / (2 * sp.log(sp.Abs(1 - eta * lam))), "the relaxation time of the loss"),
        Rival(1 / (eta * lam), "the limit of small rates"),
    ),
    settings=AT | {"theta0": 2},
    source="The first-order autoregression {cite:p}`box1970time`.",
)
loss_relaxation_time = Claim(
    id="noise_floor.loss_relaxation_time",
    says="The loss relaxes twice as fast as the parameter: by a factor e in this many steps.",
    lhs=r"\tau_L",
    parameters=("eta", "lam"),
    formula=-1 / (2 * sp.log(sp.Abs(1 - eta * lam))),
    about=-1 / sp.log((E(loss, (eta, 1)) - E(loss)) / (lam * theta0**2 / 2 - E(loss))),
    conditions=(STABLE,),
    rivals=(Rival(relaxation_time.formula, "the relaxation time of the parameter"),),
    settings=AT | {"theta0": 2},
    source="The square of the first-order autoregression.",
)
correlation_time = Claim(
    id="noise_floor.correlation_time",
    says="So many steps at the floor are worth one independent sample: the autocorrelation added up over all lags.",
    lhs=r"\sum_{k=-\infty}^{\infty}\rho_k",
    parameters=("eta", "lam"),
    formula=(2 - eta * lam) / (eta * lam),
    about=1 + 2 * E(theta * theta_was, (eta, oo), (eta, 1)) / (E(theta**2) - E(theta * theta_was, (eta, oo), (eta, 1))),
    conditions=(STABLE,),
    rivals=(Rival(1 / (eta * lam), "the relaxation time of continuous time"),),
    settings=AT,
    source="{cite:t}`box1970time`; the sum over lags is geometric because the autocovariance is.",
)
excess_kurtosis = Claim(
    id="noise_floor.excess_kurtosis",
    says="The floor is Gaussian only if the noise is: a share of the noise's excess kurtosis survives.",
    lhs=r"\mathbb{E}[\theta_\infty^4]/\mathbb{E}[\theta_\infty^2]^2-3",
    parameters=("eta", "lam", "kurtosis"),
    formula=kurtosis * (1 - (1 - eta * lam) ** 2) / (1 + (1 - eta * lam) ** 2),
    about=E(theta**4) / E(theta**2) ** 2 - 3,
    conditions=(STABLE,),
    rivals=(Rival(sp.S.Zero, "the central limit theorem, where it does not apply"),),
    settings=AT | {"kurtosis": -2},
    noise=rademacher,
    source="Fourth cumulants of the first-order autoregression.",
)
stability_limit = Claim(
    id="noise_floor.stability_limit",
    says="Above this rate the run diverges; the noise does not move the limit.",
    lhs=r"\eta_{\max}",
    parameters=("lam",),
    formula=2 / lam,
    # how much the variance grew in the second step, over the first: 1 at the edge
    about=(E(theta**2, (eta, 2), start=0) - E(theta**2, (eta, 1), start=0)) / E(theta**2, (eta, 1), start=0) - 1,
    relation=Root("eta"),
    rivals=(Rival(1 / lam, "the rate that jumps to the minimum"),),
    settings={"lam": 4, "sigma": 2},
    source="{cite:t}`polyak1987introduction`.",
)
steps_to_reach = Claim(
    id="noise_floor.steps_to_reach",
    says="The steps to a target loss between the floor and the start: what convergence means once a goal is set.",
    lhs="t",
    parameters=("eta", "lam", "sigma", "theta0", "target"),
    formula=sp.log((target - floor) / (lam * theta0**2 / 2 - floor)) / (2 * sp.log(sp.Abs(1 - eta * lam))),
    abbreviations={F: floor},
    about=E(loss, (eta, t)) - target,
    relation=Root("t"),
    conditions=(
        STABLE,
        Condition(target > floor, "the noise floor lies above it; lower eta, or raise the target"),
        Condition(target < lam * theta0**2 / 2, "the run starts below it; lower the target"),
    ),
    rivals=(
        Rival(
            sp.log((target - floor) / (lam * theta0**2 / 2 - floor)) / sp.log(sp.Abs(1 - eta * lam)),
            "the relaxation time of the parameter",
        ),
    ),
    # the loss after eight steps, near the floor
    settings=AT
    | {
        "eta": sp.Rational(1, 4),
        "theta0": 8,
        "target": sp.Rational(4, 13) + sp.Rational(620, 13) * sp.Rational(5, 8) ** 16,
    },
    source="Solved from the loss after t steps.",
)


def _steps(eta: float, lam: float, sigma: float, theta0: float, target: float) -> float:
    low, start, x = eta * sigma**2 / (2 * (2 - eta * lam)), lam * theta0**2 / 2, eta * lam
    if low >= target:
        return math.inf
    if x == 1:
        return 0.0
    return math.log((target - low) / (start - low)) / (2 * (math.log1p(-x) if x < 1 else math.log(x - 1)))


def _best_rate(lam: float, sigma: float, theta0: float, target: float) -> float:
    from scipy.optimize import minimize_scalar

    # below this rate the floor lies under the target; above 1/lam a smaller rate does better on both counts
    highest = min(4 * target / (sigma**2 + 2 * target * lam), 1 / lam) if sigma else 1 / lam
    found = minimize_scalar(
        lambda eta: _steps(eta, lam, sigma, theta0, target),
        bounds=(0, highest),
        method="bounded",
        options={"xatol": 1e-12 * highest},
    )
    return float(found.x)


best_rate_for_target = Claim(
    id="noise_floor.best_rate_for_target",
    says="The constant rate that reaches a target loss in the fewest steps: faster rates have too high a floor.",
    lhs=r"\eta^\star",
    parameters=("lam", "sigma", "theta0", "target"),
    formula=None,
    definition=r"\arg\min_\eta\; t(\eta),\qquad t(\eta)\text{ the steps to the target }L^\star",
    evaluate=_best_rate,
    # in the t steps that the best rate needs, no other rate comes as low
    about=E(loss, (eta, t)),
    relation=Minimum("eta"),
    conditions=(Condition(target < lam * theta0**2 / 2, "the run starts below it; lower the target"),),
    rivals=(Rival(4 * target / (sigma**2 + 2 * target * lam), "the rate whose floor is the target"),),
    # the target is what the best rate reaches in three steps
    settings={"lam": 1, "sigma": 1, "theta0": 4, "target": sp.Rational("0.24611139359020245"), "t": 3},
    source="A search over the rate; there is no closed form.",
)
best_one_step = Claim(
    id="noise_floor.best_one_step",
    says="The rate that lowers the mean loss most in one step from a second moment M.",
    lhs=r"\eta^\star",
    parameters=("lam", "sigma", "second_moment"),
    formula=lam * second_moment / (lam**2 * second_moment + sigma**2),
    about=E(loss, (eta, 1), start=sp.sqrt(second_moment)),
    relation=Minimum("eta"),
    rivals=(Rival(1 / lam, "the rate for no noise"),),
    settings={"lam": sp.Rational(3, 2), "sigma": 2, "second_moment": 9},
    source="{cite:t}`schaul2013no`.",
)
