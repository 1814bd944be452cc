"""Chain-steps per second, next to plain NumPy and next to the raw generator alone, as ratios in one run."""

import os
import platform
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import lrtheory as lr
from lrtheory.monte_carlo import BLOCK

STEPS, CHAINS, ROUNDS = 64, 1 << 19, 5
AT = {"eta": 0.1, "lam": 1.0, "sigma": 1.0}
REC = lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic(lr.noise.gaussian))


def ours(threads: int, dtype: str) -> None:
    with ThreadPoolExecutor(threads) as pool:
        lr.simulate(REC, AT, STEPS, CHAINS, executor=pool, dtype=dtype)


def generator(threads: int, dtype: str) -> None:
    """The limit: the same number of normal draws, same block, nothing else."""

    def draw(seed: int) -> None:
        rng, out = np.random.Generator(np.random.SFC64(seed)), np.empty(BLOCK, dtype)
        for _ in range(STEPS * CHAINS // BLOCK // threads):
            rng.standard_normal(out=out, dtype=out.dtype.type)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(draw, range(threads)))


def plain(threads: int, dtype: str) -> None:
    """As a reader would write it."""
    rng = np.random.default_rng(0)
    theta = np.zeros(CHAINS, dtype)
    for _ in range(STEPS):
        gradient = AT["lam"] * theta + AT["sigma"] * rng.standard_normal(CHAINS, dtype=theta.dtype.type)
        theta = theta - AT["eta"] * gradient


def main() -> None:
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}")
    print(f"SGD on a quadratic: {CHAINS:,} chains of {STEPS} steps, median of {ROUNDS} rounds (lowest to highest)\n")
    contenders = {"raw generator (the limit)": generator, "lrtheory": ours, "plain NumPy": plain}
    print(f"{'':<28}{'dtype':<10}{'threads':<9}{'chain-steps/s':<30}of the limit")
    for dtype in ("float64", "float32"):
        for threads in sorted({1, os.cpu_count() or 1}):
            speeds: dict[str, list[float]] = {name: [] for name in contenders}
            for _ in range(ROUNDS + 1):  # in turn, so that a slow moment of the machine hits all of them
                for name, run in contenders.items():
                    start = time.perf_counter()
                    run(threads, dtype)
                    speeds[name].append(STEPS * CHAINS / (time.perf_counter() - start))
            limits = speeds["raw generator (the limit)"][1:]  # the first round warms up
            for name, values in speeds.items():
                ratio = statistics.median(v / limit for v, limit in zip(values[1:], limits, strict=True))
                low, middle, high = min(values[1:]), statistics.median(values[1:]), max(values[1:])
                used = 1 if name == "plain NumPy" else threads
                print(f"{name:<28}{dtype:<10}{used:<9}{f'{middle:.2e} ({low:.1e} to {high:.1e})':<30}{ratio:.2f}")


if __name__ == "__main__":
    main()
