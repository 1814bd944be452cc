"""Five small networks, three optimisers and a drop of the learning rate: the experiment of the chapter on networks.

    python book/networks.py before      trains every cell of GRID up to the drop and writes networks_before.csv
    python book/networks.py             goes on: writes networks_after.csv, networks_curves.csv, networks_shape.csv

Predictions are made from networks_before.csv alone.  networks_shape.csv was added when all wins were known, to find
out why some of them are larger than predicted.  A cell is one line of GRID: data, model, optimiser and rate.
Its networks (one for each seed) are trained side by side; each has its own start, its own redrawn labels and its
own mini-batches, which are drawn with replacement.  Then copies of them go on, each with another CHANGE.

The data come with scikit-learn: 1,797 digits, scaled to [0, 1], and 569 tumours (breast cancer), standardised.
A fifth of the labels is drawn anew, uniformly, so that no network can explain them all.  The loss is

    L(w) = mean cross-entropy over the data + (decay / 2)·‖w‖²,

w being *all* weights and biases; everything called a loss or a gradient includes the decay.  Cells that are marked
`clean` keep the true labels and have no decay: they can fit everything.

Times are told in units of pace × steps.  The pace is the rate of plain SGD with which a rule compares: for SGD the
rate itself, for momentum β the rate over 1 − β, for Adam the rate over a typical size of one gradient entry.

Importing this module needs no JAX; training does.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
BEFORE, AFTER, CURVES, SHAPE = (HERE / f"networks_{part}.csv" for part in ("before", "after", "curves", "shape"))
CHECKPOINTS = HERE.parent / "_build" / "networks"

SEED = 20261
NETWORKS = 8  # seeds
REDRAWN, DECAY, BATCH = 0.2, 1e-2, 16
BETA, BETA2, EPSILON = 0.9, 0.999, 1e-8
HIDDEN = {"digits": 32, "tumours": 16}
FILTERS = 8
PACES = {"digits": (0.5, 0.2), "tumours": (0.1, 0.04)}
GRADIENT_ENTRY = {"digits": 0.02, "tumours": 0.05}  # by which Adam divides, roughly

# In units of pace × steps.  All sizes were chosen by looking at losses and balances before the drop, of networks with
# another seed: with this decay all cells that are not clean come to a floor within the burn-in.
BURN_IN, LOG_WINDOW, LOOK_BEFORE = 1_500, 1_000, 10
WIN_WINDOW, LATE_WINDOW, LOOK_AFTER = (25, 75), (200, 250), 1
MEMORIES = (1, 10)  # of the averages


@dataclass(frozen=True)
class Cell:
    """Networks of one kind, trained by one rule at one rate."""

    data: str  # "digits" or "tumours"
    model: str  # "logistic", "mlp" or "convnet"
    rule: str  # "sgd", "momentum" or "adam"
    pace: float
    clean: bool = False  # true labels, no decay

    @property
    def name(self) -> str:
        return f"{self.data} {self.model} {self.rule} {self.pace:g}" + " clean" * self.clean

    @property
    def rate(self) -> float:
        """The learning rate that the rule is given."""
        return self.pace * {"sgd": 1.0, "momentum": 1 - BETA, "adam": GRADIENT_ENTRY[self.data]}[self.rule]

    @property
    def decay(self) -> float:
        return 0.0 if self.clean else DECAY


@dataclass(frozen=True)
class Change:
    """What a copy of the networks does from the drop on."""

    kind: str  # "drop" divides the rate, "batch" multiplies the batch, "keep" changes nothing and averages
    factor: int

    @property
    def name(self) -> str:
        return f"{self.kind} {self.factor}"

    def pace(self, cell: Cell) -> float:
        """By which the time after the change is told.  The averages go by the pace of the drop that they replace."""
        return cell.pace if self.kind == "batch" else cell.pace / self.factor

    @property
    def end(self) -> float:
        """How long the change is watched."""
        return LATE_WINDOW[1] if self.kind == "drop" and self.factor <= 10 else WIN_WINDOW[1]


KINDS = [("digits", "logistic"), ("digits", "mlp"), ("digits", "convnet"), ("tumours", "logistic"), ("tumours", "mlp")]
GRID = [
    *(Cell(data, model, "sgd", pace) for data, model in KINDS for pace in PACES[data]),
    *(Cell(data, model, "sgd", PACES[data][0], clean=True) for data, model in KINDS),
    *(Cell(data, model, rule, pace) for rule in ("momentum", "adam") for data, model in KINDS for pace in PACES[data]),
]


def changes(cell: Cell) -> list[Change]:
    """The drops come first; "keep 10" averages the parameters as a drop by 10 would."""
    if cell.rule == "sgd" and not cell.clean:
        return [*(Change("drop", factor) for factor in (2, 10, 100)), Change("keep", 10), Change("batch", 10)]
    return [Change("drop", 10), Change("keep", 10)]


# --- data and models ------------------------------------------------------------------------------------------------


@cache
def data(name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Inputs (samples, features), labels and the number of classes."""
    from sklearn.datasets import load_breast_cancer, load_digits

    if name == "digits":
        images, labels = load_digits(return_X_y=True)
        return np.float32(images / 16), labels, 10
    inputs, labels = load_breast_cancer(return_X_y=True)
    return np.float32((inputs - inputs.mean(axis=0)) / inputs.std(axis=0)), labels, 2


@cache
def inputs(name: str, model: str) -> np.ndarray:
    """What the first layer reads: for the convnet the 36 patches of 3 × 3 pixels of each image."""
    flat, *_ = data(name)
    if model != "convnet":
        return flat
    images = flat.reshape(-1, 8, 8)
    patches = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))
    return np.ascontiguousarray(patches.reshape(len(flat), 36, 9))


def shapes(name: str, model: str) -> list[tuple[int, int]]:
    """Weights and biases in turn."""
    flat, _, classes = data(name)
    features = flat.shape[1]
    widths = {
        "logistic": [(features, classes)],
        "mlp": [(features, HIDDEN[name]), (HIDDEN[name], classes)],
        "convnet": [(9, FILTERS), (9 * FILTERS, classes)],
    }[model]
    return [shape for fan_in, fan_out in widths for shape in ((fan_in, fan_out), (1, fan_out))]


def loss_function(name: str, model: str, decay: float) -> Any:
    """The loss of one network as a function of (weights, inputs, labels); the weights are one row."""
    import jax
    import jax.numpy as jnp

    pieces = shapes(name, model)
    ends = np.cumsum([rows * columns for rows, columns in pieces])[:-1]

    def loss(weights: Any, x: Any, labels: Any) -> Any:
        w, b, *rest = (p.reshape(shape) for p, shape in zip(jnp.split(weights, ends), pieces, strict=True))
        if rest:
            x = jnp.tanh(x @ w + b)
            if model == "convnet":  # means over 2 × 2 places: 6 × 6 become 3 × 3
                x = x.reshape(-1, 3, 2, 3, 2, FILTERS).mean(axis=(2, 4)).reshape(-1, 9 * FILTERS)
            w, b = rest
        log_chance = jax.nn.log_softmax(x @ w + b)
        cross_entropy = -jnp.take_along_axis(log_chance, labels[:, None], axis=1).mean()
        return cross_entropy + decay / 2 * weights @ weights

    return loss


def new_networks(cell: Cell, rng: np.random.Generator, networks: int = NETWORKS) -> tuple[np.ndarray, np.ndarray]:
    """Small random weights (networks, size), and the labels (networks, samples) that each network is taught."""
    _, labels, classes = data(cell.data)
    weights = [
        rng.normal(size=(networks, rows, columns)) / np.sqrt(rows) * (rows > 1)  # biases start at 0
        for rows, columns in shapes(cell.data, cell.model)
    ]
    redrawn = rng.random((networks, len(labels))) < REDRAWN * (not cell.clean)
    taught = np.where(redrawn, rng.integers(classes, size=redrawn.shape), labels)
    return np.concatenate([w.reshape(networks, -1) for w in weights], axis=1).astype(np.float32), np.int32(taught)


# --- training -------------------------------------------------------------------------------------------------------

LOGGED = ("loss", "step_power", "gradient_power", "full_gradient_power", "pull")
"""What is logged at each look, one number per network.  D is 1, but for Adam 1 / (√v̂ + ε), entry by entry:

loss                 on all data
step_power           g·g for SGD, v·v for momentum (the buffer after the step), m̂·D m̂ for Adam
gradient_power       g·D g, with the mini-batch gradient g
full_gradient_power  ∇L·D ∇L
pull                 w·g

The first and the last but one are read at the look, the others are means over the steps since the last look."""


def optimizer(rule: str) -> Any:
    """The rule by optax, without its rate: the step is minus the rate times what it returns."""
    import optax

    return {
        "sgd": optax.identity(),
        "momentum": optax.trace(decay=BETA),
        "adam": optax.scale_by_adam(b1=BETA, b2=BETA2, eps=EPSILON),
    }[rule]


@cache
def trainer(name: str, model: str, rule: str, decay: float, batch: int, every: int) -> Any:
    """A compiled function (state, labels, rate, forget, looks) -> (state, logged), for all networks at once.

    The state of a network is its weights, the memory of the rule, its averages and a key.  `forget` has one entry
    for each average: the weight of the newest parameters in it.
    """
    import jax
    import jax.numpy as jnp

    x, loss, transform = jnp.asarray(inputs(name, model)), loss_function(name, model, decay), optimizer(rule)
    value_and_gradient = jax.value_and_grad(loss)

    def powers(memory: Any, g: Any, move: Any) -> Any:
        """(step_power, the diagonal of D)"""
        if rule != "adam":
            return move @ move, 1.0
        scale = 1 / (jnp.sqrt(memory.nu / (1 - BETA2**memory.count)) + EPSILON)
        return move @ (move / scale), scale

    def one_network(state: Any, labels: Any, rate: Any, forget: Any, looks: int) -> Any:
        def step(carry: Any, rows: Any) -> Any:
            weights, memory, averages = carry
            _, g = value_and_gradient(weights, x[rows], labels[rows])
            move, memory = transform.update(g, memory, weights)
            step_power, scale = powers(memory, g, move)
            seen = jnp.stack([step_power, g @ (scale * g), weights @ g])
            weights = weights - rate * move
            averages = averages + forget[:, None] * (weights - averages)
            return (weights, memory, averages), seen

        def look(carry: Any, _: Any) -> Any:
            weights, memory, averages, key = carry
            key, now = jax.random.split(key)
            rows = jax.random.randint(now, (every, batch), 0, len(x), dtype=jnp.int32)
            (weights, memory, averages), seen = jax.lax.scan(step, (weights, memory, averages), rows)
            step_power, gradient_power, pull = seen.mean(axis=0)
            value, full = value_and_gradient(weights, x, labels)
            _, scale = powers(memory, full, full)
            of_averages = jax.vmap(lambda average: loss(average, x, labels))(averages)
            logged = jnp.stack([value, step_power, gradient_power, full @ (scale * full), pull])
            return (weights, memory, averages, key), (logged, of_averages)

        return jax.lax.scan(look, state, None, length=looks)

    return jax.jit(jax.vmap(one_network, in_axes=(0, 0, None, None, None)), static_argnums=4)


@dataclass(frozen=True)
class Run:
    """What a stretch of training logged: rows are looks, columns networks."""

    steps: np.ndarray  # (looks,): since the stretch began
    logged: dict[str, np.ndarray]
    averages: np.ndarray  # (looks, networks, averages): their losses
    state: Any

    def mean(self, column: str, first: float, last: float) -> np.ndarray:
        """Means of a logged number over first < step ≤ last, one for each network."""
        return self.logged[column][(first < self.steps) & (self.steps <= last)].mean(axis=0)


def train(
    cell: Cell,
    state: Any,
    labels: Any,
    rate: float,
    steps: int,
    every: int,
    batch: int = BATCH,
    memories: tuple[float, ...] = (),
) -> Run:
    """Trains for so many steps, looks at every so many, and averages with these memories (in steps)."""
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(False):
        weights, memory, _, keys = state
        forget = jnp.asarray([1 / memory for memory in memories], dtype=jnp.float32)
        averages = jnp.repeat(weights[:, None], len(forget), axis=1)
        run = trainer(cell.data, cell.model, cell.rule, cell.decay, batch, every)
        state, seen = run((weights, memory, averages, keys), labels, jnp.float32(rate), forget, steps // every)
        logged, of_averages = (np.asarray(part, dtype=float).swapaxes(0, 1) for part in seen)
        columns = dict(zip(LOGGED, np.moveaxis(logged, 2, 0), strict=True))
        return Run(every * np.arange(1, len(logged) + 1), columns, of_averages, state)


def begin(cell: Cell, seed: int = SEED, networks: int = NETWORKS) -> tuple[Any, Any]:
    """The state of fresh networks, and their labels."""
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(False):
        rng = np.random.default_rng([seed, *cell.name.encode()])  # every cell has random numbers of its own
        weights, labels = new_networks(cell, rng, networks)
        keys = rng.integers(2**32, size=(networks, 2), dtype=np.uint32)
        memory = jax.vmap(optimizer(cell.rule).init)(jnp.asarray(weights))
        return (jnp.asarray(weights), memory, None, jnp.asarray(keys)), labels


def train_before(cell: Cell, seed: int = SEED, networks: int = NETWORKS) -> tuple[Run, Any]:
    """The run up to the drop, and the labels."""
    state, labels = begin(cell, seed, networks)
    steps, every = (round(length / cell.pace) for length in (BURN_IN + LOG_WINDOW, LOOK_BEFORE))
    return train(cell, state, labels, cell.rate, steps, every), labels


def train_after(cell: Cell, change: Change, state: Any, labels: Any) -> Run:
    """The run from the drop on, in a copy of the networks."""
    steps, every = (round(length / change.pace(cell)) for length in (change.end, LOOK_AFTER))
    rate = cell.rate / change.factor if change.kind == "drop" else cell.rate
    batch = BATCH * change.factor if change.kind == "batch" else BATCH
    memories = tuple(memory / change.pace(cell) for memory in MEMORIES) if change.kind == "keep" else ()
    return train(cell, state, labels, rate, steps, every, batch, memories)


def shape(cell: Cell, state: Any, labels: Any) -> dict[str, np.ndarray]:
    """How the loss rises from a minimum w* to where the rate of the cell holds the run, one number per network.

    w* is where two drops lead.  Returned are the means of L(w) − L(w*), of the same halfway between w* and w, and of
    (w − w*)·∇L(w), over the run at the old rate.  On a quadratic they are as 4 : 1 : 8.
    """
    import jax
    import jax.numpy as jnp

    minimum = state
    for factor, length in ((10, 250), (100, 50)):
        steps = round(length * factor / cell.pace)
        settled = train(cell, minimum, labels, cell.rate / factor, steps, steps // 10)
        minimum = settled.state
    value_and_gradient = jax.value_and_grad(loss_function(cell.data, cell.model, cell.decay))
    look = jax.jit(jax.vmap(value_and_gradient, in_axes=(0, None, 0)))
    at, x, seen = np.asarray(minimum[0]), jnp.asarray(inputs(cell.data, cell.model)), []
    lowest, every = look(at, x, labels)[0], round(10 / cell.pace)
    for _ in range(60):
        state = train(cell, state, labels, cell.rate, every, every).state
        away = np.asarray(state[0]) - at
        loss, gradient = look(at + away, x, labels)
        halfway, _ = look(at + away / 2, x, labels)
        seen.append([loss - lowest, halfway - lowest, (away * np.asarray(gradient)).sum(axis=1)])
    return dict(zip(("excess", "halfway", "pull"), np.mean(seen, axis=0, dtype=float), strict=True))


# --- records --------------------------------------------------------------------------------------------------------


def rows_before(cell: Cell, run: Run) -> list[dict[str, Any]]:
    """The log, averaged over its window: one row for each network."""
    window = [length / cell.pace for length in (BURN_IN, BURN_IN + LOG_WINDOW)]
    means = {column: run.mean(column, *window) for column in LOGGED}
    return [
        {"cell": cell.name, "network": n, **{column: f"{mean[n]:.7g}" for column, mean in means.items()}}
        for n in range(len(means["loss"]))
    ]


def rows_after(cell: Cell, change: Change, run: Run) -> list[dict[str, Any]]:
    """Losses after the change: means over the two windows, and of the averages over the first."""
    window, late = ([length / change.pace(cell) for length in w] for w in (WIN_WINDOW, LATE_WINDOW))
    loss = run.mean("loss", *window)
    late_loss = run.mean("loss", *late) if change.end >= LATE_WINDOW[1] else None
    inside = (window[0] < run.steps) & (run.steps <= window[1])
    averages = run.averages[inside].mean(axis=0)
    return [
        {
            "cell": cell.name,
            "change": change.name,
            "network": n,
            "loss": f"{loss[n]:.7g}",
            "late_loss": "" if late_loss is None else f"{late_loss[n]:.7g}",
            **{f"average_{m}": f"{averages[n, i]:.7g}" if averages.size else "" for i, m in enumerate(MEMORIES)},
        }
        for n in range(len(loss))
    ]


def rows_of_curve(cell: Cell, change: Change, run: Run) -> list[dict[str, Any]]:
    """The mean loss of all networks, thinned to twenty or so points; the time is pace × steps."""
    times = run.steps * change.pace(cell)
    edges = np.unique(np.concatenate([np.arange(5), np.geomspace(5, change.end, 15).round()]))
    rows = []
    for first, last in pairwise(edges):
        inside = (first + 1e-9 < times) & (times <= last + 1e-9)
        loss = run.logged["loss"][inside].mean(axis=0)
        row = {"cell": cell.name, "change": change.name, "time": f"{times[inside].mean():.4g}"}
        rows.append(row | {"loss": f"{loss.mean():.5f}", "stderr": f"{loss.std(ddof=1) / len(loss) ** 0.5:.2g}"})
    return rows


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a record, numbers as numbers; no rows if there is no record yet."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {name: value if name in ("cell", "change") else float(value or "nan") for name, value in row.items()}
            for row in csv.DictReader(file)
        ]


def add(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Adds rows to a record.  It is written anew and put in place at once, so that it is never half-written."""
    rows = list(rows)
    old = path.read_text(encoding="utf-8") if path.exists() else ",".join(rows[0]) + "\n"
    draft = path.with_suffix(".draft")
    with draft.open("w", encoding="utf-8", newline="") as file:
        file.write(old)
        csv.DictWriter(file, list(rows[0]), lineterminator="\n").writerows(rows)
    draft.replace(path)


# --- predictions ----------------------------------------------------------------------------------------------------


def as_sgd(cell: Cell, log: dict[str, Any]) -> tuple[Any, Any]:
    """(G, C): the two numbers of a log before the drop that stand in the place of those of plain SGD.

    G times a quarter of the rate is the excess loss of a quadratic; C is what G would be with noise alone, which is
    not more than G (with momentum the two are so close that their sampling errors can exchange them).
    """
    noise = log["gradient_power"] - log["full_gradient_power"]
    if cell.rule == "sgd":
        G, C = log["step_power"], noise
    elif cell.rule == "momentum":
        G, C = (1 + BETA) * log["step_power"], noise / (1 - BETA)
    else:
        G, C = (1 + BETA) / (1 - BETA) * log["step_power"], noise
    return G, np.minimum(C, G)


def predict(cell: Cell, change: Change, log: dict[str, Any]) -> tuple[float, float]:
    """(low, high): between which the loss should fall, from what is logged before the drop, averaged over networks.

    A batch c times larger divides the whole floor by c, if the noise is the same everywhere.
    """
    import lrtheory as lr

    G, C = as_sgd(cell, {column: np.mean(values) for column, values in log.items()})
    if change.kind == "batch":
        win = (1 - 1 / change.factor) * lr.quick_win(cell.rate, G).low
        return win, win
    win = lr.quick_win(cell.rate, G, cell.rate / change.factor, noise_variance=C)
    return win.low, win.high


def logs() -> dict[str, dict[str, Any]]:
    """networks_before.csv: for each cell its columns, each an array with one number per network."""
    rows = read(BEFORE)
    return {
        name: {column: np.array([row[column] for row in rows if row["cell"] == name]) for column in LOGGED}
        for name in dict.fromkeys(row["cell"] for row in rows)
    }


def balance(cell: Cell, log: dict[str, Any]) -> Any:
    """1 at a floor, whatever the loss: twice the pull over rate times G."""
    return 2 * log["pull"] / (cell.rate * as_sgd(cell, log)[0])


# --- the whole run --------------------------------------------------------------------------------------------------


def checkpoint(cell: Cell) -> Path:
    return CHECKPOINTS / f"{cell.name.replace(' ', '_')}.npz"


def save(cell: Cell, state: Any) -> None:
    import jax

    CHECKPOINTS.mkdir(parents=True, exist_ok=True)
    np.savez(checkpoint(cell), *(np.asarray(leaf) for leaf in jax.tree.leaves(state)))


def load(cell: Cell) -> tuple[Any, Any]:
    """The state at the drop, trained again if it was not kept, and the labels."""
    import jax

    if not checkpoint(cell).exists():
        save(cell, train_before(cell)[0].state)
    fresh, labels = begin(cell)
    weights, memory, _, keys = fresh
    with np.load(checkpoint(cell)) as kept:
        leaves = [kept[name] for name in kept.files]
    empty = np.zeros((NETWORKS, 0, weights.shape[1]), np.float32)
    return jax.tree.unflatten(jax.tree.structure((weights, memory, empty, keys)), leaves), labels


def main(only_before: bool) -> None:
    recorded = {row["cell"] for row in read(BEFORE)}
    for cell in GRID:
        if cell.name not in recorded:
            with timed(f"{cell.name}, before"):
                run, _ = train_before(cell)
                save(cell, run.state)
                add(BEFORE, rows_before(cell, run))
    if only_before:
        return
    curves, recorded = ({(row["cell"], row["change"]) for row in read(path)} for path in (CURVES, AFTER))
    for cell in GRID:
        missing = [change for change in changes(cell) if (cell.name, change.name) not in recorded]
        if not missing:
            continue
        with timed(f"{cell.name}, after"):
            state, labels = load(cell)
            for change in missing:
                run = train_after(cell, change, state, labels)
                if (cell.name, change.name) not in curves:
                    add(CURVES, rows_of_curve(cell, change, run))
                add(AFTER, rows_after(cell, change, run))

    recorded = {row["cell"] for row in read(SHAPE)}
    for cell in GRID:
        if cell.rule == "sgd" and not cell.clean and cell.name not in recorded:
            with timed(f"{cell.name}, shape"):
                found = shape(cell, *load(cell))
                means = [{column: f"{each[n]:.7g}" for column, each in found.items()} for n in range(NETWORKS)]
                add(SHAPE, ({"cell": cell.name, "network": n, **row} for n, row in enumerate(means)))


@contextmanager
def timed(what: str) -> Iterator[None]:
    start = time.process_time()
    yield
    print(f"{what}: {time.process_time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    sys.path.insert(0, str(HERE.parent))
    main(only_before=sys.argv[1:] == ["before"])
