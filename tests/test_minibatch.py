"""Mini-batches: every batch size in fractions, an adaptive filter by somebody else, and tails without a variance."""

import json
from fractions import Fraction as F
from importlib.resources import files
from itertools import pairwise

import numpy as np
import pytest
import sympy as sp

import lrtheory as lr
from lrtheory.expectation import E, enumerated
from lrtheory.landscapes import batched, linear_regression, quadratic
from lrtheory.stability import moment_radius

SGD, theta, eta = lr.optimizers.sgd, lr.symbol("theta"), lr.symbol("eta")


def claim(name, **at):
    return lr.claim(f"minibatch.{name}")(**at)


def regression(dim, batch):
    return SGD, batched(linear_regression(dim=dim), batch)


@pytest.mark.parametrize(
    ("lams", "batch"), [((F(9, 4),), 1), ((F(9, 4),), 3), ((1, F(4, 9)), 1), ((1, F(1, 4), F(16, 25)), 1)]
)
def test_the_floor_of_regression_in_fractions(lams, batch):
    rule = regression(len(lams), batch)
    names = [f"lam_{i + 1}" for i in range(len(lams))] if len(lams) > 1 else ["lam"]
    excess = sum(lr.symbol(n) * x**2 / 2 for n, x in zip(names, rule[1].coordinates, strict=True))
    at = {"eta": F(1, 7), "sigma": F(3, 2)} | dict(zip(names, lams, strict=True))
    floor = claim("lms_excess", eta=F(1, 7), lams=lams, sigma=F(3, 2), batch=batch)
    assert enumerated(E(excess, rule=rule), at) == floor
    assert floor == claim("lms_misadjustment", eta=F(1, 7), lams=lams, batch=batch) * F(9, 8)


@pytest.mark.parametrize(("dim", "batch"), [(1, 1), (1, 3), (2, 1), (2, 2), (3, 1)])
def test_the_isotropic_limit_in_fractions(dim, batch):
    rule = regression(dim, batch)
    states = rule[1].coordinates
    lams = [lr.symbol(f"lam_{i + 1}") if dim > 1 else lr.symbol("lam") for i in range(dim)]
    away = E(sum(x**2 for x in states), (eta, 1), rule=rule, start=(1,) + (0,) * (dim - 1), sigma=0)
    limit = claim("lms_limit_isotropic", lam=F(9, 4), dim=dim, batch=batch)
    at = {"eta": limit} | {s.name: F(9, 4) for s in lams}
    assert enumerated(away, at) == 1
    assert claim("lms_limit", lams=[F(9, 4)] * dim, batch=batch) == pytest.approx(float(limit), rel=1e-12)


@pytest.mark.parametrize(("lams", "batch"), [((1.0, 2.25), 1), ((1.0, 2.25), 2), ((0.1, 3.0), 2), ((1.0, 1.0), 3)])
def test_at_the_limit_the_moments_of_degree_two_stop_shrinking(lams, batch):
    rec = lr.trace(*regression(2, batch))
    at = {"lam_1": lams[0], "lam_2": lams[1], "sigma": 1, "eta": claim("lms_limit", lams=lams, batch=batch)}
    assert moment_radius(rec, at, 2) == pytest.approx(1, abs=1e-10)
    assert moment_radius(rec, at | {"eta": 0.99 * at["eta"]}, 2) < 1


def test_a_large_batch_brings_back_gradient_descent():
    lams = [0.3, 1.0, 2.0]
    assert claim("lms_limit", lams=lams, batch=10**7) == pytest.approx(1, rel=1e-6)
    batch, rate = 10**7, 0.4
    additive = sum(rate * c / (2 - rate * c) for c in lams)
    assert batch * claim("lms_misadjustment", eta=rate, lams=lams, batch=batch) == pytest.approx(additive, rel=1e-5)


def test_the_best_rate_in_one_dimension_is_the_best():
    for batch in (1, 2, 10):
        best = batch / (batch + 2)
        rates = best * np.linspace(0.9, 1.1, 21)
        losses = [lr.expected_loss([rate], 1, 0, 1, 1, model="lms", batch=batch)[1] / 0.5 for rate in rates]
        assert np.argmin(losses) == 10 and losses[10] == pytest.approx(claim("lms_best_contraction", batch=batch))


def test_the_adaptive_filter_steps_as_sgd_does():
    """padasip's LMS filter, recorded in lrtheory/data/padasip_lms.json by this script (padasip 1.2.2):

    rate, lams, sigma, chains, steps, dropped = 0.1, [1.0, 2.25], 2.0, 400, 6000, 300
    best, excess = np.array([1.5, -0.5]), []
    for seed in range(chains):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((steps, 2)) * np.sqrt(lams)
        d = x @ best + sigma * rng.standard_normal(steps)
        _, _, w = padasip.filters.FilterLMS(2, mu=rate, w="zeros").run(d, x)  # w[t]: the weights before step t
        excess.append(((w[dropped:] - best) ** 2 @ lams / 2).mean())
    short = np.random.default_rng(0).normal(size=(12, 3)).round(3)
    _, _, w = padasip.filters.FilterLMS(2, mu=rate, w="zeros").run(short[:, 2], short[:, :2])

    The record holds the settings, the mean and the standard error of `excess`, and the inputs, labels and weights of
    the short run.
    """
    run = json.loads((files("lrtheory") / "data" / "padasip_lms.json").read_text())
    rec = lr.trace(*regression(2, 1))
    move = sp.lambdify((rec.state, [s for s, _ in rec.noises], rec.parameters), rec.next_state)
    weights = (0.0, 0.0)
    for x, label, recorded in zip(run["inputs"], run["labels"], run["weights"], strict=True):
        assert weights == pytest.approx(recorded, rel=1e-12, abs=1e-15)
        at = {"eta": run["eta"], "lam_1": 1, "lam_2": 1, "sigma": 1}
        weights = move(weights, [*x, label], [at[s.name] for s in rec.parameters])
    rival = sum(run["eta"] * c / (2 - run["eta"] * c) for c in run["lams"]) * run["sigma"] ** 2 / 2
    found = claim("lms_excess", eta=run["eta"], lams=run["lams"], sigma=run["sigma"], batch=1)
    assert abs(run["excess"] - found) < 3 * run["standard_error"] < 0.01 * found
    assert abs(run["excess"] - rival) > 30 * run["standard_error"]


def test_a_batch_as_large_as_it_has_to_be_reaches_the_floor_of_the_smaller_rate():
    lam, at = lr.symbol("lam"), {"lam": F(3, 2), "sigma": 2}
    for rate, factor in ((F(4, 15), F(13, 5)), (F(1, 2), F(13, 8)), (F(2, 3), 2)):
        size = claim("matching_batch_factor", eta=rate, lam=F(3, 2), factor=factor)
        assert size.is_Integer

        def floor(batch, rate):
            return enumerated(E(lam * theta**2 / 2, rule=(SGD, batched(quadratic(), batch))), at | {"eta": rate})

        assert floor(int(size), rate) == floor(1, rate / factor)
        assert floor(int(size), rate) == claim("batch_floor", eta=rate, lam=F(3, 2), sigma=2, batch=size)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_rare_features_in_fractions(size):
    share = F(1, size**2)
    law = lr.noise.finite("rare", [(size, share), (0, 1 - share)])
    found = enumerated(E(theta**2, rule=(SGD, linear_regression(inputs=law)), lam=1), {"eta": share / 3, "sigma": 2})
    assert found == claim("sparse_variance", eta=share / 3, sigma=2, p=share)


def test_the_tail_index_solves_its_equation():
    assert claim("kesten_tail", p=F(1, 9)) == 3 and claim("kesten_tail", p=F(1, 3)) == 1
    for share in (0.01, 0.2, 0.3, 0.45):
        low, high = 1e-9, 100.0  # E|A|^a is below 1 between its roots 0 and the tail index
        for _ in range(100):
            middle = (low + high) / 2
            below = (1 - share) * 0.5**middle + share * 2.0**middle < 1
            low, high = (middle, high) if below else (low, middle)
        assert claim("kesten_tail", p=share) == pytest.approx(low, rel=1e-6)
    assert claim("kesten_tail", p=F(1, 5)) == 2  # where the variance ceases to exist
    with pytest.raises(ValueError, match=r"the variance is infinite; ask minibatch\.kesten_tail"):
        claim("kesten_variance", p=F(1, 5))


def settled(share, chains=160_000, steps=120):
    rng, state = np.random.default_rng(1), np.zeros(chains)
    halves = []
    for step in range(steps):
        state = np.where(rng.random(chains) < share, -2.0, 0.5) * state + rng.standard_normal(chains)
        if step in (steps // 2, steps - 1):
            halves.append(np.median(np.abs(state)))
    return state, halves


@pytest.mark.parametrize("share", [0.25, 0.35])
def test_the_sample_variance_does_not_settle_where_the_tail_index_is_below_two(share):
    """Outside the claim: the run settles, its median stays put, and larger samples have ever larger variances."""
    state, medians = settled(share)
    assert medians[1] == pytest.approx(medians[0], rel=0.03)

    def variances(sample):
        """The median over samples of three sizes."""
        return [np.median(np.mean(sample.reshape(-1, size) ** 2, axis=1)) for size in (40, 400, 4000)]

    # the largest of N squares is of the order of N to the power 2 over the tail index, their mean N times smaller
    growth = 10 ** (2 / claim("kesten_tail", p=share) - 1)
    for small, large in pairwise(variances(state)):
        assert large > max(1.3, growth / 3) * small
    assert variances(settled(0.02)[0])[2] == pytest.approx(claim("kesten_variance", p=0.02), rel=0.05)


def test_conditions_say_what_to_do():
    with pytest.raises(ValueError, match=r"lower eta below minibatch\.lms_limit"):
        claim("lms_excess", eta=0.5, lams=[1.0, 2.0], sigma=1, batch=1)
    with pytest.raises(ValueError, match=r"batch = 1\.5: it is counted in whole numbers"):
        claim("lms_limit", lams=[1.0], batch=1.5)
    assert r"\left(1 + \frac{1}{B}\right) \lambda_{\max} < 2" in lr.claim("minibatch.lms_excess").markdown()
    with pytest.raises(ValueError, match="lower factor below"):
        claim("linear_scaling", eta=F(1, 2), lam=1, factor=5)
