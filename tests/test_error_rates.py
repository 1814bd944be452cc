"""The ledger errs as often as it plans to, and the tool that counts this counts right."""

import json
from pathlib import Path

import error_rates
import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import beta, chi2, kstest, norm

import lrtheory as lr

KEPT = json.loads((Path(__file__).parents[1] / "book" / "error_rates.json").read_text())
CLAIMS = KEPT["claims"]
TWO = ["noise_floor.mean", "noise_floor.variance"]


def exact_interval(count, tests, error=0.05):
    """Clopper and Pearson's, by the quantiles of the beta law."""
    low = beta.ppf(error / 2, count, tests - count + 1) if count else 0.0
    high = beta.ppf(1 - error / 2, count + 1, tests - count) if count < tests else 1.0
    return low, high


def shares():
    return [KEPT["suite"], KEPT["rivals"], *KEPT["levels"]]


def test_the_counts_that_are_kept_add_up():
    seeds, rivals = KEPT["made"]["seeds"], [r for c in CLAIMS.values() for r in c["rivals"]]
    scattered = [c for c in CLAIMS.values() if c["mean"] is not None]
    assert KEPT["suite"]["tests"] == seeds and all(c["tests"] == seeds for c in CLAIMS.values())
    alarms = [c["alarms"] for c in CLAIMS.values()]
    assert max(alarms) <= KEPT["suite"]["count"] <= sum(alarms)
    assert KEPT["rivals"]["tests"] == seeds * len(rivals) and all(r["tests"] == seeds for r in rivals)
    assert KEPT["rivals"]["count"] == sum(r["missed"] for r in rivals)
    assert sum(KEPT["z"]["counts"]) == seeds * len(scattered)
    for i, level in enumerate(KEPT["levels"]):
        assert level["tests"] == seeds * len(scattered)
        assert level["count"] == sum(c["beyond"][i] for c in scattered)
    assert KEPT["mutants"] == [sum(c["mutants"][i] for c in CLAIMS.values()) for i in (0, 1)]
    for share in shares():
        assert share["interval"] == pytest.approx(exact_interval(share["count"], share["tests"]), rel=1e-4)


def test_truths_are_rejected_as_rarely_as_planned():
    assert KEPT["suite"]["planned"] == 0.01
    assert exact_interval(KEPT["suite"]["count"], KEPT["suite"]["tests"], 0.01)[0] <= 0.01
    for share in KEPT["levels"]:
        low, high = exact_interval(share["count"], share["tests"], 0.001)
        assert low <= share["level"] <= high, share


def test_rivals_are_told_apart_as_often_as_planned():
    assert exact_interval(KEPT["rivals"]["count"], KEPT["rivals"]["tests"])[0] <= 0.001
    made, killed = KEPT["mutants"]
    assert killed > 0.95 * made


def test_distances_follow_the_normal_law():
    z = KEPT["z"]
    edges = np.arange(-z["ends"], z["ends"] + z["width"] / 2, z["width"])
    expected = np.diff([0, *ndtr(edges), 1]) * sum(z["counts"])
    assert len(expected) == len(z["counts"])
    gap = np.abs(np.cumsum(z["counts"]) - np.cumsum(expected)).max() / sum(z["counts"])
    assert z["distance"] == pytest.approx(gap, abs=1e-6)
    assert z["chance"] > 0.001
    # the means of the claims, each of variance 1 / seeds, and their spreads
    seeds = KEPT["made"]["seeds"]
    tried = {id: c for id, c in CLAIMS.items() if c["sd"] is not None and id not in KEPT["unusual"]}
    assert kstest([c["mean"] * seeds**0.5 for c in tried.values()], "norm").pvalue > 0.001
    assert kstest([(seeds - 1) * c["sd"] ** 2 for c in tried.values()], chi2(seeds - 1).cdf).pvalue > 0.001
    assert len(KEPT["unusual"]) <= 0.03 * len(tried), KEPT["unusual"]


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path):
    log, kept = tmp_path / "log.jsonl", tmp_path / "kept.json"
    command = [*TWO, "--seeds", "2", "--workers", "1", "--log", str(log), "--summary", str(kept)]
    error_rates.main(command)
    whole, first = log.read_text(), json.loads(kept.read_text())
    lines = whole.splitlines(keepends=True)
    log.write_text(lines[0] + lines[1][:50])  # half a line
    assert list(error_rates.read(log, TWO)) == [error_rates.FIRST]
    error_rates.main(command)
    again, second = log.read_text().splitlines(), json.loads(kept.read_text())
    assert [again[0] + "\n", again[1]] == [lines[0], lines[1][:50]] and len(again) == 3
    assert json.loads(again[2])["claims"] == json.loads(lines[1])["claims"]
    assert second["claims"] == first["claims"] and second["z"] == first["z"]
    error_rates.main(command)
    assert log.read_text().splitlines() == again  # nothing was left to do
    verdict = lr.check(TWO[0], error_rates.FIRST)
    (witness,) = [w for w in verdict.witnesses if w.kind == "simulation"]
    assert json.loads(again[0])["claims"][TWO[0]]["z"] == round(witness.z, 3)


def test_what_another_package_or_other_claims_left_is_passed_over(tmp_path):
    log = tmp_path / "log.jsonl"
    record = error_rates.one_seed(7, TWO[:1])
    log.write_text(json.dumps(record) + "\n" + json.dumps(record | {"seed": 8, "state": "another"}) + "\n")
    assert list(error_rates.read(log, TWO[:1])) == [7] and error_rates.read(log, TWO) == {}


def test_a_law_that_is_not_normal_is_found():
    rng = np.random.default_rng(0)
    honest = error_rates.distance(error_rates.histogram(rng.normal(size=20_000)))
    assert honest[1] > 0.01
    for wrong in (rng.normal(0.05, 1, 20_000), rng.normal(0, 1.1, 20_000)):
        assert error_rates.distance(error_rates.histogram(wrong))[1] < 0.001
    # the edges see nearly all of the distance
    z = rng.normal(0.05, 1, 20_000)
    unbinned = kstest(z, norm.cdf).statistic
    assert 0.9 * unbinned < error_rates.distance(error_rates.histogram(z))[0] <= unbinned + 1e-12


def test_a_biased_or_noisy_claim_is_unusual():
    claims = {f"fair {i}": {"mean": 0.0, "sd": 1.0, "tests": 200} for i in range(80)}
    claims["biased"] = {"mean": 0.4, "sd": 1.0, "tests": 200}
    claims["noisy"] = {"mean": 0.0, "sd": 1.3, "tests": 200}
    claims["exact"] = {"mean": None, "sd": None, "tests": 200}
    assert error_rates.unusual(claims) == ["biased", "noisy"]
