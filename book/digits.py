"""Handwritten digits, a small network and plain SGD: the experiment of the chapter on the puzzle.

The data are scikit-learn's 1,797 digits of 8 × 8 pixels, scaled to [0, 1].  A fifth of the labels is drawn
anew, uniformly over the ten classes (so a tenth of these keep their label by luck).  No network of this size
fits such labels, so the gradients of different mini-batches go on disagreeing.

The network is 64 → 32 tanh → 10, and its loss is

    L(w) = mean cross-entropy over the images + (WEIGHT_DECAY / 2)·‖w‖²,

w being *all* weights and biases.  Everything called a loss or a gradient below includes the weight decay.

Several networks are trained side by side, in one array: each has its own start, its own redrawn labels and
its own mini-batches, and is an independent repetition.  All weights of one network lie in one row, so the
norm of a gradient is the norm of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits

PIXELS, HIDDEN, CLASSES = 64, 32, 10
SHAPES = ((PIXELS, HIDDEN), (1, HIDDEN), (HIDDEN, CLASSES), (1, CLASSES))  # weights, biases, weights, biases
SIZE = sum(rows * columns for rows, columns in SHAPES)

REDRAWN = 0.2  # share of the labels that are drawn anew
WEIGHT_DECAY = 2e-3
BATCH = 16

# The protocol.  It was settled on trial runs with other random numbers and is not touched by the chapter.
SEED = 20260
NETWORKS = 8
RATE, DROPPED_RATE = 0.5, 0.05
STEPS_BEFORE, STEPS_AFTER = 20_000, 5_000
LOOK_EVERY = 50  # steps between two looks at the loss and the gradient on all images
LOG_WINDOW = 4_000  # the last steps before the drop: what is logged is averaged over them
WIN_WINDOW = (500, 1_500)  # steps after the drop over which the loss is averaged to measure the quick win
LATE_WINDOW = (4_000, 5_000)  # the same, for the slow road
TOLERANCE = 0.10  # how far outside the predicted interval the mean win may lie, relative to its ends


@dataclass(frozen=True)
class Networks:
    """Some networks and the labels that each of them is taught."""

    weights: np.ndarray  # (networks, SIZE)
    images: np.ndarray  # (images, PIXELS), the same for all
    targets: np.ndarray  # (networks, images, CLASSES), one-hot


@dataclass(frozen=True)
class Run:
    """What a stretch of training left in its log, one column per network, and the networks at its end."""

    steps: np.ndarray  # (looks,): number of updates made since the stretch began
    loss: np.ndarray  # (looks, networks): on all training images
    squared_full_gradient: np.ndarray  # (looks, networks): of the gradient on all training images
    squared_gradient: np.ndarray  # (updates, networks): of the mini-batch gradient that each update used
    end: Networks

    def mean_loss(self, first: int, last: int) -> np.ndarray:
        """Mean loss of each network over the looks at steps `first` ≤ step < `last`."""
        inside = (first <= self.steps) & (self.steps < last)
        return self.loss[inside].mean(axis=0)


@dataclass(frozen=True)
class Log:
    """Means over the last `LOG_WINDOW` steps of a run, one number per network."""

    loss: np.ndarray
    mean_squared_gradient_norm: np.ndarray  # G = E‖g‖²
    noise_variance: np.ndarray  # C = E‖g‖² − E‖∇L‖²


def new_networks(networks: int, rng: np.random.Generator) -> Networks:
    """Networks with small random weights, each with its own redrawn labels."""
    images, labels = load_digits(return_X_y=True)
    redrawn = rng.random((networks, len(labels))) < REDRAWN
    taught = np.where(redrawn, rng.integers(CLASSES, size=redrawn.shape), labels)

    weights = np.zeros((networks, SIZE))
    first, _, second, _ = layers(weights)
    first[:] = rng.normal(size=first.shape) / np.sqrt(PIXELS)
    second[:] = rng.normal(size=second.shape) / np.sqrt(HIDDEN)
    return Networks(weights, images / 16, np.eye(CLASSES)[taught])


def layers(weights: np.ndarray) -> list[np.ndarray]:
    """The rows of `weights` cut into weights, biases, weights, biases; to write to a piece changes them."""
    ends = np.cumsum([rows * columns for rows, columns in SHAPES])[:-1]
    pieces = np.split(weights, ends, axis=1)
    return [piece.reshape(-1, *shape) for piece, shape in zip(pieces, SHAPES, strict=True)]


def loss_and_gradient(weights: np.ndarray, images: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Loss (networks,) and gradient (networks, SIZE), weight decay in both.

    `images` is (networks, batch, PIXELS), or (batch, PIXELS) where all networks see the same images.
    """
    first, first_bias, second, second_bias = layers(weights)
    hidden = np.tanh(images @ first + first_bias)
    scores = hidden @ second + second_bias
    scores -= scores.max(axis=-1, keepdims=True)
    exponentials = np.exp(scores)
    total = exponentials.sum(axis=-1, keepdims=True)
    cross_entropy = np.log(total[..., 0]) - (targets * scores).sum(axis=-1)
    loss = cross_entropy.mean(axis=-1) + WEIGHT_DECAY / 2 * (weights**2).sum(axis=1)

    gradient = np.empty_like(weights)
    d_first, d_first_bias, d_second, d_second_bias = layers(gradient)
    d_scores = (exponentials / total - targets) / images.shape[-2]
    d_hidden = d_scores @ second.swapaxes(1, 2) * (1 - hidden**2)
    d_second[:] = hidden.swapaxes(1, 2) @ d_scores
    d_second_bias[:] = d_scores.sum(axis=1, keepdims=True)
    d_first[:] = images.swapaxes(-1, -2) @ d_hidden
    d_first_bias[:] = d_hidden.sum(axis=1, keepdims=True)
    gradient += WEIGHT_DECAY * weights
    return loss, gradient


def squared_norm(gradient: np.ndarray) -> np.ndarray:
    return np.einsum("np,np->n", gradient, gradient)


def train(start: Networks, rate: float, steps: int, rng: np.random.Generator, look_every: int = LOOK_EVERY) -> Run:
    """Plain SGD at a constant rate; mini-batches are drawn with replacement, independently of each other."""
    weights, images, targets = start.weights.copy(), start.images, start.targets
    networks, every = np.arange(len(weights))[:, None], len(images)
    looks, losses, full, mini = [], [], [], []
    for step in range(steps + 1):
        if step % look_every == 0:
            loss, gradient = loss_and_gradient(weights, images, targets)
            looks.append(step)
            losses.append(loss)
            full.append(squared_norm(gradient))
        if step < steps:
            batch = rng.integers(every, size=(len(weights), BATCH))
            _, gradient = loss_and_gradient(weights, images[batch], targets[networks, batch])
            mini.append(squared_norm(gradient))
            weights -= rate * gradient
    return Run(*map(np.array, (looks, losses, full, mini)), end=Networks(weights, images, targets))


def log(before: Run) -> Log:
    """What one may know at the moment of the drop.  It is given the run before the drop and nothing else."""
    updates = len(before.squared_gradient)
    recent = (updates - LOG_WINDOW <= before.steps) & (before.steps < updates)
    squared_gradient = before.squared_gradient[-LOG_WINDOW:].mean(axis=0)
    return Log(
        loss=before.loss[recent].mean(axis=0),
        mean_squared_gradient_norm=squared_gradient,
        noise_variance=squared_gradient - before.squared_full_gradient[recent].mean(axis=0),
    )


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean over the networks and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
