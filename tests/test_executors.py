"""A simulation gives the same numbers, bit for bit, whoever runs its blocks, and a step does what the rule says."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sympy as sp

import lrtheory as lr
from lrtheory import monte_carlo

RULE = lr.trace(lr.optimizers.heavy_ball, lr.landscapes.linear_regression(lr.noise.gaussian))
AT = {"eta": 0.1, "beta": 0.5, "lam": 1, "sigma": 1}
CHAINS = 9 * monte_carlo.BLOCK + 5  # five tasks, the last of them with a short block


def simulated(executor=None, steps=3, **more):
    found = lr.simulate(RULE, AT, steps, CHAINS, seed=3, executor=executor, **more)
    return found.means.tolist(), found.covariance.tolist()


def test_the_number_of_threads_does_not_matter():
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(7) as seven:
        assert simulated() == simulated(one) == simulated(seven)


def test_progress_counts_the_chains_up_to_all_of_them():
    told = []
    simulated(progress=lambda done, of: told.append((done, of)))
    assert told[-1] == (CHAINS, CHAINS)
    assert told == sorted(told) and len(told) == 5


def test_the_bar_fills_and_goes_away(capsys):
    simulated(progress=lr.progress_bar)
    drawn = capsys.readouterr().err.split("\r")
    bars = [text.strip() for text in drawn if text.strip()]
    assert len(bars) == 4 and bars == sorted(bars, key=lambda bar: bar.count("#"))
    assert bars[1] == f"[{'#' * 13}{'.' * 17}] {4 * monte_carlo.BLOCK:,}/{CHAINS:,}"
    assert drawn[-2].isspace() and drawn[-1] == ""


def test_a_step_in_place_reads_the_old_state_where_the_rule_does():
    def crossed(theta, v, *, grad, eta):  # each new state reads both old ones
        return v + eta * theta**2, theta - eta * grad(theta) * v

    def after_another(theta, before, *, grad, eta):
        return theta - eta * grad(theta), theta

    rng = np.random.default_rng(0)
    zoo = (getattr(lr.optimizers, name) for name in ("sgd", "heavy_ball", "nesterov", "averaged", "summed", "adam"))
    for rule in (*zoo, crossed, after_another):
        for landscape in (lr.landscapes.double_well(), lr.landscapes.linear_regression()):
            rec = lr.trace(rule, landscape)
            parameters = rng.uniform(0.1, 0.4, len(rec.parameters))
            state, draws = rng.uniform(1, 2, (len(rec.state), 3)), rng.normal(size=(len(rec.noises), 3))
            letters = (*rec.parameters, *rec.state, *(s for s, _ in rec.noises))
            whole = sp.lambdify(letters, rec.next_state, "math")
            expected = np.transpose([whole(*parameters, *state[:, k], *draws[:, k]) for k in range(3)])
            stepper = monte_carlo._stepper(rec)
            arrays = np.full((stepper.arrays, 3), np.nan)
            arrays[: len(state)], arrays[len(state) : len(state) + len(draws)] = state, draws
            stepper.bind(parameters, list(arrays))()
            np.testing.assert_allclose(arrays[: len(state)], expected, rtol=1e-10)


def test_a_cluster_gives_the_same_numbers_even_if_a_worker_is_killed():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=":0", silence_logs=50) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        (victim,) = client.run(os.getpid).values()
        told = []

        def kill_once(done, of):
            told.append(done)
            if len(told) == 1:
                os.kill(victim, signal.SIGKILL)

        found = simulated(client.get_executor(), steps=400, progress=kill_once)  # two of five tasks are under way then
        assert len(told) == 5
    assert found == simulated(steps=400)
