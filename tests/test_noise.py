"""Draws follow their laws, in both kinds of floats."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

import lrtheory as lr
from lrtheory import landscapes, noise

LAWS = (noise.gaussian, noise.rademacher, noise.uniform, noise.laplace, noise.logistic, noise.phase)
DRAWS = 400_001  # odd: some laws draw in pairs


def drawn(law, dtype):
    out = np.full(DRAWS, np.nan, dtype)
    law.draw(np.random.Generator(np.random.SFC64(1)), out)
    return out


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_the_moments_of_the_draws_are_those_of_the_law(law, dtype):
    draws = drawn(law, dtype).astype(float)
    for n in (1, 2, 3, 4):
        expected, square = float(law.moment(n)), float(law.moment(2 * n))
        error = np.sqrt(max(square - expected**2, 0) / DRAWS)
        assert abs((draws**n).mean() - expected) <= 4.5 * error + 1e-7, n


def test_normal_numbers_in_float32_follow_the_normal_law_and_do_not_know_of_their_pair():
    draws = drawn(noise.gaussian, "float32")
    assert stats.kstest(draws, "norm").pvalue > 1e-3
    half = DRAWS // 2
    for f in (np.asarray, np.abs):  # a pair lies on a circle of random radius
        one, other = f(draws[:half]), f(draws[half + 1 :])
        assert abs(np.corrcoef(one, other)[0, 1]) < 4.5 / np.sqrt(half)
    extreme = np.abs(draws).max()
    assert 4.2 < extreme < 5.7


@pytest.mark.parametrize("law", [*LAWS, noise.any_law, noise.gaussian_to_fifth], ids=lambda law: law.name)
def test_moments_are_asked_for_by_whole_numbers(law):
    assert law.moment(2.0) == law.moment(2)
    for n in (-1, 1.5, "2", None, True):
        with pytest.raises((ValueError, TypeError), match=f"n = {n!r}.* give a whole number, 0 or more"):
            law.moment(n)


HALF = Fraction(1, 2)
WITNESSES = "give a list of one or more of derivation, enumeration, simulation, outside"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noise.finite("n", None), r"the support of 'n' is None: give pairs \(value, probability\)"),
        (lambda: noise.finite("n", [1, 2]), r"is \[1, 2\]: give pairs"),
        (lambda: noise.finite("n", [(1, HALF, 3)]), r"Fraction\(1, 2\), 3\)\]: give pairs"),
        (lambda: noise.finite("n", {1: HALF}), r"\{1: Fraction\(1, 2\)\}: give pairs"),
        (lambda: noise.finite("n", [(10**400, HALF), (-(10**400), HALF)]), "1000.* is too large for a float: give"),
        (lambda: landscapes.batched(None, 2), "None is no landscape: give one"),
        (lambda: landscapes.linear_regression(dim=2).gradient, "2 coordinates, theta_1, theta_2: take its `gradients`"),
        *(
            (lambda chosen=chosen: lr.check("noise_floor.mean", witnesses=chosen), f"witnesses = .*: {WITNESSES}")
            for chosen in (None, 3, [], "derivation", ["nope"], [3], [["derivation"]])
        ),
    ],
)
def test_bad_input_is_told_what_to_do(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
