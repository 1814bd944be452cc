"""A formula means the same in JavaScript as in SymPy: printed, run in node, compared on random points."""

import json
import shutil
import subprocess

import numpy as np
import pytest
import sympy as sp

import lrtheory as lr
from lrtheory import landscapes, optimizers
from lrtheory.javascript import to_javascript
from lrtheory.letters import symbols

eta, lam, sigma, beta, theta, t = symbols("eta lam sigma beta theta t")
x, y = sp.symbols("x y", real=True)

FORMULAS = [
    eta * sigma**2 / (2 * (2 - eta * lam)),
    (1 - eta * lam) ** 2 / (2 - eta * lam) + (1 - eta * lam) ** 4,
    2 * sp.Mod(x, y) + 1,
    eta / sp.Mod(x, eta),
    sp.Mod(x + y, 2) ** 2,
    -(x**2) + x**-3,
    sp.Rational(1, 2) ** x,
    sp.Abs(x) * sp.sign(y) - sp.floor(x / y),
    sp.Max(x, y, 0) * sp.Min(x, 1),
    sp.log(eta) * sp.exp(-x) / 3,
    eta ** sp.Rational(2, 3) + sp.sqrt(lam) / sp.sqrt(2),
    sp.pi * x + sp.E * y + sp.GoldenRatio + sp.Float("1e-20") * x + sp.Integer(10) ** 30 * y,
    2 * sp.Piecewise((x, sp.And(x < y, x > 0)), (sp.exp(x), sp.Or(y > 2, sp.Not(x > 1))), (1, True)) - x,
    sp.sin(x) * sp.cos(y) + sp.tanh(x),
    sp.Heaviside(x) + sp.Piecewise((sp.Piecewise((1, x > y), (2, True)), y > 0), (3, True)),
]


def node(script):
    """What the script prints, parsed; node stands here for the browser, and its absence is a failure."""
    program = shutil.which("node")
    assert program, "these tests run the generated JavaScript: install Node.js (apt-get install nodejs)"
    run = subprocess.run([program, "-"], input=script, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def values_of(formulas, points):
    """Each formula in node at each point; a point gives a number for each symbol in alphabetical order."""
    calls = []
    for i, (formula, rows) in enumerate(zip(formulas, points, strict=True)):
        calls.append(to_javascript(formula, name=f"f{i}"))
        calls.append(f"out.push({json.dumps(rows)}.map((p) => f{i}(...p)));")
    return node("const out = [];\n" + "\n".join(calls) + "\nconsole.log(JSON.stringify(out));")


def test_formulas_agree_with_sympy_on_random_points():
    rng = np.random.default_rng(0)
    letters = [sorted(f.free_symbols, key=str) for f in FORMULAS]
    points = []
    for names in letters:
        low = [0.05 if s.is_positive else -3 for s in names]
        points.append(rng.uniform(low, 3, size=(20, len(names))).tolist())
    for formula, names, rows, got in zip(FORMULAS, letters, points, values_of(FORMULAS, points), strict=True):
        exact = [float(formula.subs(dict(zip(names, row, strict=True))).evalf(30)) for row in rows]
        np.testing.assert_allclose(got, exact, rtol=1e-12, atol=1e-14, err_msg=str(formula))


@pytest.mark.parametrize("rule", [optimizers.sgd, optimizers.heavy_ball, optimizers.sign_sgd], ids=lambda r: r.__name__)
def test_a_step_of_a_recursion_agrees_with_the_optimizer(rule):
    recursion = lr.trace(rule, landscapes.quadratic())
    rng = np.random.default_rng(1)
    groups = [recursion.state, [s for s, _ in recursion.noises], recursion.parameters]
    point = [rng.uniform(0.1, 0.9, len(g)).tolist() for g in groups]
    got = node(f"{to_javascript(recursion)}\nconsole.log(JSON.stringify(step(...{json.dumps(point)})));")
    given = {s: v for g, values in zip(groups, point, strict=True) for s, v in zip(g, values, strict=True)}
    np.testing.assert_allclose(got, [float(f.subs(given)) for f in recursion.next_state], rtol=1e-14)


def test_arguments_keep_their_order_and_can_be_arrays():
    text = to_javascript([eta + lam, eta - lam], name="pair", arguments=[t, ("s", [lam, eta])])
    assert node(f"{text}\nconsole.log(JSON.stringify(pair(0, [1, 2])))") == [3, 1]


def test_a_condition_is_a_boolean():
    assert node(f"{to_javascript(eta * lam < 2)}\nconsole.log(JSON.stringify([f(1, 1), f(2, 2)]))") == [
        True,
        False,
    ]


def test_repeated_parts_are_computed_once_where_that_is_shorter():
    a = sp.sqrt(1 + eta * lam + sigma)
    assert "const c0" in to_javascript(sp.exp(-a * t) + sp.log(a) + sp.sin(a))
    assert "const" not in to_javascript(eta * lam)


def test_a_symbol_named_like_a_keyword_is_renamed():
    word = sp.Symbol("lambda_"), sp.Symbol("var")
    assert node(f"{to_javascript(word[0] + 2 * word[1])}\nconsole.log(f(1, 2))") == 5


@pytest.mark.parametrize("name, formula", [
    ("LambertW", sp.LambertW(x)), ("erf", sp.erf(x)), ("gamma", sp.gamma(x)),
    ("Sum", sp.Sum(x**t, (t, 1, 3))),
    ("ImaginaryUnit", sp.I * x),
])  # fmt: skip
def test_what_javascript_lacks_is_named(name, formula):
    with pytest.raises(NotImplementedError, match=name):
        to_javascript(formula)


@pytest.mark.parametrize("formula, options, message", [
    (sp.Piecewise((1, x > 0)), {}, "end it with"),
    (x + y, {"arguments": [x]}, "y occurs in"),
    (x, {"name": "alert(1)"}, "identifier"),
    (sp.Symbol("a b"), {}, "identifier"),
    (x + sp.Symbol("x"), {}, "share a name"),
    (sp.nan, {"name": "rate"}, "rate = nan has no value: give a formula"),
    ([x, x + sp.zoo], {}, "f = zoo has no value: give a formula"),
    (x, {"arguments": ["x"]}, "argument 'x': give a symbol"),
    (x, {"arguments": [("s", ["x"])]}, "argument .*: give a symbol"),
    (x, {"arguments": [3]}, "argument 3: give a symbol"),
])  # fmt: skip
def test_errors_say_what_to_do(formula, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        to_javascript(formula, **options)
