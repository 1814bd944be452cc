"""One update rule, three readings that share no code: moment equations, enumeration, simulation."""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction
from multiprocessing import get_context

import numpy as np
import pytest
import sympy as sp

import lrtheory as lr
from lrtheory.enumeration import limit
from lrtheory.stability import moment_radius

RULES = {
    "sgd": {},
    "heavy_ball": {"beta": Fraction(1, 2)},
    "dampened": {"beta": Fraction(1, 3)},
    "nesterov": {"beta": Fraction(1, 4)},
    "averaged": {"gamma": Fraction(2, 3)},
}
BASE = {"eta": Fraction(1, 2), "lam": Fraction(3, 4), "sigma": Fraction(3, 2)}


def rule(name, landscape="quadratic"):
    law = lr.noise.rademacher
    made = (
        getattr(lr.landscapes, landscape)(law)
        if landscape == "quadratic"
        else lr.landscapes.linear_regression(law, law)
    )
    return lr.trace(getattr(lr.optimizers, name), made)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("power", [1, 2])
def test_moments_equal_enumeration(name, power):
    rec, at = rule(name), BASE | RULES[name]
    paths = lr.enumerate_paths(rec, at, steps=8)
    for state in rec.state:
        exact = lr.after(rec, 5, start=dict.fromkeys(rec.state, 0))[state**power]
        assert exact.subs(rec.values({k: sp.Rational(v) for k, v in at.items()})) == paths.curve(state**power)[5]
        assert lr.stationary(rec).evaluate(state**power, at) == limit(paths.curve(state**power))


def test_noise_that_grows_with_the_state():
    rec, at = rule("sgd", "linear_regression"), BASE | {"lam": Fraction(9, 16)}  # the rule takes its root
    theta = rec.state[0]
    curve = lr.enumerate_paths(rec, at, steps=6).curve(theta**2)
    assert lr.stationary(rec).evaluate(theta**2, at) == limit(curve)


@pytest.mark.parametrize("name", RULES)
def test_simulation_agrees_with_the_moments(name):
    rec, at = rule(name), {k: float(v) for k, v in (BASE | RULES[name]).items()}
    theta = rec.state[0]
    mean, error = lr.simulate(rec, at, steps=120, chains=100_000, seed=3)[theta**2]
    assert abs(mean - float(lr.stationary(rec)[theta**2].subs(rec.values(at)))) < 4.5 * error


@pytest.mark.parametrize("name", RULES)
def test_the_stability_condition_is_the_spectral_radius(name):
    rec, rng = rule(name), np.random.default_rng(1)
    condition = lr.stable_when(rec)
    seen = set()
    for _ in range(300):
        at = {s: rng.uniform(0, 1) if s.name in ("beta", "gamma") else rng.uniform(0, 2.5) for s in rec.parameters}
        stable = moment_radius(rec, at, 1) < 1
        assert bool(condition.subs(at)) == stable, at
        seen.add(stable)
    assert seen == {True, False}


def test_answers_do_not_depend_on_what_was_asked_before():
    theta, average = rule("averaged").state
    asked = [theta, theta**2, theta * average, average**2, (theta - average) ** 2]
    alone = [sp.simplify(lr.stationary(rule("averaged"))[x]) for x in asked]
    for first in asked:
        moments = lr.stationary(rule("averaged"))
        moments[first]
        assert [sp.simplify(moments[x]) for x in asked] == alone, first


def lookahead(theta, slow, *, grad, eta, gamma):
    theta = theta - eta * grad(theta)
    return theta, slow + gamma * (theta - slow)


def decoupled_decay(theta, *, grad, eta, gamma):
    return (1 - gamma) * theta - eta * grad(theta)


def ascent(theta, *, grad, eta):
    return theta + eta * grad(theta)


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize("optimizer", [lookahead, decoupled_decay, ascent, lr.optimizers.heavy_ball])
@pytest.mark.parametrize("landscape", ["quadratic", "linear_regression"])
def test_any_rule_is_stable_where_its_eigenvalues_say_so(optimizer, landscape, degree):
    rec, rng = lr.trace(optimizer, getattr(lr.landscapes, landscape)()), np.random.default_rng(1)
    condition = lr.stable_when(rec, degree)
    for _ in range(40):
        at = {s: rng.uniform(0, 1.3) if s.name in ("beta", "gamma") else rng.uniform(0, 2.5) for s in rec.parameters}
        assert bool(condition.subs(at)) == (moment_radius(rec, at, degree) < 1), at


def test_at_the_edge_of_stability():
    rec = lr.trace(lr.optimizers.heavy_ball, lr.landscapes.quadratic())
    theta, at = rec.state[0], {"lam": 1, "sigma": 1, "beta": 0.9}
    with pytest.raises(ValueError, match=r"no stationary state at .*: it needs .*beta.*; lower the learning rate"):
        lr.stationary(rec).evaluate(theta**2, at | {"eta": 3.8})  # which floats take for 2 (1 + beta)
    assert lr.stationary(rec).evaluate(theta**2, at | {"eta": 1e-300}) == pytest.approx(5e-300)
    uphill = lr.trace(ascent, lr.landscapes.quadratic())
    with pytest.raises(ValueError, match=r"no stationary state at .*: the rule has none at any rate"):
        lr.stationary(uphill).evaluate(uphill.state[0] ** 2, {"eta": 0.1, "lam": 1, "sigma": 1})


def test_equal_eigenvalues_keep_their_digits():
    """At critical damping, where floats would leave three digits of the fourth power."""
    rec, at = lr.trace(lr.optimizers.heavy_ball, lr.landscapes.quadratic()), {"eta": 0.25, "lam": 1, "beta": 0.25}
    for degree in (1, 2, 4):
        assert moment_radius(rec, at, degree) == pytest.approx(0.5**degree, rel=1e-10)


def test_the_numbers_do_not_depend_on_the_workers():
    rec = lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic(lr.noise.laplace))

    def run(executor):
        return lr.simulate(
            rec, {"eta": 0.5, "lam": 1, "sigma": 1}, 30, 100_000, seed=7, executor=executor, at=[0, 10, 30]
        )

    results = [run(None)]
    for pool in (ThreadPoolExecutor(1), ThreadPoolExecutor(8), ProcessPoolExecutor(2, mp_context=get_context("spawn"))):
        with pool:
            results.append(run(pool))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0].means, other.means)
        np.testing.assert_array_equal(results[0].covariance, other.covariance)
    assert not np.array_equal(
        results[0].means,
        lr.simulate(rec, {"eta": 0.5, "lam": 1, "sigma": 1}, 30, 100_000, seed=8, at=[0, 10, 30]).means,
    )


@pytest.mark.parametrize("law", ["gaussian", "rademacher", "uniform", "laplace", "logistic", "phase"])
def test_a_law_draws_the_moments_that_it_declares(law):
    noise, out = getattr(lr.noise, law), np.empty(400_000)
    noise.draw(np.random.Generator(np.random.SFC64(5)), out)
    for n in (1, 2, 3, 4):
        error = np.std(out**n) / np.sqrt(out.size)
        assert abs(np.mean(out**n) - float(noise.moment(n))) < 4.5 * error + 1e-12


def test_a_schedule_is_a_sequence_of_rates():
    rec = rule("sgd")
    rates = [Fraction(1, 2), Fraction(1, 4), Fraction(1, 8)]
    exact = lr.enumerate_paths(rec, {"eta": rates, "lam": 1, "sigma": 1}, 3, start={"theta": 2})[rec.state[0] ** 2]
    loss = lr.expected_loss([float(r) for r in rates], lams=1, noise=1, theta0=2, steps=3, at=[3])[0]
    assert float(exact) / 2 == pytest.approx(loss, rel=1e-14)


def test_limit_refuses_what_does_not_settle():
    with pytest.raises(ValueError, match="do not converge"):
        limit([sp.Integer(2) ** n for n in range(6)])
    with pytest.raises(ValueError, match="do not settle"):
        limit([1, 5, 2, 8])
