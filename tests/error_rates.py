"""How often the ledger errs: its simulations repeated over many seeds, and counted.

    python tests/error_rates.py --seeds 200 --workers 2

A seed is one line of JSON in the log, written when it is done: a run that was stopped goes on where it was.
Lines that another state of the package has left, and half a line, are passed over.
The counts go into book/error_rates.json, which the page of the ledger shows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from functools import cache, partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import lrtheory as lr  # noqa: E402
from lrtheory.doubt import FALSE_ALARM, sidak  # noqa: E402

FIRST = 10_000_000  # the page and the tests use small seeds, and sizes were chosen with small seeds
LEVELS = (0.05, 0.01, 0.001)  # two-sided, for one test alone
WIDTH, ENDS = 0.1, 4.0  # the bins of the histogram of z; the first and the last are open
Record = dict[str, Any]


@cache
def state() -> str:
    """A short name for the package as it is now."""
    key = hashlib.sha256()
    for path in sorted((ROOT / "lrtheory").rglob("*.py")):
        key.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return key.hexdigest()[:12]


def simulated() -> list[str]:
    """The claims that a simulation witnesses."""
    return [id for id, claim in lr.claims().items() if claim.simulable and claim.about is not None]


# --- the run -------------------------------------------------------------------------------------------------------


def _bounded(z: float) -> float:
    return round(max(-1e6, min(z, 1e6)), 3)  # JSON has no infinity


def one_seed(seed: int, ids: Sequence[str]) -> Record:
    """What the simulations of these claims say at one seed, sized as `lr.check` sizes them."""
    package = state()  # before anything is run: the files may change meanwhile
    start, heard = time.process_time(), {}
    with ThreadPoolExecutor(1) as thread:  # the processes share the cores already
        for id in ids:
            verdict = lr.check(id, seed, thread, witnesses=("simulation",))
            (witness,) = verdict.witnesses
            heard[id] = {
                "passed": witness.passed,
                "z": None if witness.z is None else _bounded(witness.z),
                "chains": verdict.chains,
                "rivals": [_bounded(r.z) for r in verdict.rivals if r.z is not None],
                "missed": [r.z is not None and not r.rejected for r in verdict.rivals],
                # the mutants of a root or a minimum are left to enumeration
                "mutants": [verdict.made, verdict.killed["simulation"]] if "simulation" in verdict.killed else [0, 0],
            }
    made = time.strftime("%Y-%m-%d", time.gmtime())
    return {"seed": seed, "state": package, "made": made, "cpu": time.process_time() - start, "claims": heard}


def read(log: Path, ids: Sequence[str]) -> dict[int, Record]:
    """The finished seeds of a log that belong to this package and these claims."""
    found: dict[int, Record] = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:  # half a line: the run was stopped while it wrote
            continue
        if record["state"] == state() and list(record["claims"]) == list(ids):
            found[record["seed"]] = record
    return found


def _records(seeds: Iterable[int], ids: Sequence[str], workers: int) -> Iterator[Record]:
    task = partial(one_seed, ids=ids)
    if workers == 1:
        yield from map(task, seeds)
        return
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # read by the processes as they start
        os.environ.setdefault(name, "1")
    # an interrupt is for this process: the others finish their seeds
    quiet = signal.signal, (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(workers, get_context("spawn"), *quiet) as pool:
        waiting = [pool.submit(task, seed) for seed in seeds]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _bar(done: int, seeds: int, rejected: int, left: float) -> None:
    text = f"seeds, {rejected} rejected, {left / 60:.0f} min left"
    if sys.stderr.isatty():
        lr.progress_bar(done, seeds, text)
    else:
        print(f"{done}/{seeds} {text}", file=sys.stderr)


def run(log: Path, seeds: int, workers: int, ids: Sequence[str]) -> list[Record]:
    """The records of the first so many seeds; what the log lacks is computed, and written to it."""
    wanted = range(FIRST, FIRST + seeds)
    found = {seed: record for seed, record in read(log, ids).items() if seed in wanted}
    missing = [seed for seed in wanted if seed not in found]
    log.parent.mkdir(parents=True, exist_ok=True)
    whole = not log.exists() or log.read_bytes().endswith(b"\n") or log.stat().st_size == 0
    start = time.monotonic()
    with log.open("a") as out:
        out.write("" if whole else "\n")
        for i, record in enumerate(_records(missing, ids, workers), 1):
            out.write(json.dumps(record) + "\n")
            out.flush()
            found[record["seed"]] = record
            left = (time.monotonic() - start) / i * (len(missing) - i)
            _bar(len(found), seeds, sum(map(rejected, found.values())), left)
    return [found[seed] for seed in sorted(found)]


# --- the counts ----------------------------------------------------------------------------------------------------


def rejected(record: Record) -> bool:
    """Whether a simulation of this seed rejects its claim, which by the other witnesses is true."""
    return not all(heard["passed"] for heard in record["claims"].values())


def share(count: int, tests: int) -> Record:
    """A count with the exact 95 % interval of its share (Clopper and Pearson)."""
    from scipy.stats import binomtest

    interval = binomtest(count, tests).proportion_ci(0.95, "exact") if tests else (0.0, 1.0)
    return {"count": count, "tests": tests, "interval": [float(f"{end:.6g}") for end in interval]}


def histogram(zs: Sequence[float]) -> list[int]:
    """How many z lie in each bin; the first and the last are open."""
    bins = [0] * (2 + round(2 * ENDS / WIDTH))
    for z in zs:
        bins[min(max(math.floor((z + ENDS) / WIDTH + 1e-9) + 1, 0), len(bins) - 1)] += 1
    return bins


def distance(counts: Sequence[int]) -> tuple[float, float]:
    """How far the counts are from the standard normal law (Kolmogorov), and how often chance does worse, at most.

    The distance is taken at the edges of the bins, where it is at most the one of the unbinned numbers.
    """
    from scipy.special import ndtr
    from scipy.stats import kstwo

    total, below, farthest = sum(counts), 0, 0.0
    for i, count in enumerate(counts[:-1]):
        below += count
        farthest = max(farthest, abs(below / total - float(ndtr(WIDTH * i - ENDS))))
    return farthest, float(kstwo.sf(farthest, total))


def unusual(claims: dict[str, Record]) -> list[str]:
    """The claims whose z have a mean that is not 0, or a spread that is not 1, with 1 % of error over them all."""
    from scipy.special import ndtr
    from scipy.stats import chi2

    tested = {id: c for id, c in claims.items() if c["sd"] is not None}
    bound = 1 - (1 - FALSE_ALARM) ** (1 / max(2 * len(tested), 1))

    def chances(c: Record) -> tuple[float, float]:
        below = float(chi2.cdf((c["tests"] - 1) * c["sd"] ** 2, c["tests"] - 1))
        return 2 * float(ndtr(-abs(c["mean"]) * math.sqrt(c["tests"]))), 2 * min(below, 1 - below)

    return [id for id, c in tested.items() if min(chances(c)) < bound]


def _scatter(zs: Sequence[float | None]) -> list[float]:
    """The z of a claim at all seeds; none if it has none, or if its simulation gives the same number every time."""
    numbers = [z for z in zs if z is not None]
    return numbers if any(numbers) else []


def _of_claim(claim: lr.ledger.Claim, heard: Sequence[Record]) -> Record:
    from scipy.special import ndtri

    zs = _scatter([h["z"] for h in heard])
    by_rival = zip(*(h["rivals"] for h in heard), strict=True)
    missed = zip(*(h["missed"] for h in heard), strict=True)
    return {
        "relation": type(claim.relation).__name__,
        "tests": len(heard),
        "alarms": sum(not h["passed"] for h in heard),
        "beyond": [sum(abs(z) > -float(ndtri(level / 2)) for z in zs) for level in LEVELS] if zs else None,
        "mean": round(mean(zs), 4) if zs else None,
        "sd": round(stdev(zs), 4) if len(zs) > 1 else None,
        "farthest": max(zs, key=abs, default=None),
        "chains": int(median(h["chains"] for h in heard)),
        "mutants": [sum(h["mutants"][i] for h in heard) for i in (0, 1)],
        "rivals": [
            {"story": rival.story, "tests": len(z), "missed": sum(m), "nearest": min(map(abs, z))}
            for rival, z, m in zip(claim.rivals, by_rival, missed, strict=True)
        ],
    }


def summary(records: Sequence[Record]) -> Record:
    """Everything that is kept of a run: counts, their shares with intervals, and where and when they were made."""
    heard = {id: [r["claims"][id] for r in records] for id in records[0]["claims"]}
    claims = {id: _of_claim(lr.claim(id), at_seeds) for id, at_seeds in heard.items()}
    zs = [z for at_seeds in heard.values() for z in _scatter([h["z"] for h in at_seeds])]
    rivals = [r for c in claims.values() for r in c["rivals"]]
    counts = histogram(zs)
    far, chance = distance(counts)
    beyond = [c["beyond"] for c in claims.values() if c["beyond"] is not None]
    return {
        "made": {
            "first": min(r["made"] for r in records),
            "last": max(r["made"] for r in records),
            "first_seed": records[0]["seed"],
            "seeds": len(records),
            "cpu_hours": round(sum(r["cpu"] for r in records) / 3600, 2),
            "package": records[0]["state"],
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "scipy", "sympy")},
        },
        "claims_in_all": len(lr.claims()),
        "threshold": sidak(len(lr.claims())),
        "suite": {"planned": FALSE_ALARM, **share(sum(map(rejected, records)), len(records))},
        "levels": [{"level": level, **share(sum(b[i] for b in beyond), len(zs))} for i, level in enumerate(LEVELS)],
        "rivals": share(sum(r["missed"] for r in rivals), sum(r["tests"] for r in rivals)),
        "mutants": [sum(c["mutants"][i] for c in claims.values()) for i in (0, 1)],
        "z": {"width": WIDTH, "ends": ENDS, "counts": counts, "distance": round(far, 6), "chance": round(chance, 6)},
        "unusual": unusual(claims),
        "claims": claims,
    }


def as_text(kept: Record) -> str:
    """The summary as JSON, one claim on a line."""
    rows = {**kept, "claims": "%"}
    claims = ",\n".join(f"  {json.dumps(id)}: {json.dumps(claim)}" for id, claim in kept["claims"].items())
    body = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in rows.items())
    return "{\n" + body.replace('"%"', "{\n" + claims + "\n }") + "\n}\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Repeat the ledger's simulations over many seeds, and count errors.")
    parser.add_argument("ids", nargs="*", help="claims (default: all that are simulated)")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--log", type=Path, default=ROOT / "_build" / "error_rates.jsonl")
    parser.add_argument("--summary", type=Path, default=ROOT / "book" / "error_rates.json")
    args = parser.parse_args(arguments)
    try:
        records = run(args.log, args.seeds, args.workers, args.ids or simulated())
    except KeyboardInterrupt:
        sys.exit(f"stopped; {args.log} keeps the seeds that are done, and the same command goes on from there")
    args.summary.write_text(as_text(summary(records)))
    print(f"{args.summary} counts {len(records)} seeds", file=sys.stderr)


if __name__ == "__main__":
    main()
