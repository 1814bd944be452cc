"""What `import lrtheory` promises: the names, their laziness, the schedules, and the command line."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import numpy as np
import pytest

import lrtheory as lr
from lrtheory import schedules
from lrtheory.__main__ import main


def test_no_module_hides_a_public_name():
    for module in walk_packages(lr.__path__, "lrtheory."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    for name in lr.__all__:
        thing = getattr(lr, name)
        assert callable(thing) == (name not in lr._MODULES), name
        assert thing.__doc__, name


def test_every_public_name_is_documented():
    page = (Path(__file__).parents[1] / "book" / "api.md").read_text()
    named = {name: f"lrtheory.{home}.{name}" for name, home in lr._HOME.items()}
    named |= {name: f"lrtheory.{name}" for name in lr._MODULES if name != "theorems"}
    whole = re.findall(r"automodule:: (\S+)\n   :members:\n", page)  # with every public name in it
    missing = [n for n, text in named.items() if not re.search(rf"{re.escape(text)}\b", page)]
    assert not [n for n in missing if named[n].rsplit(".", 1)[0] not in whole]


def test_import_is_lazy():
    code = (
        "import sys, lrtheory; print('sympy' in sys.modules, 'matplotlib' in sys.modules, len(lrtheory.__all__) > 20)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert answer.split() == ["False", "False", "True"]


def test_the_published_shape_of_the_schedules():
    lams, steps, eta = np.array([1, 0.1, 0.01]), 100, 0.5
    table = {
        schedules.constant(eta): 0.18212,
        schedules.drop(eta, eta / 10, 50): 0.02548,
        schedules.inverse_time(eta, 10): 0.02406,
        schedules.inverse_root(eta): 0.02749,
        schedules.exponential(eta, 0.95): 0.02207,
        schedules.warmup_stable_decay(eta, steps, 10, 20): 0.04976,
        schedules.cosine(eta, steps): 0.02384,
        schedules.linear(eta, steps): 0.02465,
    }
    for schedule, loss in table.items():
        assert lr.expected_loss(schedule, lams, lams, 1, steps, at=[steps])[0] == pytest.approx(loss, abs=5e-6)


def test_the_closed_form_of_constant_pieces_equals_the_loop():
    rng = np.random.default_rng(0)
    lams, noise, theta0 = rng.uniform(0.01, 2, 20), rng.uniform(0, 1, 20), rng.normal(size=20)
    rates = np.repeat([0.9, 0.3, 1.0], [40, 25, 35])
    moment, losses = theta0**2, []
    for eta in rates:
        moment = (1 - eta * lams) ** 2 * moment + eta**2 * noise
        losses.append(lams @ moment / 2)
    np.testing.assert_allclose(lr.expected_loss(rates, lams, noise, theta0, 100)[1:], losses, rtol=1e-11)


def test_lms_loss_equals_the_moments_of_linear_regression():
    rec = lr.trace(lr.optimizers.sgd, lr.landscapes.linear_regression())
    theta, at = rec.state[0], {"eta": 0.3, "lam": 0.7, "sigma": 1.5}
    exact = lr.after(rec, 4, start={theta: 2})[theta**2].subs(rec.values(at)) * 0.35
    assert lr.expected_loss([0.3] * 4, 0.7, 1.5**2, 2, 4, model="lms", at=[4])[0] == pytest.approx(float(exact))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lr.expected_loss([0.1], lams=-1, noise=1, theta0=1, steps=1), "positive curvatures"),
        (lambda: lr.expected_loss([0.1, -0.1], lams=1, noise=1, theta0=1, steps=2), "step 1 is -0.1"),
        (lambda: lr.expected_loss([0.1], lams=1, noise=1, theta0=1, steps=2), "one rate for each step"),
        (lambda: lr.expected_loss([0.1], lams=1, noise=1, theta0=1, steps=1, at=[2]), "between 0 and 1"),
        (lambda: lr.quick_win(0.1, 1.0, 0.2), "a drop goes down"),
        (lambda: lr.quick_win(0.1, -1.0), "a squared norm is 0 or more"),
        (lambda: lr.quick_win(0.1, 1.0, 0.05, noise_variance=2.0), "part of the whole gradient"),
        (lambda: lr.simulate(lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic()), {}, 1, 10), "choose one to draw"),
    ],
)
def test_bad_input_is_told_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_divergence_is_an_error():
    rec = lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic(lr.noise.gaussian))
    with pytest.raises(FloatingPointError, match="left the range of floats"):
        lr.simulate(rec, {"eta": 50, "lam": 1, "sigma": 1}, steps=400, chains=10)


def test_the_command_line(capsys):
    assert main(["claims"]) == 0 and "noise_floor.variance(eta, lam, sigma)" in capsys.readouterr().out
    assert main(["evaluate", "noise_floor.variance", "eta=1/10", "lam=1", "sigma=1"]) == 0
    assert capsys.readouterr().out == "1/19\n"
    assert (
        main(["check", "noise_floor.variance", "--seed", "2"]) == 0 and "claims that passed" in capsys.readouterr().out
    )
    assert main(["quick-win", "--lr", "0.5", "--grad-norm-sq", "0.854", "--new-lr", "0.05"]) == 0
    assert "0.09607 to 0.1067" in capsys.readouterr().out
    assert main(["evaluate", "noise_floor.variance", "eta=3", "lam=1", "sigma=1"]) == 2
    assert "lower eta below 2/lam" in capsys.readouterr().err
    assert main(["check", "nois"]) == 2 and "did you mean" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["eta=__import__('os')", "eta", "eta=1/0"])
def test_the_command_line_reads_numbers_only(text, capsys):
    assert main(["evaluate", "noise_floor.variance", text, "lam=1", "sigma=1"]) == 2
    error = capsys.readouterr().err
    assert "is not a number that a float can hold: write" in error or "is not of the form name=value" in error


def test_a_failed_claim_fails_the_command(monkeypatch, capsys):
    import lrtheory.theorems as theorems

    true = lr.claim("noise_floor.variance")
    lie = type(true)(**{**vars(true), "formula": 2 * true.formula})
    monkeypatch.setitem(theorems._chapter("noise_floor"), true.id, lie)
    assert main(["check", true.id]) == 1 and "FAILED" in capsys.readouterr().out
