"""What `trace` refuses: rules that decide by their state, letters that mean two things, results that are no rule."""

import pytest
import sympy as sp

import lrtheory as lr

QUADRATIC = lr.landscapes.quadratic()


def warm_up(theta, t, *, grad, eta):
    return theta - (eta / 10 if t == 0 else eta) * grad(theta), t + 1


def started(theta, v, *, grad, eta):
    v = v if v != 0 else grad(theta)
    return theta - eta * v, v


def first_unlike(theta, v, *, grad, eta):
    g = grad(theta)
    v = g if not v else v / 2 + g / 2
    return theta - eta * v, v


@pytest.mark.parametrize("rule", [warm_up, started, first_unlike])
def test_a_rule_that_decides_by_its_state_is_not_traced_as_if_it_did_not(rule):
    """SymPy compares symbols as they are written, so that such a branch raises nothing by itself."""
    with pytest.raises(TypeError, match=f"{rule.__name__} does something else at .* = 0 than for other values"):
        lr.trace(rule, QUADRATIC)


def step(result):
    return lambda theta, *, grad, eta: result(theta)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (lambda theta, *, grad, xi: theta - xi * grad(theta), "has a letter xi, and so has the quadratic landscape"),
        (lambda lam, *, grad, eta: lam - eta * grad(lam), "has a letter lam, and so has"),
        (lambda xi, *, grad, eta: xi - eta * grad(xi), "has a letter xi, and so has"),
        (step(lambda x: [x]), "return a formula for each state"),
        (step(lambda x: x > 0), "returns theta > 0 for theta"),
        (step(lambda x: sp.nan), "returns nan for theta"),
        (step(lambda x: x / 0), "return a formula for each state"),
        (step(lambda x: sp.Matrix([x, x])), "return a formula for each state"),
        (step(lambda x: x + sp.Symbol("foo")), "uses foo, which it does not take"),
        (step(lambda x: None), "None is no formula"),
        (step(lambda x: x.shape), "cannot be run on symbols .*shape"),
        (step(lambda x: 1 / 0), "cannot be run on symbols .division by zero"),
        (int, "int is not an update rule"),
    ],
)
def test_what_is_no_rule_is_refused(rule, says):
    with pytest.raises(TypeError, match=says):
        lr.trace(rule, QUADRATIC)


def test_a_rule_may_call_its_state_as_it_likes_and_know_the_curvature():
    named = lr.trace(lambda w, *, grad, eta: w - eta * grad(w), QUADRATIC)
    assert str(named.state[0]) == "w"
    knowing = lr.trace(lambda theta, *, grad, lam: theta - grad(theta) / lam, QUADRATIC)
    assert [s.name for s in knowing.parameters] == ["lam", "sigma"]


def look_ahead(theta, v, *, grad, eta, beta):
    v = beta * v + grad(theta - eta * beta * v)
    return theta - eta * v, v


def test_a_gradient_may_be_asked_for_elsewhere():
    rec = lr.trace(look_ahead, QUADRATIC)
    eta, beta, lam, sigma, theta, v, xi = lr.symbols("eta beta lam sigma theta v xi")
    assert sp.expand(rec.next_state[1] - beta * v - lam * (theta - eta * beta * v) - sigma * xi) == 0


def test_a_rule_for_numbers_is_refused_on_vectors():
    with pytest.raises(TypeError, match="adam cannot be run on symbols"):
        lr.trace(lr.optimizers.adam, lr.landscapes.linear_regression(dim=2))


REC = lr.trace(lr.optimizers.sgd, QUADRATIC)
(THETA,) = REC.state
T = lr.symbol("t")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: REC.where({"eta": sp.nan}), "eta = nan: give a finite number or an expression"),
        (lambda: lr.stationary(REC)[sp.Symbol("theta") ** 2], "theta is another symbol of that name than the rule's"),
        (lambda: lr.stationary(REC)[sp.oo * THETA], "has no expectation: ask for a finite expression"),
        (lambda: lr.stationary(REC)[THETA**11], "a moment of degree 11 was asked for, and up to 10 are derived"),
        *(
            (lambda k=k: lr.after(REC, k), f"steps = {k}: give a whole number")
            for k in (-T, lr.symbol("eta"), sp.nan, sp.oo, 1.5)
        ),
    ],
)
def test_questions_without_an_answer_are_refused(call, says):
    with pytest.raises(ValueError, match=says.replace("*", r"\*")):
        call()
    assert lr.after(REC, 2.0)[THETA] == lr.after(REC, 2)[THETA]
