"""The absolute loss |theta| and sign steps: each step has the length eta, however near the minimum is.

theta is measured from the minimum.  A run from the distance D walks in whole steps to a distance r below eta, and
then goes back and forth between the distances r and eta - r.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import sympy as sp

from ..expectation import THETA as theta
from ..expectation import AnyPhase, E, Rule
from ..landscapes import XI, absolute, absolute_to_sample, flipped_absolute, pinball, quadratic
from ..ledger import Claim, Condition, Rival
from ..letters import symbols
from ..noise import Noise, any_law, empirical, finite, gaussian, logistic, uniform
from ..optimizers import sgd, sign, sign_sgd
from ..recursion import trace

eta, sigma, lam, scale, dist, q, steps = symbols("eta sigma lam scale dist q steps")
passed, total, tau_level = symbols("passed total tau_level")
tau = sp.Symbol("tau", positive=True)  # a level here, not a number of steps
R, half = sp.Rational, sp.Rational(1, 2)

CYCLE: Rule = (sgd, absolute())
NOISY: Rule = (sgd, absolute(any_law))
AT = {"dist": R(13, 3), "eta": R(3, 4)}

# --- one run without noise ---------------------------------------------------------------------------------------

r, s = sp.symbols("r s", positive=True)  # the two distances of the cycle: eta = r + s
n = sp.Symbol("n", integer=True, nonnegative=True)


def _stepped(position: sp.Expr) -> sp.Expr:
    """The traced rule, one step at the rate r + s."""
    (rule,) = trace(*CYCLE).next_state
    return sp.expand(rule.subs({theta: position, eta: r + s}, simultaneous=True))


def _typed(formula: sp.Expr) -> sp.Expr:
    """A typed formula at D = n eta + r, with eta = r + s: the share r / eta of a step is more than 0, less than 1."""
    share = sp.Symbol("f", positive=True)
    shown = formula.subs(dist, eta * (n + share)).subs({sp.floor(share): 0, sp.ceiling(share): 1})
    return shown.subs(share, r / eta).subs(eta, r + s)


def _hit(formula: sp.Expr) -> sp.Expr:
    """A typed formula at D = n eta."""
    return formula.subs(dist, n * eta)


def _proof(*residuals: sp.Expr) -> list[sp.Expr]:
    """Outside the cycle a step comes nearer by eta; inside, two steps lead back; then what is special to a claim."""
    outside = _stepped(r + (n + 1) * (r + s)) - (r + n * (r + s))
    return [outside, _stepped(r) + s, _stepped(_stepped(r)) - r, _stepped(sp.S.Zero), *residuals]


def _in_floats(formula: sp.Expr) -> Callable[..., float]:
    """The formula for floats, which cannot tell whether a run hits the minimum exactly, and then must not guess."""
    letters = sorted(formula.free_symbols, key=str)

    @cache
    def compiled() -> Callable[..., Any]:
        return sp.lambdify(letters, formula, "numpy")

    def evaluate(**at: float) -> float:
        ratio = at["dist"] / at["eta"]
        if round(ratio) and abs(ratio - round(ratio)) <= 1e-9 * round(ratio):
            exact = (f"{name}=Fraction('{Fraction(float(at[name])).limit_denominator(10**6)}')" for name in AT)
            raise ValueError(
                f"dist = {at['dist']} is {round(ratio)} steps of eta = {at['eta']} up to rounding, and floats cannot "
                f"tell whether the run hits the minimum and stays: give fractions, for instance {', '.join(exact)}"
            )
        return float(compiled()(*(at[x.name] for x in letters)))

    return evaluate


def with_entry(theta: Any, passed: Any, *, grad: Any, eta: Any) -> Any:
    """SGD that counts its steps from outside the cycle, from a distance of eta or more."""
    beyond = sign(abs(theta) - eta)  # 1, 0 or -1, of which the last does not count
    return theta - eta * grad(theta), passed + 1 - beyond * (beyond - 1) / 2


def with_regret(theta: Any, total: Any, *, grad: Any, eta: Any) -> Any:
    """SGD that adds up the absolute loss."""
    return theta - eta * grad(theta), total + abs(theta)


_entry = sp.floor(dist / eta)
entry = Claim(
    id="l1_cycle.entry",
    says="The way to the cycle: as many steps as whole steps fit into the distance.",
    lhs=r"t_{\mathrm{cycle}}",
    parameters=("dist", "eta"),
    formula=_entry,
    evaluate=_in_floats(_entry),
    about=E(passed, (eta, steps), rule=(with_entry, absolute()), start=dist),
    derivation=lambda: _proof(_typed(_entry) - n, _hit(_entry) - n),
    rivals=(Rival(sp.ceiling(dist / eta), "the step that passes the minimum"),),
    settings=AT | {"steps": 9},
    simulable=False,
    source="The run of {cite:t}`crossvalidated282544`, with any start and rate.",
)
_on_entry = dist - eta * sp.floor(dist / eta)
distance_on_entry = Claim(
    id="l1_cycle.distance_on_entry",
    says="The distance at which the run enters its cycle: what the whole steps leave; 0 if they leave nothing.",
    lhs="r",
    parameters=("dist", "eta"),
    formula=_on_entry,
    evaluate=_in_floats(_on_entry),
    about=E(sp.Abs(theta), (eta, _entry), rule=CYCLE, start=dist),
    derivation=lambda: _proof(_typed(_on_entry) - r, _hit(_on_entry)),
    rivals=(Rival(eta / 2, "halfway, whatever the start"),),
    settings=AT,
    simulable=False,
    source="The remainder of the division of the distance by the rate.",
)
_after = eta * sp.ceiling(dist / eta) - dist
distance_after = Claim(
    id="l1_cycle.distance_after",
    says="The other distance of the cycle, one step later, beyond the minimum; 0 if the run has hit it.",
    lhs=r"\eta - r",
    parameters=("dist", "eta"),
    formula=_after,
    evaluate=_in_floats(_after),
    about=E(sp.Abs(theta), (eta, _entry + 1), rule=CYCLE, start=dist),
    derivation=lambda: _proof(_typed(_after) - s, _hit(_after)),
    rivals=(Rival(_on_entry, "the run comes to rest where it enters"),),
    settings=AT | {"dist": R(29, 6)},
    simulable=False,
    source="One more step from {eq}`l1_cycle.distance_on_entry`; after an exact hit both distances are 0.",
)
mean_loss = Claim(
    id="l1_cycle.mean_loss",
    says="The mean loss of the cycle is half a step, wherever the run started, unless it hit the minimum exactly.",
    lhs=r"\overline{|\theta|}",
    parameters=("eta",),
    formula=eta / 2,
    about=E(sp.Abs(theta), rule=CYCLE, start=dist),
    derivation=lambda: _proof((r + sp.Abs(_stepped(r))) / 2 - _typed(eta / 2)),
    rivals=(
        Rival(eta / 4, "spread evenly, half a step to each side"),
        Rival(eta, "a whole step"),
    ),
    settings=AT,
    simulable=False,
    source="The mean of the two distances; {cite:t}`polyak1987introduction` bounds the best loss of such runs.",
)
_net, _m = sp.Min(steps, _entry + sp.Mod(steps - _entry, 2)), sp.Symbol("m", integer=True)
_regret = (dist**2 - (dist - eta * _net) ** 2) / (2 * eta) + eta * steps / 2


def _balance_of_squares() -> list[sp.Expr]:
    (rule,) = trace(*CYCLE).next_state
    lost = (theta**2 - rule**2 + eta**2) / (2 * eta) - sp.Abs(theta)  # summed over the run, this is the formula
    signed = sp.expand(lost).subs({sp.sign(theta) ** 2: 1, sp.Abs(theta): theta * sp.sign(theta)})
    in_cycle = [sp.Abs(_typed(dist - eta * (n + odd))) - d for odd, d in ((0, r), (1, s))]
    return _proof(sp.expand(signed), *in_cycle)


regret = Claim(
    id="l1_cycle.regret",
    says="The loss added up over a run: a share for the distance, which falls with the rate, and half a step for each "
    "step, which grows with it.",
    lhs=r"\sum_{t<T}|\theta_t|",
    parameters=("dist", "eta", "steps"),
    formula=_regret,
    abbreviations={_m: _net},
    evaluate=_in_floats(_regret),
    about=E(total, (eta, steps), rule=(with_regret, absolute()), start=dist),
    derivation=_balance_of_squares,
    conditions=(
        Condition(
            sp.Or(eta * steps <= dist, sp.Ne(sp.Mod(dist, eta), 0)),
            "the run hits the minimum exactly and stays there; count only the steps up to the hit, dist/eta",
        ),
    ),
    rivals=(
        Rival(dist**2 / (2 * eta) + eta * steps / 2, "the bound of convex theory, taken for the value"),
        Rival((dist**2 - (dist - eta * _net) ** 2) / (2 * eta), "a cycle that costs nothing"),
    ),
    settings=AT | {"steps": 8},
    simulable=False,
    source="The squares telescope, with m the steps forward less the steps back; {cite:t}`zinkevich2003online` "
    "has the inequality.",
)

# --- noise in the steps ------------------------------------------------------------------------------------------

noisy_mean_distance = Claim(
    id="l1_cycle.noisy_mean_distance",
    says="Noise of any law in the steps raises the mean distance by the share of its variance, exactly, at every rate.",
    lhs=r"\mathbb{E}|\theta_\infty|",
    parameters=("eta", "sigma"),
    formula=eta * (1 + sigma**2) / 2,
    about=E(sp.Abs(theta), rule=NOISY, start=AnyPhase(eta), settle=100),
    rivals=(
        Rival(eta * sigma**2 / 2, "the diffusion limit, a Laplace law"),
        Rival(eta * (1 + sigma) / 2, "standard deviations that add up"),
        Rival(eta * sp.sqrt(1 + sigma**2) / 2, "half of the root mean square step"),
    ),
    settings={"eta": R(3, 4), "sigma": R(1, 3)},
    source="The mean square stays put; exact for every law of finite variance whose runs never sit exactly on 0.",
)
# multiples of 2 eta / 3 apart, +-1 noise of this size keeps a run on a lattice without a period
_LATTICE = {"eta": R(3, 4), "sigma": R(1, 3)}


def _uniform_over_a_jump() -> list[sp.Expr]:
    """In the long run theta lies uniformly on the jump that a noisy step would make from 0, to either side.

    F is an antiderivative of any test function; two noises that are drawn alike may change places in a mean.
    """
    F, (one, two) = sp.Function("F"), sp.symbols("xi_1 xi_2", real=True)
    (rule,) = trace(*NOISY).next_state

    def moved(position: sp.Expr, side: int, noise: sp.Symbol) -> sp.Expr:
        return sp.expand(rule.subs(sp.sign(theta), side).subs({theta: position, XI: noise}, simultaneous=True))

    def over_jumps(antiderivative: Callable[[sp.Expr], sp.Expr]) -> sp.Expr:
        return antiderivative(moved(sp.S.Zero, -1, one)) - antiderivative(moved(sp.S.Zero, 1, one))

    def mean(power: int) -> sp.Expr:
        jumps = sp.Poly(sp.expand(over_jumps(lambda x: x ** (power + 1) / (power + 1)) / (2 * eta)), one)
        return sp.Add(*(c * any_law.moment(m) for (m,), c in jumps.terms()))

    later = sum(
        side * (F(moved(moved(sp.S.Zero, -side, one), side, two)) - F(moved(sp.S.Zero, side, two))) for side in (1, -1)
    )
    change = sp.expand(later - over_jumps(F))
    unchanged = change + change.subs({one: two, two: one}, simultaneous=True)
    return [unchanged, mean(0) - 1, mean(2) - noisy_second_moment_bounded.formula]


noisy_second_moment_bounded = Claim(
    id="l1_cycle.noisy_second_moment_bounded",
    says="Noise that never turns a step around leaves the run uniform over a noisy step, with this mean square.",
    lhs=r"\mathbb{E}[\theta_\infty^2]",
    parameters=("eta", "sigma"),
    formula=eta**2 * (R(1, 3) + sigma**2),
    about=E(theta**2, rule=NOISY, start=AnyPhase(2 * eta / 3), settle=100),
    derivation=_uniform_over_a_jump,
    conditions=(Condition(sigma <= 1, "such noise turns steps around; take noisy_second_moment_gaussian or simulate"),),
    rivals=(
        Rival(eta**2 * (1 + sigma**2) ** 2 / 2, "a Laplace law of the right mean distance"),
        Rival(eta**2 * (1 + sigma**2) / 3, "a uniform law as wide as the root mean square step"),
    ),
    settings=_LATTICE,
    noise=uniform,
    source="For noise within ±1, in units of the gradient, with a density (or a start of any phase on its lattice).",
)


def _gaussian_second_moment(eta: float, sigma: float) -> float:
    """The series with its first terms added up, the rest by the formula of Euler and Maclaurin."""
    from scipy.special import ndtr

    def parts(count: Any) -> tuple[Any, Any, Any]:
        a = np.minimum(np.sqrt(count) / sigma, 40.0)  # a term there is less than the smallest float
        return a, ndtr(-a), np.exp(-(a**2) / 2) / math.sqrt(2 * math.pi)

    if sigma == 0:
        return eta**2 / 3
    first = 1000
    a, tail, density = parts(np.arange(1.0, first))
    terms = (1 + a**2) * tail - a * density  # E[(S_n^+)^2] / (n sigma^2)
    a, tail, density = parts(float(first))
    integral = sigma**2 * ((1 - 2 * a**2 - a**4) * tail + (a + a**3) * density) / 2
    term, slope = (1 + a**2) * tail - a * density, (a * tail - density) / (a * sigma**2)
    series = sigma**2 * float(terms.sum() + integral + term / 2 - slope / 12)
    return float(eta**2 * (1 / 3 + sigma**2 + 2 * series))


def _maximum_and_excess() -> list[sp.Expr]:
    """|theta| is M + X, independent: M the highest point of the walk S_n, X what is left of the step that crosses 0.

    By the factorization of Wiener and Hopf E exp(u X) = E exp(-u M) (E exp(u w) - 1) / (u E w), w = 1 + sigma xi;
    by Spitzer's identity the cumulants of M are sums of E[(S_n^+)^k] / n.
    """
    u, a = sp.symbols("u a", positive=True)
    first, second = sp.symbols("kappa_1 kappa_2", positive=True)  # the cumulants of M
    w = [sum(sp.binomial(k, j) * sigma**j * gaussian.moment(j) for j in range(k + 1)) for k in range(4)]
    log_m = first * u + second * u**2 / 2
    log_x = log_m.subs(u, -u) + sp.log((w[1] + w[2] * u / 2 + w[3] * u**2 / 6) / w[1])
    moment = [sp.limit(sp.diff(sp.exp(log_m + log_x), u, k), u, 0) for k in (1, 2)]
    # a term of the series, for S_n / (sigma sqrt(n)) normal around -a, against the one that is evaluated
    x = sp.Symbol("x", real=True)
    density = sp.exp(-((x + a) ** 2) / 2) / sp.sqrt(2 * sp.pi)
    tail = sp.erfc(a / sp.sqrt(2)) / 2
    term = sp.integrate(sp.expand(x**2) * density, (x, 0, sp.oo)) - (1 + a**2) * tail + a * density.subs(x, 0)
    return [
        moment[0] - noisy_mean_distance.formula / eta,
        moment[1] - noisy_second_moment_bounded.formula / eta**2 - 2 * second,
        sp.simplify(term.rewrite(sp.erfc)),
    ]


def _by_quadrature(claim: Claim) -> tuple[float, float, float]:
    """The integral equation of the density of |theta| / eta, on Gauss-Legendre nodes."""
    sd = float(claim.settings["sigma"])
    x, weights = np.polynomial.legendre.leggauss(300)
    end = 12 * (1 + sd**2)
    x, weights = (x + 1) * end / 2, weights * end / 2

    def kernel(step: Any) -> Any:
        return np.exp(-(((step + 1) / sd) ** 2) / 2) / (sd * math.sqrt(2 * math.pi))

    move = (kernel(x[:, None] - x) + kernel(-x[:, None] - x)) * weights
    density = np.linalg.lstsq(
        np.vstack([move - np.eye(len(x)), weights]), np.append(np.zeros(len(x)), 1.0), rcond=None
    )[0]
    rate = float(claim.settings["eta"])
    return claim(eta=rate, sigma=sd), rate**2 * float(weights @ (x**2 * density)), 1e-9


noisy_second_moment_gaussian = Claim(
    id="l1_cycle.noisy_second_moment_gaussian",
    says="Gaussian noise can turn a step around, which adds a series to the mean square.",
    lhs=r"\mathbb{E}[\theta_\infty^2]",
    parameters=("eta", "sigma"),
    formula=None,
    definition=r"\eta^2\left(\tfrac13+\sigma^2+2\sum_{n=1}^{\infty}\tfrac1n\,\mathbb{E}[\max(S_n,0)^2]\right)",
    evaluate=_gaussian_second_moment,
    about=E(theta**2, rule=(sgd, absolute(gaussian)), start=AnyPhase(eta), settle=150),
    derivation=_maximum_and_excess,
    outside=_by_quadrature,
    outside_source="the integral equation of the density",
    rivals=(
        Rival(eta**2 * (R(1, 3) + sigma**2), "noise that never turns a step around"),
        Rival(eta**2 * sigma**4 / 2, "the diffusion limit, a Laplace law"),
        Rival(eta**2 * (1 + sigma**2) ** 2 / 2, "a Laplace law of the right mean distance"),
    ),
    settings={"eta": R(3, 4), "sigma": R(3, 2)},
    enumerable=False,
    source="{math}`S_n` is normal with mean {math}`-n` and variance {math}`n\\sigma^2`. No closed form: the series is "
    "that of {cite:t}`spitzer1956` for the highest point of a random walk.",
)

# --- signs that are wrong, and signs of random samples -----------------------------------------------------------

_WRONG = R(1, 5)


def _flip_moment(order: int) -> sp.Expr:
    return 1 - 2 * q if order % 2 else sp.S.One


# its moments are those for any q; it is drawn at the q of the settings
_flip: Noise = replace(
    finite("wrong with probability q", [(1, 1 - Fraction(1, 5)), (-1, Fraction(1, 5))]), moment=_flip_moment
)
flipped_mean_distance = Claim(
    id="l1_cycle.flipped_mean_distance",
    says="A gradient whose sign is wrong now and then widens the cycle, without bound as wrong signs become a half.",
    lhs=r"\mathbb{E}|\theta_\infty|",
    parameters=("eta", "q"),
    formula=eta / (2 * (1 - 2 * q)),
    about=E(sp.Abs(theta), rule=(sgd, flipped_absolute(_flip)), start=AnyPhase(2 * eta), settle=150),
    conditions=(Condition(q < half, "such signs do not lead to the minimum; average more samples in a step"),),
    rivals=(
        Rival(eta * (1 - 2 * q) / 2, "the cycle of the mean step"),
        Rival(eta / (2 * (1 - q)), "a wrong step that is only lost"),
    ),
    settings={"eta": R(3, 4), "q": _WRONG},
    enumerable=False,  # from each state a run can go further away
    source="The mean square stays put; for every start that is not a whole number of steps from the minimum.",
)


def _discrete_gaussian(curvature: sp.Expr, rule: Rule, formula: sp.Expr) -> Callable[[], list[sp.Expr]]:
    """The long-run law as the sum of two halves of a Gaussian on the lattice, half a step to each side."""

    def steps_of_proof() -> list[sp.Expr]:
        next_theta = trace(*rule).next_state[0].subs(sigma, scale)
        x = sp.Symbol("x", real=True)
        (kink,) = next_theta.atoms(sp.sign)
        # the side of the kink on which a step goes down: that of large noise (1) or of small noise (-1)
        side = sp.expand((theta - next_theta.subs(kink, 1)) / eta)
        up = sp.expand(next_theta.subs(kink, -side) - theta - eta)
        kink_at = sp.solve(kink.args[0], XI)[0].subs(theta, x)
        down = 1 / (1 + sp.exp(side * kink_at))  # the probability, from the logistic distribution function
        flow = sp.exp(-(x**2) * curvature / (2 * eta * scale))
        law = flow.subs(x, x - eta / 2) + flow.subs(x, x + eta / 2)
        balance = (law * down - (law * (1 - down)).subs(x, x - eta)) / flow
        gaussian_variance = -x * flow / sp.diff(flow, x)
        square = gaussian_variance + (eta / 2) ** 2  # half a step to each side
        return [side**2 - 1, up, sp.simplify(balance), square - formula]

    return steps_of_proof


_median_rule: Rule = (sgd, absolute_to_sample(logistic))
_COARSE = "the steps are longer than the noise is wide, and each start has its own value; lower eta to 2*{}"
_median_variance = eta * scale + eta**2 / 4
median_variance = Claim(
    id="l1_cycle.median_variance",
    says="The absolute loss to random samples leads to their median, around which the run scatters with this variance.",
    lhs=r"\mathrm{Var}[\theta_\infty]",
    parameters=("eta", "scale"),
    formula=_median_variance,
    about=E(theta**2, rule=_median_rule, start=AnyPhase(2 * eta), settle=40),
    derivation=_discrete_gaussian(sp.S.One, _median_rule, _median_variance),
    rivals=(
        Rival(eta * scale, "the diffusion limit"),
        Rival(sp.pi**2 * scale**2 / 3, "the variance of the samples"),
    ),
    settings={"eta": R(3, 4), "scale": R(2, 3)},
    enumerable=False,  # a logistic sample takes any value
    conditions=(Condition(eta <= 2 * scale, _COARSE.format("scale")),),
    source="For samples of a logistic law with this scale. The long-run law is a Gaussian on the lattice of the start; "
    "the formula is exact on average over lattices, each weighted by its share of the Gaussian, and true of any one of "
    r"them up to terms of the order of $e^{-2\pi^2 s/\eta}$.",
)
# four samples, none of which a run from the phases that are enumerated hits exactly
_samples = empirical([-2, -1, 1, 4])
_distribution = sp.Add(*(R(p) * (1 + sp.sign(theta - scale * R(v))) / 2 for v, p in _samples.support or ()))


def _quantile_balance() -> list[sp.Expr]:
    (rule,) = trace(sgd, pinball()).next_state
    below = sp.Symbol("B", real=True)  # 1 if the sample lies below theta, else 0: of mean F(theta)
    drift = sp.expand(rule.subs(sp.sign(scale * XI - theta), 1 - 2 * below) - theta)
    return [sp.solve(drift, below)[0].subs(tau_level, tau) - tau]


quantile_level = Claim(
    id="l1_cycle.quantile_level",
    says="With unequal weights for samples above and below, the run sits at the quantile on the average, exactly, "
    "at every rate and for every law.",
    lhs=r"\mathbb{E}[F(\theta_\infty)]",
    parameters=("tau",),
    formula=tau,
    about=E(_distribution, rule=(sgd, pinball(_samples)), start=AnyPhase(eta), settle=200, tau_level=tau),
    derivation=_quantile_balance,
    conditions=(Condition(tau < 1, "a level lies between 0 and 1; give a share"),),
    rivals=(
        Rival(1 - tau, "the weights the wrong way round"),
        Rival(half, "the median"),
    ),
    settings={"tau": R(1, 3), "eta": R(6, 7), "scale": R(5, 3)},
    source="The mean stays put; the loss is that of {cite:t}`koenker1978regression`, F the law of the samples.",
)
_sign_rule: Rule = (sign_sgd, quadratic(logistic))
_sign_variance = scale * eta / lam + eta**2 / 4
sign_quadratic_variance = Claim(
    id="l1_cycle.sign_quadratic_variance",
    says="Sign steps on a parabola scatter in proportion to the noise, not to its square.",
    lhs=r"\mathrm{Var}[\theta_\infty]",
    parameters=("eta", "lam", "scale"),
    formula=_sign_variance,
    about=E(theta**2, rule=_sign_rule, start=AnyPhase(2 * eta), settle=40, sigma=scale),
    derivation=_discrete_gaussian(lam, _sign_rule, _sign_variance),
    rivals=(
        Rival(scale * eta / lam, "the diffusion limit"),
        Rival(eta * sp.pi**2 * scale**2 / (3 * lam * (2 - eta * lam)), "the scatter of plain steps"),
    ),
    settings={"eta": R(3, 4), "lam": R(3, 2), "scale": R(2, 3)},
    enumerable=False,
    conditions=(Condition(eta * lam <= 2 * scale, _COARSE.format("scale/lam")),),
    source="For logistic gradient noise of this scale; the rule is that of {cite:t}`bernstein2018signsgd`. Exact, like "
    "{eq}`l1_cycle.median_variance`, on average over lattices weighted by their share, and true of any one of them up "
    r"to terms of the order of $e^{-2\pi^2 s/(\eta\lambda)}$.",
)
