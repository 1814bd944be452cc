"""Predictions from a log against runs: the win, the balance with its error, the time to drop, and the log file."""

import json
import re
from fractions import Fraction as F

import numpy as np
import pytest

import lrtheory as lr
from lrtheory import logs
from lrtheory.__main__ import main

LAMS, SIGMAS = np.array([1.0, 0.5, 0.2]), np.array([1.0, 2.0, 0.7])


def run(eta, steps, seed, beta=0.0, dampening=0.0, start=0.0, chains=1):
    """θ·g, ‖g‖², ‖v‖² and ‖θ‖² at each step of heavy-ball SGD on a valley of three curvatures."""
    rng = np.random.default_rng(seed)
    theta = np.full((chains, 3), float(start))
    v = np.zeros((chains, 3))
    logged = np.empty((4, steps, chains))
    for t in range(steps):
        g = LAMS * theta + SIGMAS * rng.normal(size=(chains, 3))
        v = beta * v + (1 - dampening) * g
        logged[:, t] = (theta * g).sum(1), (g * g).sum(1), (v * v).sum(1), (theta**2).sum(1)
        theta = theta - eta * v
    return logged[..., 0] if chains == 1 else logged


def floor(eta, beta=0.0, dampening=0.0):
    """The floor of the loss, from the claim for the variance."""
    variance = lr.claim("momentum.variance" if beta else "noise_floor.variance")
    more = {"beta": beta} if beta else {}
    return sum(
        lam / 2 * variance(eta=eta * (1 - dampening), lam=lam, sigma=s, **more)
        for lam, s in zip(LAMS, SIGMAS, strict=True)
    )


@pytest.mark.parametrize(("beta", "dampening"), [(0.0, 0.0), (0.9, 0.0), (0.9, 0.9), (0.8, 0.3)])
def test_the_win_of_a_drop_is_in_the_predicted_interval(beta, dampening):
    eta1, eta2 = 0.2, 0.05
    _, g2, v2, _ = run(eta1, 40_000, 1, beta, dampening)[:, 5_000:]
    logged = {"mean_squared_update": v2} if beta else {"mean_squared_gradient_norm": g2}
    win = lr.quick_win(
        eta1, new_learning_rate=eta2, momentum=beta, dampening=dampening, noise_variance=np.sum(SIGMAS**2), **logged
    )
    truth = floor(eta1, beta, dampening) - floor(eta2, beta, dampening)
    assert win.low - 3 * win.standard_error < truth < win.high + 3 * win.standard_error
    assert (win.high - win.low + 6 * win.standard_error) < 0.3 * truth  # or the interval would say nothing
    plain = lr.quick_win(eta1, g2.mean(), eta2)  # the rule of plain SGD
    if beta and not dampening:
        assert plain.high < 0.5 * truth


def test_an_exact_quadratic_lies_exactly_inside():
    eta1, eta2, lam, sigma = F(1, 2), F(1, 8), F(3, 2), F(2)
    second = lr.claim("noise_floor.variance")(eta=eta1, lam=lam, sigma=sigma)
    win = lr.quick_win(float(eta1), float(lam**2 * second + sigma**2), float(eta2), noise_variance=float(sigma**2))
    truth = lr.claim("quick_win.size")(eta1=eta1, eta2=eta2, lam=lam, sigma=sigma)
    assert win.low <= float(truth) <= win.high


def test_the_standard_errors_are_honest():
    logged = run(0.2, 5_000, 2, chains=200)[:, 1_000:]
    wins = [lr.quick_win(0.2, logged[1, :, i], 0.02) for i in range(200)]
    spread = np.std([w.high for w in wins], ddof=1)
    assert 0.8 < np.mean([w.standard_error for w in wins]) / spread < 1.25
    truth = 0.2 / 4 * np.sum(SIGMAS**2 * 2 / (2 - 0.2 * LAMS))
    far = [abs(w.high - truth) > 3 * w.standard_error for w in wins]
    assert np.mean(far) < 0.04
    balances = [lr.at_the_floor(0.2, logged[0, :, i], logged[1, :, i]) for i in range(200)]
    spread = np.std([b.ratio for b in balances], ddof=1)
    assert 0.8 < np.mean([b.standard_error for b in balances]) / spread < 1.25
    assert abs(np.mean([b.ratio for b in balances]) - 1) < 4 * spread / 200**0.5
    assert all(b.at_floor for b in balances)


@pytest.mark.parametrize(("beta", "dampening"), [(0.0, 0.0), (0.9, 0.0), (0.9, 0.9), (0.8, 0.3)])
def test_the_balance_tells_a_floor_from_the_way_there(beta, dampening):
    logged = run(0.02, 50_000, 3, beta, dampening, start=20)
    form = {"momentum": beta, "dampening": dampening}
    assert lr.at_the_floor(0.02, logged[0, 5_000:], logged[2, 5_000:], **form).at_floor is True
    early = lr.at_the_floor(0.02, logged[0, :200], logged[2, :200], **form)
    assert early.at_floor is not True  # a swinging start is rough, and may leave the question open
    assert early.at_floor is False or beta > dampening


def test_a_flat_stretch_is_no_floor():
    # the loss is -0.001 θ: nearly flat, never ending, with noise that would keep it rough
    rng = np.random.default_rng(4)
    theta, dot, square = 0.0, [], []
    for noise in rng.normal(size=20_000):
        g = -0.01 + 0.01 * noise
        dot.append(theta * g)
        square.append(g * g)
        theta -= 0.1 * g
    found = lr.at_the_floor(0.1, dot, square)
    assert found.at_floor is False and "flat stretch" in str(found)


def test_a_window_that_is_too_short_does_not_tell():
    dot, square, *_ = run(0.02, 200, 5)[:, 100:]
    assert lr.at_the_floor(0.02, dot, square).at_floor is None


def test_pflugs_sign_fires_long_before_the_floor():
    # Pflug's test takes successive gradients that point against each other, on the sum, for the floor
    rng, fired = np.random.default_rng(6), []
    eta, lam, runs = 0.01, 1.0, 400
    theta = np.full(runs, 3.0)  # where the loss is 900 times the floor
    total, last = np.zeros(runs), None
    done = np.zeros(runs, dtype=bool)
    for _ in range(300):  # three time constants of the mean
        g = lam * theta + 10 * rng.normal(size=runs)
        if last is not None:
            total += g * last
            done |= total < 0
        last, theta = g, theta - eta * g
    fired = done.mean()
    assert fired > 0.75
    # while the mean of that product, derived, is positive nearly all the way: the sign is right and the noise too large
    mean = lam**2 * (1 - eta * lam) * 9 - eta * lam * 100
    assert mean > 0


def test_when_to_drop_finds_the_best_step_of_the_model():
    eta1, eta2, fast, slow, sigma, excess, seen, horizon = 0.2, 0.02, 1.0, 0.01, 1.0, 5.0, 600, 1_500
    t = np.arange(seen + 1)
    rng = np.random.default_rng(7)
    level = eta1 * sigma**2 / (2 * (2 - eta1 * fast))
    losses = 0.3 + level + excess * (1 - eta1 * slow) ** (2 * t) + 0.02 * rng.normal(size=t.size)
    square = 4 * level / eta1
    plans = [
        lr.when_to_drop(
            t, losses, horizon, learning_rate=eta1, new_learning_rate=eta2, mean_squared_gradient_norm=square, **more
        )
        for more in ({"fast_curvature": fast}, {"noise_variance": sigma**2})
    ]
    assert plans[0].drop_at == plans[1].drop_at
    at_end = []
    for drop in range(seen, horizon + 1):
        rates = np.where(np.arange(horizon) < drop, eta1, eta2)
        start = [0, (2 * excess / slow) ** 0.5]
        at_end.append(lr.expected_loss(rates, [fast, slow], [sigma**2, 1e-30], start, horizon, at=[horizon])[0])
    best = seen + int(np.argmin(at_end))
    assert abs(plans[0].drop_at - best) <= 5  # the log is noisy
    assert plans[0].loss_if_dropped == pytest.approx(0.3 + min(at_end), abs=3 * plans[0].loss_error)
    assert plans[0].loss_if_kept == pytest.approx(0.3 + at_end[-1], abs=3 * plans[0].loss_error)
    assert plans[0].loss_error < 0.02 < plans[0].loss_if_kept - plans[0].loss_if_dropped
    assert plans[0].slow_time == pytest.approx(-1 / (2 * np.log(1 - eta1 * slow)), abs=3 * plans[0].slow_time_error)


STEADY = {"learning_rate": 0.2, "new_learning_rate": 0.02, "mean_squared_gradient_norm": 1.0, "fast_curvature": 1.0}


def drop(**changes):
    return lr.when_to_drop(**{"steps": range(40), "losses": [1.0] * 40, "horizon": 99} | STEADY | changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lr.quick_win(0.1, 1.0, momentum=0.9), "gradient norm alone: the floor depends on the momentum buffer"),
        (lambda: lr.quick_win(0.1), "no gradient was logged"),
        (lambda: lr.quick_win(0.1, 1.0, mean_squared_update=1.0), "both given: give one"),
        (lambda: lr.quick_win(0.1, 0.0), "a run whose gradient vanishes has no floor"),
        (lambda: lr.quick_win(0.1, [1.0, float("nan")]), "not finite at position 1"),
        (lambda: lr.quick_win(0.1, [1.0] * 5), "5 values: give its mean, or at least 32"),
        (lambda: lr.quick_win(0.1, "much"), "mean_squared_gradient_norm = 'much' is not a number"),
        (lambda: lr.quick_win(0.1, mean_squared_update=1.0, momentum=1.0), "momentum = 1: give a number of 0 or more"),
        (lambda: lr.quick_win("0.1", 1.0), "learning_rate = '0.1' is not a number"),
        (lambda: lr.quick_win(True, 1.0), "learning_rate = True is not a number"),
        (lambda: lr.quick_win(0.1, 1.0, noise_variance=-3), "noise_variance = -3: give a positive number"),
        (lambda: lr.when_to_drop(range(40), [1.0] * 40, 99, **STEADY | {"new_learning_rate": 0.3}), "a drop goes down"),
        (lambda: lr.quick_win(-0.1, 1.0), "learning_rate = -0.1: give a positive number"),
        (lambda: lr.at_the_floor(0.1, [1.0] * 40, [1.0] * 41), r"shape \(40,\) and squared_norms \(41,\)"),
        (lambda: lr.at_the_floor(0.1, [1.0] * 40, [0.0] * 40), "norm of 0: there is nothing to measure"),
        (lambda: lr.at_the_floor(0.1, [1.0] * 40, [-1.0] * 40), "squared_norms = -1: a squared norm is 0 or more"),
        (lambda: lr.at_the_floor(1e-200, [1.0] * 40, [1.0] * 40), "learning_rate = 1e-200 .* too small or too large"),
        (lambda: lr.at_the_floor(1e200, [1.0] * 40, [1.0] * 40), r"learning_rate = 1e\+200 .* too small or too large"),
        (lambda: lr.at_the_floor(0.1, [1e-320] * 40, [1e-320] * 40), "nothing to measure, or it is too small"),
        (lambda: lr.at_the_floor(0.1, [1e308] * 40, [1e308] * 40), "gradient = .* too large to be squared in float"),
        (lambda: lr.at_the_floor(0.1, [1.0] * 40, [1.0] * 40, dampening=0.5), "dampening = 0.5 without momentum"),
        (lambda: lr.quick_win(0.1, 1.0, dampening=0.5), "dampening = 0.5 without momentum, where PyTorch ignores it"),
        (lambda: lr.quick_win(0.1, mean_squared_update=1.0, dampening=0.5), "dampening = 0.5 without momentum"),
        (lambda: lr.Monitor(dampening=0.5), "dampening = 0.5 without momentum"),
        (lambda: lr.quick_win(0.5, 1.0, 0, noise_variance=2), "noise_variance = 2.0: the noise is a part of the whole"),
        (
            lambda: lr.quick_win(0.5, mean_squared_update=1.0, momentum=0.5, noise_variance=2),
            "noise_variance = 2.0: a buffer of pure noise",
        ),
        (lambda: lr.quick_win(1e308, 1e308), r"mean_squared_gradient_norm = 1e\+308 goes beyond"),
        (lambda: lr.quick_win(1e308, 1e149), r"learning_rate = 1e\+308 .* a floor of inf in floats"),
        (lambda: lr.quick_win(0.1, 1e-200), "mean_squared_gradient_norm = 1e-200: a run whose gradient vanishes"),
        (lambda: drop(fast_curvature=11), r"fast_curvature = 11 is not below 2 / learning_rate = 10, where"),
        (lambda: drop(new_learning_rate=0), "^new_learning_rate = 0: give a positive number"),
        (lambda: drop(horizon=99.5), "horizon = 99.5: give a whole number"),
        (lambda: drop(horizon=1e300), r"horizon = 1e\+300 is more than floats can count"),
        (lambda: drop(steps=np.arange(40) + 0.5), "steps, which are whole numbers"),
        (lambda: drop(mean_squared_gradient_norm=0), "mean_squared_gradient_norm = 0: a run whose"),
        (lambda: drop(fast_curvature=None, noise_variance=2), "noise_variance = 2 does not lie well between 0 and"),
        (lambda: lr.when_to_drop(range(40), [1.0] * 40, 99, **STEADY), "do not show a slow fall"),
        (lambda: lr.when_to_drop(range(40), [1.0] * 40, 30, **STEADY), "horizon = 30, but the log ends at step 39"),
        (lambda: lr.when_to_drop([1] * 40, [1.0] * 40, 99, **STEADY), "in rising order"),
        (
            lambda: lr.when_to_drop(range(40), [1.0] * 40, 99, **STEADY, noise_variance=1.0),
            "noise_variance or fast_curvature, one of the two",
        ),
    ],
)
def test_bad_input_is_told_what_to_do(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


# --- the log file -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def logged():
    _, square, _, theta2 = run(0.2, 40_000, 8)[:, ::4]
    # the loss that a trainer sees: that of the mini-batch, rough, around a level
    loss = 1 + floor(0.2) + 0.05 * np.random.default_rng(9).normal(size=10_000)
    return {"step": np.arange(0, 40_000, 4), "loss": loss, "learning_rate": np.full(10_000, 0.2),
            "grad_norm": square**0.5, "theta_norm": theta2**0.5}  # fmt: skip


def written(path, columns):
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


def test_a_log_gets_an_answer_in_one_command(tmp_path, capsys, logged):
    assert main(["quick-win", written(tmp_path / "run.csv", logged), "--new-lr", "0.05"]) == 0
    said = capsys.readouterr().out
    low, high = map(float, re.search(r"lower the loss by ([\d.]+) to ([\d.]+), standard error", said).groups())
    assert low * 0.97 < floor(0.2) - floor(0.05) < high * 1.03
    assert said.count("[holds]") == 5 and "FAILS" not in said and "at its noise floor" in said
    picture = (tmp_path / "run.csv.quick-win.svg").read_text()
    assert picture.startswith("<?xml") and picture.rstrip().endswith("</svg>")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.csv", "run.csv.quick-win.svg"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: {"loss": c["loss"] - c["step"] / 40_000}, r"\[FAILS\] the loss is level: it fell .* slow part"),
        (lambda c: {"loss": c["loss"] + c["step"] / 40_000}, r"\[FAILS\] the loss is level: it rose"),
        (lambda c: {"loss": c["loss"] / 100}, r"\[FAILS\] the loss is at least what is to be won"),
        (lambda c: {"grad_norm": np.minimum(c["grad_norm"], 2)}, r"\[FAILS\] the gradients are not clipped"),
        (lambda c: {"theta_norm": 1 + c["step"] / 1_000}, r"\[FAILS\] the level is a noise floor"),
        (lambda c: {"theta_norm": None}, r"\[not known\] the level is a noise floor .* log theta_norm"),
        (
            lambda c: {"grad_norm": c["grad_norm"] * np.where(c["step"] % 16_000 == 0, 400, 1)},
            r"\[FAILS\] the squared norms are known well enough",
        ),
    ],
)
def test_a_log_outside_the_assumptions_is_told_so(tmp_path, capsys, logged, change, says):
    columns = {name: column for name, column in (logged | change(logged)).items() if column is not None}
    assert main(["quick-win", written(tmp_path / "run.csv", columns)]) == 0
    said = capsys.readouterr().out
    assert re.search(says, said)
    assert ("Do not rely on the prediction" in said) == ("FAILS" in says)


def test_only_the_last_stretch_at_one_rate_is_read(tmp_path, logged):
    columns = logged | {"learning_rate": np.where(logged["step"] < 20_000, 0.4, 0.2)}
    found = logs.answer(lr.read_log(written(tmp_path / "run.csv", columns)))
    assert found.window.step[0] == 30_000 and found.win.learning_rate == 0.2 and found.win.new_learning_rate == 0.02
    with pytest.raises(ValueError, match="a floor belongs to a rate"):
        logs.answer(lr.read_log(written(tmp_path / "run.csv", logged | {"learning_rate": 1 / (1 + logged["step"])})))


def test_momentum_needs_the_buffer_in_the_log(tmp_path, capsys, logged):
    path = written(tmp_path / "run.csv", logged)
    assert main(["quick-win", path, "--momentum", "0.9"]) == 2
    assert "no column update_norm: log the norm of the momentum buffer" in capsys.readouterr().err
    written(tmp_path / "run.csv", logged | {"update_norm": logged["grad_norm"] * 2})
    assert main(["quick-win", path, "--momentum", "0.9"]) == 0
    win = lr.quick_win(
        0.2, new_learning_rate=0.02, momentum=0.9, mean_squared_update=4 * logged["grad_norm"][5_000:] ** 2
    )
    assert f"by {win.low:.4g} to {win.high:.4g}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: give a log with the columns step, loss"),
        (
            "step,loss,lr,gradnorm\n1,1,1,1\n",
            "lacks the columns learning_rate, grad_norm .* is 'gradnorm' the",
        ),
        ("step,loss,learning_rate,grad_norm\n1,1,1,1\n2,much,1,1\n", "line 3: loss = 'much' is not a number"),
        ("step,loss,learning_rate,grad_norm\n1,nan,1,1\n", "line 2: loss = 'nan' is not a number"),
        ("step,loss,learning_rate,grad_norm\n1,1,1,-1\n", "line 2: grad_norm = '-1' is negative"),
        ("step,loss,learning_rate,grad_norm\n1,1,1\n", "line 2: 3 cells under 4 columns"),
        ("step,loss,learning_rate,grad_norm\n2,1,1,1\n1,1,1,1\n", "line 3: step = 1 does not rise above 2"),
        ("step,loss,learning_rate,grad_norm\n1,1,1,1\n2,1,1,1\n", "no 64 rows in a row"),
        ("\xff", "codec can't decode|lacks the columns"),
    ],
)
def test_a_bad_log_is_told_what_to_do(tmp_path, capsys, text, message):
    path = tmp_path / "run.csv"
    path.write_bytes(text.encode("latin-1"))
    assert main(["quick-win", str(path)]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["run.csv"]  # no half-written picture


def test_files_that_are_not_there(tmp_path, capsys, logged):
    assert main(["quick-win", str(tmp_path / "none.csv")]) == 2
    assert "No such file" in capsys.readouterr().err
    path = written(tmp_path / "run.csv", logged)
    assert main(["quick-win", path, "--plot", str(tmp_path / "no" / "where.svg")]) == 2
    assert "where.svg cannot be written (No such file or directory): name another" in capsys.readouterr().err
    assert main(["quick-win", path, "--lr", "0.1"]) == 2
    assert "a log holds its rates and norms" in capsys.readouterr().err
    assert main(["quick-win"]) == 2 and "neither a log nor a rate" in capsys.readouterr().err


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "file.svg"
    logs.write_whole(target, "old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(logs.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        logs.write_whole(target, "new")
    assert target.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


# --- the monitor --------------------------------------------------------------------------------------------------


def feed(monitor, steps, seed, eta=0.2, theta=None, nest=lambda x: x):
    rng = np.random.default_rng(seed)
    theta = np.zeros(3) if theta is None else theta
    for _ in range(steps):
        g = LAMS * theta + SIGMAS * rng.normal(size=3)
        monitor.update(nest(theta), nest(g), eta)
        theta = theta - eta * g
    return theta


def test_the_monitor_reads_what_the_log_reads():
    monitor = lr.Monitor(window=16_000, every=2)
    feed(monitor, 60_000, 10)
    _, square, *_ = run(0.2, 60_000, 10)[:, 20_000:]
    assert monitor.balance().at_floor is True
    theirs, ours = lr.quick_win(0.2, square, 0.05), monitor.quick_win(0.05)
    assert abs(ours.low - theirs.low) < 3 * (ours.standard_error + theirs.standard_error)
    assert 0.5 < ours.standard_error / theirs.standard_error < 2.5  # a third of the steps counts
    moving = lr.Monitor(window=64, every=2)
    feed(moving, 64, 11, eta=0.02, theta=np.full(3, 20.0))
    assert moving.balance().at_floor is False


def test_momentum_in_the_monitor():
    beta, eta, rng = 0.9, 0.05, np.random.default_rng(12)
    monitor = lr.Monitor(window=40_000, every=5, momentum=beta)
    theta, v = np.zeros(3), np.zeros(3)
    for _ in range(80_000):
        g = LAMS * theta + SIGMAS * rng.normal(size=3)
        v = beta * v + g
        monitor.update(theta, g, eta, v)
        theta = theta - eta * v
    assert monitor.balance().at_floor is True
    win = monitor.quick_win(0.005, noise_variance=np.sum(SIGMAS**2))
    truth = floor(eta, beta) - floor(0.005, beta)
    assert win.low - 3 * win.standard_error < truth < win.high + 3 * win.standard_error
    with pytest.raises(ValueError, match=r"momentum = 0\.9: give the momentum buffer"):
        monitor.update(theta, g, eta)
    with pytest.raises(ValueError, match="gradient is not finite"):  # though the buffer is, which is what is summed
        monitor.update(theta, g * np.nan, eta, v)


def test_nests_and_functions_say_the_same():
    states = []
    for nest in (
        lambda x: x,
        lambda x: {"b": x[:1], "a": [x[1:2], None, (x[2:],)]},
        lambda x: lambda: [x],
        lambda x: [float(x[0]), float(x[1]), float(x[2])],
    ):
        monitor = lr.Monitor(window=64, every=2)
        feed(monitor, 500, 13, nest=nest)
        states.append({k: v for k, v in monitor.state_dict().items() if k != "shapes"})
    for other in states[1:]:
        for name, value in states[0].items():
            np.testing.assert_allclose(other[name], value, rtol=1e-12)


def test_short_floats_are_summed_in_long_ones():
    """In bfloat16 a sum of ones stops at 256."""
    jax = pytest.importorskip("jax")
    ones = jax.numpy.ones(1000, dtype=jax.numpy.bfloat16)
    for gradient in (ones, np.asarray(ones), [np.int8(10)] * 10, np.full(1000, 1, dtype=np.float16)):
        monitor = lr.Monitor(window=320, every=20)
        for _ in range(400):
            monitor.update(gradient, gradient, 0.5)
        assert monitor.quick_win(0).high == pytest.approx(0.5 * 1000 / 4, rel=1e-12)


def test_a_restored_monitor_goes_on_as_if_nothing_had_been():
    whole, first = lr.Monitor(window=160, every=3), lr.Monitor(window=160, every=3)
    feed(whole, 1_000, 14)
    feed(whole, 777, 15)
    feed(first, 1_000, 14)
    second = lr.Monitor(window=160, every=3)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    feed(second, 777, 15)
    assert second.state_dict() == whole.state_dict()
    assert len(json.dumps(whole.state_dict())) < 5_000  # whatever the number of steps


def test_a_new_rate_starts_the_window_anew():
    monitor = lr.Monitor(window=64, every=2)
    theta = feed(monitor, 640, 16)
    monitor.balance()
    theta = feed(monitor, 10, 17, eta=0.1, theta=theta)
    with pytest.raises(ValueError, match=r"seen 10 steps at the rate 0\.1: it reads from 32 steps"):
        monitor.quick_win()


@pytest.mark.parametrize(
    ("update", "error", "message"),
    [
        (({"w": np.ones(3)}, {"w": np.array([1, np.nan, 1])}, 0.2), ValueError, r"gradient\['w'\] is not finite"),
        (({"w": np.full(3, np.inf)}, {"w": np.ones(3)}, 0.2), ValueError, r"parameters\['w'\] is not finite"),
        (({"w": np.ones(4)}, {"w": np.ones(4)}, 0.2), ValueError, "start another Monitor for another model"),
        (({"w": np.ones(3)}, {"w": np.ones(4)}, 0.2), ValueError, r"gradient\['w'\] has shape \(4,\)"),
        (({"w": np.ones(3)}, {"v": np.ones(3)}, 0.2), ValueError, r"gradient\['v'\] .* and parameters\['w'\] .* alike"),
        (({"w": np.ones(3)}, {"w": np.full(3, 1e200)}, 0.2), ValueError, r"gradient\['w'\] is not finite or far too"),
        (({"w": np.ones(3)}, {"w": np.ones(3) * 1j}, 0.2), TypeError, r"gradient\['w'\] is of the type complex128"),
        (({"w": np.ones(3) > 0}, {"w": np.ones(3)}, 0.2), TypeError, r"parameters\['w'\] is of the type bool"),
        (({"w": np.array(["1"] * 3)}, {"w": np.ones(3)}, 0.2), TypeError, r"parameters\['w'\] is of the type <U1"),
        (({"w": np.array([None] * 3)}, {"w": np.ones(3)}, 0.2), TypeError, r"parameters\['w'\] is of the type object"),
        (({"w": np.ones(3)}, {"w": np.ones(3)}, None), TypeError, "learning_rate = None is not a number"),
        (({"w": np.ones(3)}, {"w": np.ones(3)}, np.full(2, 0.2)), TypeError, r"learning_rate = \[0.2 0.2\]: give one"),
        (({"w": np.ones(3)}, {"w": np.ones(3), "b": np.ones(1)}, 0.2), ValueError, "2 arrays and 1"),
        (({"w": np.ones(3)}, {"w": np.ones(3)}, 0.0), ValueError, "learning_rate = 0.0: give a positive number"),
        (({"w": np.ones(3)}, {"w": np.ones(3)}, float("nan")), ValueError, "learning_rate = nan"),
        ((iter([np.ones(3)]), {"w": np.ones(3)}, 0.2), TypeError, r"give list\(parameters\)"),
        (({}, {}, 0.2), ValueError, "parameters hold no array|start another"),
    ],
)
def test_a_bad_step_leaves_the_monitor_as_it_was(update, error, message):
    monitor = lr.Monitor(window=16, every=1)
    feed(monitor, 100, 18, nest=lambda x: {"w": x})
    before = monitor.state_dict()
    with pytest.raises(error, match=message):
        monitor.update(*update)
    assert monitor.state_dict() == before


@pytest.mark.parametrize(
    ("parameters", "rate", "message"),
    [
        (np.ones(0), 0.2, "hold no array, or empty ones"),
        ("text", 0.2, "parameters is of the type <class 'str'>: give arrays"),
        (object(), 0.2, "parameters is of the type <class 'object'>"),
        (True, 0.2, "parameters is of the type <class 'bool'>"),
        (np.ones(2), None, "learning_rate = None is not a number"),  # which is what a new monitor remembers
    ],
)
def test_a_bad_first_step_leaves_the_monitor_as_it_was(parameters, rate, message):
    monitor = lr.Monitor()
    with pytest.raises((ValueError, TypeError), match=message):
        monitor.update(parameters, parameters, rate)
    assert monitor.state_dict() == lr.Monitor().state_dict()


@pytest.mark.parametrize(("gradient", "rate"), [(0.0, 0.2), (1e-170, 0.2), (1e-160, 0.2), (1.0, 1e-200), (1.0, 1e200)])
def test_a_run_that_does_not_move_has_no_balance(gradient, rate):
    monitor = lr.Monitor(window=16, every=1)
    for _ in range(16):
        monitor.update(np.ones(3), np.full(3, gradient), rate)
    with pytest.raises(ValueError, match=r"learning_rate = .* there is nothing to measure, or it is too small or too"):
        monitor.balance()
    with pytest.raises(ValueError, match=r"nothing to win|noise_variance = 9"):
        monitor.quick_win(noise_variance=9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 99}, "made with window = 99 and this monitor has 16: make it with the same"),
        ({"sums": [1.0]}, r"sums = \[1.0\] in the state"),
        ({"blocks": [[1.0, 2.0, float("nan")]]}, r"blocks = .* in the state"),
        ({"more": 1}, "the state differs in more"),
        ({"steps": -1}, "steps = -1"),
        ({"steps": "5"}, "steps = '5' is not a number"),
        ({"steps": 99}, "looks = 100 in the state of 99 steps: give what state_dict"),
        ({"looks": 1.5}, "looks = 1.5: give a whole number"),
        ({"rate": "abc"}, "rate = 'abc' is not a number"),
        ({"rate": -3}, "rate = -3: give a positive number"),
        ({"rate": float("nan")}, "rate = nan: give a positive number"),
        ({"steps": 0, "looks": 0, "sums": [0, 0], "blocks": [], "shapes": None}, "rate = 0.2 in the state of 0 steps"),
        ({"shapes": [["a"]]}, r"shapes = \[\['a'\]\] in the state"),
        ({"shapes": None}, "shapes = None in the state"),
        ({"sums": "a"}, "sums = 'a' is not a number"),
        ({"sums": [-1.0, 1.0]}, r"sums = \[-1.0, 1.0\] in the state"),
        ({"blocks": []}, r"blocks = \[\] in the state"),
        ({"blocks": [[1, 2, 3], [1]]}, r"blocks = \[\[1, 2, 3\], \[1\]\] is not"),
        ({"blocks": [[t, -1.0, 1.0] for t in range(37, 101)]}, r"blocks = \[\[37, -1.0, 1.0\], .* in the state"),
        ({"blocks": [[t, 1.0, 1.0] for t in range(36, 100)]}, r"blocks = \[\[36, 1.0, 1.0\], .* in the state"),
        ({"window": np.ones(2)}, r"window = \[1. 1.\]: give one number"),
    ],
)
def test_a_bad_state_leaves_the_monitor_as_it_was(change, message):
    monitor = lr.Monitor(window=16, every=1)
    feed(monitor, 100, 19)
    before = monitor.state_dict()
    with pytest.raises((ValueError, TypeError), match=message):
        monitor.load_state_dict(before | change)
    for nothing in (None, {1: 2}, "state"):
        with pytest.raises((ValueError, TypeError), match=r"give what state_dict\(\) returned"):
            monitor.load_state_dict(nothing)
    assert monitor.state_dict() == before


def test_numbers_that_a_monitor_cannot_have():
    for arguments, message in (
        ({"every": 0}, "every = 0: give a whole number, 1 or more"),
        ({"window": 10}, "window = 10: give a whole number, 320 or more"),
        ({"momentum": 1.0}, "momentum = 1"),
    ):
        with pytest.raises(ValueError, match=message):
            lr.Monitor(**arguments)


def unit_floor(beta):
    """The floor for noise of variance 1 in each direction."""
    variance = lr.claim("momentum.variance")
    return sum(variance(eta=0.2, lam=lam, beta=beta, sigma=1) * lam / 2 for lam in LAMS)


@pytest.mark.parametrize("momentum", [None, 0.9])
def test_the_recipe_for_optax(momentum):
    jax = pytest.importorskip("jax")
    pytest.importorskip("optax")
    from monitor_optax import make_step

    noise = np.random.default_rng(20).normal(size=(6_000, 3)).astype("float32")
    init, step = make_step(
        lambda params, batch: (LAMS / 2 * params["w"] ** 2 + params["w"] * batch).sum(), 0.2, momentum
    )
    params = {"w": jax.numpy.zeros(3)}
    state, monitor = init(params), lr.Monitor(window=4_000, every=1, momentum=momentum or 0.0)
    for batch in noise:
        new, state, gradient = step(params, state, batch)
        monitor.update(params, gradient, 0.2, state[0].trace if momentum else None)
        params = new
    assert monitor.balance().ratio == pytest.approx(1, abs=0.1)
    truth = sum(
        lr.claim("momentum.variance")(eta=0.2, lam=lam, beta=momentum or 1e-9, sigma=1) * lam / 2 for lam in LAMS
    )
    win = monitor.quick_win()
    assert abs(win.high - truth) < 4 * win.standard_error


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_recipe_for_pytorch(momentum):
    torch = pytest.importorskip("torch")
    from monitor_pytorch import watch

    w = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([w], lr=0.2, momentum=momentum, weight_decay=0.2)
    monitor, noise = (
        lr.Monitor(window=4_000, every=1, momentum=momentum),
        torch.randn(6_000, 3, generator=torch.manual_seed(21)),
    )
    lams = torch.tensor(LAMS - 0.2, dtype=torch.float32)  # the decay brings the rest
    for batch in noise:
        optimizer.zero_grad()
        (lams / 2 * w**2 + w * batch).sum().backward()
        watch(optimizer, monitor)
        optimizer.step()
    assert monitor.balance().ratio == pytest.approx(1, abs=0.1)
    truth = sum(
        lr.claim("momentum.variance")(eta=0.2, lam=lam, beta=momentum or 1e-9, sigma=1) * lam / 2 for lam in LAMS
    )
    win = monitor.quick_win()
    assert abs(win.high - truth) < 4 * win.standard_error


def test_the_recipes_are_short():
    from pathlib import Path

    for name in ("monitor_pytorch.py", "monitor_optax.py"):
        assert len((Path(__file__).parents[1] / "book" / name).read_text().splitlines()) <= 15
