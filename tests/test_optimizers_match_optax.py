"""Formula and simulation share the update rules, so the rules themselves are held against an outside implementation."""

import json
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from lrtheory import optimizers

jax.config.update("jax_enable_x64", True)
ETA, BETA, GAMMA, STEPS = 0.1, 0.9, 0.8, 25


def gradient(theta):
    """The gradient of a skewed bowl, so that no two steps are alike."""
    return theta + 0.3 * theta**2 - 0.2


def with_optax(transform, theta=1.5):
    state, seen = transform.init(theta), []
    for _ in range(STEPS):
        update, state = transform.update(gradient(theta), state, theta)
        theta = optax.apply_updates(theta, update)
        seen.append(float(theta))
    return seen


def with_ours(rule, theta=1.5, **hyper):
    state, seen = (theta, 0.0)[: rule.__code__.co_argcount], []
    for _ in range(STEPS):
        new = rule(*state, grad=gradient, **hyper)
        state = new if isinstance(new, tuple) else (new,)
        seen.append(float(state[0]))
    return seen


@pytest.mark.parametrize(
    ("rule", "hyper", "transform"),
    [
        (optimizers.sgd, {"eta": ETA}, optax.sgd(ETA)),
        (optimizers.heavy_ball, {"eta": ETA, "beta": BETA}, optax.sgd(ETA, momentum=BETA)),
        (optimizers.nesterov, {"eta": ETA, "beta": BETA}, optax.sgd(ETA, momentum=BETA, nesterov=True)),
        (
            optimizers.dampened,
            {"eta": ETA, "beta": BETA},
            optax.chain(optax.ema(BETA, debias=False), optax.scale(-ETA)),
        ),
        (optimizers.sign_sgd, {"eta": ETA}, optax.chain(optax.scale_by_sign(), optax.scale(-ETA))),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_every_step_is_the_same(rule, hyper, transform):
    np.testing.assert_allclose(with_ours(rule, **hyper), with_optax(transform), rtol=1e-12)


def test_the_average_is_optax_incremental_update():
    theta, average = 1.5, 0.0
    state = (theta, average)
    for _ in range(STEPS):
        state = optimizers.averaged(*state, grad=gradient, eta=ETA, gamma=GAMMA)
        theta = theta - ETA * gradient(theta)
        average = optax.incremental_update(theta, average, step_size=1 - GAMMA)
    np.testing.assert_allclose(state, (theta, average), rtol=1e-12)


def test_without_momentum_every_rule_is_sgd():
    plain = with_ours(optimizers.sgd, eta=ETA)
    for rule in (optimizers.heavy_ball, optimizers.dampened, optimizers.nesterov):
        np.testing.assert_allclose(with_ours(rule, eta=ETA, beta=0.0), plain, rtol=1e-15)


@pytest.mark.parametrize("name", ["sgd", "heavy_ball", "nesterov", "dampened"])
def test_every_step_is_the_one_that_pytorch_took(name):
    seen = json.loads((Path(__file__).parent / "pytorch_trajectories.json").read_text())["trajectories"][name]
    rule, theta = getattr(optimizers, name), 1.5
    # PyTorch fills an empty buffer with the whole first gradient, which is where a dampened buffer then starts
    state = (theta,) if name == "sgd" else (theta, gradient(theta) if name == "dampened" else 0.0)
    hyper = {"eta": ETA} if name == "sgd" else {"eta": ETA, "beta": BETA}
    for expected in seen:
        new = rule(*state, grad=gradient, **hyper)
        state = new if isinstance(new, tuple) else (new,)
        assert state[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("rule", "chained"),
    [
        (optimizers.heavy_ball, lambda rate: (optax.trace(BETA), optax.scale_by_learning_rate(rate))),
        (optimizers.keras_momentum, lambda rate: (optax.scale_by_learning_rate(rate), optax.trace(BETA))),
    ],
    ids=["heavy_ball", "keras_momentum"],
)
def test_after_a_drop_of_the_rate_the_two_buffers_differ_as_they_do_in_optax(rule, chained):
    expected = with_optax(
        optax.chain(*chained(optax.piecewise_constant_schedule(ETA, {10: 0.1}))), jax.numpy.array(1.5)
    )
    state = (1.5, 0.0)
    for t in range(STEPS):
        state = rule(*state, grad=gradient, eta=ETA if t < 10 else ETA / 10, beta=BETA)
        assert state[0] == pytest.approx(expected[t], rel=1e-12)


def test_the_keras_rule_is_the_published_one():
    w, velocity, state = 1.5, 0.0, (1.5, 0.0)
    for t in range(STEPS):
        learning_rate = ETA / (1 + t)
        velocity = BETA * velocity - learning_rate * gradient(w)
        w = w + velocity
        state = optimizers.keras_momentum(*state, grad=gradient, eta=learning_rate, beta=BETA)
        assert state == pytest.approx((w, velocity), rel=1e-15)


def test_the_sum_adds_up_what_optax_visits():
    state, visited = (1.5, 0.0), with_optax(optax.sgd(ETA))
    for t in range(STEPS):
        state = optimizers.summed(*state, grad=gradient, eta=ETA)
        assert state == pytest.approx((visited[t], sum(visited[: t + 1])), rel=1e-12)


@pytest.mark.parametrize("epsilon", [1e-8, 0.1])
def test_adam_is_adam(epsilon):
    expected, state = with_optax(optax.adam(ETA, BETA, 0.99, epsilon)), (1.5, 0.0, 0.0, 0)
    for t in range(STEPS):
        state = optimizers.adam(*state, grad=gradient, eta=ETA, beta1=BETA, beta2=0.99, epsilon=epsilon)
        assert state[0] == pytest.approx(expected[t], rel=1e-9)
