"""Mutation testing of the modules that everything rests on: one small change at a time, and a test should fail.

Run by hand, `make mutation`.  Cosmic Ray makes the mutants; a fixed seed chooses a sample of each module.  Every mutant
gets a process of its own, forked from this one when NumPy, SymPy and SciPy are loaded: it imports the changed module
without a file being written, and runs the short list of tests in mutation.toml up to the first failure.  What survives
meets the long list.  mutation.toml also names the mutants that a person has read and found to be no fault, and why.
The result goes to book/mutation.json, under the sample's seed.  A run goes on where it stopped: what
_build/mutation.jsonl says was killed is not run again.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import gc
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import platform
import random
import re
import signal
import sys
import tempfile
import tomllib
import traceback
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "tests/mutation.toml").read_text(encoding="utf-8"))
RECORD = ROOT / "book/mutation.json"
MEMORY = 8 << 30  # bytes of address space: a mutant may ask for any amount
KILLED = {signal.SIGXCPU: "out of time", signal.SIGALRM: "out of time", signal.SIGKILL: "out of time"}


class Mutant(NamedTuple):
    module: str
    line: int
    change: str  # "the line before -> the line after"
    operator: str
    source: str


def annotated(source: str) -> list[tuple[int, int, int, int]]:
    """Where annotations stand, which nobody evaluates: line and column of the beginning and of the end."""
    nodes = [
        note
        for node in ast.walk(ast.parse(source))
        for note in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if note is not None
    ]
    return [(n.lineno, n.col_offset, n.end_lineno or 0, n.end_col_offset or 0) for n in nodes]


def mutants(module: str, size: int, seed: int) -> tuple[int, list[Mutant]]:
    """How many mutants there are, and a sample of so many (0: all)."""
    from cosmic_ray import mutating, plugins
    from cosmic_ray.commands import init
    from cosmic_ray.work_db import use_db

    path = ROOT / "lrtheory" / f"{module}.py"
    source = path.read_text(encoding="utf-8")
    notes, lines = annotated(source), source.splitlines()
    with use_db(":memory:") as db:
        init([path], db, {})
        found = [item.mutations[0] for item in db.work_items]
    found = [m for m in found if not any((a, b) <= m.start_pos < (c, d) for a, b, c, d in notes)]
    found.sort(key=lambda m: (m.start_pos, m.operator_name, m.occurrence))
    sample = []
    for m in random.Random(f"{seed} {module}").sample(found, min(size or len(found), len(found))):
        operator = plugins.get_operator(m.operator_name)(**m.operator_args)
        mutated = mutating.mutate_code(source, operator, m.occurrence)
        now, line = mutated.splitlines(), m.start_pos[0]
        same = next(i for i, (old, new) in enumerate(zip(lines, now, strict=False)) if old != new)
        change = f"{lines[same].strip()} -> {now[same].strip()}"
        sample.append(Mutant(module, line, change, m.operator_name.split("/")[-1], mutated))
    return len(found), sample


class Changed(importlib.abc.MetaPathFinder):
    """Finds one module, with the text of its mutant; a plugin of pytest, whose own finder would come first."""

    def __init__(self, name: str, source: str):
        self.name, self.source = name, source

    def pytest_sessionstart(self) -> None:
        sys.meta_path.insert(0, self)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        text = self.source

        class Loader(importlib.machinery.SourceFileLoader):
            def get_code(self, fullname: str) -> Any:
                return compile(text, self.path, "exec", dont_inherit=True)

        file = str(ROOT / f"{fullname.replace('.', '/')}.py")
        return importlib.util.spec_from_file_location(fullname, file, loader=Loader(fullname, file))


def run_tests(mutant: Mutant | None, tests: list[str], seconds: int, output: int) -> int:
    """In the forked process: the exit status of pytest."""
    import resource

    import pytest

    os.dup2(output, 1)
    os.dup2(output, 2)
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 2))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.alarm(20 * seconds)  # of waiting, too
    plugins = [] if mutant is None else [Changed(f"lrtheory.{mutant.module}", mutant.source)]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:unraisableexception", "--color=no", "--tb=line"]
    return int(pytest.main([*options, *tests], plugins=plugins))


def outcomes(jobs: list[tuple[Mutant | None, list[str], int]], workers: int) -> Iterator[tuple[int, str, float]]:
    """Runs the jobs; gives, as they end, the number of each, what killed it ("" for a survivor), and its seconds."""
    waiting, running = list(enumerate(jobs)), {}
    while waiting or running:
        while waiting and len(running) < workers:
            number, job = waiting.pop(0)
            output = tempfile.TemporaryFile()  # noqa: SIM115
            pid = os.fork()
            if pid == 0:
                status = 99
                try:
                    status = run_tests(*job, output.fileno())
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stdout.flush()
                    os._exit(status)
            running[pid] = number, output
        pid, status, used = os.wait4(-1, 0)
        number, output = running.pop(pid)
        output.seek(0)
        text = output.read().decode(errors="replace")
        output.close()
        if os.WIFSIGNALED(status):
            killer = KILLED.get(os.WTERMSIG(status), f"signal {os.WTERMSIG(status)}")
        elif os.WEXITSTATUS(status) == 0:
            killer = ""
        else:
            failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
            killer = failed[0] if failed else f"exit {os.WEXITSTATUS(status)}: {text[-200:].strip()}"
        yield number, killer, used.ru_utime + used.ru_stime


def sha(mutant: Mutant) -> str:
    return hashlib.sha256(mutant.source.encode()).hexdigest()[:16]


def interval(killed: int, tried: int) -> list[float]:
    """Clopper and Pearson's interval of 95 % for a share."""
    from scipy.stats import binomtest

    found = binomtest(killed, tried).proportion_ci(0.95, "exact")
    return [round(float(found.low), 4), round(float(found.high), 4)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modules", nargs="*", default=list(SETTINGS["modules"]))
    parser.add_argument("--sample", type=int, default=SETTINGS["sample"], help="mutants of each module; 0: all")
    parser.add_argument("--seed", type=int, default=SETTINGS["seed"], help="another sample, which nobody has read")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="only the mutants whose change contains this text")
    parser.add_argument("--quick", action="store_true", help="without the long list, and without a record")
    parser.add_argument("--time", action="store_true", help="only run the tests on the unchanged modules, each alone")
    parser.add_argument("--log", default=str(ROOT / "_build/mutation.jsonl"), help="one line for each mutant")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    os.chdir(ROOT)
    import matplotlib  # noqa: F401  # what every mutant would import again
    import mpmath  # noqa: F401
    import pytest  # noqa: F401
    import scipy.integrate
    import scipy.optimize
    import scipy.special
    import scipy.stats  # noqa: F401
    import sympy  # noqa: F401

    gc.freeze()  # what is loaded by now is never garbage: pytest collects at the end of every run
    seconds = SETTINGS["seconds"]
    if options.time:
        for module in options.modules:
            short, long = SETTINGS["modules"][module]["short"], SETTINGS["modules"][module]["long"]
            tests = [[t] for t in short + long] + [short, long]
            for number, killer, used in outcomes([(None, t, 20 * seconds) for t in tests], options.workers):
                print(f"{module}: {used:6.2f} s {killer or 'passes'}  {' '.join(tests[number])[:150]}", flush=True)
        return
    found: dict[str, Any] = {}
    log = Path(options.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    for module in options.modules:
        lists = SETTINGS["modules"][module]
        known = {e["change"]: e["why"] for e in SETTINGS.get("harmless", []) if e["module"] == module}
        made, sample = mutants(module, options.sample, options.seed)
        sample = [m for m in sample if options.only in m.change]
        empty = Mutant(module, 0, "", "", 'raise AssertionError("the changed module is read")\n')
        checks = [(None, lists["short"] + lists["long"], 40 * seconds), (empty, lists["short"][-1:], 40 * seconds)]
        unchanged, changed = (killer for _, killer, _ in sorted(outcomes(checks, options.workers)))
        assert not unchanged and changed, (module, unchanged, changed)
        killed_before = (
            {}
            if not log.exists()
            else {row["sha"]: row["killer"] for row in map(json.loads, log.read_text(encoding="utf-8").splitlines())}
        )
        killers = {i: killed_before.get(sha(m), "") for i, m in enumerate(sample)}
        left = list(range(len(sample)))
        for tests, limit in ((lists["short"], seconds), (lists["long"], 20 * seconds))[: 1 if options.quick else 2]:
            # what is known to be harmless need not meet the long list
            left = [
                i for i in left if not killers.get(i) and (tests is lists["short"] or sample[i].change not in known)
            ]
            for number, killer, used in outcomes([(sample[i], tests, limit) for i in left], options.workers):
                m, killers[left[number]] = sample[left[number]], killer
                with log.open("a", encoding="utf-8") as out:
                    line = {
                        "sha": sha(m),
                        **m._asdict(),
                        "killer": killer,
                        "seconds": round(used, 2),
                        "long": tests is lists["long"],
                    }
                    del line["source"]
                    out.write(json.dumps(line) + "\n")
        killed = sum(map(bool, killers.values()))
        survivors = [m for i, m in enumerate(sample) if not killers[i]]
        harmless = sum(m.change in known for m in survivors)
        found[module] = {
            "made": made,
            "sampled": len(sample),
            "killed": killed,
            "harmless": harmless,
            "left": len(survivors) - harmless,
            "share_killed": round(killed / len(sample), 4) if sample else None,
            "interval": interval(killed, len(sample)) if sample else None,
        }
        print(module, found[module], flush=True)
        for m in survivors:
            print(f"  {module}:{m.line} {m.operator}: {m.change}   {known.get(m.change, 'LEFT')}", flush=True)
    if not options.only and not options.quick and options.modules == list(SETTINGS["modules"]):
        record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
        record[str(options.seed)] = {
            "date": datetime.date.today().isoformat(),
            "tool": f"cosmic-ray {version('cosmic-ray')}",
            "python": platform.python_version(),
            "modules": found,
        }
        RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
