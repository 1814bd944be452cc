"""Every claim passes every witness that applies, rejects its rivals, and answers its callers exactly."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
from pages import slips_of_citation

import lrtheory as lr
from lrtheory.doubt import check
from lrtheory.expectation import E, simulated
from lrtheory.ledger import Claim, Rival

BOOK = Path(__file__).parents[1] / "book"


@pytest.mark.parametrize("id", lr.claims())
def test_every_witness_agrees_and_every_rival_is_rejected(id):
    verdict = lr.check(id, seed=1)
    assert verdict.passed, str(verdict)
    assert id in str(verdict) and "<table>" in verdict._repr_html_()


@pytest.mark.parametrize("id", lr.claims())
def test_what_is_printed_is_what_was_typed(id):
    claim = lr.claim(id)
    if claim.formula is not None:
        printed = claim.shortened(claim.formula)
        for letter, meaning in reversed(claim.abbreviations.items()):
            printed = printed.subs(letter, meaning)
        assert printed == claim.formula


@pytest.mark.parametrize("id", ["noise_floor.variance", "momentum.variance", "boosting.bias_factor"])
def test_a_false_formula_fails_every_witness(id):
    true = lr.claim(id)
    lie = Claim(**{**vars(true), "id": f"{id}_lie", "formula": true.formula * sp.Rational(21, 20), "rivals": ()})
    verdict = check(lie)
    assert [w.passed for w in verdict.witnesses] == [False] * (4 if true.outside else 3)
    assert not verdict.passed and "DISAGREES" in str(verdict)


def test_a_rival_that_is_right_is_not_rejected():
    true = lr.claim("noise_floor.variance")
    same = Rival(sp.expand(true.formula), "the same formula")
    verdict = check(Claim(**{**vars(true), "id": "noise_floor.twice", "rivals": (same,)}))
    assert not verdict.passed and "NOT REJECTED" in str(verdict)


def test_a_setting_without_a_standard_error_is_refused():
    theta, rule = lr.symbol("theta"), (lr.optimizers.sgd, lr.landscapes.linear_regression())
    at = {"eta": 0.5, "lam": 1, "sigma": 1}  # E[theta^2] exists there, E[theta^4] does not
    with pytest.raises(ValueError, match="moments of degree 4 grow"):
        simulated(E(theta**2, rule=rule), at, chains=1000)


def test_exact_in_exact_out_and_floats_in_floats_out():
    variance = lr.claim("noise_floor.variance")
    assert variance(eta=Fraction(1, 10), lam=1, sigma=1) == sp.Rational(1, 19)
    assert variance(eta=0.1, lam=1, sigma=1) == pytest.approx(1 / 19, rel=1e-15)
    grid = variance(eta=np.array([0.1, 0.2]), lam=np.array([[1.0], [2.0]]), sigma=1)
    assert grid.shape == (2, 2) and grid[1, 0] == pytest.approx(0.1 / (2 * 1.8))


@pytest.mark.parametrize(
    ("id", "parameters", "error", "message"),
    [
        ("noise_floor.variance", {"eta": 3, "lam": 1, "sigma": 1}, ValueError, "needs eta.lam < 2, and here eta = 3"),
        ("noise_floor.variance", {"eta": -1, "lam": 1, "sigma": 1}, ValueError, "eta = -1: give a positive number"),
        ("noise_floor.variance", {"eta": float("nan"), "lam": 1, "sigma": 1}, ValueError, "give finite numbers"),
        ("noise_floor.variance", {"eta": "0.1", "lam": 1, "sigma": 1}, TypeError, "is not a number"),
        ("noise_floor.variance", {"eta": 0.1, "lambda_": 1, "sigma": 1}, TypeError, "did you mean 'lam'"),
        ("noise_floor.variance", {"eta": 0.1, "lam": 1}, TypeError, "sigma is missing"),
        ("noise_floor.mean", {"eta": 0.1, "lam": 1, "theta0": 1, "t": 1.5}, ValueError, "whole numbers"),
        (
            "noise_floor.steps_to_reach",
            {"eta": 0.5, "lam": 1, "sigma": 1, "theta0": 4, "target": 0.01},
            ValueError,
            "the noise floor lies above it",
        ),
        ("quick_win.gain_from_gradient_norm", {"eta1": 1, "eta2": 2, "mean_squared_gradient": 1}, ValueError, "a drop"),
    ],
)
def test_bad_input_is_told_what_to_do(id, parameters, error, message):
    with pytest.raises(error, match=message):
        lr.claim(id)(**parameters)


def test_an_unknown_claim_is_told_the_nearest():
    with pytest.raises(KeyError, match=r"noise_floor\.variance"):
        lr.claim("noise_floor.varianc")


def test_the_book_and_the_claims_agree(tmp_path):
    assert slips_of_citation(BOOK) == []
    (tmp_path / "momentum.md").write_text("As `momentum.varianc` says, and not the file `momentum.py`.")
    first, *others = slips_of_citation(tmp_path)
    assert first.startswith("book/momentum.md cites the claim momentum.varianc, which does not exist")
    assert "the claim momentum.variance is on no page: cite it in book/momentum.md, or remove it" in others


def test_every_letter_of_a_claim_has_a_meaning():
    page = (BOOK / "notation.md").read_text()
    explained = set(re.findall(r'^    "(\w+)": "', page, re.MULTILINE))
    missing = {name for claim in lr.claims().values() for name in (*claim.parameters, *claim.optional)} - explained
    assert not missing
