"""Momentum, v' = beta v + g and theta' = theta - eta v' as in PyTorch: its floor, its limit, and when it spirals."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import sympy as sp

from ..expectation import THETA as theta
from ..expectation import E, Rule, derived
from ..landscapes import quadratic
from ..ledger import AtLeast, Claim, Condition, Rival, Root
from ..letters import symbols
from ..moments import after
from ..optimizers import dampened, heavy_ball, keras_momentum, nesterov
from ..recursion import trace
from ..stability import moment_map

eta, lam, beta, sigma, theta0, v = symbols("eta lam beta sigma theta0 v")
eta1, eta2, k, mu, big_l, step = symbols("eta1 eta2 k mu big_l u")
oo, R = sp.oo, sp.Rational

HEAVY_BALL: Rule = (heavy_ball, quadratic())
DAMPENED: Rule = (dampened, quadratic())
NESTEROV: Rule = (nesterov, quadratic())
KERAS: Rule = (keras_momentum, quadratic())

DECAYS = Condition(beta < 1, "the buffer would grow without bound; choose beta below 1")
_LOWER = "the run would diverge; lower eta below "
STABLE = Condition(eta * lam < 2 * (1 + beta), _LOWER + "momentum.stability_limit")
NESTEROV_STABLE = Condition(
    eta * lam * (1 + 2 * beta) < 2 * (1 + beta),
    _LOWER + "momentum.nesterov_stability_limit",
)
a = 1 - eta * lam  # how the formulas of Nesterov's rule are printed
SHORT = {sp.Symbol("a", real=True): a}
# settings without special values, so that a slip in any letter shows
AT = {"eta": R(1, 4), "lam": R(3, 2), "beta": R(1, 3), "sigma": 2}

# --- the floor ----------------------------------------------------------------------------------------------------


def _companion(h: float, b: float, nesterov: bool = False) -> np.ndarray:
    """The matrix that takes (x, x one step ago) on by one step, for eta * lam = h and without noise."""
    return np.array([[(1 + b) * (1 - h), -b * (1 - h)] if nesterov else [1 + b - h, -b], [1, 0]])


def _lyapunov(at: Mapping[str, Any], nesterov: bool = False, dampening: float = 0) -> np.ndarray:
    """The covariance matrix of two successive iterates in the long run."""
    from scipy.linalg import solve_discrete_lyapunov

    rate, lam, b, noise = (float(at[name]) for name in ("eta", "lam", "beta", "sigma"))
    rate *= 1 - dampening
    return solve_discrete_lyapunov(_companion(rate * lam, b, nesterov), np.diag([(rate * noise) ** 2, 0]))


def _by_lyapunov(claim: Claim, first: list[float], second: list[float], nesterov: bool = False) -> Any:
    """(found, expected, tolerance) for the mean product of two combinations of successive iterates."""
    return claim(**claim.settings), np.array(first) @ _lyapunov(claim.settings, nesterov) @ second, 1e-12


def _velocity(claim: Claim) -> list[float]:
    """v = -(theta - theta one step ago) / eta, as a combination of these two."""
    rate = float(claim.settings["eta"])
    return [-1 / rate, 1 / rate]


LYAPUNOV = "the discrete Lyapunov equation, by SciPy"


def _zhang(claim: Claim) -> tuple[float, float, float]:
    # their Theorem 1, a bound on the loss in their letters: rate alpha, curvature h, noise variance c, batch B
    alpha, h, b, noise = (float(claim.settings[name]) for name in ("eta", "lam", "beta", "sigma"))
    c, B = noise**2, 1
    floor = (1 + b) * alpha * c / (2 * B * (2 * b + 2 - alpha * h) * (1 - b))
    return claim(**claim.settings), 2 * floor / h, 1e-14


variance = Claim(
    id="momentum.variance",
    says="With momentum the parameter scatters more, though less than the longer steps alone would make it.",
    lhs=r"\mathbb{E}[\theta_\infty^2]",
    parameters=("eta", "lam", "beta", "sigma"),
    formula=eta * sigma**2 * (1 + beta) / (lam * (1 - beta) * (2 * (1 + beta) - eta * lam)),
    about=E(theta**2, rule=HEAVY_BALL),
    conditions=(DECAYS, STABLE),
    rivals=(
        Rival(eta * sigma**2 / (lam * (2 * (1 - beta) - eta * lam)), "plain SGD at the rate η/(1 − β)"),
        Rival(eta * sigma**2 / (2 * lam * (1 - beta)), "the diffusion limit"),
    ),
    settings=AT,
    outside=_zhang,
    outside_source="the noise term of Theorem 1 of Zhang et al. (2019)",
    source="{cite:t}`zhang2019which`, Theorem 1; {cite:t}`liu2021noise`.",
)
velocity_second_moment = Claim(
    id="momentum.velocity_second_moment",
    says="The mean square of the buffer in the long run.",
    lhs=r"\mathbb{E}[v_\infty^2]",
    parameters=("eta", "lam", "beta", "sigma"),
    formula=2 * sigma**2 / ((1 - beta) * (2 * (1 + beta) - eta * lam)),
    about=E(v**2, rule=HEAVY_BALL),
    conditions=(DECAYS, STABLE),
    rivals=(Rival(sigma**2 / (1 - beta**2), "a sum of noise alone, without the pull of the valley"),),
    settings=AT,
    outside=lambda claim: _by_lyapunov(claim, _velocity(claim), _velocity(claim)),
    outside_source=LYAPUNOV,
    source="{cite:t}`liu2021noise`; in the long run it is {eq}`momentum.variance` times $2\\lambda/(\\eta(1+\\beta))$.",
)
cross_moment = Claim(
    id="momentum.cross_moment",
    says="Parameter and velocity are correlated in the long run: the last step has just been taken.",
    lhs=r"\mathbb{E}[\theta_\infty v_\infty]",
    parameters=("eta", "lam", "beta", "sigma"),
    formula=-eta * sigma**2 / ((1 - beta) * (2 * (1 + beta) - eta * lam)),
    about=E(theta * v, rule=HEAVY_BALL),
    conditions=(DECAYS, STABLE),
    rivals=(Rival(sp.S.Zero, "continuous time, where position and velocity are uncorrelated"),),
    settings=AT,
    outside=lambda claim: _by_lyapunov(claim, [1, 0], _velocity(claim)),
    outside_source=LYAPUNOV,
    source="In the long run the variance does not change from one step to the next {cite:p}`yaida2019fluctuation`.",
)
dampened_variance = Claim(
    id="momentum.dampened_variance",
    says="A buffer that averages the gradients, rather than adding them up, lowers the floor below that of plain SGD.",
    lhs=r"\mathbb{E}[\theta_\infty^2]",
    parameters=("eta", "lam", "beta", "sigma"),
    formula=eta * sigma**2 * (1 + beta) / (lam * (2 * (1 + beta) - eta * (1 - beta) * lam)),
    about=E(theta**2, rule=DAMPENED),
    conditions=(
        DECAYS,
        Condition(eta * (1 - beta) * lam < 2 * (1 + beta), _LOWER + "momentum.stability_limit / (1 - beta)"),
    ),
    rivals=(
        Rival(eta * sigma**2 / (lam * (2 - eta * lam)), "plain SGD at the same rate"),
        Rival(variance.formula, "momentum without the dampening"),
    ),
    settings=AT,
    outside=lambda claim: (
        claim(**claim.settings),
        _lyapunov(claim.settings, dampening=float(claim.settings["beta"]))[0, 0],
        1e-12,
    ),
    outside_source=LYAPUNOV,
    source="{eq}`momentum.variance` at the rate $\\eta(1-\\beta)$; {cite:t}`gitman2019understanding`.",
)
nesterov_iterate_variance = Claim(
    id="momentum.nesterov_iterate_variance",
    says="Nesterov's momentum: the scatter of the iterate x, the point that the gradient step leads to.",
    lhs=r"\mathbb{E}[x_\infty^2]",
    parameters=("eta", "lam", "beta", "sigma"),
    formula=eta * sigma**2 * (1 + a * beta) / (lam * (1 - a * beta) * (1 + a * (1 + 2 * beta))),
    abbreviations=SHORT,
    # theta = x' + beta (x' - x), where x' - x = -eta v'
    about=E((theta + eta * beta * v) ** 2, rule=NESTEROV),
    conditions=(DECAYS, NESTEROV_STABLE),
    rivals=(Rival(variance.formula, "heavy ball"),),
    settings=AT,
    outside=lambda claim: _by_lyapunov(claim, [1, 0], [1, 0], nesterov=True),
    outside_source=LYAPUNOV,
    source="The second moments of the rule; {cite:t}`gitman2019understanding` study such laws in general.",
)


def _look_ahead(claim: Claim) -> Any:
    b = float(claim.settings["beta"])
    ahead = [1 + b, -b]  # x + b (x - x one step ago)
    return _by_lyapunov(claim, ahead, ahead, nesterov=True)


nesterov_variance = Claim(
    id="momentum.nesterov_variance",
    says="The scatter of the look-ahead point, which is the parameter that PyTorch stores.",
    lhs=r"\mathbb{E}[\theta_\infty^2]",
    parameters=("eta", "lam", "beta", "sigma"),
    formula=eta
    * sigma**2
    * (1 + beta + beta * eta * lam * (1 + 2 * beta))
    / (lam * (1 - a * beta) * (1 + a * (1 + 2 * beta))),
    abbreviations=SHORT,
    about=E(theta**2, rule=NESTEROV),
    conditions=(DECAYS, NESTEROV_STABLE),
    rivals=(
        Rival(nesterov_iterate_variance.formula, "the iterate, which the look-ahead point is not"),
        Rival(variance.formula, "heavy ball"),
    ),
    settings=AT,
    outside=_look_ahead,
    outside_source=LYAPUNOV,
    source="The second moments of the rule, in PyTorch's convention.",
)

# --- stability, contraction and spirals ---------------------------------------------------------------------------


def _recurrence(rule: Rule, rate: sp.Expr = eta, **where: sp.Expr) -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """P, Q and D such that the means obey m'' = (P/D) m' - (Q/D) m: by Cramer's rule from the means of four steps.

    The factors by which they shrink are the roots of z**2 - (P/D) z + Q/D.
    """
    m0, m1, m2, m3 = theta0, *(E(theta, (rate, n), rule=rule, **where) for n in (1, 2, 3))
    return m0 * m3 - m1 * m2, m1 * m3 - m2**2, m0 * m2 - m1**2


def _at_minus_one(rule: Rule) -> sp.Expr:
    """1 + P/D + Q/D, times D: it vanishes where a factor is -1."""
    trace_, determinant, scale = _recurrence(rule)
    return trace_ + determinant + scale


def _discriminant(rule: Rule) -> sp.Expr:
    """(P/D)**2 - 4 Q/D, times D**2: it vanishes where the two factors meet."""
    trace_, determinant, scale = _recurrence(rule)
    return trace_**2 - 4 * determinant * scale


def _factors(h: float, b: float, nesterov: bool = False) -> np.ndarray:
    """The absolute values of the two factors."""
    return np.sort(np.abs(np.linalg.eigvals(_companion(h, b, nesterov))))


def _largest_at(claim: Claim, nesterov: bool = False) -> tuple[float, float, float]:
    at = {name: float(claim.settings[name]) for name in claim.parameters}
    return float(_factors(claim(**at) * at["lam"], at["beta"], nesterov)[-1]), 1.0, 1e-12


def _where_it_turns(claim: Claim, straight: float, spiral: float, nesterov: bool = False) -> tuple[float, float, float]:
    """The eta * lam between these two at which the factors become complex, by bisection."""
    at = {name: float(claim.settings[name]) for name in claim.parameters}
    for _ in range(60):
        middle = (straight + spiral) / 2
        turns = np.any(np.iscomplex(np.linalg.eigvals(_companion(middle, at["beta"], nesterov))))
        straight, spiral = (straight, middle) if turns else (middle, spiral)
    return claim(**at) * at["lam"], spiral, 1e-12


EIGENVALUES = "eigenvalues, by NumPy"
START = {"sigma": R(1, 5), "theta0": 3}

stability_limit = Claim(
    id="momentum.stability_limit",
    says="Above this rate the run diverges: momentum moves the limit up, not down.",
    lhs=r"\eta_{\max}",
    parameters=("lam", "beta"),
    formula=2 * (1 + beta) / lam,
    about=_at_minus_one(HEAVY_BALL),
    relation=Root("eta"),
    conditions=(DECAYS,),
    rivals=(
        Rival(2 / lam, "the limit of plain SGD"),
        Rival(2 * (1 - beta) / lam, "plain SGD at the rate η/(1 − β)"),
    ),
    settings={"lam": R(3, 2), "beta": R(1, 3)} | START,
    outside=_largest_at,
    outside_source=EIGENVALUES,
    source="{cite:t}`polyak1964`; {cite:t}`goh2017why`.",
)
nesterov_stability_limit = Claim(
    id="momentum.nesterov_stability_limit",
    says="Nesterov's momentum moves the limit down.",
    lhs=r"\eta_{\max}",
    parameters=("lam", "beta"),
    formula=2 * (1 + beta) / ((1 + 2 * beta) * lam),
    about=_at_minus_one(NESTEROV),
    relation=Root("eta"),
    conditions=(DECAYS,),
    rivals=(
        Rival(stability_limit.formula, "heavy ball"),
        Rival(2 / lam, "the limit of plain SGD"),
        Rival(4 / (3 * lam), "the limit for β close to 1"),
    ),
    settings={"lam": R(3, 2), "beta": R(1, 3)} | START,
    outside=lambda claim: _largest_at(claim, nesterov=True),
    outside_source=EIGENVALUES,
    source="{cite:t}`gitman2019understanding`.",
)
s = 1 + beta - eta * lam
_p, _q, _d = _recurrence(HEAVY_BALL)
_spiral, _straight = sp.sqrt(beta), (sp.Abs(s) + sp.sqrt(s**2 - 4 * beta)) / 2


def _factors_solve_the_quadratic() -> list[sp.Expr]:
    found_s, found_q = (sp.cancel(derived(x / _d)) for x in (_p, _q))
    # a pair of complex factors has the product beta; a real one solves z**2 - |s| z + beta = 0, and is not the smaller
    return [
        found_s - s,
        _spiral**2 - found_q,
        sp.expand(_straight**2 - sp.Abs(s) * _straight + found_q),
        2 * _straight - sp.Abs(s) - sp.sqrt(s**2 - 4 * found_q),
    ]


def _at_random(claim: Claim) -> tuple[np.ndarray, np.ndarray, float]:
    h, b = np.random.default_rng(1).uniform(0, [[4], [1]], (2, 200))
    return claim(eta=h, lam=1.0, beta=b), np.array([_factors(*at)[-1] for at in zip(h, b, strict=True)]), 1e-9


contraction = Claim(
    id="momentum.contraction",
    says="The factor by which the mean shrinks per step in the long run; where it spirals, friction alone sets it.",
    lhs="r",
    parameters=("eta", "lam", "beta"),
    formula=sp.Piecewise((_spiral, s**2 < 4 * beta), (_straight, True)),
    abbreviations={sp.Symbol("s", real=True): s},
    about=sp.Piecewise(
        (sp.sqrt(_q / _d), (_p / _d) ** 2 < 4 * _q / _d),
        ((sp.Abs(_p / _d) + sp.sqrt((_p / _d) ** 2 - 4 * _q / _d)) / 2, True),
    ),
    derivation=_factors_solve_the_quadratic,
    rivals=(
        Rival(1 - eta * lam / (1 - beta), "plain SGD at the rate η/(1 − β)"),
        Rival(sp.sqrt(beta), "friction, where it does not spiral"),
    ),
    settings={"eta": R(1, 9), "lam": R(3, 2), "beta": R(1, 4), "sigma": R(1, 50), "theta0": 3},
    outside=_at_random,
    outside_source=f"200 random settings, {EIGENVALUES}",
    source="{cite:t}`polyak1964`; {cite:t}`goh2017why`. The run converges where it is below 1.",
)
spiral_from = Claim(
    id="momentum.spiral_from",
    says="Above this rate the run spirals into the minimum.",
    lhs=r"\eta",
    parameters=("lam", "beta"),
    formula=(1 - sp.sqrt(beta)) ** 2 / lam,
    about=_discriminant(HEAVY_BALL),
    relation=Root("eta"),
    conditions=(DECAYS,),
    rivals=(Rival((1 - beta) ** 2 / (4 * lam), "critical damping in continuous time"),),
    settings={"lam": R(3, 2), "beta": R(1, 9)} | START,
    outside=lambda claim: _where_it_turns(claim, 0, 1),
    outside_source=EIGENVALUES,
    source="{cite:t}`goh2017why`.",
)
spiral_to = Claim(
    id="momentum.spiral_to",
    says="Up to this rate it spirals; between it and the stability limit it hops from side to side.",
    lhs=r"\eta",
    parameters=("lam", "beta"),
    formula=(1 + sp.sqrt(beta)) ** 2 / lam,
    about=_discriminant(HEAVY_BALL),
    relation=Root("eta"),
    conditions=(DECAYS,),
    rivals=(Rival(stability_limit.formula, "a spiral until it diverges"),),
    settings={"lam": R(3, 2), "beta": R(1, 9)} | START,
    outside=lambda claim: _where_it_turns(claim, 3, 1),
    outside_source=EIGENVALUES,
    source="{cite:t}`goh2017why`.",
)
nesterov_spiral_from = Claim(
    id="momentum.nesterov_spiral_from",
    says="Nesterov's momentum spirals from this rate up to the rate 1/λ.",
    lhs=r"\eta",
    parameters=("lam", "beta"),
    formula=((1 - beta) / (1 + beta)) ** 2 / lam,
    about=_discriminant(NESTEROV),
    relation=Root("eta"),
    conditions=(DECAYS,),
    rivals=(
        Rival(spiral_from.formula, "heavy ball"),
        Rival((1 - beta) ** 2 / (4 * lam), "critical damping in continuous time"),
    ),
    settings={"lam": R(3, 2), "beta": R(1, 3)} | START,
    outside=lambda claim: _where_it_turns(claim, 0, 1 / 2, nesterov=True),
    outside_source=EIGENVALUES,
    source="{cite:t}`odonoghue2015adaptive`.",
)


def _contraction_turns_there() -> list[sp.Expr]:
    # Below the best beta the factors are real, and the larger falls as beta grows: its slope has the sign of
    # (s - 2) / sqrt(s**2 - 4 beta) + sign(s), and (s - 2)**2 exceeds the square of the root by 4 eta lam.  Above it
    # the contraction is sqrt(beta), which rises.
    root = sp.sqrt(s**2 - 4 * beta)
    return [
        (s**2 - 4 * beta).subs(beta, best_beta.formula),
        sp.diff((s + root) / 2, beta) - (1 + (s - 2) / root) / 2,
        (s - 2) ** 2 - root**2 - 4 * eta * lam,
    ]


def _best_by_search(claim: Claim) -> tuple[float, float, float]:
    from scipy.optimize import minimize_scalar

    h = float(claim.settings["eta"] * claim.settings["lam"])
    found = minimize_scalar(
        lambda b: _factors(h, b)[-1], bounds=(0, 1), method="bounded", options={"xatol": 1e-10, "maxiter": 200}
    )
    return claim(eta=h, lam=1.0), float(found.x), 1e-6


best_beta = Claim(
    id="momentum.best_beta",
    says="At a given rate the mean shrinks fastest where the run is about to spiral: critical damping.",
    lhs=r"\beta^\star",
    parameters=("eta", "lam"),
    formula=(1 - sp.sqrt(eta * lam)) ** 2,
    about=_discriminant(HEAVY_BALL),
    relation=Root("beta"),
    conditions=(Condition(eta * lam < 4, "no momentum makes the run converge; lower eta below 4/lam"),),
    rivals=(
        Rival((1 - sp.sqrt(eta * lam)) / (1 + sp.sqrt(eta * lam)), "the best momentum of Nesterov's rule"),
        Rival(R(9, 10), "the usual momentum"),
    ),
    settings={"eta": R(2, 27), "lam": R(3, 2)} | START,
    derivation=_contraction_turns_there,
    outside=_best_by_search,
    outside_source="a search over beta",
    source="{cite:t}`goh2017why`.",
)
_polyak_beta = ((sp.sqrt(big_l) - sp.sqrt(mu)) / (sp.sqrt(big_l) + sp.sqrt(mu))) ** 2
_polyak_eta = (2 / (sp.sqrt(big_l) + sp.sqrt(mu))) ** 2
_, _q_steep, _d_steep = _recurrence(HEAVY_BALL, _polyak_eta, beta=_polyak_beta, lam=big_l)
_, _q_flat, _d_flat = _recurrence(HEAVY_BALL, _polyak_eta, beta=_polyak_beta, lam=mu)


def _no_other_is_better() -> list[sp.Expr]:
    # Both factors lie in the disc of radius r if beta <= r**2 and |s| <= r + beta / r (Jury), so that the curvatures
    # may span (1 + r) (r + beta) / ((1 - r) (r - beta)), which grows with beta; at beta = r**2 it is kappa
    r = sp.Symbol("r", positive=True)
    z = sp.Symbol("z")
    monic = moment_map(trace(heavy_ball, quadratic())).charpoly(z).as_expr()
    edges = [(1 + r) * (1 + beta / r), (1 - r) * (1 - beta / r)]  # of eta lam, where a factor is -r or r
    span = sp.cancel(edges[0] / edges[1])
    best = best_contraction.formula
    return [
        monic.subs({z: -r, eta: edges[0] / lam}),
        monic.subs({z: r, eta: edges[1] / lam}),
        sp.cancel(sp.diff(sp.log(span), beta) - 2 * r / (r**2 - beta**2)),
        sp.simplify(span.subs(beta, r**2).subs(r, best) - big_l / mu),
        sp.simplify(edges[0].subs(beta, r**2).subs(r, best) / big_l - _polyak_eta),
    ]


def _best_of_all(claim: Claim) -> tuple[float, float, float]:
    from scipy.optimize import minimize_scalar

    flat, steep = (float(claim.settings[name]) for name in claim.parameters)

    def best_rate(b: float) -> float:  # the slower of the two modes is unimodal in the rate
        found = minimize_scalar(
            lambda rate: max(_factors(rate * flat, b)[-1], _factors(rate * steep, b)[-1]),
            bounds=(0, 2 * (1 + b) / steep),
            method="bounded",
            options={"xatol": 1e-9, "maxiter": 100},
        )
        return float(found.fun)

    found = minimize_scalar(best_rate, bounds=(0, 1), method="bounded", options={"xatol": 1e-5})
    return claim(mu=flat, big_l=steep), float(found.fun), 1e-3


best_contraction = Claim(
    id="momentum.best_contraction",
    says="The best that rate and momentum can do together for curvatures from μ to L: it asks for the roots of both.",
    lhs=r"r^\star",
    parameters=("mu", "big_l"),
    formula=(sp.sqrt(big_l) - sp.sqrt(mu)) / (sp.sqrt(big_l) + sp.sqrt(mu)),
    about=(sp.sqrt(_q_steep / _d_steep) + sp.sqrt(_q_flat / _d_flat)) / 2,
    conditions=(Condition(mu <= big_l, "mu is the smaller curvature; exchange the two"),),
    rivals=(
        Rival((big_l - mu) / (big_l + mu), "gradient descent"),
        Rival(1 - sp.sqrt(mu / big_l), "Nesterov's rule at the rate 1/L"),
    ),
    settings={"mu": 4, "big_l": 25, "sigma": R(1, 50), "theta0": 3},
    derivation=_no_other_is_better,
    outside=_best_of_all,
    outside_source="a search over rate and momentum",
    source="{cite:t}`polyak1964`.",
)

# --- fluctuation and dissipation, and the drop --------------------------------------------------------------------


def _balance() -> list[sp.Expr]:
    pull, drive = E(theta * lam * theta, rule=HEAVY_BALL), eta / 2 * (1 + beta) * E(v**2, rule=HEAVY_BALL)
    return [fluctuation.formula - derived(pull), fluctuation.formula - derived(drive)]


def _of_the_velocity(claim: Claim) -> tuple[float, float, float]:
    rate, b = float(claim.settings["eta"]), float(claim.settings["beta"])
    square = np.array(_velocity(claim)) @ _lyapunov(claim.settings) @ _velocity(claim)
    return claim(**claim.settings), rate / 2 * (1 + b) * square, 1e-12


fluctuation = Claim(
    id="momentum.fluctuation",
    says="The balance at the floor: noise drives the velocity, and the valley's pull takes up what it brings.",
    lhs=r"\mathbb{E}[\theta\,\nabla L(\theta)]",
    parameters=("eta", "lam", "beta", "sigma"),
    formula=eta * (1 + beta) * sigma**2 / ((1 - beta) * (2 * (1 + beta) - eta * lam)),
    about=E(theta * lam * theta, rule=HEAVY_BALL),
    conditions=(DECAYS, STABLE),
    rivals=(
        Rival(eta / 2 * velocity_second_moment.formula, "the balance of plain SGD, with v for the gradient"),
        Rival(eta / 2 * (1 + beta) / (1 - beta) * velocity_second_moment.formula, "the prefactor of a dampened buffer"),
    ),
    settings=AT,
    derivation=_balance,
    outside=_of_the_velocity,
    outside_source=LYAPUNOV + ", for the velocity",
    source="It equals $\\tfrac{\\eta}{2}(1+\\beta)\\,\\mathbb{E}[v^2]$; "
    "{cite:t}`yaida2019fluctuation`, in PyTorch's convention.",
)


Three = tuple[Any, Any, Any]  # E[theta**2], E[theta u], E[u**2], where the buffer on its own would make the step u


def _at_floor(eta1: Any, lam: Any, beta: Any, sigma: Any, scale: Any) -> Three:
    """The moments at the floor of eta1, where u = -scale * v."""
    w = 2 * sigma**2 / ((1 - beta) * (2 * (1 + beta) - eta1 * lam))
    return eta1 * (1 + beta) * w / (2 * lam), scale * eta1 * w / 2, scale**2 * w


def _one_step(moments: Three, eta2: Any, lam: Any, beta: Any, sigma: Any) -> Three:
    """The moments after u' = beta u - eta2 (lam theta + sigma xi) and theta' = theta + u'."""
    moment, cross, square = moments
    pull = beta * cross - eta2 * lam * moment  # E[theta u']
    square = beta**2 * square - 2 * beta * eta2 * lam * cross + eta2**2 * (lam**2 * moment + sigma**2)
    return moment + 2 * pull + square, pull + square, square


def _after_drop(eta1: float, eta2: float, lam: float, beta: float, sigma: float, k: float, convention: str) -> float:
    # PyTorch multiplies its buffer by the new rate; in Keras' the steps keep the rate that they had
    moments = _at_floor(eta1, lam, beta, sigma, eta2 if convention == "pytorch" else eta1)
    for _ in range(int(k)):
        moments = _one_step(moments, eta2, lam, beta, sigma)
    return float(moments[0])


def _steps_of_the_rules() -> list[sp.Expr]:
    residuals: list[sp.Expr] = []
    for rule, buffer, scale, u in ((HEAVY_BALL, v, eta2, -eta2 * v), (KERAS, step, eta1, step)):
        observed = theta**2, theta * u, u**2
        floor = _at_floor(eta1, lam, beta, sigma, scale)
        residuals += [m - derived(E(o, (eta1, oo), rule=rule)) for m, o in zip(floor, observed, strict=True)]
        one = after(trace(*rule).where({"eta": eta2}), 1, start={theta: theta, buffer: buffer})
        moved = _one_step(observed, eta2, lam, beta, sigma)
        residuals += [m - one[o] for m, o in zip(moved, observed, strict=True)]
    return residuals


def _by_companion(claim: Claim) -> tuple[np.ndarray, np.ndarray, float]:
    """Both conventions for several steps: the covariance of two successive iterates, one matrix product per step."""
    at = {name: float(claim.settings[name]) for name in ("eta1", "eta2", "lam", "beta", "sigma")}
    floor = _lyapunov(at | {"eta": at["eta1"]})
    matrix, noise = _companion(at["eta2"] * at["lam"], at["beta"]), np.diag([(at["eta2"] * at["sigma"]) ** 2, 0])
    found, expected = [], []
    for word in claim.choices["convention"]:
        kept = at["eta2"] / at["eta1"] if word == "pytorch" else 1.0  # of the last step, theta - theta one step ago
        shorter = np.array([[1, 0], [1 - kept, kept]])
        covariance = shorter @ floor @ shorter.T
        for steps in range(6):
            found.append(claim(**at, k=steps, convention=word))
            expected.append(covariance[0, 0])
            covariance = matrix @ covariance @ matrix.T + noise
    return np.array(found), np.array(expected), 1e-12


def _dropped(rule: Rule) -> sp.Expr:
    return E(theta**2, (eta1, oo), (eta2, k), rule=rule)


U, C = symbols("mean_squared_update noise_variance")
gain_from_update_norm = Claim(
    id="momentum.gain_from_update_norm",
    says="What a drop will win with momentum, from a number logged before it: U, the mean squared norm of the buffer.",
    lhs="Q",
    parameters=("eta1", "eta2", "beta", "mean_squared_update"),
    optional=("noise_variance",),
    formula=(eta1 - eta2) * (1 + beta) * U / 4,
    upper=eta1 * (1 + beta) * U / 4 - eta2 * C / (4 * (1 - beta)),
    about=E(lam * theta**2 / 2, (eta1, oo), rule=HEAVY_BALL) - E(lam * theta**2 / 2, (eta2, oo), rule=HEAVY_BALL),
    relation=AtLeast(),
    given={"mean_squared_update": E(v**2, (eta1, oo), rule=HEAVY_BALL), "noise_variance": sigma**2},
    conditions=(
        DECAYS,
        Condition(eta2 < eta1, "a drop goes down; choose eta2 below eta1"),
        Condition((1 - beta**2) * U >= C, "a buffer of pure noise is as large as that; check how the two were logged"),
    ),
    rivals=(Rival((eta1 - eta2) * (1 + beta) * U / 2, "the balance without the half of the loss"),),
    settings=AT | {"eta1": R(3, 4), "eta2": R(1, 4)},
    source=(
        "Any quadratic and any dimension, in PyTorch's convention: half of {eq}`momentum.fluctuation` at both rates. "
        "It is {eq}`quick_win.gain_from_gradient_norm` where β is 0."
    ),
)
second_moment_after_drop = Claim(
    id="momentum.second_moment_after_drop",
    says="After a drop the buffer still holds old steps: in Keras at the old rate, in PyTorch at the new one.",
    lhs=r"\mathbb{E}[\theta_k^2]",
    parameters=("eta1", "eta2", "lam", "beta", "sigma", "k", "convention"),
    formula=None,
    definition=r"\text{step by step, from the floor of }\eta_1",
    evaluate=_after_drop,
    about=_dropped(KERAS),
    choices={"convention": ("pytorch", "keras")},
    conditions=(
        DECAYS,
        Condition(eta1 * lam < 2 * (1 + beta), "the run before the drop would diverge; lower eta1"),
        Condition(eta2 * lam < 2 * (1 + beta), "the run after the drop would diverge; lower eta2"),
    ),
    rivals=(Rival(_dropped(HEAVY_BALL), "PyTorch's convention"),),
    settings={
        "eta1": R(3, 4),
        "eta2": R(1, 4),
        "lam": R(2, 3),
        "beta": R(1, 3),
        "sigma": 1,
        "k": 2,
        "convention": "keras",
    },
    derivation=_steps_of_the_rules,
    outside=_by_companion,
    outside_source="matrix products from the discrete Lyapunov equation, by SciPy",
    source="From the floors of {eq}`momentum.variance`; no closed form is given for k steps.",
)
