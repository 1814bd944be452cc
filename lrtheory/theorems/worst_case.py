"""What convex theory promises: the worst that can happen on a whole class of losses, and a loss on which it does.

Each claim is a largest value.  A run on one loss shows that it is reached: enumeration follows that run in fractions.
That no loss of the class does worse is shown by a proof, or by PEPit, which searches the whole class.
"""

import json
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

import sympy as sp

from ..expectation import THETA as theta
from ..expectation import E, Rule, derived
from ..landscapes import Landscape, huber, quadratic
from ..ledger import Claim, Condition, Minimum, Rival
from ..letters import symbols
from ..optimizers import sgd, sign
from ..recursion import trace

eta, lam, sigma, mu, big_l, radius, g, steps, width = symbols("eta lam sigma mu big_l radius g steps width")
R, half = sp.Rational, sp.Rational(1, 2)

CONVEX = Condition(mu < big_l, "mu is the smallest curvature and big_l the largest; exchange them")


@cache
def _recorded() -> dict[str, Any]:
    """What PEPit found; tests/test_worst_case.py shows how."""
    return json.loads((files("lrtheory") / "data" / "pepit.json").read_text())


def by_pepit(claim: Claim) -> tuple[list[float], list[float], float]:
    """The claim at the points of the record, and the largest value over the whole class that PEPit found there."""
    records = _recorded()[claim.id.split(".")[1]]
    typed = [float(claim(**dict(zip(claim.parameters, record["at"], strict=True)))) for record in records]
    return typed, [record["worst"] for record in records], 1e-6


PEPIT = "PEPit (Goujaud et al. 2024), over the whole class of losses"

# --- curvatures between mu and big_l -----------------------------------------------------------------------------


def shrink(rate: Any, curvature: Any, count: Any = 1) -> sp.Expr:
    """The distance after so many steps without noise in one mode, from a distance of 1."""
    return sp.sqrt(E(theta**2, (rate, count), start=1, sigma=0, lam=curvature))


def _either_end(rate: Any) -> sp.Expr:
    return sp.Max(shrink(rate, mu), shrink(rate, big_l))


def _inside(rate: sp.Expr) -> list[sp.Expr]:
    """Between the two ends the traced step is their mean, so that it is no longer than the longer of them."""
    (step,) = trace(sgd, quadratic()).where({"sigma": 0, "eta": rate}).next_state
    share = sp.Symbol("share", positive=True)
    between = (1 - share) * mu + share * big_l
    return [step.subs(lam, between) - (1 - share) * step.subs(lam, mu) - share * step.subs(lam, big_l)]


_factor = sp.Max(sp.Abs(1 - eta * mu), sp.Abs(1 - eta * big_l))
gd_factor = Claim(
    id="worst_case.gd_factor",
    says="By what factor a step of gradient descent shrinks the distance at least, with curvatures from μ to L.",
    lhs=r"\max_f\frac{\|\theta_1\|}{\|\theta_0\|}",
    parameters=("eta", "mu", "big_l"),
    formula=_factor,
    about=_either_end(eta),
    conditions=(CONVEX,),
    derivation=lambda: [derived(_either_end(eta)) - _factor, *_inside(eta)],
    rivals=(
        Rival(sp.Abs(1 - eta * mu), "the flattest direction, however large the rate"),
        Rival(sp.exp(-eta * mu), "the decay of the gradient flow"),
    ),
    # at this rate both ends count: the steep one a little more
    settings={"eta": R(3, 5), "mu": half, "big_l": 3},
    simulable=False,
    outside=by_pepit,
    outside_source=PEPIT,
    source="{cite:t}`polyak1987introduction`; θ is measured from the minimum. The squared factor bounds the loss of a "
    "quadratic.",
)


_best_rate = 2 / (big_l + mu)


def _balanced_ends() -> list[sp.Expr]:
    ends = [trace(sgd, quadratic()).where({"sigma": 0, "lam": c}).next_state[0] / theta for c in (mu, big_l)]
    at_best = [end.subs(eta, _best_rate) for end in ends]
    # one end is shrunk, the other overshoots by as much; a higher rate makes the second worse, a lower one the first
    signs = [sp.sign(end.subs(big_l, mu + sp.Symbol("gap", positive=True)).simplify()) for end in at_best]
    slopes = [sp.sign(sp.diff(end, eta)) for end in ends]
    return [sum(at_best), signs[0] - 1, signs[1] + 1, *(slope + 1 for slope in slopes), *_inside(eta)]


best_gd_rate = Claim(
    id="worst_case.best_gd_rate",
    says="The best constant rate for curvatures from μ to L: both ends of the spectrum are then equally slow.",
    lhs=r"\eta^\star",
    parameters=("mu", "big_l"),
    formula=_best_rate,
    about=_either_end(eta),
    relation=Minimum("eta"),
    conditions=(CONVEX,),
    derivation=_balanced_ends,
    rivals=(
        Rival(1 / big_l, "the rate of the textbook bound"),
        Rival(2 / big_l, "the largest rate that does not diverge"),
        Rival(1 / sp.sqrt(mu * big_l), "the geometric mean of the two rates"),
    ),
    settings={"mu": R(1, 3), "big_l": 3},
    simulable=False,
    source="{cite:t}`polyak1987introduction`.",
)
_best_factor = (big_l - mu) / (big_l + mu)
best_gd_factor = Claim(
    id="worst_case.best_gd_factor",
    says="The distance shrinks by this factor at that rate, (κ − 1)/(κ + 1) with κ = L/μ; the loss by its square.",
    lhs=r"\min_\eta\max_f\frac{\|\theta_1\|}{\|\theta_0\|}",
    parameters=("mu", "big_l"),
    formula=_best_factor,
    about=_either_end(_best_rate),
    conditions=(CONVEX,),
    derivation=lambda: [derived(shrink(_best_rate, c)) ** 2 - _best_factor**2 for c in (mu, big_l)],
    rivals=(
        Rival(1 - mu / big_l, "at the rate 1/L"),
        Rival(
            (sp.sqrt(big_l) - sp.sqrt(mu)) / (sp.sqrt(big_l) + sp.sqrt(mu)), "the factor of momentum, as the steps grow"
        ),
        Rival((big_l - mu) ** 2 / (big_l + mu) ** 2, "the factor of the loss"),
    ),
    settings={"mu": half, "big_l": 3},
    simulable=False,
    outside=by_pepit,
    outside_source=PEPIT,
    source="{eq}`worst_case.gd_factor` at {eq}`worst_case.best_gd_rate`.",
)


def chebyshev(theta: Any, before: Any, ratio: Any, *, grad: Any, mu: Any, big_l: Any) -> Any:
    """The Chebyshev iteration in its form with three terms, all in fractions (Golub & Varga 1961).

    `ratio` is T_(k-1)(x) / T_k(x) at x = (big_l + mu) / (big_l - mu), and 0 at the start; T_k are the polynomials.
    """
    x, later = (big_l + mu) / (big_l - mu), 1 + sign(ratio)  # 1 in the first step, 2 afterwards
    new = 1 / (later * x - ratio)
    there = later * (x * theta - 2 * grad(theta) / (big_l - mu)) - ratio * before
    return new * there, theta, new


CHEBYSHEV: Rule = (chebyshev, quadratic())


def _after_chebyshev(curvature: sp.Expr) -> sp.Expr:
    return sp.sqrt(E(theta**2, (eta, steps), rule=CHEBYSHEV, start=1, sigma=0, lam=curvature))


def _chebyshev_property() -> list[sp.Expr]:
    """The iteration makes T_k(t) / T_k(x) of a mode, t its curvature moved to [-1, 1]; so do the rates 1 / roots.

    T_k(t) is ±1 at k + 1 points of [-1, 1], in turns.  A polynomial of degree k that is 1 at curvature 0 and smaller
    at those points would cross this one k times between them and once more at curvature 0: too often for its degree.
    """
    rule = trace(chebyshev, quadratic()).where({"sigma": 0})
    ratio = rule.state[-1]
    x, t = (big_l + mu) / (big_l - mu), (big_l + mu - 2 * lam) / (big_l - mu)
    x1, x0, t1, t0 = sp.symbols("x1 x0 t1 t0", positive=True)  # T_k and T_(k-1) at x and at t

    def step(later: int, **at: sp.Expr) -> list[sp.Expr]:
        return [f.subs(sp.sign(ratio), later).subs({s: at[s.name] for s in rule.state}) for f in rule.next_state]

    first = step(0, theta=sp.S.One, before=sp.S.Zero, ratio=sp.S.Zero)
    later = step(1, theta=t1 / x1, before=t0 / x0, ratio=x0 / x1)
    x2, t2 = 2 * x * x1 - x0, 2 * t * t1 - t0  # what defines the polynomials
    nodes = [sp.cos((2 * j + 1) * sp.pi / 6) for j in range(3)]
    by_rates = sp.Mul(*(1 - lam / ((big_l + mu) / 2 + (big_l - mu) / 2 * node) for node in nodes))
    return [
        *(a - b for a, b in zip(first, (t / x, 1, 1 / x), strict=True)),
        *(a - b for a, b in zip(later, (t2 / x2, t1 / x1, x1 / x2), strict=True)),
        by_rates - sp.chebyshevt(3, t) / sp.chebyshevt(3, x),
        by_rates.subs(lam, mu) - _least.subs(steps, 3),
        *(sp.chebyshevt(3, sp.cos(j * sp.pi / 3)) - (-1) ** j for j in range(4)),
    ]


_least = 1 / sp.chebyshevt(steps, (big_l + mu) / (big_l - mu))
_root = (sp.sqrt(big_l) - sp.sqrt(mu)) / (sp.sqrt(big_l) + sp.sqrt(mu))
chebyshev_factor = Claim(
    id="worst_case.chebyshev_factor",
    says="The best that T gradient steps can do on quadratics: rates that are one over the roots of a Chebyshev "
    "polynomial, known before the run.",
    lhs=r"\min_{\eta_1,\dots,\eta_T}\max_f\frac{\|\theta_T\|}{\|\theta_0\|}",
    parameters=("mu", "big_l", "steps"),
    formula=_least,
    about=sp.Max(_after_chebyshev(mu), _after_chebyshev(big_l)),
    conditions=(CONVEX,),
    derivation=_chebyshev_property,
    rivals=(
        Rival(((big_l - mu) / (big_l + mu)) ** steps, "the best constant rate"),
        Rival(_root**steps, "the factor of momentum as the steps grow, at every step"),
        Rival(2 * _root**steps, "the leading term of long runs"),
    ),
    settings={"mu": half, "big_l": 3, "steps": 3},
    simulable=False,
    outside=by_pepit,
    outside_source="PEPit (Goujaud et al. 2024), over all quadratics, at the rates 1/roots",
    source="{cite:t}`young1953richardson`, {cite:t}`golub1961chebyshev`; $T_T$ is the Chebyshev polynomial of degree "
    "$T$.",
)

# --- noise -------------------------------------------------------------------------------------------------------

# their letters: F has curvature c below and L above, the gradient's second moment is at most M + M_G |grad F|**2
_their = {"L": lam, "c": lam, "mu": sp.S.One, "M": sigma**2}
_bound = eta * _their["L"] * _their["M"] / (2 * _their["c"] * _their["mu"])
sgd_bound_ratio = Claim(
    id="worst_case.sgd_bound_ratio",
    says="How many times the noise floor of one mode the textbook bound of SGD is: about twice, at usual rates.",
    lhs=r"\text{bound}\,/\,\mathbb{E}[L_\infty]",
    parameters=("eta", "lam"),
    formula=2 - eta * lam,
    about=_bound / E(lam * theta**2 / 2),
    conditions=(Condition(eta * lam <= 1, "the bound is proved up to 1/lam; lower eta"),),
    rivals=(
        Rival(sp.S.One, "the bound is the floor"),
        Rival(sp.Integer(2), "the same at every rate"),
    ),
    settings={"eta": R(1, 4), "lam": R(3, 2), "sigma": 2},
    source="{cite:t}`bottou2018optimization`, Theorem 4.6, with $L = c = \\lambda$ and $\\mu = M_G = 1$, over "
    "{eq}`noise_floor.excess_loss`.",
)

# --- no curvature from below -------------------------------------------------------------------------------------

_T = 4  # the coordinates of the run that is followed, and its steps


class _Largest(Landscape):
    """G times the largest absolute coordinate; where several are largest, the first one is the subgradient."""

    @cached_property
    def gradients(self) -> tuple[sp.Expr, ...]:
        sizes = [sp.Abs(x) for x in self.coordinates]

        def is_first_of_largest(i: int) -> sp.Expr:
            ahead = [sp.sign(sizes[i] - size) for size in sizes[:i]]  # must be 1
            behind = [sp.sign(size - sizes[i]) for size in sizes[i + 1 :]]  # must not be 1
            return sp.Mul(*((s**2 + s) / 2 for s in ahead), *(1 - (s**2 + s) / 2 for s in behind))

        return tuple(g * is_first_of_largest(i) * sp.sign(x) for i, x in enumerate(self.coordinates))


def _larger(a: sp.Expr, b: sp.Expr) -> sp.Expr:
    return (a + b + sp.Abs(a - b)) / 2


_at = symbols(" ".join(f"theta_{i + 1}" for i in range(_T)))
_loss = g * _larger(_larger(abs(_at[0]), abs(_at[1])), _larger(abs(_at[2]), abs(_at[3])))
LARGEST: Rule = (sgd, _Largest("largest coordinate", _loss, (), _at))
_tuned = radius / (g * sp.sqrt(steps))


def _telescope_and_run() -> list[sp.Expr]:
    # |x - eta slope|**2 <= |x|**2 - 2 eta (f(x) - f*) + eta**2 G**2, added up over T steps from |x|**2 = R**2
    promised = radius**2 / (2 * eta * steps) + eta * g**2 / 2
    rule, level = trace(*LARGEST), sp.Symbol("level", positive=True)
    # each step mends one coordinate, and the last leaves none
    residuals = []
    for mended in range(_T):
        at = dict(zip(_at, [sp.S.Zero] * mended + [level] * (_T - mended), strict=True))
        want = [sp.S.Zero] * (mended + 1) + [level] * (_T - mended - 1)
        step = [f.subs(eta, level / g).subs(at, simultaneous=True) for f in rule.next_state]
        residuals += [_loss.subs(at) - g * level, *(a - b for a, b in zip(step, want, strict=True))]
    return [
        promised.subs(eta, _tuned) - _promise,
        sp.diff(promised, eta).subs(eta, _tuned),
        *residuals,
        (g * level).subs(level, _tuned * g) - _promise,
        (steps * level**2).subs(level, _tuned * g) - radius**2,
    ]


_promise = radius * g / sp.sqrt(steps)
subgradient_bound = Claim(
    id="worst_case.subgradient_bound",
    says="Without curvature or smoothness: the loss that the best of the first T points leaves, at the best constant "
    r"rate $R/(G\sqrt T)$.",
    lhs=r"\max_f\min_{t<T}f(\theta_t)-f^\star",
    parameters=("radius", "g", "steps"),
    formula=_promise,
    about=E(_loss, (_tuned, steps - 1), rule=LARGEST, start=sp.Tuple(*[radius / sp.sqrt(steps)] * _T)),
    derivation=_telescope_and_run,
    rivals=(
        Rival(radius * g / steps, "the rate of smooth losses"),
        Rival(radius * g / sp.sqrt(steps + 1), "the last point counted too"),
        Rival(radius * g / (2 * sp.sqrt(steps)), "each of the two parts of the bound alone"),
    ),
    settings={"radius": R(3, 2), "g": R(5, 3), "steps": _T},
    simulable=False,
    outside=by_pepit,
    outside_source=PEPIT,
    source="{cite:t}`nesterov2018lectures`; by {cite:t}`drori2016optimal` no method with T subgradients promises more. "
    "The mean of the T points obeys it too.",
)
_narrow = radius / (2 * steps + 1)


def _straight_run() -> list[sp.Expr]:
    """On the worst loss every step has the length w = R / (2 T + 1), and the last point is still on the slope."""
    (step,) = trace(sgd, huber()).next_state
    beyond = sp.Symbol("beyond", nonnegative=True)
    moved = step.subs({theta: width + beyond, eta: 1 / big_l}, simultaneous=True)
    last = radius - steps * _narrow
    left = huber().sample_loss.subs({theta: width + beyond}).subs(beyond, last - width).subs(width, _narrow)
    return [moved - beyond, sp.sign(last - _narrow) - sp.sign(steps), left - _left]


def certificate(count: int, promise: sp.Expr | None = None) -> list[sp.Expr]:
    """A proof for this number of steps that no L-smooth convex loss leaves more than promised, if L = R = 1.

    Smooth convex losses satisfy f(x) >= f(y) + <f'(y), x - y> + |f'(x) - f'(y)|**2 / 2 at any two points.  Each
    step, and each point with the minimum, gives one such inequality; they are added up with the weights of Drori and
    Teboulle.  What the bound leaves over must be a sum of squares: the residuals say that it is.
    """
    x0 = sp.Symbol("x0", real=True)
    slopes, losses = sp.symbols(f"g0:{count + 1}", real=True), sp.symbols(f"f0:{count + 1}", real=True)
    points = [x0 - sum(slopes[:k]) for k in range(count + 1)]
    weights = [sp.Rational(k, 2 * count + 1 - k) for k in range(1, count + 1)]
    to_minimum = [b - a for a, b in zip([0, *weights], [*weights, 1], strict=True)]
    rest = (sp.Rational(1, 4 * count + 2) if promise is None else promise) * x0**2 - losses[-1]
    for k, weight in enumerate(weights, 1):
        rest -= weight * (
            losses[k - 1] - losses[k] - slopes[k] * (points[k - 1] - points[k]) - (slopes[k - 1] - slopes[k]) ** 2 / 2
        )
    for slope, loss, point, weight in zip(slopes, losses, points, to_minimum, strict=True):
        rest -= weight * (slope * point - loss - slope**2 / 2)
    negative = [sp.Min(w, 0) for w in (*weights, *to_minimum)]
    rest = sp.expand(rest)  # products of two vectors are written as products of numbers: only their table counts
    for letter in (x0, *slopes):  # complete one square after the other
        square, cross = rest.coeff(letter, 2), rest.coeff(letter, 1)
        negative.append(sp.Min(square, 0))
        rest = sp.expand(rest - (square * (letter + cross / (2 * square)) ** 2 if square else 0))
    return [rest, *negative]


_left = big_l * radius**2 / (4 * steps + 2)
smooth_convex_bound = Claim(
    id="worst_case.smooth_convex_bound",
    says="Smooth but without curvature from below: the loss that T steps at the rate 1/L leave, from the distance R.",
    lhs=r"\max_f f(\theta_T)-f^\star",
    parameters=("big_l", "radius", "steps"),
    formula=_left,
    about=E(
        huber().sample_loss.subs(width, _narrow), (1 / big_l, steps), rule=(sgd, huber()), start=radius, width=_narrow
    ),
    derivation=lambda: [*_straight_run(), *certificate(3)],
    rivals=(
        Rival(big_l * radius**2 / (8 * steps), "a quarter of the textbook bound"),
        Rival(big_l * radius**2 / 2 ** (steps + 1), "a loss that is halved by every step, as if there were curvature"),
    ),
    settings={"big_l": R(3, 2), "radius": R(5, 3), "steps": 5},
    simulable=False,
    outside=by_pepit,
    outside_source=PEPIT,
    source="{cite:t}`drori2014performance`: tight. The textbook bound $LR^2/(2T)$ is true, and more than twice it.",
)
