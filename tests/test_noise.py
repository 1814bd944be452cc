"""Draws follow their laws, in both kinds of floats."""

import numpy as np
import pytest
from scipy import stats

from lrtheory import noise

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
