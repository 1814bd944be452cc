"""The quick win: what the mean loss loses when the rate drops from eta1 to eta2, and how fast."""

import sympy as sp

from ..expectation import THETA as theta
from ..expectation import E
from ..ledger import AtLeast, Claim, Condition, Minimum, Rival, Root
from ..letters import symbols
from .noise_floor import loss

eta1, eta2, lam, sigma, k, tau, x, theta0 = symbols("eta1 eta2 lam sigma k tau x theta0")
eta, G, C, M = symbols("eta mean_squared_gradient noise_variance second_moment")
oo, half = sp.oo, sp.Rational(1, 2)
AT = {"eta1": sp.Rational(3, 5), "eta2": sp.Rational(1, 4), "lam": sp.Rational(3, 2), "sigma": 2}

STABLE_BEFORE = Condition(eta1 * lam < 2, "the run before the drop would diverge; lower eta1 below 2/lam")
STABLE_AFTER = Condition(eta2 * lam < 2, "the run after the drop would diverge; lower eta2 below 2/lam")
LOWER = Condition(eta2 < eta1, "a drop goes down; choose eta2 below eta1")


def floor(rate: sp.Expr) -> sp.Expr:
    """The noise floor at a rate."""
    return rate * sigma**2 / (2 * (2 - rate * lam))


def after_drop(rate: sp.Expr, steps: sp.Expr) -> sp.Expr:
    """E of the loss: long enough at eta1, then so many steps at another rate."""
    return E(loss, (eta1, oo), (rate, steps))


size = Claim(
    id="quick_win.size",
    says="The quick win: the distance between the floors of the two rates.",
    lhs="Q",
    parameters=("eta1", "eta2", "lam", "sigma"),
    formula=sigma**2 / 2 * (eta1 / (2 - eta1 * lam) - eta2 / (2 - eta2 * lam)),
    about=E(loss, (eta1, oo)) - E(loss, (eta2, oo)),
    conditions=(STABLE_BEFORE, STABLE_AFTER),
    rivals=(Rival((eta1 - eta2) * sigma**2 / 4, "the diffusion limit"),),
    settings=AT,
    source="The difference of two floors, {eq}`noise_floor.excess_loss`.",
)
time_constant = Claim(
    id="quick_win.time_constant",
    says="The quick win is paid out by a factor e in this many steps, set by the new rate.",
    lhs=r"\tau_Q",
    parameters=("eta2", "lam"),
    formula=-1 / (2 * sp.log(sp.Abs(1 - eta2 * lam))),
    about=-1 / sp.log((after_drop(eta2, 1) - E(loss, (eta2, oo))) / (E(loss, (eta1, oo)) - E(loss, (eta2, oo)))),
    conditions=(STABLE_AFTER,),
    rivals=(Rival(-1 / (2 * sp.log(sp.Abs(1 - eta1 * lam))), "the time constant of the old rate"),),
    settings=AT,
    source="The relaxation of the loss, {eq}`noise_floor.loss_relaxation_time`, at the new rate.",
)
loss_after = Claim(
    id="quick_win.loss_after",
    says="The mean loss k steps after the drop, on its way from the old floor to the new one.",
    lhs=r"\mathbb{E}[L_k]",
    parameters=("eta1", "eta2", "lam", "sigma", "k"),
    formula=floor(eta2) + (floor(eta1) - floor(eta2)) * (1 - eta2 * lam) ** (2 * k),
    abbreviations=dict(zip(sp.symbols("F_1 F_2", positive=True), (floor(eta1), floor(eta2)), strict=True)),
    about=after_drop(eta2, k),
    conditions=(STABLE_BEFORE, STABLE_AFTER),
    rivals=(
        Rival(
            floor(eta2) + (floor(eta1) - floor(eta2)) * (1 - eta1 * lam) ** (2 * k),
            "as if the old rate set the pace",
        ),
    ),
    settings=AT | {"k": 2},
    source="The loss after t steps, {eq}`noise_floor.loss_at`, from the old floor.",
)
best_next_rate = Claim(
    id="quick_win.best_next_rate",
    says="The half rule: at the floor, the best rate for the very next step is half the old one.",
    lhs=r"\eta_2^\star",
    parameters=("eta1",),
    formula=eta1 / 2,
    about=after_drop(eta2, 1),
    relation=Minimum("eta2"),
    rivals=(
        Rival(sp.S.Zero, "the smaller the better"),
        Rival(eta1 / 10, "the usual factor of ten"),
    ),
    settings=AT,
    source=(
        "Free of curvature and noise, hence true of any quadratic in any dimension: each of its modes has the same "
        "best rate."
    ),
)
best_next_gain = Claim(
    id="quick_win.best_next_gain",
    says="What that best step leaves of the floor.",
    lhs=r"\mathbb{E}[L_1]/\mathbb{E}[L_\infty]",
    parameters=("eta1", "lam"),
    formula=1 - eta1 * lam / 2,
    about=after_drop(eta1 / 2, 1) / E(loss, (eta1, oo)),
    conditions=(STABLE_BEFORE,),
    rivals=(Rival(sp.Rational(1, 2), "half of the floor, as half of the rate"),),
    settings=AT,
    source="The half rule put into the loss after one step.",
)
# after k such steps the loss is this share of the floor
_share = 1 / (1 + k * lam * eta1 / (2 - eta1 * lam))
_continued = eta1 / (2 + k * eta1 * lam)


def _continuation(last: sp.Expr) -> sp.Expr:
    """E of the second moment over its floor: two best steps, then one at another rate."""
    best = [(_continued.subs(k, j), 1) for j in range(2)]
    return E(theta**2, (eta1, oo), *best, (last, 1)) / E(theta**2, (eta1, oo))


def _induction() -> list[sp.Expr]:
    # one step from a share s of the floor: (1 - rate lam)^2 s + rate^2 sigma^2 / floor, smallest where its slope is 0
    step = (1 - eta * lam) ** 2 * _share + eta**2 * lam * (2 - eta1 * lam) / eta1
    best = sp.solve(sp.diff(step, eta), eta)[0]
    return [_share.subs(k, 0) - 1, best - _continued, step.subs(eta, _continued) - _share.subs(k, k + 1)]


best_continuation_rate = Claim(
    id="quick_win.best_continuation_rate",
    says="Going on with the best rate at every step after the floor gives a 1/k schedule.",
    lhs=r"\eta_k^\star",
    parameters=("eta1", "lam", "k"),
    formula=_continued,
    about=_continuation(eta),
    relation=Minimum("eta"),
    conditions=(STABLE_BEFORE,),
    rivals=(Rival(eta1 / 2, "the half rule, kept"),),
    settings=AT | {"k": 2},
    derivation=_induction,
    source="{cite:t}`schaul2013no`, from the floor.",
)
best_continuation_moment = Claim(
    id="quick_win.best_continuation_moment",
    says="What k such steps leave of the floor: a decay like 1/k, not a geometric one.",
    lhs=r"\mathbb{E}[\theta_k^2]/\mathbb{E}[\theta_0^2]",
    parameters=("eta1", "lam", "k"),
    formula=_share,
    about=_continuation(_continued.subs(k, 2)),
    conditions=(STABLE_BEFORE,),
    rivals=(Rival((1 - eta1 * lam / 2) ** k, "the first gain at every step"),),
    settings=AT | {"k": 3},
    derivation=_induction,
    source="{cite:t}`schaul2013no`, from the floor.",
)
_middle = (eta1 + eta2) / 2
immediate_gain_threshold = Claim(
    id="quick_win.immediate_gain_threshold",
    says="Dropping lowers the loss in the very next step exactly if the second moment is below this.",
    lhs=r"\mathbb{E}[\theta^2]",
    parameters=("eta1", "eta2", "lam", "sigma"),
    formula=sp.Piecewise(
        (_middle * sigma**2 / (lam * (1 - _middle * lam)), _middle * lam < 1),
        (oo, True),
    ),
    abbreviations={sp.Symbol("m", positive=True): _middle},
    about=E(theta**2, (eta1, 1), start=sp.sqrt(M)) - E(theta**2, (eta2, 1), start=sp.sqrt(M)),
    relation=Root("second_moment"),
    conditions=(LOWER,),
    rivals=(Rival(eta1 * sigma**2 / (lam * (2 - eta1 * lam)), "the floor of the old rate"),),
    settings={"eta1": sp.Rational(3, 5), "eta2": sp.Rational(2, 5), "lam": sp.Rational(2, 5), "sigma": 2},
    derivation=lambda: [
        sp.solve((1 - eta1 * lam) ** 2 * M + eta1**2 * sigma**2 - (1 - eta2 * lam) ** 2 * M - eta2**2 * sigma**2, M)[0]
        - _middle * sigma**2 / (lam * (1 - _middle * lam))
    ],
    source="Two one-step losses set equal; the exact form of the rule of {cite:t}`schaul2013no`.",
)


def _omega(x: float) -> float:
    from scipy.special import wrightomega

    return float(wrightomega(1 + 2 * x).real)  # W(exp(1 + 2 x)) without the exponential, which overflows


_z = sp.LambertW(sp.exp(1 + 2 * x))
_rho = sp.Symbol("rho", positive=True)
_share_left = _rho + (1 - _rho) * sp.exp(-2 * _rho * x)  # of the old floor, in the diffusion limit


def _diffusion_limit() -> list[sp.Expr]:
    # the exact loss after the drop, with rates rho eta1 and steps x / (eta1 lam), as eta1 goes to 0
    exact = loss_after.formula.subs({eta2: _rho * eta1}) / floor(eta1)  # type: ignore[union-attr]
    power = (1 - _rho * eta1 * lam) ** (2 * k)
    limit_of_power = sp.exp(sp.limit(2 * x / (eta1 * lam) * sp.log(1 - _rho * eta1 * lam), eta1, 0))
    limit_of_rest = sp.limit(exact.subs(power, sp.Symbol("P")), eta1, 0)
    return [limit_of_rest.subs(sp.Symbol("P"), limit_of_power) - _share_left]


def _slope_at_best() -> list[sp.Expr]:
    w = sp.Symbol("w", positive=True)  # the value of W: exp(1 + 2 x) = w e^w, so exp(-2 rho x) = 1 / w at the best rho
    best = (1 + 2 * x - w) / (2 * x)
    slope = sp.diff(_share_left, _rho).subs(sp.exp(-2 * _rho * x), 1 / w).subs(_rho, best)
    left = _share_left.subs(sp.exp(-2 * _rho * x), 1 / w).subs(_rho, best) - (1 - (w - 1) ** 2 / (2 * x * w))
    return [*_diffusion_limit(), sp.together(slope), sp.together(left)]


def _small_rate(claim: Claim) -> tuple[float, float, float]:
    """The exact best drop at a small rate, found by search, against the diffusion limit."""
    rate, number = 1e-5, 2.0
    steps = round(number / rate)
    best = _best_drop(rate, 1.0, steps)
    if claim.id.endswith("factor"):
        return best / rate, claim(x=number), 1e-4
    left = (best / (2 - best) + (rate / (2 - rate) - best / (2 - best)) * (1 - best) ** (2 * steps)) / (
        rate / (2 - rate)
    )
    return left, claim(x=number), 1e-4


best_drop_factor = Claim(
    id="quick_win.best_drop_factor",
    says="With x = η₁λτ left to run at small rates, this is the best η₂/η₁ for the rest of the run.",
    lhs=r"\rho^\star",
    parameters=("x",),
    formula=(1 + 2 * x - _z) / (2 * x),
    evaluate=lambda x: (1 + 2 * x - _omega(x)) / (2 * x),
    derivation=_slope_at_best,
    outside=_small_rate,
    outside_source="a search over the exact loss at a small rate",
    rivals=(Rival(sp.Rational(1, 10), "the usual factor of ten"), Rival(half, "the half rule, for longer")),
    settings={"x": 2},
    source="Diffusion limit of the loss after the drop; W is Lambert's function {cite:p}`corless1996lambert`.",
)
best_drop_remaining = Claim(
    id="quick_win.best_drop_remaining",
    says="What that best single drop leaves of the floor.",
    lhs=r"\mathbb{E}[L_\tau]/\mathbb{E}[L_\infty]",
    parameters=("x",),
    formula=1 - (_z - 1) ** 2 / (2 * x * _z),
    evaluate=lambda x: 1 - (_omega(x) - 1) ** 2 / (2 * x * _omega(x)),
    derivation=_slope_at_best,
    outside=_small_rate,
    outside_source="a search over the exact loss at a small rate",
    rivals=(Rival(sp.exp(-2 * x), "noiseless decay"),),
    settings={"x": 2},
    source="Diffusion limit of the loss after the drop.",
)


def _best_drop(eta1: float, lam: float, tau: float) -> float:
    from scipy.optimize import minimize_scalar

    def loss_left(eta2: float) -> float:
        old, new = eta1 / (2 - eta1 * lam), eta2 / (2 - eta2 * lam)
        return new + (old - new) * (1 - eta2 * lam) ** (2 * tau)

    found = minimize_scalar(loss_left, bounds=(0, eta1), method="bounded", options={"xatol": 1e-13 * eta1})
    return float(found.x)


best_single_drop = Claim(
    id="quick_win.best_single_drop",
    says="The best second rate when τ steps are left, from the floor of the first.",
    lhs=r"\eta_2^\star",
    parameters=("eta1", "lam", "tau"),
    formula=None,
    definition=r"\arg\min_{\eta_2}\; \mathbb{E}[L_\tau]",
    evaluate=_best_drop,
    about=after_drop(eta2, tau),
    relation=Minimum("eta2"),
    conditions=(STABLE_BEFORE,),
    rivals=(Rival(eta1 / 2, "the half rule, for longer"), Rival(eta1 / 10, "the usual factor of ten")),
    settings=AT | {"tau": 4},
    source="A search over the rate; no closed form for more than one step.",
)
gradient = lam * theta + sigma * symbols("xi")[0]
from_gradient_norm = Claim(
    id="quick_win.from_gradient_norm",
    says="At the floor of any quadratic, a quarter of rate times mean squared mini-batch gradient is the excess loss.",
    lhs=r"\mathbb{E}[L_\infty]",
    parameters=("eta", "mean_squared_gradient"),
    formula=eta * G / 4,
    about=E(loss),
    given={"mean_squared_gradient": E(lam**2 * theta**2) + sigma**2},
    rivals=(
        Rival(eta * G / 2, "the fluctuation-dissipation balance without the factor of the loss"),
        Rival(eta * E(lam**2 * theta**2) / 4, "the gradient of the full data set"),
    ),
    settings={"eta": half, "lam": sp.Rational(3, 2), "sigma": 2},
    source="{cite:t}`yaida2019fluctuation`; here for the loss itself.",
)
gain_from_gradient_norm = Claim(
    id="quick_win.gain_from_gradient_norm",
    says="What a drop will win, from one number logged before it: G, the mean squared mini-batch gradient.",
    lhs="Q",
    parameters=("eta1", "eta2", "mean_squared_gradient"),
    optional=("noise_variance",),
    formula=(eta1 - eta2) * G / 4,
    upper=(eta1 * G - eta2 * C) / 4,
    about=E(loss, (eta1, oo)) - E(loss, (eta2, oo)),
    relation=AtLeast(),
    given={"mean_squared_gradient": E(lam**2 * theta**2, (eta1, oo)) + sigma**2, "noise_variance": sigma**2},
    conditions=(
        LOWER,
        Condition(C <= G, "the noise is a part of the whole gradient; check how the two were logged"),
    ),
    rivals=(Rival(eta1 * G / 4, "the whole floor, whatever the new rate"),),
    settings=AT,
    source=(
        "Any quadratic and any dimension: {eq}`quick_win.from_gradient_norm` at both rates. "
        "C, the pure noise, is G minus the mean squared norm of the full gradient. "
        "The lower end needs only that G does not rise after the drop; the upper end needs noise that the drop does "
        "not change. G and the loss both include weight decay."
    ),
)
