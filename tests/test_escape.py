"""First passages by three readings that share no code, and how runs leave the wells that the claims are about."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import sympy as sp

import lrtheory as lr
from lrtheory import noise
from lrtheory.expectation import THETA as theta
from lrtheory.expectation import THETA0 as theta0
from lrtheory.expectation import E, derived, enumerated, simulated
from lrtheory.first_passage import steps_until
from lrtheory.landscapes import SIGMA, XI, Landscape, double_well, two_valleys

F = Fraction
FLAT = Landscape("flat", SIGMA * XI * theta, ((XI, noise.rademacher),))
WALK = (lr.optimizers.sgd, FLAT)
OUT = steps_until((theta - 1) ** 2 >= 16, rule=WALK, start=0)  # a walk leaves [-3, 5] after 3 * 5 steps
STEP = {"eta": 1, "sigma": 1}


def well(law):
    return (lr.optimizers.sgd, double_well(law))


def crossing(law, start=-1, cap=100_000):
    return steps_until(theta >= 1, rule=well(law), start=start, cap=cap)


# --- the reading ---------------------------------------------------------------------------------------------------


def test_a_walk_leaves_an_interval_after_the_product_of_its_two_parts():
    assert enumerated(OUT, STEP) == 15
    measured = simulated(OUT, STEP, chains=20_000, seed=1)
    assert abs(measured.value - 15) < 4 * measured.error < 0.5
    assert measured.chain_steps == round(measured.value * 20_000)


def test_the_start_may_be_the_goal_and_the_goal_may_be_out_of_reach():
    assert enumerated(steps_until(theta >= 0, rule=WALK, start=0), STEP) == 0
    rest = lr.landscapes.quadratic()
    assert (
        enumerated(steps_until(theta < 0, rule=(lr.optimizers.sgd, rest), start=1, sigma=0), {"eta": 1, "lam": 1})
        == sp.oo
    )
    trap = (lr.optimizers.sgd, lr.landscapes.absolute(noise.rademacher))  # steps of 0 or 1, until 0 or 1/2 is met
    assert enumerated(steps_until(theta < -5, rule=trap, start=3), {"eta": F(1, 2), "sigma": 0}) == sp.oo


def test_the_same_seed_gives_the_same_numbers_on_any_number_of_threads():
    alone = simulated(OUT, STEP, chains=50_000, seed=2)
    for threads in (1, 3):
        with ThreadPoolExecutor(threads) as pool:
            assert simulated(OUT, STEP, chains=50_000, seed=2, executor=pool) == alone
    assert simulated(OUT, STEP, chains=50_000, seed=3) != alone


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: steps_until(theta + 1, rule=WALK), TypeError, "not an inequality"),
        (lambda: steps_until(sp.Eq(theta, 1), rule=WALK), TypeError, "not an inequality"),
        (
            lambda: simulated(crossing(noise.gaussian, cap=50), {"eta": 0.1, "sigma": 1}, chains=100),
            ValueError,
            "raise cap",
        ),
        (lambda: enumerated(steps_until(theta > 9, rule=WALK, start=0), STEP), ValueError, "more than 400 states"),
        (lambda: enumerated(crossing(noise.gaussian), STEP), ValueError, "support is not finite"),
        (lambda: enumerated(crossing(noise.rademacher, F(1, 2)), {"eta": F(1, 3), "sigma": 0}), ValueError, "bits"),
        (lambda: derived(OUT), NotImplementedError, "has no derivation"),
        (
            lambda: enumerated(steps_until(theta > lr.symbol("x"), rule=WALK), {**STEP, "theta0": 0}),
            ValueError,
            "the goal",
        ),
        (lambda: lr.escape_time(-0.1, 1), ValueError, "eta = -0.1: give a positive number"),
        (lambda: lr.escape_time(0.001, 1), ValueError, "raise eta \\* sigma"),
    ],
)
def test_bad_input_is_told_what_to_do(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- the time to escape --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("eta", "sigma", "chains"), [(0.3, 1, 20_000), (1, 1, 50_000), (0.5, 2, 50_000), (2, 1, 50_000)]
)
def test_the_integral_equation_gives_what_is_simulated(eta, sigma, chains):
    measured = simulated(crossing(noise.gaussian), {"eta": eta, "sigma": sigma}, chains=chains, seed=1)
    assert abs(measured.value - lr.escape_time(eta, sigma)) < 4 * measured.error < 0.05 * measured.value


@pytest.mark.parametrize(("eta", "sigma"), [(0.3, 1), (0.1, 1), (0.5, 0.6)])
def test_a_clumsier_quadrature_gives_the_same_escape_time(eta, sigma):
    x, width = np.linspace(-4, 1, 1501, retstep=True)
    weight = np.full(len(x), width)
    weight[[0, -1]] /= 2  # the trapezoidal rule, with the first correction at the end where the time does not vanish
    weight[-3:] += width * np.array([-1, 4, -3]) / 24
    to = x - eta * (x**3 - x)
    move = np.exp(-(((x - to[:, None]) / (eta * sigma)) ** 2) / 2) / (np.sqrt(2 * np.pi) * eta * sigma) * weight
    steps = np.linalg.solve(np.eye(len(x)) - move, np.ones(len(x)))
    assert np.interp(-1, x, steps) == pytest.approx(lr.escape_time(eta, sigma), rel=1e-8)


def test_rare_escapes_keep_their_digits():
    """Where a plain solver has lost them all, two tolerances still agree."""
    often, rarely = lr.escape_time(0.02, 1, tolerance=1e-3), lr.escape_time(0.02, 1, tolerance=1e-10)
    assert 1.6e13 < rarely < 1.7e13 and often == pytest.approx(rarely, rel=1e-8)


@pytest.mark.parametrize(("eta", "sigma", "off"), [(0.1, 1, 0.07), (0.05, 2, 0.22), (0.05, 1, 0.027)])
def test_kramers_time_is_a_limit(eta, sigma, off):
    assert lr.escape_time(eta, sigma) / lr.claim("escape.kramers_time")(eta=eta, sigma=sigma) - 1 == pytest.approx(
        off, rel=0.03
    )


def test_kramers_is_for_gaussian_noise_only():
    """Signs of the same variance: another time above the threshold, none below."""
    eta, above, below = 0.3, 0.6, 0.38
    gaussian = lr.escape_time(eta, above)
    signs = simulated(crossing(noise.rademacher), {"eta": eta, "sigma": above}, chains=4_000, seed=1)
    assert abs(signs.value - gaussian) > 20 * signs.error
    assert lr.escape_time(eta, below) < 1e7
    rec = lr.trace(*well(noise.rademacher))
    run = lr.simulate(
        rec, {"eta": eta, "sigma": below}, 2_000, 1_000, start={"theta": -1}, observables=[sp.sign(theta + 0.5)]
    )
    assert run[sp.sign(theta + 0.5)] == (-1, 0)  # every chain is still left of -1/2


@pytest.mark.parametrize("push", [F(1, 10), F(3, 10), F(19, 50), F(384, 1000)])
@pytest.mark.parametrize("eta", [F(1, 100), F(1, 5), F(1, 3)])
def test_an_interval_that_bounded_noise_cannot_leave(eta, push):
    """In fractions: a step keeps the order of points, and the ends, pushed outwards, are not passed."""
    assert push < lr.claim("escape.escape_threshold")()

    def step(x, xi):
        return x - eta * (x**3 - x + xi * push)

    left, right = F(-11547, 10000), F(-5773, 10000)  # just inside -2/sqrt(3) and -1/sqrt(3)
    assert 1 + eta - 3 * eta * left**2 >= 0 and left <= -1 <= right
    assert left <= step(left, 1) and step(right, -1) <= right


def test_at_large_rates_weaker_noise_escapes_too():
    """Where the order of two runs is not kept: pushes below the threshold, at a rate far above 1/3."""
    assert simulated(crossing(noise.rademacher), {"eta": 0.9, "sigma": 0.38}, chains=500, seed=1).value < 5_000


def test_a_push_above_the_threshold_crosses_the_ridge():
    push = F(386, 1000)
    assert push > lr.claim("escape.escape_threshold")()
    signs = simulated(crossing(noise.rademacher), {"eta": F(1, 3), "sigma": 1}, chains=500, seed=1)
    assert 1 < signs.value < 1000
    x = -1.0
    for _ in range(2_000):  # the noise may push to the right as long as it takes
        x -= (x**3 - x - float(push)) / 3
    assert x > 1


# --- large steps ---------------------------------------------------------------------------------------------------


def rational_cycles():
    """Rates at which both points of the two-cycle are fractions: sqrt(1 + 3/eta) and sqrt(1 - 1/eta) are."""
    for m in map(F, ["5/2", "14/5", "3", "4", "7"]):
        gap = 4 * m / (3 * m**2 + 1)
        yield 1 / (1 - gap**2), (2 - gap / m), gap


def test_the_two_cycle_attracts_up_to_its_limit():
    limit = lr.claim("escape.two_cycle_limit")()
    seen = set()
    for eta, total, gap in rational_cycles():
        high, low = ((total + sign * gap) / 2 for sign in (1, -1))
        at = {"eta": eta, "theta0": high}
        assert (lr.claim("escape.two_cycle_high")(eta=eta), lr.claim("escape.two_cycle_low")(eta=eta)) == (high, low)
        assert enumerated(E(theta, (lr.symbol("eta"), 1), rule=well(noise.any_law), start=theta0, sigma=0), at) == low
        attracts = abs(lr.claim("escape.two_cycle_multiplier")(eta=eta)) < 1
        assert attracts == (eta < limit)
        seen.add(attracts)
    assert seen == {True, False}


def test_below_the_hopping_limit_a_well_is_mapped_into_itself_and_above_it_is_not():
    limit = float(lr.claim("escape.hopping_limit")())
    for eta, stays in ((limit - 1e-3, True), (limit + 1e-3, False)):
        x = np.linspace(1e-6, (1 + 1 / eta) ** 0.5 - 1e-6, 20_001)
        assert (x - eta * (x**3 - x)).min() > 0
        farthest = (x - eta * (x**3 - x)).max()
        assert (farthest < (1 + 1 / eta) ** 0.5) == stays


def test_exact_in_exact_out_without_parameters():
    assert lr.claim("escape.two_cycle_limit")() == sp.sqrt(5) - 1
    assert lr.claim("escape.chaos_loss")() == sp.Rational(1, 8)
    assert lr.claim("escape.kramers_time")(eta=1, sigma=1) == sp.pi * sp.sqrt(2) * sp.exp(sp.Rational(1, 2))
    with pytest.raises(ValueError, match="raise eta above 1"):
        lr.claim("escape.two_cycle_loss")(eta=F(1, 2))
    with pytest.raises(ValueError, match="diverges"):
        lr.claim("escape.chaos_position")(theta0=2, t=1)


# --- two valleys ---------------------------------------------------------------------------------------------------


def test_the_two_valleys_are_the_lower_of_two_parabolas():
    loss = sp.lambdify((theta, lr.symbol("h_sharp"), lr.symbol("h_flat")), two_valleys().loss)
    x = np.linspace(-4, 4, 81)
    np.testing.assert_allclose(loss(x, 5, 0.5), np.minimum(2.5 * (x + 1) ** 2, 0.25 * (x - 1) ** 2), atol=1e-12)


GRID = list(product([3, 5, 24], [F(1, 3), F(2)], [F(23, 10), F(3), F(22, 5)], [F(1, 97), F(1, 7)]))


def test_the_exit_of_the_sharp_valley_is_the_step_at_which_a_run_leaves_it():
    claim, parities = lr.claim("escape.valley_exit"), set()
    for h_sharp, h_flat, growth, distance in GRID:
        at = {"h_sharp": h_sharp, "h_flat": h_flat, "eta": growth / h_sharp, "distance": distance}
        step = int(enumerated(claim.about, at))
        assert claim(**at) == step
        assert claim(**{name: float(value) for name, value in at.items()}) == step
        parities.add(step % 2)
    assert parities == {0, 1}


def test_a_run_thrown_out_to_the_right_never_returns_if_the_flat_valley_is_flat_enough():
    returned = {}
    for h_sharp, h_flat, growth, distance in GRID:
        eta, x = growth / h_sharp, -1 + distance

        def sharp(x, h_sharp=h_sharp, h_flat=h_flat):
            return h_sharp * (x + 1) ** 2 < h_flat * (x - 1) ** 2

        exit = lr.claim("escape.valley_exit")(h_sharp=h_sharp, h_flat=h_flat, eta=eta, distance=distance)
        inside = []
        for _ in range(int(exit) + 30):
            x -= eta * (h_sharp * (x + 1) if sharp(x) else h_flat * (x - 1))
            inside.append(sharp(x))
        kind = (exit % 2 == 0, eta * h_flat <= 1)
        returned.setdefault(kind, set()).add(any(inside[int(exit) :]))
    assert returned[True, True] == {False}
    assert True in set().union(*(found for kind, found in returned.items() if kind != (True, True)))


def test_a_step_that_ends_on_the_border_has_not_left_the_valley():
    """Steps of 1/4, 1/2 and 1 to either side: the second and the third end on a border, the fourth beyond it."""
    at = {"h_sharp": 3, "h_flat": Fraction(1, 3), "eta": 1, "distance": Fraction(1, 8)}
    x, steps = -1 + at["distance"], 0
    while not at["h_sharp"] * (x + 1) ** 2 > at["h_flat"] * (x - 1) ** 2:
        x, steps = x - at["eta"] * at["h_sharp"] * (x + 1), steps + 1
    assert lr.claim("escape.valley_exit")(**at) == steps == 4
