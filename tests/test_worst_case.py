"""What convex theory promises is reached by the runs that the claims follow, and by no other run that is tried.

lrtheory/data/pepit.json is what this script printed; PEPit searches a whole class of losses for the worst:

    import json, math
    from importlib.metadata import version
    from PEPit import PEP
    from PEPit.functions import ConvexLipschitzFunction, SmoothConvexFunction, SmoothStronglyConvexFunction
    from PEPit.functions import SmoothStronglyConvexQuadraticFunction

    def start(kind, radius, **parameters):
        problem = PEP()
        f = problem.declare_function(kind, **parameters)
        best, x = f.stationary_point(), problem.set_initial_point()
        problem.set_initial_condition((x - best) ** 2 <= radius**2)
        return problem, f, best, x

    def distance(kind, rates, mu, big_l):
        problem, f, best, x = start(kind, 1, mu=mu, L=big_l)
        for eta in rates:
            x = x - eta * f.gradient(x)
        problem.set_performance_metric((x - best) ** 2)
        return problem.solve(verbose=0, solver="CLARABEL") ** 0.5

    def smooth(big_l, radius, steps):
        problem, f, best, x = start(SmoothConvexFunction, radius, L=big_l)
        for _ in range(steps):
            x = x - f.gradient(x) / big_l
        problem.set_performance_metric(f(x) - f(best))
        return problem.solve(verbose=0, solver="CLARABEL")

    def lipschitz(radius, g, steps):
        problem, f, best, x = start(ConvexLipschitzFunction, radius, M=g)
        for _ in range(steps):
            slope, value = f.oracle(x)
            problem.set_performance_metric(value - f(best))
            x = x - radius / (g * steps**0.5) * slope
        return problem.solve(verbose=0, solver="CLARABEL")

    def chebyshev(mu, big_l, steps):
        nodes = [math.cos((2 * j + 1) * math.pi / (2 * steps)) for j in range(steps)]
        rates = [2 / (big_l + mu + (big_l - mu) * node) for node in nodes]
        return distance(SmoothStronglyConvexQuadraticFunction, rates, mu, big_l)

    def gradient_descent(eta, mu, big_l):
        return distance(SmoothStronglyConvexFunction, [eta], mu, big_l)

    def best(mu, big_l):
        return gradient_descent(2 / (mu + big_l), mu, big_l)

    cases = {
        "gd_factor": (gradient_descent, [(0.25, 0.5, 3), (0.6, 0.5, 3), (0.1, 1, 2)]),
        "best_gd_factor": (best, [(0.5, 3), (1, 10)]),
        "smooth_convex_bound": (smooth, [(1.5, 2, 1), (1.5, 2, 3), (1, 1, 6)]),
        "subgradient_bound": (lipschitz, [(1.5, 2, 1), (1.5, 2, 3), (1, 1, 4)]),
        "chebyshev_factor": (chebyshev, [(0.5, 3, 1), (0.5, 3, 2), (0.5, 3, 4), (0.2, 3, 3)]),
    }
    out = {"made_with": ", ".join(f"{name} {version(name)}" for name in ("PEPit", "cvxpy", "clarabel"))}
    out |= {name: [{"at": list(at), "worst": f(*at)} for at in points] for name, (f, points) in cases.items()}
    print(json.dumps(out, indent=1))
"""

from fractions import Fraction as F
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import sympy as sp

import lrtheory as lr
from lrtheory.doubt import is_zero
from lrtheory.enumeration import enumerate_paths
from lrtheory.expectation import enumerated
from lrtheory.landscapes import huber
from lrtheory.optimizers import sgd
from lrtheory.theorems import worst_case

RNG = np.random.default_rng(0)


def claim(name, **at):
    return lr.claim(f"worst_case.{name}")(**at)


# --- curvatures between mu and big_l -------------------------------------------------------------------------------


def test_no_quadratic_shrinks_less_than_the_factor():
    mu, big_l = 0.5, 3.0
    for eta in (0.05, 0.3, 0.5, 0.66):
        factor = claim("gd_factor", eta=eta, mu=mu, big_l=big_l)
        rotation = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
        curvatures = np.append(RNG.uniform(mu, big_l, 4), [mu, big_l])
        starts = RNG.normal(size=(6, 1000))
        ends = starts - eta * rotation @ np.diag(curvatures) @ rotation.T @ starts
        shrunk = np.linalg.norm(ends, axis=0) / np.linalg.norm(starts, axis=0)
        assert shrunk.max() <= factor + 1e-15
        assert abs(1 - eta * curvatures).max() == pytest.approx(factor)  # along the slowest direction


def test_no_rate_beats_the_best_one():
    rates = np.linspace(1e-4, 2, 200_001)
    factors = claim("gd_factor", eta=rates, mu=0.5, big_l=3.0)
    assert rates[factors.argmin()] == pytest.approx(claim("best_gd_rate", mu=0.5, big_l=3.0), abs=2e-5)
    assert factors.min() == pytest.approx(claim("best_gd_factor", mu=0.5, big_l=3.0), abs=1e-4)


def test_the_loss_of_a_quadratic_shrinks_by_the_square():
    """And of no more than that: after the best step both ends have kept the same share of their loss."""
    at = {"mu": F(1, 2), "big_l": F(3)}
    eta, factor = claim("best_gd_rate", **at), claim("best_gd_factor", **at)
    for curvature in at.values():
        assert (1 - eta * sp.Rational(curvature)) ** 2 == factor**2


# --- Chebyshev -----------------------------------------------------------------------------------------------------


def chebyshev_rates(mu, big_l, steps):
    nodes = [mpmath.cos((2 * j + 1) * mpmath.pi / (2 * steps)) for j in range(steps)]
    return [2 / (big_l + mu + (big_l - mu) * node) for node in nodes]


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 20])
def test_the_rates_one_over_the_roots_reach_the_factor_and_touch_it(steps):
    """Step by step in fifty digits, on a whole spectrum; the worst is touched at steps + 1 curvatures, no more."""
    with mpmath.workdps(50):
        mu, big_l = mpmath.mpf(1) / 2, mpmath.mpf(3)
        factor = 1 / mpmath.chebyt(steps, (big_l + mu) / (big_l - mu))
        assert claim("chebyshev_factor", mu=F(1, 2), big_l=3, steps=steps) == pytest.approx(float(factor), rel=1e-14)
        rates = chebyshev_rates(mu, big_l, steps)

        def left(curvature):
            theta = mpmath.mpf(1)
            for eta in rates:
                theta -= eta * curvature * theta
            return theta

        spectrum = [mu + (big_l - mu) * i / 400 for i in range(401)]
        assert max(abs(left(c)) for c in spectrum) <= factor * (1 + mpmath.mpf(10) ** -45)
        ends = [(big_l + mu - (big_l - mu) * mpmath.cos(j * mpmath.pi / steps)) / 2 for j in range(steps + 1)]
        for j, c in enumerate(ends):
            assert mpmath.almosteq(left(c), (-1) ** j * factor, rel_eps=mpmath.mpf(10) ** -40)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_the_iteration_with_three_terms_gives_the_same_in_fractions(steps):
    settings = {"mu": F(1, 2), "big_l": F(3), "steps": steps}
    assert enumerated(worst_case.chebyshev_factor.about, settings) == claim("chebyshev_factor", **settings)


def test_no_other_schedule_beats_the_rates_of_chebyshev():
    mu, big_l, steps = 0.5, 3.0, 4
    spectrum = np.linspace(mu, big_l, 101)
    best = np.array([float(r) for r in chebyshev_rates(mu, big_l, steps)])

    def worst(rates):
        return abs(np.prod(1 - rates[..., None] * spectrum, axis=-2)).max(axis=-1)

    factor = worst(best)
    assert factor == pytest.approx(claim("chebyshev_factor", mu=mu, big_l=big_l, steps=steps), rel=1e-3)
    tried = [1 / RNG.uniform(mu, big_l, (5_000, steps)), best * (1 + 0.02 * RNG.normal(size=(5_000, steps)))]
    assert min(worst(rates).min() for rates in tried) > factor
    constant = np.full(steps, claim("best_gd_rate", mu=mu, big_l=big_l))
    assert worst(constant) > 3 * factor


def test_the_order_of_the_rates_does_not_matter_to_the_end_but_to_the_way():
    best = np.array([float(r) for r in chebyshev_rates(1.0, 100.0, 16)])
    for order in (best, best[::-1]):
        assert np.prod(1 - order * 100.0) == pytest.approx(np.prod(1 - best * 100.0))
    ways = [abs(np.cumprod(1 - order * 100.0)).max() for order in (best, best[::-1])]
    assert ways[1] > 1e6 * ways[0]  # long steps first: the steep direction is thrown far out before it comes back


# --- noise ---------------------------------------------------------------------------------------------------------


def test_the_textbook_bound_lies_above_the_floor():
    for eta, lam in ((F(1, 10), 3), (F(1, 4), 4)):
        ratio = claim("sgd_bound_ratio", eta=eta, lam=lam)
        assert ratio * claim_floor(eta, lam) == sp.Rational(eta) * 9 / 2 and ratio >= 1
    with pytest.raises(ValueError, match="proved up to 1/lam"):
        claim("sgd_bound_ratio", eta=1.5, lam=1)


def claim_floor(eta, lam):
    return lr.claim("noise_floor.excess_loss")(eta=eta, lam=lam, sigma=3)


# --- no curvature from below ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", range(1, 9))
def test_a_proof_that_no_smooth_convex_loss_is_worse(steps):
    """The weights are checked for each number of steps: a sum of inequalities leaves a sum of squares."""
    assert all(is_zero(residual) for residual in worst_case.certificate(steps))


def test_the_proof_fails_for_a_smaller_bound():
    assert all(is_zero(residual) for residual in worst_case.certificate(3, sp.Rational(1, 14)))
    assert not all(is_zero(residual) for residual in worst_case.certificate(3, sp.Rational(1, 15)))


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 10])
def test_a_run_on_the_worst_smooth_loss_leaves_exactly_the_bound(steps):
    rec = lr.trace(sgd, huber())
    radius, big_l = F(5, 3), F(3, 2)
    width = radius / (2 * steps + 1)
    at = {"eta": 1 / big_l, "big_l": big_l, "width": width}
    paths = enumerate_paths(rec, at, steps, start={"theta": radius})
    loss = huber().sample_loss.subs({lr.symbol(name): sp.Rational(value) for name, value in at.items()})
    curve = paths.curve(loss)
    assert curve[-1] == claim("smooth_convex_bound", big_l=big_l, radius=radius, steps=steps)
    assert all(later < now for now, later in pairwise(curve))


def test_other_widths_leave_less():
    """The worst width is the one that the claim uses: the same run on other Huber losses."""
    steps, widths = 5, np.linspace(0.001, 1, 4001)
    x = np.ones_like(widths)
    for _ in range(steps):
        x = x - np.clip(x, -widths, widths)
    left = np.where(abs(x) > widths, widths * abs(x) - widths**2 / 2, x**2 / 2)
    assert left.max() <= claim("smooth_convex_bound", big_l=1, radius=1, steps=steps) + 1e-15
    assert widths[left.argmax()] == pytest.approx(1 / (2 * steps + 1), abs=1e-3)


def test_no_smooth_convex_loss_that_is_tried_leaves_more():
    """Sums of Huber losses in random directions, from random starts."""
    steps, worst = 6, 0.0
    for _ in range(300):
        directions, widths = RNG.normal(size=(8, 5)), RNG.exponential(size=8) * 0.3
        big_l = np.linalg.eigvalsh(directions.T @ directions).max()
        x = RNG.normal(size=5)
        bound = claim("smooth_convex_bound", big_l=big_l, radius=float(np.linalg.norm(x)), steps=steps)
        for _ in range(steps):
            x = x - directions.T @ np.clip(directions @ x, -widths, widths) / big_l
        along = abs(directions @ x)
        loss = np.where(along > widths, widths * along - widths**2 / 2, along**2 / 2).sum()
        worst = max(worst, loss / bound)
    assert 0.05 < worst <= 1


def test_no_lipschitz_loss_that_is_tried_leaves_more():
    """The largest of some linear functions that are all 0 at the minimum; the best and the mean of the first points."""
    steps = 9
    for _ in range(200):
        slopes = RNG.normal(size=(12, 5))
        slopes -= slopes.mean(axis=0)  # 0 is then a convex combination of the slopes, so that 0 is a minimum
        g, x = np.linalg.norm(slopes, axis=1).max(), RNG.normal(size=5)
        bound = claim("subgradient_bound", radius=float(np.linalg.norm(x)), g=float(g), steps=steps)
        eta, losses = np.linalg.norm(x) / (g * steps**0.5), []
        for _ in range(steps):
            active = (slopes @ x).argmax()
            losses.append(slopes[active] @ x)
            x = x - eta * slopes[active]
        assert min(losses) >= -1e-12 and np.mean(losses) <= bound + 1e-12


def test_the_largest_coordinate_is_a_convex_loss_whose_subgradient_is_one():
    loss, landscape = worst_case._loss, worst_case.LARGEST[1]
    letters = (*landscape.coordinates, lr.symbol("g"))
    value, slope = (sp.lambdify(letters, f, "numpy") for f in (loss, landscape.gradients))
    points = [*np.array(np.meshgrid(*[[-1, 0, 1]] * 4)).reshape(4, -1).T, *RNG.normal(size=(50, 4))]
    for x in points:
        pull = np.array([float(s) for s in slope(*x, 2.0)])
        assert value(*x, 2.0) == pytest.approx(2 * abs(x).max())
        assert np.linalg.norm(pull) in (0.0, 2.0)
        for y in points[::7]:
            assert value(*y, 2.0) >= value(*x, 2.0) + pull @ (y - x) - 1e-12


def test_every_recorded_worst_case_is_that_of_a_claim():
    recorded = worst_case._recorded()
    assert recorded["made_with"].startswith("PEPit")
    for name, records in recorded.items():
        if name != "made_with":
            found, expected, tolerance = worst_case.by_pepit(lr.claim(f"worst_case.{name}"))
            np.testing.assert_allclose(found, expected, rtol=tolerance)
            assert len(records) > 1 and tolerance < 1e-5


def test_exact_in_exact_out():
    assert claim("gd_factor", eta=F(1, 2), mu=1, big_l=3) == sp.Rational(1, 2)
    assert claim("chebyshev_factor", mu=1, big_l=3, steps=2) == sp.Rational(1, 7)
    assert claim("subgradient_bound", radius=1, g=2, steps=2) == sp.sqrt(2)
    with pytest.raises(ValueError, match="exchange them"):
        claim("best_gd_rate", mu=3, big_l=1)
