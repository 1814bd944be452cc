"""Symbolic work under the clock: deriving every claim from scratch, and what a fresh process pays to start.

Times are of the processor, so that other work on the machine counts little.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROUNDS, SLOWEST = 7, 10
EVALUATE = ("-m", "lrtheory", "evaluate", "noise_floor.variance", "eta=1/10", "lam=1", "sigma=1")
STARTS = {
    "import sympy": ("-c", "import sympy"),
    "import lrtheory": ("-c", "import lrtheory"),
    # SymPy loads a part of itself at the first sum
    "import numpy and sympy, and add": ("-c", "import numpy, sympy; sympy.Symbol('x') + 1"),
    "trace a rule": ("-c", "import lrtheory as lr; lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic())"),
    "evaluate a claim": EVALUATE,
}
Row = tuple[str, float, str]


def derivations() -> dict[str, float]:
    """Seconds to derive each claim that has a derivation, in this process, one after the other."""
    import lrtheory as lr

    seconds = {}
    for id in lr.claims():
        start = time.process_time()
        verdict = lr.check(id, witnesses=["derivation"])
        for derivation in verdict.witnesses:
            if not derivation.passed:
                raise AssertionError(str(verdict))
            seconds[id] = time.process_time() - start
    return seconds


def _fresh(*arguments: str, compiled: str = "") -> tuple[float, str]:
    """Processor seconds and output of a fresh Python; `compiled` is where it keeps what it compiles."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": compiled, "PYTHONPATH": str(ROOT)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def starts(rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of each start, round by round, in turn; the first round, which compiles, is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in STARTS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds + 1):
            for name, arguments in STARTS.items():
                seconds[name].append(_fresh(*arguments, compiled=folder)[0])
    return {name: values[1:] for name, values in seconds.items()}


def measure() -> list[Row]:
    """What was measured, its value and its unit."""
    whole, output = _fresh(__file__, "derivations")
    derived = json.loads(output)
    rows: list[Row] = [
        ("claims with a derivation", len(derived), "claims"),
        ("derive them all in a fresh process", whole, "s"),
    ]
    slowest = sorted(derived.items(), key=lambda item: -item[1])[:SLOWEST]
    rows += [(f"derive {id}", seconds, "s") for id, seconds in slowest]
    seconds = starts()
    rows += [(name, statistics.median(values), "s") for name, values in seconds.items()]
    for name, other in (("import lrtheory", "import sympy"), ("evaluate a claim", "import numpy and sympy, and add")):
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds[other], strict=True))
        rows.append((f"{name}, next to {other}", ratio, "times"))
    return rows


if __name__ == "__main__":
    if sys.argv[1:] == ["derivations"]:
        print(json.dumps(derivations()))
    else:
        for what, value, unit in measure():
            print(f"{what:<55}{value:8.3f} {unit}")
