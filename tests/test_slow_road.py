"""When the curves cross and when to drop: the four cases, and the worked example of the chapter."""

import math

import pytest

import lrtheory as lr
from lrtheory.schedules import constant, drop

AT = {"eta1": 0.2, "eta2": 0.02, "lam_fast": 1.0, "lam_slow": 0.01, "sigma": 1.0}


def crossings(**at):
    return tuple(lr.claim(f"slow_road.{which}_crossing")(**at) for which in ("first", "second"))


def test_never_above():
    assert crossings(**AT, slow_excess=0.001) == (math.inf, math.inf)


def test_below_above_below():
    first, second = crossings(**AT, slow_excess=0.3)
    gap = lr.claim("slow_road.gap")
    assert 0 < first < second
    assert gap(k=math.floor(first), **AT, slow_excess=0.3) < 0 < gap(k=math.ceil(first), **AT, slow_excess=0.3)
    assert gap(k=math.floor(second), **AT, slow_excess=0.3) > 0 > gap(k=math.ceil(second), **AT, slow_excess=0.3)


def test_above_at_once():
    first, second = crossings(**AT, slow_excess=100.0)
    assert first == 0 and math.isfinite(second)
    assert lr.claim("slow_road.gap")(k=1, **AT, slow_excess=100.0) > 0


def test_the_best_moment_to_drop():
    start, horizon = [0, (2 * 5 / 0.01) ** 0.5], 1000
    best = lr.claim("slow_road.best_steps_after_drop")(**AT, slow_excess0=5.0, horizon=horizon)
    assert horizon - round(best) == 959

    def final(schedule):
        return lr.expected_loss(schedule, [1.0, 0.01], [1, 0], start, horizon, at=[horizon])[0]

    losses = {959: 0.1204, horizon // 2: 0.558, 0: 3.357}
    for step, loss in losses.items():
        assert final(drop(0.2, 0.02, step)) == pytest.approx(loss, abs=6e-4)
    assert final(constant(0.2)) == pytest.approx(0.1468, abs=1e-4)
