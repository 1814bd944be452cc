"""Schedules: what a rate that changes at every step leaves of the start and of the noise, one curvature at a time."""

import numpy as np
import sympy as sp

from ..expectation import THETA as theta
from ..expectation import E, derived
from ..ledger import Claim, Condition, Minimum, Rival
from ..letters import symbols

lam, sigma, c, t0, eta0, decay, eta = symbols("lam sigma c t0 eta0 decay eta")
T, t, M, x = symbols("steps t second_moment x")
R = sp.Rational

SOME = Condition(T >= 1, "the schedule is stretched over its steps; give one step or more")
DECAYS = Condition(decay < 1, "the rate would not shrink; choose decay below 1")


def along(rate: sp.Expr, steps: int) -> list[tuple[sp.Expr, int]]:
    """The phases of a schedule, a step each; `rate` depends on the step t and on the number of steps T."""
    return [(rate.subs({T: steps, t: step}), 1) for step in range(steps)]


def kept(rate: sp.Expr) -> sp.Expr:
    """What the traced rule keeps of the mean in one step."""
    return derived(E(theta, (rate, 1), start=1))


def product_proof(partial: sp.Expr, rate: sp.Expr, whole: sp.Expr) -> list[sp.Expr]:
    """Induction over the steps taken: `partial`, the mean after t steps, is 1 at first and gains one factor a step."""
    gained = sp.combsimp(partial.subs(t, t + 1) / partial)
    return [partial.subs(t, 0) - 1, gained - kept(rate), partial.subs(t, T) - whole]


def product_of(lam: float, rates: np.ndarray) -> float:
    """The factors of the mean, multiplied: right for any number of steps, where gamma functions overflow."""
    return float(np.prod(1 - lam * rates))


# --- one over time --------------------------------------------------------------------------------------------------

inverse_time = c / (t + t0)
_inverse_mean = sp.rf(t0 - lam * c, T) / sp.rf(t0, T)
inverse_time_mean = Claim(
    id="schedules.inverse_time_mean",
    says="One over time: the mean shrinks by a quotient of rising factorials, in the end like a power of the time.",
    lhs=r"\mathbb{E}[\theta_T]/\theta_0",
    parameters=("lam", "c", "t0", "steps"),
    formula=_inverse_mean,
    evaluate=lambda lam, c, t0, steps: product_of(lam, c / (np.arange(int(steps)) + t0)),
    about=E(theta, *along(inverse_time, 3), start=1),
    derivation=lambda: product_proof(_inverse_mean.subs(T, t), inverse_time, _inverse_mean),
    rivals=(
        Rival((t0 / (T + t0)) ** (lam * c), "continuous time"),
        Rival(sp.rf(t0 + 1 - lam * c, T) / sp.rf(t0 + 1, T), "counting steps from 1"),
        Rival(sp.exp(-lam * c * T / t0), "the first rate, kept"),
    ),
    settings={"lam": R(3, 2), "c": R(3, 5), "t0": R(7, 4), "steps": 3, "sigma": R(1, 4)},
    source="Rising factorials: $x^{(n)}=x(x+1)\\cdots(x+n-1)=\\Gamma(x+n)/\\Gamma(x)$. Rates of {cite:t}`robbins1951`.",
)
# what is left, after T steps, of the squared noise of step t, over (c sigma)²
_left = (sp.rf(t + 1 + t0 - lam * c, T - 1 - t) / sp.rf(t + t0, T - t)) ** 2


def _inverse_variance(lam: float, c: float, t0: float, sigma: float, steps: float) -> float:
    variance = 0.0
    for step in range(int(steps)):
        rate = c / (step + t0)
        variance = (1 - rate * lam) ** 2 * variance + (rate * sigma) ** 2
    return variance


def _variance_proof() -> list[sp.Expr]:
    # one step multiplies what is there and adds its own noise; the sum over past steps does the same
    step = derived(E(theta**2, (inverse_time.subs(t, T), 1), start=x))
    multiplied, added = sp.Poly(step, x).all_coeffs()[0], step.subs(x, 0)
    grown, own = sp.combsimp(_left.subs(T, T + 1) / _left), _left.subs({t: T, T: T + 1}, simultaneous=True)
    return [grown - multiplied, (c * sigma) ** 2 * sp.combsimp(own) - added]


inverse_time_variance = Claim(
    id="schedules.inverse_time_variance",
    says="The noise of every step, shrunk by the steps that follow.",
    lhs=r"\mathrm{Var}\,\theta_T",
    parameters=("lam", "c", "t0", "sigma", "steps"),
    formula=c**2 * sigma**2 * sp.Sum(_left, (t, 0, T - 1)),
    evaluate=_inverse_variance,
    about=E(theta**2, *along(inverse_time, 3), start=0),
    derivation=_variance_proof,
    rivals=(
        Rival(c**2 * sigma**2 * sp.Sum(1 / (t + t0) ** 2, (t, 0, T - 1)), "no step forgets"),
        Rival(c**2 * sigma**2 * sp.Sum(sp.sqrt(_left) / (t + t0), (t, 0, T - 1)), "shrunk like the mean, not squared"),
        Rival(c**2 * sigma**2 / ((2 * lam * c - 1) * (T + t0)), "the limit of a long run"),
        Rival(
            c / (T - 1 + t0) * sigma**2 / (lam * (2 - lam * c / (T - 1 + t0))), "the floor of the rate that is reached"
        ),
    ),
    settings={"lam": R(3, 2), "c": R(3, 5), "t0": R(7, 4), "steps": 3, "sigma": 2},
    source="The sum has no shorter form; {cite:t}`robbins1951` showed that it vanishes in the long run.",
)

# --- along a line ---------------------------------------------------------------------------------------------------

linear = eta0 * (1 - t / T)
_u = T * (1 / (lam * eta0) - 1)
_line = (lam * eta0 / T) ** t * sp.rf(_u, t)  # after t of T steps
linear_mean = Claim(
    id="schedules.linear_mean",
    says="Down a straight line: the factors of the mean are equally spaced, and their product is a rising factorial.",
    lhs=r"\mathbb{E}[\theta_T]/\theta_0",
    parameters=("lam", "eta0", "steps"),
    formula=(lam * eta0 / T) ** T * sp.rf(_u, T),
    abbreviations={sp.Symbol("u", real=True): _u},
    evaluate=lambda lam, eta0, steps: product_of(lam, eta0 * (1 - np.arange(int(steps)) / steps)),
    about=E(theta, *along(linear, 3), start=1),
    derivation=lambda: product_proof(_line, linear, (lam * eta0 / T) ** T * sp.rf(_u, T)),
    conditions=(SOME,),
    rivals=(
        Rival(sp.exp(-lam * eta0 * (T + 1) / 2), "continuous time"),
        Rival((1 - lam * eta0 / 2) ** T, "the mean rate, kept"),
        Rival((lam * eta0 / T) ** T * sp.rf(_u + 1, T), "counting steps from 1"),
    ),
    settings={"lam": R(3, 2), "eta0": R(2, 5), "steps": 3, "sigma": R(1, 4)},
    source="$x^{(n)}=x(x+1)\\cdots(x+n-1)$, the rising factorial.",
)

# --- along a cosine -------------------------------------------------------------------------------------------------

cosine = eta0 / 2 * (1 + sp.cos(sp.pi * t / T))
_half = lam * eta0 / 2


def _cosine_proof() -> list[sp.Expr]:
    # U_n(cos f) sin f = sin((n + 1) f): true of U_0 and U_1, and the recurrence of U carries it on; so U_(T - 1) is
    # 2**(T - 1) times the product of z - cos(pi t / T), whose roots for t = 1 … T - 1 are all of its roots
    z, f, n = sp.Symbol("z"), sp.Symbol("f", real=True), sp.Symbol("n", integer=True, positive=True)
    recurrence = sp.sin((n + 2) * f) - 2 * sp.cos(f) * sp.sin((n + 1) * f) + sp.sin(n * f)
    return [
        sp.chebyshevu(0, z) - 1,
        sp.expand_trig(sp.sin(2 * f)) - sp.chebyshevu(1, sp.cos(f)) * sp.sin(f),
        sp.expand(recurrence.rewrite(sp.exp), power_exp=True),
        sp.sin(T * (sp.pi * t / T)),
        kept(cosine.subs(t, 0)) - (1 - lam * eta0),
        sp.expand(kept(cosine) - _half * ((1 - _half) / _half - sp.cos(sp.pi * t / T))),
    ]


cosine_mean = Claim(
    id="schedules.cosine_mean",
    says="Down half a cosine: the factors of the mean are those of a Chebyshev polynomial of the second kind.",
    lhs=r"\mathbb{E}[\theta_T]/\theta_0",
    parameters=("lam", "eta0", "steps"),
    formula=(1 - lam * eta0) * (lam * eta0 / 4) ** (T - 1) * sp.chebyshevu(T - 1, (2 - lam * eta0) / (lam * eta0)),
    abbreviations={sp.Symbol("z", real=True): (2 - lam * eta0) / (lam * eta0)},
    evaluate=lambda lam, eta0, steps: product_of(lam, eta0 / 2 * (1 + np.cos(np.pi * np.arange(int(steps)) / steps))),
    about=E(theta, *along(cosine, 3), start=1),
    derivation=_cosine_proof,
    conditions=(SOME,),
    rivals=(
        Rival(sp.exp(-lam * eta0 * (T + 1) / 2), "continuous time"),
        Rival((1 - lam * eta0 / 2) ** T, "the mean rate, kept"),
        Rival(
            (lam * eta0 / 4) ** (T - 1) * sp.chebyshevu(T - 1, (2 - lam * eta0) / (lam * eta0)),
            "counting steps from 1",
        ),
    ),
    settings={"lam": R(3, 2), "eta0": R(2, 5), "steps": 3, "sigma": R(1, 4)},
    source="The schedule of {cite:t}`loshchilov2017sgdr`, without restarts. $U$: Chebyshev, second kind.",
)

# --- exponential ----------------------------------------------------------------------------------------------------

exponential = eta0 * decay**t
_shrunk = sp.Product(1 - lam * exponential, (t, 0, T - 1))


def _exponential_proof() -> list[sp.Expr]:
    return [_shrunk.subs(T, 0).doit() - 1, _shrunk.function - kept(exponential)]


def _by_mpmath(claim: Claim) -> tuple[float, float, float]:
    import mpmath

    at = {name: claim.settings[name] for name in claim.parameters}
    number = mpmath.qp(float(at["lam"] * at["eta0"]), float(at["decay"]), at.get("steps"))
    return claim(**{name: float(value) for name, value in at.items()}), float(number), 1e-12


exponential_mean = Claim(
    id="schedules.exponential_mean",
    says="Shrinking the rate by a factor at each step: the mean keeps a q-Pochhammer symbol of its start.",
    lhs=r"\mathbb{E}[\theta_T]/\theta_0=(\lambda\eta_0;\gamma)_T",
    parameters=("lam", "eta0", "decay", "steps"),
    formula=_shrunk,
    evaluate=lambda lam, eta0, decay, steps: product_of(lam, eta0 * decay ** np.arange(int(steps))),
    about=E(theta, *along(exponential, 3), start=1),
    derivation=_exponential_proof,
    outside=_by_mpmath,
    outside_source="mpmath's q-Pochhammer symbol",
    conditions=(DECAYS,),
    rivals=(
        Rival(sp.exp(-lam * eta0 * (1 - decay**T) / (1 - decay)), "continuous time"),
        Rival(sp.Product(1 - lam * exponential * decay, (t, 0, T - 1)), "counting steps from 1"),
    ),
    settings={"lam": R(3, 2), "eta0": R(2, 5), "decay": R(2, 3), "steps": 3, "sigma": R(1, 4)},
    source="The product is the definition of the symbol.",
)


def _exponential_limit(lam: float, eta0: float, decay: float) -> float:
    # beyond this many steps the factors differ from 1 by less than rounding can tell
    last = int(np.ceil(np.log(1e-18 * (1 - decay) / (1 + lam * eta0)) / np.log(decay)))
    return product_of(lam, eta0 * decay ** np.arange(last))


exponential_limit = Claim(
    id="schedules.exponential_limit",
    says="It never arrives: this share of the start is never lost, however long the run.",
    lhs=r"\mathbb{E}[\theta_\infty]/\theta_0",
    parameters=("lam", "eta0", "decay"),
    formula=None,
    definition=r"(\lambda\eta_0;\gamma)_\infty=\prod_{t=0}^{\infty}\left(1-\lambda\eta_0\gamma^t\right)>0",
    evaluate=_exponential_limit,
    outside=_by_mpmath,
    outside_source="mpmath's q-Pochhammer symbol",
    conditions=(DECAYS, Condition(lam * eta0 < 1, "the first step would overshoot; lower eta0 below 1/lam")),
    rivals=(
        Rival(sp.S.Zero, "it arrives"),
        Rival(sp.exp(-lam * eta0 / (1 - decay)), "continuous time"),
    ),
    settings={"lam": R(3, 2), "eta0": R(2, 5), "decay": R(2, 3)},
    source="The rates have a finite sum; the product is at least $(1-\\lambda\\eta_0)^{1/(1-\\gamma)}$.",
)

# --- the best rates -------------------------------------------------------------------------------------------------

_best = 1 / (lam * (t + 1 + sigma**2 / (lam**2 * M)))
_best_moment = M * sigma**2 / (sigma**2 + T * lam**2 * M)


def _greedy_proof() -> list[sp.Expr]:
    # one step from the moment after T best steps: smallest where its slope is 0.  What is left there grows with the
    # moment, so that no earlier step does well to leave more of it: greedy is optimal
    before = sp.Symbol("m", positive=True)
    step = derived(E(theta**2, (eta, 1), start=sp.sqrt(before)))
    rate = sp.solve(sp.diff(step, eta), eta)[0]
    left = sp.factor(step.subs(eta, rate))
    growth = sp.diff(left, before) - (sigma**2 / (lam**2 * before + sigma**2)) ** 2  # a square, never negative
    return [
        _best_moment.subs(T, 0) - M,
        rate.subs(before, _best_moment) - _best.subs(t, T),
        left.subs(before, _best_moment) - _best_moment.subs(T, T + 1),
        growth,
    ]


optimal_rate = Claim(
    id="schedules.optimal_rate",
    says="The best rate of step t, for any horizon: with one curvature, to be greedy is optimal.",
    lhs=r"\eta_t^\star",
    parameters=("lam", "sigma", "second_moment", "t"),
    formula=_best,
    about=E(theta**2, *along(_best, 2), (eta, 1), start=sp.sqrt(M)),
    relation=Minimum("eta"),
    derivation=_greedy_proof,
    rivals=(
        Rival(1 / (lam * (t + 1)), "as if there were no noise"),
        Rival(1 / (lam * (t + sigma**2 / (lam**2 * M))), "counting steps from 0"),
        Rival(1 / lam, "the noiseless step, kept"),
    ),
    settings={"lam": R(3, 2), "sigma": 3, "second_moment": R(9, 4), "t": 2},
    source="M is the mean square at the start. The rate has the form $c/(t+t_0)$, with $c=1/\\lambda$; "
    "{cite:t}`schaul2013no`.",
)
optimal_second_moment = Claim(
    id="schedules.optimal_second_moment",
    says="What the best schedule leaves, after any number of steps: a decay like 1/T.",
    lhs=r"\min_{\eta_0\ldots\eta_{T-1}}\mathbb{E}[\theta_T^2]",
    parameters=("lam", "sigma", "second_moment", "steps"),
    formula=_best_moment,
    about=E(theta**2, *along(_best, 3), start=sp.sqrt(M)),
    derivation=_greedy_proof,
    rivals=(
        Rival(sigma**2 / (T * lam**2), "the limit of a long run"),
        Rival(M * (sigma**2 / (lam**2 * M + sigma**2)) ** T, "the gain of the first step at every step"),
        Rival(M / (1 + T * lam * M / sigma**2), "a lost square of the curvature"),
    ),
    settings={"lam": R(3, 2), "sigma": 3, "second_moment": R(9, 4), "steps": 3},
    source="M is the mean square at the start; {cite:t}`schaul2013no`.",
)


def _best_constant(lam: float, sigma: float, second_moment: float, steps: float) -> float:
    from ..planning import best_constant

    return float(best_constant(lam, sigma**2, np.sqrt(second_moment), int(steps)).values[0])


def _by_search(claim: Claim) -> tuple[float, float, float]:
    from scipy.optimize import minimize_scalar

    lam, sigma, moment, steps = (float(claim.settings[name]) for name in claim.parameters)

    def left(rate: float) -> float:
        m = moment
        for _ in range(int(steps)):
            m = (1 - rate * lam) ** 2 * m + (rate * sigma) ** 2
        return m

    found = minimize_scalar(left, bounds=(0, 1 / lam), method="bounded", options={"xatol": 1e-11})
    return claim(lam=lam, sigma=sigma, second_moment=moment, steps=int(steps)), float(found.x), 1e-6


best_constant_rate = Claim(
    id="schedules.best_constant_rate",
    says="The best rate to keep for T steps, a compromise between the first steps and the last.",
    lhs=r"\bar\eta^\star",
    parameters=("lam", "sigma", "second_moment", "steps"),
    formula=None,
    definition=r"\arg\min_{\eta}\; \mathbb{E}[\theta_T^2]",
    evaluate=_best_constant,
    about=E(theta**2, (eta, T), start=sp.sqrt(M)),
    relation=Minimum("eta"),
    conditions=(SOME,),
    outside=_by_search,
    outside_source="a search over the rate, step by step",
    rivals=(
        Rival(_best.subs(t, 0), "the best first rate, kept"),
        Rival(_best.subs(t, T - 1), "the best last rate, kept from the start"),
    ),
    settings={"lam": R(3, 2), "sigma": 3, "second_moment": R(81, 4), "steps": 4},
    source="A search over the rate; no closed form for more than one step.",
)


# --- published numbers ----------------------------------------------------------------------------------------------

_SHAPES = ("constant", "cosine", "linear", "wsd")


def _worst_case(schedule: str, steps: float) -> float:
    from .. import schedules

    n = round(steps)
    shapes: dict[str, schedules.Schedule] = {
        "constant": schedules.constant(1.0),
        "cosine": schedules.cosine(1.0, n),
        "linear": schedules.linear(1.0, n),
        # a fifth of the run; its line would reach 0 one step after the run, not with it
        "wsd": schedules.warmup_stable_decay(1.0, n, 1, round(n / 5) + 1),
    }
    rates = schedules.rates(shapes[schedule], n)
    distance, gradient = (schedules.worst_case_bound(rates, n, *which) for which in ((1, 0), (0, 1)))
    return float(2 * np.sqrt(distance * gradient))  # the bound of s times the rates is distance / s + gradient * s


def _published_bounds(claim: Claim) -> tuple[list[float], list[float], float]:
    published = {"constant": 0.2485, "cosine": 0.2091, "linear": 0.2036, "wsd": 0.2220}
    return [claim(schedule=s, steps=100) for s in published], list(published.values()), 3e-4  # four digits


worst_case_bound = Claim(
    id="schedules.worst_case_bound",
    says="The last-iterate bound of convex theory, for the best multiple s of a schedule's rates, with $D = G = 1$; "
    r"$A_k$ and $Q_k$ are the sums of $\eta_t$ and $\eta_t^2$ from step k on.",
    lhs=r"B^\star",
    parameters=("schedule", "steps"),
    choices={"schedule": _SHAPES},
    formula=None,
    definition=r"\min_s\left[\frac{D^2}{2sA_1}+\frac{sG^2}{2}\left(\frac{Q_1}{A_1}+\sum_{k<T}\frac{\eta_k\,Q_k}{A_{k+1}A_k}\right)\right]",
    evaluate=_worst_case,
    conditions=(SOME,),
    outside=_published_bounds,
    outside_source="the four bounds for 100 steps that Schaipp et al. publish",
    settings={"schedule": "linear", "steps": 100},
    source="{cite:t}`defazio2023when`, theorem 10; the numbers are in {cite:t}`schaipp2025surprising`.",
)


def _noisy_quadratic(batch: float, target: float = 0.01) -> float:
    """The fewest steps at which a constant rate reaches the target: a search over rates, the steps by bisection."""
    from scipy.optimize import minimize_scalar

    from ..schedules import constant, expected_loss

    lams = 1 / np.arange(1, 10_001)
    noise = lams / batch

    def steps(rate: float) -> float:
        if rate * np.sum(noise / (2 - rate * lams)) / 2 >= target:  # the floor lies above it
            return np.inf
        low, high = 0, 2**31
        while high - low > 1:
            middle = (low + high) // 2
            reached = expected_loss(constant(rate), lams, noise, 1, middle, at=[middle])[0] < target
            low, high = (low, middle) if reached else (middle, high)
        return float(high)

    def search(log: float) -> float:
        found = steps(np.exp(log))
        return float(np.log(found)) if np.isfinite(found) else 30 + log  # downhill, towards rates that get there

    best = minimize_scalar(search, bounds=np.log((0.005, 1.99)), method="bounded", options={"xatol": 1e-3})
    return float(round(np.exp(best.fun)))


def _published_steps(claim: Claim) -> tuple[list[float], list[float], float]:
    published = {4: 1_507_367, 256: 25_880, 4096: 8_117}
    # theirs is the best of a hundred rates on a hundred bins of curvatures, which is worth up to 5 %
    return [claim(batch=b) for b in published], list(published.values()), 0.05


noisy_quadratic_steps = Claim(
    id="schedules.noisy_quadratic_steps",
    says=r"The steps of the best constant rate in the noisy quadratic model, $\lambda_i = 1/i$, noise variance "
    r"$\lambda_i/B$, start $N(0, I)$: a larger batch saves steps only as long as the noise decides.",
    lhs="T(B)",
    parameters=("batch",),
    formula=None,
    definition=r"\min_{\eta}\,\min\Big\{T:\tfrac12\sum_{i=1}^{10^4}\lambda_i\,\mathbb{E}[\theta_{i,T}^2]<0.01\Big\}",
    evaluate=_noisy_quadratic,
    outside=_published_steps,
    outside_source="the three step counts that Zhang et al. publish, found on a grid of rates",
    settings={"batch": 4},
    source="The model of {cite:t}`zhang2019which`; a search over the rate of the exact curve.",
)
