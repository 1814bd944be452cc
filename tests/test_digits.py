"""The experiment of the chapter on the puzzle: its gradient, its noise and what its log may know."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "book"))
import digits


@pytest.fixture(scope="module")
def networks():
    return digits.new_networks(3, np.random.default_rng(0))


def some_batch(networks, size, seed=1):
    batch = np.random.default_rng(seed).integers(len(networks.images), size=(len(networks.weights), size))
    return networks.images[batch], networks.targets[np.arange(len(batch))[:, None], batch]


def test_loss_matches_sklearn(networks):
    from sklearn.metrics import log_loss
    from sklearn.neural_network import MLPClassifier

    loss, _ = digits.loss_and_gradient(networks.weights, networks.images, networks.targets)
    for n, weights in enumerate(networks.weights):
        first, first_bias, second, second_bias = (piece[0] for piece in digits.layers(weights[None]))
        taught = networks.targets[n].argmax(axis=1)
        theirs = MLPClassifier((digits.HIDDEN,), activation="tanh", max_iter=1, random_state=0)
        theirs.partial_fit(networks.images[:10], np.arange(10), classes=np.arange(10))
        theirs.coefs_, theirs.intercepts_ = [first, second], [first_bias[0], second_bias[0]]
        cross_entropy = log_loss(taught, theirs.predict_proba(networks.images), labels=np.arange(10))
        decay = digits.WEIGHT_DECAY / 2 * (weights @ weights)
        assert loss[n] == pytest.approx(cross_entropy + decay, rel=1e-9)


@pytest.mark.parametrize("own_images", [True, False], ids=["mini-batch", "all images"])
def test_gradient_is_the_slope_of_the_loss(networks, own_images):
    images, targets = some_batch(networks, 16) if own_images else (networks.images, networks.targets)
    weights = networks.weights
    _, gradient = digits.loss_and_gradient(weights, images, targets)
    rng = np.random.default_rng(2)
    for _ in range(10):
        along = rng.normal(size=weights.shape) * 1e-5
        uphill, _ = digits.loss_and_gradient(weights + along, images, targets)
        downhill, _ = digits.loss_and_gradient(weights - along, images, targets)
        slope = np.einsum("np,np->n", gradient, along)
        np.testing.assert_allclose((uphill - downhill) / 2, slope, rtol=1e-6, atol=1e-12)


def test_weight_decay_is_in_loss_and_gradient(networks, monkeypatch):
    arguments = networks.weights, networks.images, networks.targets
    loss, gradient = digits.loss_and_gradient(*arguments)
    monkeypatch.setattr(digits, "WEIGHT_DECAY", 0.0)
    bare_loss, bare_gradient = digits.loss_and_gradient(*arguments)
    np.testing.assert_allclose(loss - bare_loss, 1e-3 * (networks.weights**2).sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(gradient - bare_gradient, 2e-3 * networks.weights, atol=1e-12)


def test_single_image_gradients_average_to_the_full_gradient(networks):
    one = digits.Networks(networks.weights[:1], networks.images[:300], networks.targets[:1, :300])
    _, full = digits.loss_and_gradient(one.weights, one.images, one.targets)
    copies = np.repeat(one.weights, 300, axis=0)
    _, single = digits.loss_and_gradient(copies, one.images[:, None], one.targets[0][:, None])
    np.testing.assert_allclose(single.mean(axis=0), full[0], atol=1e-12)


def test_networks_have_labels_of_their_own():
    rng = np.random.default_rng(3)
    networks = digits.new_networks(40, rng)
    taught = networks.targets.argmax(axis=2)
    true = digits.load_digits().target
    # a redrawn label stays the same with chance 1/10
    assert (taught != true).mean() == pytest.approx(0.9 * digits.REDRAWN, abs=0.01)
    assert (taught[0] != taught[1]).any()
    assert networks.images.min() == 0 and networks.images.max() == 1


def test_one_step_is_gradient_descent_on_one_batch(networks):
    run = digits.train(networks, 0.3, 1, np.random.default_rng(4), look_every=1)
    batch = np.random.default_rng(4).integers(len(networks.images), size=(3, digits.BATCH))
    targets = networks.targets[np.arange(3)[:, None], batch]
    _, gradient = digits.loss_and_gradient(networks.weights, networks.images[batch], targets)
    np.testing.assert_array_equal(run.end.weights, networks.weights - 0.3 * gradient)
    np.testing.assert_allclose(run.squared_gradient[0], (gradient**2).sum(axis=1), rtol=1e-12)
    assert run.steps.tolist() == [0, 1] and run.squared_gradient.shape == (1, 3)


def test_same_seed_same_numbers_and_the_start_is_untouched(networks):
    weights = networks.weights.copy()
    first, second = (digits.train(networks, 0.5, 60, np.random.default_rng(5)) for _ in range(2))
    other = digits.train(networks, 0.5, 60, np.random.default_rng(6))
    np.testing.assert_array_equal(first.loss, second.loss)
    np.testing.assert_array_equal(first.squared_gradient, second.squared_gradient)
    assert (first.loss[-1] != other.loss[-1]).all()
    np.testing.assert_array_equal(networks.weights, weights)


def made_up_run(updates):
    """A run whose loss is its step, with known gradient norms, for two networks."""
    steps = np.arange(0, updates + 1, digits.LOOK_EVERY)
    both = np.ones(2)
    early = updates - digits.LOG_WINDOW
    return digits.Run(
        steps=steps,
        loss=steps[:, None] * both,
        squared_full_gradient=np.where(steps < early, 99.0, 0.25)[:, None] * both,
        squared_gradient=np.where(np.arange(updates) < early, 99.0, 1.0)[:, None] * both,
        end=digits.Networks(np.zeros((2, 1)), np.zeros((1, 1)), np.zeros((2, 1, 1))),
    )


def test_log_reads_the_last_window_only():
    log = digits.log(made_up_run(digits.STEPS_BEFORE))
    middle = digits.STEPS_BEFORE - (digits.LOG_WINDOW + digits.LOOK_EVERY) / 2
    assert log.loss.tolist() == [middle] * 2
    assert log.mean_squared_gradient_norm.tolist() == [1.0] * 2
    assert log.noise_variance.tolist() == [0.75] * 2


def test_log_uses_nothing_but_the_run_before_the_drop():
    """It does not even read the weights that the run ended with."""
    run = made_up_run(digits.STEPS_BEFORE)
    blind = digits.log(replace(run, end=None))
    for field in fields(digits.Log):
        np.testing.assert_array_equal(getattr(digits.log(run), field.name), getattr(blind, field.name))


def test_mean_loss_includes_its_first_step_and_not_its_last():
    run = made_up_run(2_000)
    assert run.mean_loss(500, 1_500).tolist() == [1_000 - digits.LOOK_EVERY / 2] * 2


def test_a_drop_lowers_the_loss_at_once():
    start, before, after, again = np.random.default_rng(7).spawn(4)
    past = digits.train(digits.new_networks(4, start), 0.5, 2_000, before, look_every=500)
    dropped = digits.train(past.end, 0.05, 400, after, look_every=100)
    kept = digits.train(past.end, 0.5, 400, again, look_every=100)
    win, error = digits.mean_and_error(kept.mean_loss(100, 401) - dropped.mean_loss(100, 401))
    assert win > 4 * error
