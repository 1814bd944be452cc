"""Momentum: its special cases, its limits from both sides, and the two conventions after a drop."""

from fractions import Fraction as F
from itertools import pairwise

import numpy as np
import pytest
import sympy as sp

import lrtheory as lr
from lrtheory.__main__ import main
from lrtheory.expectation import E, derived, enumerated
from lrtheory.stability import contraction
from lrtheory.theorems import momentum as chapter

AT = {"eta": F(1, 4), "lam": F(3, 2), "sigma": 2}
HALF = sp.Rational(1, 2)


def claim(id, **at):
    return lr.claim(f"momentum.{id}")(**at)


# --- no momentum ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["variance", "dampened_variance", "nesterov_iterate_variance", "nesterov_variance"])
def test_without_momentum_the_floor_is_that_of_sgd(id):
    # the iterate of Nesterov's rule is one gradient step away from the parameter, and of the same law
    assert claim(id, **AT, beta=0) == lr.claim("noise_floor.variance")(**AT)


def test_without_momentum_the_rest_is_that_of_sgd():
    eta, lam, sigma = (sp.Rational(x) for x in AT.values())
    floor = lr.claim("noise_floor.variance")(**AT)
    assert claim("velocity_second_moment", **AT, beta=0) == lam**2 * floor + sigma**2  # v is the gradient
    assert claim("fluctuation", **AT, beta=0) == lam * floor == eta / 2 * (lam**2 * floor + sigma**2)
    for id in ("stability_limit", "nesterov_stability_limit"):
        assert claim(id, lam=lam, beta=0) == lr.claim("noise_floor.stability_limit")(lam=lam)
    assert claim("contraction", eta=eta, lam=lam, beta=0) == abs(1 - eta * lam)
    for word in ("pytorch", "keras"):
        after = claim(
            "second_moment_after_drop", eta1=eta, eta2=F(1, 8), lam=lam, beta=0, sigma=2, k=3, convention=word
        )
        loss = lr.claim("quick_win.loss_after")(eta1=eta, eta2=F(1, 8), lam=lam, sigma=2, k=3)
        assert after == pytest.approx(float(2 * loss / lam), rel=1e-14)


# --- the floor ------------------------------------------------------------------------------------------------------


def test_the_long_forms_of_the_floors_are_equal():
    eta, lam, beta = chapter.eta, chapter.lam, chapter.beta
    a, iterate = 1 - eta * lam, chapter.nesterov_iterate_variance.formula
    ahead = iterate * ((1 + beta) ** 2 + beta**2 - 2 * a * beta * (1 + beta) ** 2 / (1 + a * beta))
    assert sp.cancel(ahead - chapter.nesterov_variance.formula) == 0
    heavy = chapter.variance.formula
    assert sp.cancel(heavy.subs(eta, eta * (1 - beta)) - chapter.dampened_variance.formula) == 0
    square = chapter.velocity_second_moment.formula
    assert sp.cancel(2 * lam * heavy / (eta * (1 + beta)) - square) == 0
    assert sp.cancel(-eta / 2 * square - chapter.cross_moment.formula) == 0


def test_the_balance_of_a_dampened_buffer_has_another_prefactor():
    theta, eta, beta = lr.symbol("theta"), chapter.eta, chapter.beta
    pull, square = (E(o, rule=chapter.DAMPENED) for o in (theta * chapter.lam * theta, chapter.v**2))
    difference = pull - eta / 2 * (1 + beta) / (1 - beta) * square
    assert sp.cancel(derived(difference)) == 0
    at = {k: sp.Rational(v) for k, v in AT.items()} | {"beta": sp.Rational(1, 3)}
    assert enumerated(difference, at) == 0 != enumerated(pull - eta / 2 * (1 + beta) * square, at)


# --- stability, contraction, spirals ----------------------------------------------------------------------------------


def noiseless(rec, at, steps):
    return lr.enumerate_paths(rec.with_noise(lr.noise.rademacher), at, steps, start={"theta": 1})


@pytest.mark.parametrize(
    ("id", "rule"), [("stability_limit", chapter.HEAVY_BALL), ("nesterov_stability_limit", chapter.NESTEROV)]
)
def test_the_limit_is_a_limit_from_both_sides(id, rule):
    # a run without noise, in fractions, at one per cent below and above
    rec, limit = lr.trace(*rule), claim(id, lam=F(3, 2), beta=F(2, 3))
    for side in (F(99, 100), F(101, 100)):
        at = {"eta": limit * sp.Rational(side), "lam": F(3, 2), "beta": F(2, 3), "sigma": 0}
        squares = noiseless(rec, at, 400).curve(lr.symbol("theta") ** 2)
        early, late = max(squares[:50]), max(squares[350:])
        assert late < early / 4 if side < 1 else late > 4 * early
    # Jury's condition, which knows nothing of the typed formula, says the same
    condition, rng = lr.stable_when(rec), np.random.default_rng(3)
    for beta in rng.uniform(0, 1, 40):
        edge = claim(id, lam=1.5, beta=float(beta))
        for side, stable in ((0.999, True), (1.001, False)):
            values = {"eta": edge * side, "lam": 1.5, "beta": beta}
            assert bool(condition.subs({s: values[s.name] for s in condition.free_symbols})) == stable


def test_the_contraction_is_the_spectral_radius_and_tells_stability():
    rec, rng, seen = lr.trace(*chapter.HEAVY_BALL), np.random.default_rng(5), set()
    for eta, beta in zip(rng.uniform(0, 3, 100), rng.uniform(0, 1, 100), strict=True):
        r = claim("contraction", eta=eta, lam=1.5, beta=beta)
        assert r == pytest.approx(contraction(rec, {"eta": eta, "lam": 1.5, "beta": beta, "sigma": 1}), rel=1e-9)
        assert (r < 1) == (eta < claim("stability_limit", lam=1.5, beta=beta))
        low, high = (claim(f"spiral_{word}", lam=1.5, beta=beta) for word in ("from", "to"))
        assert (r == pytest.approx(beta**0.5, rel=1e-12)) == (low < eta < high)
        seen.add((bool(low < eta < high), bool(r < 1)))
    assert seen == {(True, True), (False, True), (False, False)}


@pytest.mark.parametrize("rule", [chapter.HEAVY_BALL, chapter.NESTEROV])
def test_a_spiral_crosses_the_minimum_again_and_again(rule):
    lam, beta = F(3, 2), F(4, 9)
    name = "spiral_from" if rule is chapter.HEAVY_BALL else "nesterov_spiral_from"
    turn = claim(name, lam=lam, beta=beta)
    for side in (F(9, 10), F(11, 10)):
        at = {"eta": turn * sp.Rational(side), "lam": lam, "beta": beta, "sigma": 0}
        path = noiseless(lr.trace(*rule), at, 120).curve(lr.symbol("theta"))
        crossings = sum(bool(x * y < 0) for x, y in pairwise(path))
        assert crossings == 0 if side < 1 else crossings > 3


def test_nesterov_spirals_up_to_the_rate_of_newton():
    for h, turns in ((0.99, True), (1.01, False)):
        row = [(1 + 0.3) * (1 - h), -0.3 * (1 - h)]
        assert bool(np.any(np.iscomplex(np.linalg.eigvals(np.array([row, [1, 0]]))))) == turns
    condition = lr.stability.spirals_when(lr.trace(*chapter.NESTEROV))
    difference = sp.factor(condition.lhs - condition.rhs)
    roots = sp.solve(difference, chapter.eta)
    assert {sp.factor(r - chapter.nesterov_spiral_from.formula) for r in roots} >= {0}
    assert any(sp.cancel(r - 1 / chapter.lam) == 0 for r in roots)


def test_polyaks_choice_shrinks_every_mode_by_the_same_factor():
    mu, big_l = F(4), F(25)
    r = claim("best_contraction", mu=mu, big_l=big_l)
    eta, beta = sp.Rational(4, 49), r**2
    for lam in (mu, 9, F(49, 4), 20, big_l):
        assert claim("contraction", eta=eta, lam=lam, beta=beta) == r
        best = claim("best_beta", eta=float(eta), lam=float(lam))  # of this mode alone
        assert claim("contraction", eta=float(eta), lam=float(lam), beta=best + 1e-12) <= float(r) + 1e-9
    worst = [
        max(claim("contraction", eta=float(eta * e), lam=lam, beta=float(beta * b)) for lam in (4.0, 25.0))
        for e, b in ((1.02, 1), (0.98, 1), (1, 1.02), (1, 0.98))
    ]
    assert min(worst) > float(r) + 1e-3
    assert claim("best_contraction", mu=2, big_l=2) == 0


# --- the two conventions after a drop ---------------------------------------------------------------------------------

DROP = {"eta1": 0.1, "eta2": 0.01, "lam": 1, "beta": 0.9, "sigma": 1}


def test_after_a_drop_the_loss_rises_first_in_keras():
    pytorch, keras = (
        [claim("second_moment_after_drop", **DROP, k=k, convention=word) for k in range(250)]
        for word in ("pytorch", "keras")
    )
    assert pytorch[0] == keras[0] == pytest.approx(0.5135, abs=5e-5)
    assert (pytorch[5], keras[5]) == pytest.approx((0.417, 1.235), abs=5e-4)
    assert max(pytorch) == pytorch[0] and max(keras) > 2 * keras[0]
    floor = claim("variance", eta=0.01, lam=1, beta=0.9, sigma=1)
    assert pytorch[-1] == pytest.approx(floor, rel=1e-9) == keras[-1]


def test_the_conventions_agree_where_there_is_no_drop():
    for word in ("pytorch", "keras"):
        same = claim("second_moment_after_drop", **DROP | {"eta2": 0.1}, k=np.arange(9), convention=word)
        np.testing.assert_allclose(same, claim("variance", eta=0.1, lam=1, beta=0.9, sigma=1), rtol=1e-12)


@pytest.mark.parametrize("word", ["pytorch", "keras"])
def test_the_moment_after_a_drop_is_what_chains_show(word):
    rule = chapter.HEAVY_BALL if word == "pytorch" else chapter.KERAS
    rec = lr.trace(rule[0], lr.landscapes.quadratic(lr.noise.uniform))
    rates = [0.1] * 150 + [0.01] * 5
    at = {"eta": rates, "lam": 1, "beta": 0.9, "sigma": 1}
    mean, error = lr.simulate(rec, at, 155, 60_000, seed=2)[lr.symbol("theta") ** 2]
    assert abs(mean - claim("second_moment_after_drop", **DROP, k=5, convention=word)) < 4 * error < 0.04


def test_the_command_line_takes_a_word(capsys):
    at = ["eta1=0.1", "eta2=0.01", "lam=1", "beta=0.9", "sigma=1", "k=5"]
    assert main(["evaluate", "momentum.second_moment_after_drop", *at, "convention=keras"]) == 0
    assert capsys.readouterr().out.startswith("1.23")
    assert main(["evaluate", "momentum.second_moment_after_drop", *at, "convention=torch"]) == 2
    assert "give 'pytorch' or 'keras'" in capsys.readouterr().err
    assert main(["evaluate", "momentum.stability_limit", "lam=one", "beta=0"]) == 2
    assert "'one' is not a number" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("id", "at", "message"),
    [
        ("variance", {"eta": 3, "lam": 1, "beta": HALF, "sigma": 1}, "lower eta below momentum.stability_limit"),
        ("variance", {"eta": 1, "lam": 1, "beta": 1, "sigma": 1}, "choose beta below 1"),
        ("nesterov_variance", {"eta": 1.7, "lam": 1, "beta": 0.9, "sigma": 1}, "nesterov_stability_limit"),
        ("best_beta", {"eta": 4, "lam": 1}, "lower eta below 4/lam"),
        ("best_contraction", {"mu": 2, "big_l": 1}, "exchange the two"),
        ("second_moment_after_drop", DROP | {"k": 5, "convention": "torch"}, "give 'pytorch' or 'keras'"),
        ("second_moment_after_drop", DROP | {"k": 5, "convention": 1}, "give 'pytorch' or 'keras'"),
    ],
)
def test_bad_input_is_told_what_to_do(id, at, message):
    with pytest.raises(ValueError, match=message):
        claim(id, **at)
