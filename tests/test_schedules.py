"""The exact curve equals the recursion in exact fractions, for every kind of schedule, and costs what it says."""

from fractions import Fraction as F

import mpmath
import numpy as np
import pytest
import sympy as sp

import lrtheory as lr
from lrtheory import schedules
from lrtheory.schedules import expected_loss, piecewise, worst_case_bound
from lrtheory.theorems import schedules as chapter

# whole runs and single steps; rates at which a mode arrives (1/lam), rests (0), jumps across (2/lam) and grows
RATES = [F(1, 3)] * 5 + [F(1, 7), F(2, 7)] + [F(0)] * 3 + [F(1)] * 2 + [F(2)] * 4 + [F(5, 2)] * 2 + [F(1, 20)] * 90
LAMS = [F(1), F(3, 5), F(1, 50)]


def stepped(rates, lams, noise, theta0, model, batch=1):
    """The losses, step by step, in exact fractions."""
    moments = [F(x) ** 2 for x in theta0]
    losses = [sum(la * m for la, m in zip(lams, moments, strict=True)) / 2]
    for eta in rates:
        whole = sum(la * m for la, m in zip(lams, moments, strict=True))
        moments = [
            (1 - eta * la) ** 2 * m
            + eta**2 / F(batch) * (v if model == "additive" else la**2 * m + la * (whole + noise[0]))
            for la, v, m in zip(lams, noise, moments, strict=True)
        ]
        losses.append(sum(la * m for la, m in zip(lams, moments, strict=True)) / 2)
    return np.array([float(x) for x in losses])


def floats(values):
    return [float(x) for x in values]


@pytest.mark.parametrize("batch", [1, 3])
def test_the_curve_equals_exact_fractions(batch):
    noise, theta0 = [F(1), F(0), F(2, 3)], [F(2), F(-1), F(0)]
    found = expected_loss(floats(RATES), floats(LAMS), floats(noise), floats(theta0), len(RATES), batch=batch)
    np.testing.assert_allclose(found, stepped(RATES, LAMS, noise, theta0, "additive", batch), rtol=1e-13)


@pytest.mark.parametrize("batch", [1, 4])
def test_the_lms_curve_equals_exact_fractions(batch):
    rates = RATES[:10] + [F(1, 10)] * 150  # the long run goes through eigenvectors, the others step by step
    theta0 = [F(2), F(-1), F(3)]
    found = expected_loss(floats(rates), floats(LAMS), 0.5, floats(theta0), len(rates), model="lms", batch=batch)
    np.testing.assert_allclose(found, stepped(rates, LAMS, [F(1, 2)] * 3, theta0, "lms", batch), rtol=1e-12)


def test_many_coupled_modes_are_stepped_and_few_are_not_with_one_result(monkeypatch):
    lams = np.linspace(0.01, 1, 60)
    at = [3, 40, 400]
    few = expected_loss(schedules.constant(0.02), lams, 1, 1, 400, model="lms", at=at)
    monkeypatch.setattr(schedules, "_FEW_MODES", 0)
    np.testing.assert_allclose(expected_loss(schedules.constant(0.02), lams, 1, 1, 400, model="lms", at=at), few)


@pytest.mark.parametrize("model", ["additive", "lms"])
def test_looks_are_independent_of_each_other(model):
    schedule = piecewise([0.4, 0.1, 0.3, 0.02], [90, 1, 20, 89])
    curve = expected_loss(schedule, [1, 0.2], 1, 1, 200, model=model)
    at = [200, 0, 91, 90, 17, 17, 111]
    np.testing.assert_allclose(expected_loss(schedule, [1, 0.2], 1, 1, 200, model=model, at=at), curve[at], rtol=1e-12)
    assert expected_loss(schedule, [1, 0.2], 1, 1, 0, model=model) == curve[0]


def test_modes_and_looks_are_worked_on_in_blocks(monkeypatch):
    lams = np.linspace(0.01, 1, 50)
    whole = expected_loss(schedules.drop(0.5, 0.1, 60), lams, lams, 1, 100)
    monkeypatch.setattr(schedules, "_MODES", 7)
    monkeypatch.setattr(schedules, "_BLOCK", 16)
    np.testing.assert_allclose(expected_loss(schedules.drop(0.5, 0.1, 60), lams, lams, 1, 100), whole, rtol=1e-13)


def test_single_steps_are_taken_together_with_one_result(monkeypatch):
    # 150 rates, none twice in a row; the largest step multiplies the square of a mode by 1e8, the next ones shrink it
    rates = [F(1, 3 + k % 11) for k in range(70)] + [F(10_001), F(1, 7)] + [F(k % 2 + 1, 3) for k in range(78)]
    noise, at = [F(1), F(0), F(2, 3)], [0, 1, 63, 64, 65, 71, 149, 150]
    for largest in (rates[70], F(2)):
        tame = [min(rate, largest) for rate in rates]
        exact = stepped(tame, LAMS, noise, [F(1)] * 3, "additive")[at]
        for together in (schedules._TOGETHER, 0):
            monkeypatch.setattr(schedules, "_TOGETHER", together)
            found = expected_loss(floats(tame), floats(LAMS), floats(noise), 1, 150, at=at)
            np.testing.assert_allclose(found, exact, rtol=1e-12)
        monkeypatch.undo()


def test_a_schedule_of_pieces_is_the_same_as_its_rates():
    for schedule in (schedules.drop(0.5, 0.05, 4), schedules.drop(0.5, 0.05, 0), piecewise([1, 0.5, 0.1], [3, 0, 9])):
        rates = schedules.rates(schedule, 9)
        np.testing.assert_allclose(expected_loss(schedule, 0.7, 1, 2, 9), expected_loss(rates, 0.7, 1, 2, 9))


def test_the_cost_does_not_grow_with_the_steps_and_flat_modes_lose_no_digits():
    lam, eta, steps = 1e-13, 0.125, 10**13
    found = expected_loss(schedules.constant(eta), lam, 1, 3, steps, at=[steps])[0]
    with mpmath.workdps(60):
        f = (1 - mpmath.mpf(eta) * mpmath.mpf(lam)) ** 2
        exact = mpmath.mpf(lam) / 2 * (9 * f**steps + mpmath.mpf(eta) ** 2 * (1 - f**steps) / (1 - f))
    assert found == pytest.approx(float(exact), rel=1e-14)


def test_a_diverging_run_is_infinitely_bad():
    found = expected_loss(piecewise([3.0, 1.0], [2000, 10]), [1, 0.1], [1, 0], [1, 0], 2010, at=[0, 2, 2000, 2010])
    assert found[1] == pytest.approx(((16 + 9 * 5) + 0) / 2) and list(found[2:]) == [np.inf, np.inf]
    assert expected_loss(schedules.constant(3.0), [1, 1], [0, 0], [0, 0], 5000, at=[5000]) == 0


def test_what_rests_at_the_minimum_stays_there():
    assert not expected_loss(schedules.constant(10), [1, 2], 0, 0, 1000, model="lms", at=[1, 1000]).any()
    assert not expected_loss(schedules.drop(1, 3, 1), 1, 0, 1, 2000, at=[1, 2000]).any()  # arrives with the first step
    assert expected_loss(schedules.drop(1, 3, 1), [1, 1], [0, 1], 1, 2000, at=[2000]) == np.inf


@pytest.mark.parametrize("steps", [100, 10**6, 10**8])
def test_the_last_rates_of_a_cosine_keep_their_digits(steps):
    for t in (1, steps // 3, steps - 2, steps - 1):
        with mpmath.workdps(40):
            exact = mpmath.mpf(0.3) / 2 * (1 + mpmath.cos(mpmath.pi * t / steps))
        assert schedules.cosine(0.3, steps)(t) == pytest.approx(float(exact), rel=2e-15)


# rates, and the bound with the best multiple of them: Schaipp et al. (2025), 100 steps, D = G = 1
@pytest.mark.parametrize(
    ("schedule", "published"),
    [
        (schedules.constant(1), 0.2485),
        (schedules.cosine(1, 100), 0.2091),
        (schedules.warmup_stable_decay(1, 100, 1, 21), 0.2220),  # theirs ends one step after the run, not with it
        (schedules.linear(1, 100), 0.2036),
    ],
)
def test_the_worst_case_bounds_are_those_published(schedule, published):
    rates = schedules.rates(schedule, 100)
    distance, gradient = (worst_case_bound(rates, 100, *which) for which in ((1, 0), (0, 1)))
    best = np.sqrt(distance / gradient)  # the bound of rates times s is distance / s + gradient * s
    assert worst_case_bound(best * rates, 100) == pytest.approx(2 * np.sqrt(distance * gradient))
    assert worst_case_bound(best * rates, 100) == pytest.approx(published, abs=6e-5)


def test_one_step_of_the_worst_case_is_the_textbook_bound():
    assert worst_case_bound([0.5], 1, distance=2, gradient=3) == pytest.approx(2**2 / (2 * 0.5) + 0.5 * 3**2 / 2)


CASES = {
    "inverse_time": ({"c": 1.3, "t0": 2.5}, lambda c, t0: schedules.inverse_time(c / t0, t0)),
    "linear": ({"eta0": 0.8}, lambda eta0: schedules.linear(eta0, 500)),
    "cosine": ({"eta0": 0.8}, lambda eta0: schedules.cosine(eta0, 500)),
    "exponential": ({"eta0": 0.8, "decay": 0.97}, schedules.exponential),
}


@pytest.mark.parametrize("name", CASES)
def test_the_claims_agree_with_the_curve_in_long_runs(name):
    letters, make = CASES[name]
    lam, steps = 0.07, 500
    mean = lr.claim(f"schedules.{name}_mean")(lam=lam, steps=steps, **letters)
    loss = expected_loss(make(*letters.values()), lam, 0, 1, steps, at=[steps])[0]
    assert lam / 2 * mean**2 == pytest.approx(loss, rel=1e-11)


def test_the_variance_agrees_with_the_curve_in_long_runs():
    found = lr.claim("schedules.inverse_time_variance")(lam=0.7, c=1.3, t0=2.5, sigma=2, steps=3000)
    loss = expected_loss(schedules.inverse_time(1.3 / 2.5, 2.5), 0.7, 4, 0, 3000, at=[3000])[0]
    assert found == pytest.approx(loss * 2 / 0.7, rel=1e-11)


@pytest.mark.parametrize(
    ("id", "parameters"),
    [
        ("inverse_time_mean", {"lam": F(2, 3), "c": F(1, 2), "t0": F(3, 2), "steps": 7}),
        ("inverse_time_mean", {"lam": 2, "c": 2, "t0": 1, "steps": 7}),  # overshoots, and arrives at step 4
        ("inverse_time_variance", {"lam": F(2, 3), "c": F(1, 2), "t0": F(3, 2), "sigma": 2, "steps": 7}),
        ("linear_mean", {"lam": F(2, 3), "eta0": F(7, 2), "steps": 7}),
        ("cosine_mean", {"lam": F(2, 3), "eta0": F(7, 2), "steps": 7}),
        ("exponential_mean", {"lam": F(2, 3), "eta0": F(7, 2), "decay": F(3, 4), "steps": 7}),
        ("optimal_second_moment", {"lam": F(2, 3), "sigma": 2, "second_moment": 3, "steps": 7}),
    ],
)
def test_the_typed_formula_and_the_float_evaluation_agree(id, parameters):
    exact = lr.claim(f"schedules.{id}")(**parameters)
    assert exact.is_number and float(exact) == pytest.approx(
        lr.claim(f"schedules.{id}")(**{k: float(v) for k, v in parameters.items()}), rel=1e-12, abs=1e-15
    )


def test_an_exponential_schedule_never_arrives():
    for lam, eta0, decay in ((1.0, 0.3, 0.9), (0.5, 1.9, 0.5), (2.0, 0.4, 0.99)):
        limit = lr.claim("schedules.exponential_limit")(lam=lam, eta0=eta0, decay=decay)
        long_run = lr.claim("schedules.exponential_mean")(lam=lam, eta0=eta0, decay=decay, steps=20_000)
        assert long_run == pytest.approx(limit, rel=1e-12) and limit >= (1 - lam * eta0) ** (1 / (1 - decay)) > 0


def test_the_induction_refuses_the_rivals():
    for rival in chapter.inverse_time_mean.rivals:
        proof = chapter.product_proof(rival.formula.subs(chapter.T, chapter.t), chapter.inverse_time, rival.formula)
        assert any(sp.simplify(residual) != 0 for residual in proof), rival.story


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: expected_loss(schedules.constant(-1), 1, 1, 1, 3), "the rate at step 0 is -1"),
        (lambda: expected_loss(schedules.drop(1, np.nan, 2), 1, 1, 1, 3), "the rate at step 2 is nan"),
        (lambda: expected_loss(schedules.constant(1), 1, 1, 1, 2.5), "steps = 2.5: give a whole number"),
        (lambda: expected_loss(schedules.constant(1), 1, 1, 1, 3, at=[1.5]), "give whole steps between 0 and 3"),
        (lambda: expected_loss(schedules.constant(1), 1, 1, np.inf, 3), "give finite starts"),
        (lambda: piecewise([1, 2], [3]), "give each value its number of steps"),
        (lambda: schedules.Piecewise((0.1,), (5,)), "one after the other"),
        (lambda: schedules.Piecewise((0.1, 0.2, 0.3), (5, 3)), "one after the other"),
        (lambda: schedules.exponential(0.5, 2)(2000), "the rate at step 2000 is .* leaves the range of floats"),
        (lambda: schedules.cosine(0.5, 100)(150), "step 150 of a schedule that ends after 100 steps"),
        (lambda: schedules.linear(0.5, 100)(101), "step 101 of a schedule that ends after 100 steps"),
        (lambda: schedules.warmup_stable_decay(1, 6, 2, 2)(7), "step 7 of a schedule that ends after 6 steps"),
        (lambda: worst_case_bound([1, 0], 2), "each positive"),
        (lambda: lr.claim("schedules.linear_mean")(lam=1, eta0=1, steps=0), "give one step or more"),
        (lambda: lr.claim("schedules.exponential_limit")(lam=1, eta0=1, decay=2), "choose decay below 1"),
    ],
)
def test_bad_input_is_told_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
