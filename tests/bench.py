"""How fast the package is, next to what else a reader could use, as ratios in one run; `make bench` writes the table.

    python tests/bench.py                    every part, into book/speed.json
    python tests/bench.py simulate curves    only these parts; the others keep their last numbers

Contenders take turns, round by round, so that a slow moment of the machine hits all of them; a ratio is taken within
a round, and its median is reported.  A contender that is not installed is left out.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import lrtheory as lr  # noqa: E402
from lrtheory.monte_carlo import BLOCK, simulate  # noqa: E402

RESULT = ROOT / "book" / "speed.json"
STEPS, CHAINS, ROUNDS = 256, 1 << 15, 4  # chains for each core
ETA, LAM, SIGMA, BETA = 0.1, 1.0, 1.0, 0.5
GAUSSIAN = lr.noise.gaussian
RULES = {
    "SGD": lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic(GAUSSIAN)),
    "momentum": lr.trace(lr.optimizers.heavy_ball, lr.landscapes.quadratic(GAUSSIAN)),
    "LMS": lr.trace(lr.optimizers.sgd, lr.landscapes.linear_regression(GAUSSIAN)),
}
LIMIT, OURS, SIGNS = "raw generator", "lrtheory", "lrtheory, ±1 noise"
CORES = os.cpu_count() or 1


def settings(rec: lr.Recursion) -> dict[str, float]:
    known = {"eta": ETA, "lam": LAM, "sigma": SIGMA, "beta": BETA}
    return {s.name: known[s.name] for s in rec.parameters}


# --- contenders: each returns the mean of theta**2 after the last step, so that a wrong one is found ------------------


def raw_generator(rule: str, dtype: str, cores: int, chains: int) -> None:
    """The limit: the same number of normal draws into one block after the other, and nothing else."""
    draws = len(RULES[rule].noises) * STEPS * chains // BLOCK // cores

    def draw(seed: int) -> None:
        rng, out = np.random.Generator(np.random.SFC64(seed)), np.empty(BLOCK, dtype)
        for _ in range(draws):
            rng.standard_normal(out=out, dtype=out.dtype.type)

    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(draw, range(cores)))


def ours(rule: str, dtype: str, cores: int, chains: int) -> float:
    rec = RULES[rule]
    with ThreadPoolExecutor(cores) as pool:
        return simulate(rec, settings(rec), STEPS, chains, executor=pool, dtype=dtype)[rec.state[0] ** 2][0]


def with_signs(rule: str, dtype: str, cores: int, chains: int) -> float:
    """A noise of one random bit: the same mean and variance, hence the same second moments, where noise is additive."""
    rec = RULES[rule].with_noise(lr.noise.rademacher)
    with ThreadPoolExecutor(cores) as pool:
        return simulate(rec, settings(rec), STEPS, chains, executor=pool, dtype=dtype)[rec.state[0] ** 2][0]


def plain_numpy(rule: str, dtype: str, cores: int, chains: int) -> float:
    """As a reader would write it."""
    rng, kind = np.random.default_rng(0), np.dtype(dtype).type
    theta = np.zeros(chains, dtype)
    v = np.zeros(chains, dtype)
    for _ in range(STEPS):
        if rule == "LMS":
            x = rng.standard_normal(chains, dtype=kind)
            y = SIGMA * rng.standard_normal(chains, dtype=kind)
            gradient = x * (x * theta - y)
        else:
            gradient = LAM * theta + SIGMA * rng.standard_normal(chains, dtype=kind)
        if rule == "momentum":
            v = BETA * v + gradient
            theta = theta - ETA * v
        else:
            theta = theta - ETA * gradient
    return float(np.mean(theta**2, dtype=float))


def numba_loop() -> Callable[[str, str, int, int], float]:
    import numba

    @numba.njit(parallel=True)
    def run(rule, zero, chains):
        last = np.empty(chains, np.float64)
        eta, lam, sigma, beta = zero + ETA, zero + LAM, zero + SIGMA, zero + BETA
        for i in numba.prange(chains):
            theta, v = zero, zero
            for _ in range(STEPS):
                xi = zero + np.random.standard_normal()  # noqa: NPY002, Numba has no other in parallel loops
                if rule == 2:
                    x = zero + np.random.standard_normal()  # noqa: NPY002
                    gradient = x * (x * theta - sigma * xi)
                else:
                    gradient = lam * theta + sigma * xi
                if rule == 1:
                    v = beta * v + gradient
                    theta -= eta * v
                else:
                    theta -= eta * gradient
            last[i] = theta
        return np.mean(last**2)

    def contender(rule: str, dtype: str, cores: int, chains: int) -> float:
        return run(list(RULES).index(rule), np.dtype(dtype).type(0), chains)

    return contender


def jax_scan() -> Callable[[str, str, int, int], float]:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def run(key, rule, dtype, chains):
        def step(carry, key):
            theta, v = carry
            one, two = jax.random.split(key)
            xi = jax.random.normal(one, (chains,), dtype)
            if rule == "LMS":
                x = jax.random.normal(two, (chains,), dtype)
                gradient = x * (x * theta - SIGMA * xi)
            else:
                gradient = LAM * theta + SIGMA * xi
            v = BETA * v + gradient if rule == "momentum" else gradient
            return (theta - ETA * v, v), None

        zero = jnp.zeros(chains, dtype)
        (theta, _), _ = jax.lax.scan(step, (zero, zero), jax.random.split(key, STEPS))
        return jnp.mean(theta.astype("float64") ** 2)

    compiled = jax.jit(run, static_argnums=(1, 2, 3))
    return lambda rule, dtype, cores, chains: float(compiled(jax.random.key(0), rule, dtype, chains))


def torch_arrays() -> Callable[[str, str, int, int], float]:
    import torch

    def contender(rule: str, dtype: str, cores: int, chains: int) -> float:
        torch.set_num_threads(cores)
        theta = torch.zeros(chains, dtype=getattr(torch, dtype))
        v, x, xi = torch.zeros_like(theta), torch.empty_like(theta), torch.empty_like(theta)
        for _ in range(STEPS):
            xi.normal_()
            if rule == "LMS":
                x.normal_()
                gradient = x * (x * theta - SIGMA * xi)
            else:
                gradient = LAM * theta + SIGMA * xi
            if rule == "momentum":
                v.mul_(BETA).add_(gradient)
                theta.sub_(v, alpha=ETA)
            else:
                theta.sub_(gradient, alpha=ETA)
        return float((theta.double() ** 2).mean())

    return contender


def contenders() -> dict[str, Callable[..., Any]]:
    found = {LIMIT: raw_generator, OURS: ours, SIGNS: with_signs, "plain NumPy": plain_numpy}
    for name, module, make in (
        ("Numba", "numba", numba_loop),
        ("JAX", "jax", jax_scan),
        ("PyTorch", "torch", torch_arrays),
    ):
        if importlib.util.find_spec(module):
            found[name] = make()
    return found


def simulations(cores: int) -> list[dict[str, Any]]:
    """Rows of one number of cores; the process has no more than these."""
    rows, chains = [], CHAINS * cores
    for rule, rec in RULES.items():
        exact = float(lr.stationary(rec).evaluate(rec.state[0] ** 2, settings(rec)))
        for dtype in ("float64", "float32"):
            entrants = {n: run for n, run in contenders_here.items() if n != SIGNS or rule != "LMS"}
            speeds: dict[str, list[float]] = {name: [] for name in entrants}
            for _ in range(ROUNDS + 1):
                for name, run in entrants.items():
                    start = time.perf_counter()
                    found = run(rule, dtype, cores, chains)
                    speeds[name].append(STEPS * chains / (time.perf_counter() - start))
                    assert found is None or abs(found / exact - 1) < 0.05, (name, rule, dtype, found, exact)
            for name, values in speeds.items():
                ratios = [v / limit for v, limit in zip(values[1:], speeds[LIMIT][1:], strict=True)]  # 0 warms up
                rows.append({"rule": rule, "dtype": dtype, "cores": cores, "contender": name}
                            | spread("speed", values[1:]) | spread("ratio", ratios))  # fmt: skip
    return rows


def spread(name: str, values: list[float]) -> dict[str, list[float]]:
    """Median, least and largest, of four digits."""
    return {name: [float(f"{f(values):.4g}") for f in (statistics.median, min, max)]}


def part_simulate() -> list[dict[str, Any]]:
    """Each number of cores in a process of its own, which is given no more: some libraries take all they find."""
    rows = []
    for cores in sorted({1, CORES}):
        env = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), str(cores))
        command = [sys.executable, __file__, "--cores", str(cores)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        rows += json.loads(done.stdout)
    return rows


# --- exact curves -----------------------------------------------------------------------------------------------------


def seconds(run: Callable[[], Any], rounds: int = 3) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        if sum(times) > 2:
            break
    return float(f"{statistics.median(times):.3g}")


def part_curves() -> list[dict[str, Any]]:
    """`expected_loss` after all steps: a schedule of one drop, and a cosine, whose rate changes at every step.

    `simulated` is how long `simulate` takes for the same loss with a standard error of 1 %: a mean of squares of a
    Gaussian needs 20,000 chains for each curvature.  It is measured where that takes seconds, and `estimated` from the
    speed there elsewhere.
    """
    rec, enough = RULES["SGD"], 20_000
    speed = 0.0
    rows = []
    for modes in (10, 1_000, 100_000, 1_000_000):
        lams = np.geomspace(1e-3, 1, modes)
        for steps in (100, 10_000, 1_000_000):
            drop, work = lr.schedules.drop(0.5, 0.05, steps // 2), modes * steps

            def exact(schedule, lams=lams, steps=steps):
                return lr.expected_loss(schedule, lams, 1.0, 1.0, steps, at=[steps])[0]

            def naive(lams=lams, steps=steps):
                moment = np.ones_like(lams)
                for t in range(steps):
                    eta = 0.5 if t < steps // 2 else 0.05
                    moment = (1 - eta * lams) ** 2 * moment + eta**2
                return lams @ moment / 2

            def simulated(lams=lams, steps=steps, drop=drop):
                at = {"eta": lr.schedules.rates(drop, steps), "sigma": 1}
                runs = [simulate(rec, at | {"lam": lam}, steps, enough, start={"theta": 1}) for lam in lams]
                return sum(lam * run[rec.state[0] ** 2][0] for lam, run in zip(lams, runs, strict=True)) / 2

            cosine = lr.schedules.cosine(0.5, steps)
            if work <= 10**7 and steps <= 10**4:
                assert abs(exact(drop) / naive() - 1) < 1e-9
            few = work <= 3 * 10**8
            measured = None
            if work <= 10**4:
                assert abs(simulated() / exact(drop) - 1) < 0.05
                measured = seconds(simulated, 1)
                speed = enough * work / measured
            rows.append({
                "curvatures": modes, "steps": steps,
                "drop": seconds(partial(exact, drop)),
                "cosine": seconds(partial(exact, cosine), 1) if few else None,
                "naive": seconds(naive, 1) if few else None,
                "simulated": measured, "estimated": float(f"{enough * work / speed:.3g}"),
            })  # fmt: skip
    return rows


def part_least_squares() -> list[dict[str, Any]]:
    """One step of the exact moments, the long run, and what one would do instead.

    That is one step summed sample by sample (of the larger models a part of the samples, scaled up), and one step of as
    many runs as it takes to know the loss to 1 %, from the scatter of a thousand.
    """
    rows, runs = [], 1000
    lr.LeastSquares(np.eye(9), np.ones(9)).stationary_excess(0.1)  # loads what the first model would wait for
    for d in (10, 30, 100, 300, 1000):
        rng = np.random.default_rng(d)
        X, steps = rng.normal(size=(2 * d, d)), 20 if d < 300 else 2
        y = X @ rng.normal(size=d) + rng.normal(size=2 * d)
        model = lr.LeastSquares(X, y)
        start = time.perf_counter()
        eta = model.stability_limit() / 4
        model.stationary_excess(eta)
        long_run = time.perf_counter() - start
        few = X[: max(4, 10**7 // d**2)]
        P = np.eye(d)

        def sample_by_sample(few=few, P=P, eta=eta):
            total = np.zeros_like(P)
            for x in few:
                Px = P @ x
                total += P - eta * (np.outer(x, Px) + np.outer(Px, x)) + eta**2 * (x @ Px) * np.outer(x, x)
            return total / len(few)

        def simulated(X=X, y=y, model=model, eta=eta, steps=steps, rng=rng):
            theta = np.tile(model.minimum, (runs, 1))
            for _ in range(steps):
                picked = rng.integers(len(X), size=runs)
                x = X[picked]
                theta -= eta * x * (np.einsum("ij,ij->i", x, theta) - y[picked])[:, None]
            return np.mean(((theta - model.minimum) @ X.T) ** 2, axis=1) / 2

        along = seconds(lambda: model.excess_along([eta] * steps, model.minimum), 1) / steps  # noqa: B023
        loss = simulated()
        scatter, exact = loss.std() / loss.mean(), model.excess_along([eta] * steps, model.minimum)[-1]
        assert abs(loss.mean() / exact - 1) < 5 * scatter / runs**0.5
        rows.append({
            "inputs": d, "samples": 2 * d, "step": float(f"{along:.3g}"), "long run": float(f"{long_run:.3g}"),
            "sample by sample": float(f"{seconds(sample_by_sample, 1) * len(X) / len(few):.3g}"),
            "simulated": float(f"{seconds(simulated, 1) / steps * (scatter / 0.01) ** 2 / runs:.3g}"),
        })  # fmt: skip
    return rows


# --- a cluster, and what other files measure --------------------------------------------------------------------------


def part_cluster() -> list[dict[str, Any]]:
    """The same simulation by threads and by the workers of a Dask cluster on this machine."""
    if not importlib.util.find_spec("distributed"):
        return []
    from distributed import Client, LocalCluster

    rec, chains, rows, seeds = RULES["SGD"], 1 << 20, [], count()

    def speed(pool: Any) -> float:
        # Dask knows a task that it has done: a new seed each time
        return STEPS * chains / seconds(lambda: simulate(rec, settings(rec), STEPS, chains, next(seeds), pool))

    for workers in sorted({1, min(2, CORES)}):
        with (
            LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster,
            Client(cluster, set_as_default=False) as client,
            ThreadPoolExecutor(workers) as threads,
        ):
            speed(client.get_executor())  # each worker imports the package
            row = {"workers": workers, "Dask": speed(client.get_executor()), "threads": speed(threads)}
            rows.append(row | {"ratio": float(f"{row['Dask'] / row['threads']:.3g}")})
    return rows


def part_work() -> list[dict[str, Any]]:
    """The chain-steps that the check of each claim simulates; `before` was counted once, and is kept."""
    before = {row["claim"]: row["before"] for row in kept_parts().get("work", {}).get("rows", [])}
    counts = {id: lr.check(id).chain_steps for id in lr.claims()}
    return [{"claim": id, "before": before.get(id), "steps": n} for id, n in counts.items() if n or before.get(id)]


def of_another_file(module: str) -> Callable[[], list[dict[str, Any]]]:
    def part() -> list[dict[str, Any]]:
        if not importlib.util.find_spec(module):
            return []
        found = importlib.import_module(module).measure()
        return [{"what": what, "value": float(f"{value:.3g}"), "unit": unit} for what, value, unit in found]

    return part


PARTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "simulate": part_simulate,
    "curves": part_curves,
    "least_squares": part_least_squares,
    "cluster": part_cluster,
    "work": part_work,
    "symbolic": of_another_file("bench_symbolic"),
    "book": of_another_file("bench_book"),
}


def machine() -> dict[str, Any]:
    name = platform.processor() or platform.machine()
    if (cpu := Path("/proc/cpuinfo")).exists():
        name = next((x.split(":")[1].strip() for x in cpu.read_text().split("\n") if x.startswith("model name")), name)
    versions = {"Python": platform.python_version()}
    for package in ("numpy", "scipy", "sympy", "numba", "jax", "torch", "distributed"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {"processor": name, "cores": CORES, "versions": versions}


def kept_parts() -> dict[str, Any]:
    return json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}


def main(names: list[str]) -> None:
    if unknown := set(names) - set(PARTS):
        sys.exit(f"no part {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    kept = kept_parts()
    for name in names or PARTS:
        start = time.perf_counter()
        rows = PARTS[name]()
        if not rows:
            print(f"\n{name}: left out, not installed")
            continue
        taken = round(time.perf_counter() - start)
        print(f"\n{name} ({taken} s)")
        for row in rows:
            print("  " + "  ".join(f"{key} {value}" for key, value in row.items() if value is not None), flush=True)
        kept[name] = {"date": time.strftime("%Y-%m-%d"), "seconds": taken, "machine": machine(), "rows": rows}
        RESULT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--cores"]:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[2])])
        contenders_here = contenders()
        print(json.dumps(simulations(int(sys.argv[2]))))
    else:
        main(sys.argv[1:])
