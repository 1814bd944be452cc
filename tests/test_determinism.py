"""The same input gives the same numbers: for any number of workers, in any process, and in every build of a page."""

import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import execution
import numpy as np
import pytest

import lrtheory as lr
from lrtheory import monte_carlo
from lrtheory.first_passage import steps_until

ROOT = Path(lr.__file__).parents[1]
THETA = lr.symbol("theta")
CHAINS = 9 * monte_carlo.BLOCK + 1  # several tasks, and a last block of one chain


def simulated(executor=None):
    """Sample moments along a schedule, from a random start."""
    rule = lr.trace(lr.optimizers.heavy_ball, lr.landscapes.double_well(lr.noise.laplace))
    at = {"eta": [0.1, 0.1, 0.05], "beta": 0.5, "sigma": 1}
    start = {"theta": (lr.noise.uniform, 0.5)}
    found = lr.simulate(rule, at, 3, CHAINS, seed=5, executor=executor, at=[0, 2, 3], start=start)
    return found.means.tolist(), found.covariance.tolist()


def first_passage(executor=None):
    """The mean steps of a run until it is where it should be, and the variance of that mean."""
    rule = (lr.optimizers.sgd, lr.landscapes.quadratic(lr.noise.gaussian))
    reading = steps_until(THETA < 1, rule=rule, start=4, sigma=1)
    found = reading.sample([reading], {"eta": 0.5, "lam": 1}, lr.noise.gaussian, CHAINS, 5, executor)
    return found.means, found.covariance.tolist(), found.chain_steps


def verdict(executor=None):
    """All that a check finds, to the last bit."""
    found = lr.check("noise_floor.excess_loss", seed=5, executor=executor)
    return str(found), [w.z for w in found.witnesses], [r.z for r in found.rivals], found.killed, found.chains


@pytest.mark.parametrize("what", [simulated, first_passage, verdict])
def test_workers_do_not_matter(what):
    alone = what()
    for workers in (1, 2, 8):
        with ThreadPoolExecutor(workers) as threads:
            assert what(threads) == alone, f"{workers} threads"


def test_spawned_processes_do_not_matter():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert simulated(pool) == simulated()
        assert first_passage(pool) == first_passage()


def test_the_seed_matters():
    rule = lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic(lr.noise.gaussian))
    runs = [lr.simulate(rule, {"eta": 0.5, "lam": 1, "sigma": 1}, 1, 2, seed=seed).means for seed in (0, 0, 1)]
    assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])


# what has an order of its own: sets and dictionaries of symbols, the closure of moments, atoms, mutants, Lanczos
REPORT = """
import numpy as np
import lrtheory as lr
from lrtheory.expectation import E, simulated
from lrtheory.letters import latex
from lrtheory.mutation import mutants

print(list(lr.claims()))
for id in ("noise_floor.autocovariance", "quick_win.size"):
    verdict = lr.check(id, seed=3)
    print(verdict, [w.z for w in verdict.witnesses], [r.z for r in verdict.rivals], verdict.survivors)
    print([latex(m) for m in mutants(verdict.claim.formula)])
rule = lr.trace(lr.optimizers.heavy_ball, lr.landscapes.linear_regression(dim=2))
print(rule.next_state, rule.parameters, lr.stable_when(lr.trace(lr.optimizers.heavy_ball, lr.landscapes.quadratic())))
theta, = lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic()).state
print(simulated(E(theta**2) - E(theta, (0.5, 2)) ** 2, {"eta": 0.5, "lam": 1, "sigma": 1, "theta0": 2}, 5000))
print(lr.to_javascript(rule))
model = lr.LeastSquares(np.random.default_rng(0).normal(size=(30, 12)), np.arange(30.0))
print(model.stability_limit(), model.stationary_excess(0.01), lr.escape_time(0.5, 1))
print(lr.best_drop([1, 0.1], [1, 0.1], 1, 30).values)
"""


def test_the_order_of_sets_does_not_matter():
    """Python draws the hashes of text anew in every process, and with them the order of sets."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    told = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        told.append(subprocess.run([sys.executable, "-c", REPORT], env=environment, capture_output=True, text=True))
    assert [run.stderr for run in told] == ["", ""]
    assert told[0].stdout == told[1].stdout != ""


PAGE = """\
---
file_format: mystnb
---

# A page

```{code-cell}
import lrtheory as lr
from lrtheory import plotting

variance = lr.claim("noise_floor.variance")
variance
```

```{code-cell}
lr.check(variance.id)
```

```{code-cell}
figure, ax = plotting.axes("step", "loss")
plotting.theory(ax, [0, 1, 2], lr.expected_loss([0.5, 0.25], 1, 1, 1, 2), "one curvature")
figure
```
"""


def test_two_builds_of_a_page_give_the_same_outputs(tmp_path, environment, capsys):
    builds = []
    for name in ("one", "two"):
        root = tmp_path / name
        (root / "book").mkdir(parents=True)
        (root / "book" / "page.md").write_text(PAGE)
        (root / "lrtheory").symlink_to(ROOT / "lrtheory")
        (root / "requirements.txt").write_text("")
        (root / "conf.py").write_text("nb_execution_timeout = 60\nmyst_enable_extensions = []\n")
        assert execution.execute(root, workers=1) == []
        assert "page.md" in capsys.readouterr().out, "taken from the other build, not executed"
        (notebook,) = execution.cache_folder(root).glob("executed/*/base.ipynb")
        cells = json.loads(notebook.read_text())["cells"]
        builds.append(json.dumps([cell.get("outputs") for cell in cells]))  # a cell's name is drawn at random
    assert builds[0] == builds[1]
    assert all(part in builds[0] for part in ("<svg", "Holds for", "passed"))
