"""The cycle of the absolute loss: closed forms against runs in fractions, exact hits, and noise of several laws."""

from fractions import Fraction as F

import numpy as np
import pytest
import sympy as sp

import lrtheory as lr
from lrtheory.expectation import THETA, AnyPhase, E, derived, enumerated
from lrtheory.noise import finite, rademacher
from lrtheory.theorems import l1_cycle

SGD, ABS = lr.optimizers.sgd, lr.landscapes.absolute


def claim(name, **at):
    return lr.claim(f"l1_cycle.{name}")(**at)


def run(dist, eta, steps):
    """The distances from the minimum, by the update rule itself."""
    theta, distances = dist, []
    for _ in range(steps):
        distances.append(abs(theta))
        theta = SGD(theta, grad=lr.optimizers.sign, eta=eta)
    return distances


def test_the_published_run():
    rec = lr.trace(SGD, ABS())
    paths = lr.enumerate_paths(rec, {"eta": 1}, 8, start={"theta": F(-3, 2) - 4})
    assert paths.curve(THETA + 4) == [F(-3, 2), F(-1, 2), F(1, 2), F(3, 2), F(5, 2), F(7, 2), F(9, 2), F(7, 2), F(9, 2)]
    assert claim("entry", dist=F(11, 2), eta=1) == 5
    assert claim("mean_loss", eta=1) == claim("distance_on_entry", dist=F(11, 2), eta=1) == F(1, 2)


@pytest.mark.parametrize("dist", [F(13, 3), F(1, 7), F(22, 7), F(3), F(5, 2)])
@pytest.mark.parametrize("eta", [F(3, 4), F(1), F(1, 2), F(5)])
def test_closed_forms_equal_the_run(dist, eta):
    entry = int(claim("entry", dist=dist, eta=eta))
    distances = run(dist, eta, entry + 8)
    assert entry == next(t for t, d in enumerate(distances) if d < eta)
    cycle = [claim(name, dist=dist, eta=eta) for name in ("distance_on_entry", "distance_after")]
    assert distances[entry:] == cycle * 4
    lands = dist % eta == 0
    assert cycle == [0, 0] if lands else sum(cycle) / 2 == claim("mean_loss", eta=eta)
    for steps in range(entry + 1 if lands else entry + 8):
        assert claim("regret", dist=dist, eta=eta, steps=steps) == sum(distances[:steps])


def test_after_an_exact_hit_there_is_no_regret_to_formulate():
    with pytest.raises(ValueError, match="hits the minimum exactly"):
        claim("regret", dist=3, eta=F(1, 2), steps=7)


def test_floats_miss_what_fractions_hit():
    assert 0 in run(F(3), F(1, 10), 40) and 0 not in run(3.0, 0.1, 40)
    for name in ("entry", "distance_on_entry", "distance_after"):
        with pytest.raises(ValueError, match=r"30 steps of eta = 0\.1 up to rounding.*Fraction\('1/10'\)"):
            claim(name, dist=3.0, eta=0.1)
    np.testing.assert_allclose(claim("distance_after", dist=[5.5, 4.2], eta=1.0), [0.5, 0.8])


SKEWED = finite("skewed", [(F(-1, 2), F(4, 5)), (F(2), F(1, 5))])


@pytest.mark.parametrize(
    ("law", "sigma", "cell"),
    [(rademacher, F(1, 3), F(2, 3)), (rademacher, F(3, 5), F(2, 5)), (SKEWED, F(2, 5), F(1, 5))],
)
def test_noise_of_any_law_gives_one_mean_distance(law, sigma, cell):
    at, eta = {"eta": F(3, 4), "sigma": sigma}, F(3, 4)
    for phase in (F(1, 9), F(1, 2), F(6, 7)):
        on_one_lattice = E(abs(THETA), rule=(SGD, ABS(law)), start=phase * cell * eta)
        assert enumerated(on_one_lattice, at) == claim("noisy_mean_distance", **at)
    squares = E(THETA**2, rule=(SGD, ABS(law)), start=AnyPhase(sp.Rational(cell * eta)))
    assert enumerated(squares, at) == claim("noisy_second_moment_bounded", **at)


def test_runs_that_sit_on_the_minimum_now_and_then_have_a_lower_mean():
    at = {"eta": F(3, 4), "sigma": F(2, 3)}
    law = lr.stationary_law(lr.trace(SGD, ABS(rademacher)), at, start={"theta": 0})
    on_it = law.law()[F(0),]
    assert on_it > 0
    assert law[abs(THETA)] == claim("noisy_mean_distance", **at) - at["eta"] * on_it / 2


def test_the_gaussian_series_term_by_term():
    from scipy.stats import norm

    for sigma in (0.2, 0.5, 2.0):
        n = np.arange(1, 3000)
        sd = sigma * np.sqrt(n)
        series = np.sum(((n**2 + sd**2) * norm.sf(n / sd) - n * sd * norm.pdf(n / sd)) / n)
        expected = 1 / 3 + sigma**2 + 2 * series
        assert claim("noisy_second_moment_gaussian", eta=1, sigma=sigma) == pytest.approx(expected, rel=1e-12)
    assert claim("noisy_second_moment_gaussian", eta=2, sigma=0) == 4 / 3
    assert claim("noisy_second_moment_gaussian", eta=1, sigma=1e-9) == pytest.approx(1 / 3, rel=1e-12)
    # only much noise makes the law that of a diffusion
    assert claim("noisy_second_moment_gaussian", eta=1, sigma=200) == pytest.approx(200**4 / 2, rel=1e-4)


def test_wrong_signs_by_the_balance_between_neighbours():
    eta, q = F(3, 4), F(1, 5)
    share = q / (1 - q)  # of the runs at k steps from the cycle, so many more are at k + 1
    weights = [share**k for k in range(80)]
    mean = sum(w * (2 * k * eta + eta) for k, w in enumerate(weights)) / (
        2 * sum(weights)
    )  # at r + k eta and at s + k eta, with r + s = eta
    assert float(mean) == pytest.approx(float(claim("flipped_mean_distance", eta=eta, q=q)), rel=1e-15)
    law = dict(l1_cycle.flipped_mean_distance.about.run.recursion.noises)[lr.symbol("xi")]
    at = l1_cycle.flipped_mean_distance.settings["q"]
    assert [law.moment(n).subs(lr.symbol("q"), at) for n in (1, 2)] == [
        sum(p * v**n for v, p in law.support) for n in (1, 2)
    ]
    with pytest.raises(ValueError, match="do not lead to the minimum"):
        claim("flipped_mean_distance", eta=1, q=F(1, 2))


@pytest.mark.parametrize("level", [F(1, 2), F(2, 3), F(1, 4)])
@pytest.mark.parametrize("eta", [F(6, 7), F(2)])
def test_the_quantile_level_is_exact_at_every_rate(level, eta):
    about = l1_cycle.quantile_level.about
    at = {"eta": eta, "scale": F(11, 13), "tau": level}
    assert enumerated(about, at) == claim("quantile_level", tau=level)


def test_the_balance_of_squares_is_what_gives_the_mean_distance():
    found = derived(E(abs(THETA), rule=(SGD, ABS(lr.noise.any_law))))
    assert (found - l1_cycle.noisy_mean_distance.formula).simplify() == 0


@pytest.mark.parametrize(("scale", "share"), [(0.5, 2e-3), (0.7, 1e-4), (0.1, None)])
def test_sign_steps_lie_on_a_lattice_which_shows_only_where_the_steps_are_longer_than_the_noise(scale, share):
    """At eta = lam = 1: the law on each lattice is a Gaussian of variance 2 scale, weighted at the middles of steps."""
    claimed = scale + 0.25
    for phase in np.linspace(0, 1, 11):
        x = phase + np.arange(-60, 61)
        # balance between neighbours: p(x) P(up from x) = p(x + 1) P(down from x + 1), P(up) = 1 / (1 + exp(x / scale))
        up = np.exp(-np.logaddexp(0, x / scale))
        down = np.exp(-np.logaddexp(0, -x / scale))
        log_law = np.concatenate([[0], np.cumsum(np.log(up[:-1]) - np.log(down[1:]))])
        law = np.exp(log_law - log_law.max())
        found = (law @ x**2) / law.sum()
        assert np.isfinite(found)
        if share is not None:
            assert abs(found / claimed - 1) < share
    if share is None:  # outside the condition a single lattice is far off
        assert abs(found / claimed - 1) > 0.05
        with pytest.raises(ValueError, match="longer than the noise"):
            lr.claim("l1_cycle.sign_quadratic_variance")(eta=1.0, lam=1.0, scale=scale)
