"""The page of promises keeps its own: each promise has a test, and each test that it shows exists and is run."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import lrtheory as lr
from lrtheory.ledger import over_modes

BOOK = Path(__file__).parents[1] / "book"
PAGE = (BOOK / "promises.md").read_text()
SHOWN = re.findall(r"```\{literalinclude\} (\S+)\n:language: (\w+)\n(?::pyobject: (\w+)\n)?", PAGE)


@pytest.mark.parametrize(("path", "language", "name"), SHOWN, ids=lambda value: value)
def test_every_test_that_a_promise_shows_is_run(path, language, name):
    file = (BOOK / path).resolve()
    assert file.is_file()
    if language == "python":
        functions = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)]
        tests = [node for node in functions if node.name.startswith("test_")]
        fixtures = {argument.arg for test in tests for argument in test.args.args} & {node.name for node in functions}
        assert file.name.startswith("test_") and name in {test.name for test in tests} | fixtures


def test_every_promise_shows_a_test():
    sections = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE))
    assert PAGE.count("{literalinclude}") == len(SHOWN) > 15
    without = [title for title, text in sections.items() if "{literalinclude}" not in text]
    assert without == ["What is not promised", "A formula that looks wrong"]


def broken(claim, condition):
    """Parameters like those of the check, one of them moved so far that the condition is broken, or None."""
    names = {*claim.parameters, *claim.optional} & {*claim.parameters, *(s.name for s in condition.holds.free_symbols)}
    at = {name: claim.settings.get(name, sp.S.One) for name in sorted(names)}  # 1 for what is measured
    curvatures = at.get("lams", ())
    asked = over_modes(condition.holds, curvatures) if curvatures else condition.holds
    for letter in sorted(condition.holds.free_symbols, key=str):
        now = at.get(letter.name)
        edge = sp.solve(asked.lhs - asked.rhs, letter) if isinstance(asked, sp.Ne) and now is not None else []
        edge = [value.subs({s: at[s.name] for s in value.free_symbols}) for value in edge]
        for value in (now / sp.Integer(50), now * 50, now * 1000, 0, 1, *edge) if now is not None else ():
            moved = {**at, letter.name: value}
            if letter.is_integer and not sp.sympify(moved[letter.name]).is_integer:
                continue
            try:
                holds = asked.subs({s: moved[s.name] for s in asked.free_symbols})
            except (TypeError, ZeroDivisionError):  # neither true nor false there
                holds = sp.false
            if holds == sp.false:
                return moved
    return None


def test_no_claim_answers_outside_its_conditions():
    for claim in lr.claims().values():
        for condition in claim.conditions:
            moved = broken(claim, condition)
            assert moved is not None, f"{claim.id}: nothing breaks {condition.holds}"
            with pytest.raises(ValueError, match=r"needs|give|counted"):
                claim(**moved)
            if not claim.choices and "lams" not in moved:  # one element of an array breaks it
                floats = {k: np.array([float(claim.settings.get(k, 1)), float(v)]) for k, v in moved.items()}
                with pytest.raises(ValueError, match=r"needs|give|counted"):
                    claim(**floats)
