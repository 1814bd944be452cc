"""The experiment of the chapter on networks: its gradients, its log, its records, and what its predictions may read."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import lrtheory as lr

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "book"))
import digits
import networks
from networks import BETA, GRID, Cell, Change

BOOK = Path(networks.__file__).parent
SGD = Cell("tumours", "logistic", "sgd", networks.PACES["tumours"][0])


@pytest.fixture
def jax():
    return pytest.importorskip("jax")


# --- models and training --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "model"), [("digits", "convnet"), ("tumours", "logistic")])
def test_gradient_is_the_slope_of_the_loss(jax, name, model):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        weights, labels = networks.new_networks(Cell(name, model, "sgd", 0.1), rng, networks=1)
        weights = weights[0].astype(float)
        x = networks.inputs(name, model)[:40].astype(float)
        look = jax.jit(jax.value_and_grad(networks.loss_function(name, model, 0.3)))
        _, gradient = look(weights, x, labels[0, :40])
        for _ in range(5):
            along = rng.normal(size=weights.shape) * 1e-5
            uphill, downhill = (float(look(weights + way, x, labels[0, :40])[0]) for way in (along, -along))
            assert (uphill - downhill) / 2 == pytest.approx(np.asarray(gradient) @ along, rel=1e-5, abs=1e-10)


def test_convnet_matches_scipy(jax):
    from scipy.signal import correlate2d

    cell = Cell("digits", "convnet", "sgd", 0.5)
    rng = np.random.default_rng(2)
    weights, labels = networks.new_networks(cell, rng, networks=1)
    weights = weights[0] + rng.normal(size=weights[0].shape).astype(np.float32) / 10
    loss = jax.jit(networks.loss_function("digits", "convnet", 0.0))
    flat, *_ = networks.data("digits")
    cut = 9 * networks.FILTERS
    filters = weights[:cut].reshape(3, 3, -1)
    biases, dense = weights[cut:][: networks.FILTERS], weights[cut + networks.FILTERS :]
    for i in (0, 17):
        image = flat[i].reshape(8, 8)
        seen = [correlate2d(image, filters[..., f], "valid") + biases[f] for f in range(networks.FILTERS)]
        pooled = np.tanh(seen).reshape(-1, 3, 2, 3, 2).mean(axis=(2, 4))  # (filters, 3, 3)
        scores = pooled.transpose(1, 2, 0).ravel() @ dense[:-10].reshape(-1, 10) + dense[-10:]
        expected = np.log(np.exp(scores).sum()) - scores[labels[0, i]]
        one = networks.inputs("digits", "convnet")[i : i + 1], labels[0, i : i + 1]
        assert float(loss(weights, *one)) == pytest.approx(expected, rel=1e-5)


ADAM = {"beta1": BETA, "beta2": networks.BETA2, "epsilon": networks.EPSILON}
RULES = {  # the rule, its memory at the start, its constants; plain SGD is momentum without its memory
    "momentum": (lr.optimizers.heavy_ball, (0.0,), {"beta": BETA}),
    "adam": (lr.optimizers.adam, (0.0, 0.0, 0), ADAM),
}


@pytest.mark.parametrize("rule", RULES)
def test_training_takes_the_steps_of_the_book(jax, monkeypatch, rule):
    """Weights, log and average of some steps, against the package's rules and the network of the puzzle."""
    monkeypatch.setattr(digits, "WEIGHT_DECAY", networks.DECAY)
    steps, rate, memory = 5, 0.02, 4.0
    start, labels = networks.begin(Cell("digits", "mlp", rule, 0.5), seed=3, networks=1)
    run = networks.train(Cell("digits", "mlp", rule, 0.5), start, labels, rate, steps, 1, memories=(memory,))

    take, buffers, constants = RULES[rule]
    theta = average = np.asarray(start[0], float)
    state, key = (theta, *buffers), start[-1][0]
    images, targets = networks.inputs("digits", "mlp"), np.eye(10)[labels]
    for n in range(steps):
        with jax.enable_x64(False):
            key, now = jax.random.split(key)
            rows = np.asarray(jax.random.randint(now, (1, networks.BATCH), 0, len(images)))[0]
        _, g = digits.loss_and_gradient(theta, images[rows], targets[:, rows])
        pull, state = (theta * g).sum(), take(*state, grad=lambda _, g=g: g, eta=rate, **constants)
        theta, *buffers = state
        average = average + (theta - average) / memory
        loss, full = digits.loss_and_gradient(theta, images, targets)
        scale, move = 1.0, buffers[0]
        if rule == "adam":
            scale = 1 / (np.sqrt(buffers[1] / (1 - networks.BETA2 ** (n + 1))) + networks.EPSILON)
            move = move / (1 - BETA ** (n + 1))
        due = loss[0], (scale * move**2).sum(), (scale * g**2).sum(), (scale * full**2).sum(), pull
        seen = [run.logged[column][n, 0] for column in networks.LOGGED]
        assert seen == pytest.approx(due, rel=1e-3, abs=1e-5)
    np.testing.assert_allclose(run.state[0], theta, atol=2e-5)
    np.testing.assert_allclose(run.state[2][:, 0], average, atol=2e-5)


def test_labels_are_redrawn_unless_clean():
    rng = np.random.default_rng(4)
    _, true, classes = networks.data("tumours")
    _, taught = networks.new_networks(SGD, rng, networks=40)
    assert (taught != true).mean() == pytest.approx((1 - 1 / classes) * networks.REDRAWN, abs=0.01)
    _, taught = networks.new_networks(Cell("tumours", "logistic", "sgd", 0.1, clean=True), rng, networks=2)
    assert (taught == true).all()


# --- predictions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["sgd", "momentum"])
def test_numbers_of_a_quadratic_give_its_floor_and_bound_its_win(rule):
    cell = Cell("digits", "logistic", rule, 0.5)
    at = {"lam": 1.5, "sigma": 2.0, "beta": {"sgd": 0.0, "momentum": BETA}[rule]}
    variance, power = (lr.claim(f"momentum.{name}") for name in ("variance", "velocity_second_moment"))
    floor = 0.75 * variance(eta=cell.rate, **at)
    gradient = 1.5**2 * variance(eta=cell.rate, **at)
    log = {
        "step_power": power(eta=cell.rate, **at),
        "gradient_power": gradient + 4,
        "full_gradient_power": gradient,
        "pull": 2 * floor,
    }
    assert cell.rate / 4 * networks.as_sgd(cell, log)[0] == pytest.approx(floor)
    assert networks.balance(cell, log) == pytest.approx(1)
    low, high = networks.predict(cell, Change("drop", 10), log)
    number = {"sgd": "mean_squared_gradient_norm", "momentum": "mean_squared_update"}[rule]
    asked = {number: log["step_power"], "noise_variance": 4, "momentum": at["beta"]}
    packaged = lr.quick_win(cell.rate, new_learning_rate=cell.rate / 10, **asked)
    assert (low, high) == pytest.approx((packaged.low, packaged.high))
    win = floor - 0.75 * variance(eta=cell.rate / 10, **at)
    assert low < win < high * (1 + 1e-12)


def test_numbers_of_adam_give_the_floor_of_a_quadratic():
    cell, rng = Cell("digits", "logistic", "adam", 0.5), np.random.default_rng(5)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    hessian = turn @ np.diag([2.0, 1.0, 0.5]) @ turn.T
    state, seen = (np.zeros((200, 3)), 0.0, 0.0, 0), []
    for n in range(6_000):
        theta = state[0]
        g = theta @ hessian + rng.normal(size=theta.shape) * [1, 0.3, 0.1]
        state = lr.optimizers.adam(*state, grad=lambda _, g=g: g, eta=cell.rate, **ADAM)
        if n >= 3_000:
            root, full = np.sqrt(state[2] / (1 - 0.999 ** state[3])), theta @ hessian
            powers = [state[1] ** 2 / root, g**2 / root, full**2 / root, theta * g, full * theta / 2]
            seen.append([p.sum(axis=1).mean() for p in powers])
    names = ("step_power", "gradient_power", "full_gradient_power", "pull")
    *means, excess = np.mean(seen, axis=0)
    log = dict(zip(names, means, strict=True))
    assert cell.rate / 4 * networks.as_sgd(cell, log)[0] == pytest.approx(excess, rel=0.05)
    assert networks.balance(cell, log) == pytest.approx(1, abs=0.03)


def test_a_larger_batch_divides_the_floor():
    log = {"step_power": 3, "gradient_power": 3, "full_gradient_power": 1}
    low, high = networks.predict(SGD, Change("batch", 10), log)
    assert low == high == pytest.approx(float(Fraction(9, 10) * Fraction(3, 4)) * SGD.rate)


def test_predictions_read_the_log_before_the_drop_only(monkeypatch):
    read = []
    monkeypatch.setattr(
        Path, "open", lambda self, *a, _open=Path.open, **k: (read.append(self.name), _open(self, *a, **k))[1]
    )
    logs = networks.logs()
    for cell in GRID:
        for change in networks.changes(cell):
            networks.predict(cell, change, logs[cell.name])
    assert read == ["networks_before.csv"]


# --- records --------------------------------------------------------------------------------------------------------


def test_no_cell_is_missing_and_none_is_left_out():
    everyone = range(networks.NETWORKS)
    before = [(row["cell"], row["network"]) for row in networks.read(networks.BEFORE)]
    assert sorted(before) == sorted((cell.name, n) for cell in GRID for n in everyone)
    after = [(row["cell"], row["change"], row["network"]) for row in networks.read(networks.AFTER)]
    due = [(cell.name, change.name) for cell in GRID for change in networks.changes(cell)]
    assert sorted(after) == sorted((*names, n) for names in due for n in everyone)
    assert {(row["cell"], row["change"]) for row in networks.read(networks.CURVES)} == set(due)
    plain = [cell.name for cell in GRID if cell.rule == "sgd" and not cell.clean]
    shape = [(row["cell"], row["network"]) for row in networks.read(networks.SHAPE)]
    assert sorted(shape) == sorted((name, n) for name in plain for n in everyone)


def test_a_cheap_cell_comes_out_as_recorded(jax):
    """Its loss is strongly convex: two runs on the same mini-batches come together, whatever the rounding."""
    run, labels = networks.train_before(SGD)
    log = networks.logs()[SGD.name]
    for again in networks.rows_before(SGD, run):
        recorded = {column: log[column][again["network"]] for column in networks.LOGGED}
        assert {c: float(again[c]) for c in networks.LOGGED} == pytest.approx(recorded, rel=1e-3)
    change = Change("drop", 10)
    recorded = [r for r in networks.read(networks.AFTER) if (r["cell"], r["change"]) == (SGD.name, change.name)]
    again = networks.rows_after(SGD, change, networks.train_after(SGD, change, run.state, labels))
    assert [float(r["loss"]) for r in again] == pytest.approx([r["loss"] for r in recorded], rel=1e-4)


def test_a_record_is_added_to_and_read_back(tmp_path):
    path = tmp_path / "record.csv"
    assert networks.read(path) == []
    networks.add(path, [{"cell": "a", "loss": "1.5", "late_loss": ""}])
    networks.add(path, [{"cell": "b", "loss": "2.5", "late_loss": "3"}])
    first, second = networks.read(path)
    assert first["cell"] == "a" and np.isnan(first["late_loss"])
    assert second == {"cell": "b", "loss": 2.5, "late_loss": 3.0}
    assert [p.name for p in tmp_path.iterdir()] == ["record.csv"]


def test_reading_the_records_needs_no_jax():
    code = "import networks, sys; networks.logs(); assert not {'jax', 'optax', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=BOOK, check=True)
