"""Every claim over all of its parameters, up to the edges: against the traced rules in many digits, and symmetries."""

import math
from fractions import Fraction
from itertools import product

import mpmath
import numpy as np
import pytest
import references as ref
import sympy as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mpmath import mpf
from strategies import ANY, Draw, admissible, asked

import lrtheory as lr
from lrtheory import landscapes, noise, optimizers
from lrtheory.doubt import is_zero
from lrtheory.enumeration import enumerate_paths
from lrtheory.expectation import E, enumerated
from lrtheory.ledger import AtLeast, Equals, Minimum, Order, Root, over_modes, written_out

THETA, XI = landscapes.THETA, landscapes.XI
CLAIMS = lr.claims()
NINE_DIGITS, ROUNDING = mpf("1e-9"), mpf(2) ** -53
MANY = settings.default.max_examples
few, some = settings(max_examples=max(MANY // 3, 1)), settings(max_examples=MANY)
data = st.data()

# --- the same numbers again ----------------------------------------------------------------------------------------

# where an expectation is written for one number of steps or samples, that number
WRITTEN_FOR = {
    "quick_win.best_continuation_rate": {"k": 2},
    "quick_win.best_continuation_moment": {"k": 3},
    "minibatch.batch_floor": {"batch": 3},
    "minibatch.batch_versus_rate": {"factor": 3},
    "minibatch.linear_scaling": {"factor": 3},
    "minibatch.sparse_variance": {"p": Fraction(4, 9)},
    "minibatch.sparse_limit": {"p": Fraction(4, 9)},
    "minibatch.kesten_variance": {"p": Fraction(1, 50)},
    "momentum.second_moment_after_drop": {"convention": "keras"},
    "schedules.inverse_time_mean": {"steps": 3},
    "schedules.inverse_time_variance": {"steps": 3},
    "schedules.linear_mean": {"steps": 3},
    "schedules.cosine_mean": {"steps": 3},
    "schedules.exponential_mean": {"steps": 3},
    "schedules.optimal_rate": {"t": 2},
    "schedules.optimal_second_moment": {"steps": 3},
}
# read in a way of their own, below
OWN = {
    *(id for id in CLAIMS if id.startswith("l1_cycle.")),
    *(id for id in CLAIMS if id.startswith("shuffling.") and id != "shuffling.with_replacement_variance"),
    "noise_floor.steps_to_reach",  # real numbers of steps
    "noise_floor.best_rate_for_target",
    "quick_win.immediate_gain_threshold",  # infinite at some rates
    "slow_road.first_crossing",
    "slow_road.second_crossing",
    "slow_road.best_steps_after_drop",
    "minibatch.lms_misadjustment",  # any number of curvatures
    "minibatch.lms_excess",
    "minibatch.lms_limit",
    "minibatch.lms_limit_isotropic",
    "minibatch.lms_best_contraction",
    "momentum.contraction",
    *(id for id in CLAIMS if id.startswith("escape.")),  # not affine: the moments do not close
    "overfitting.mode_best_step",
    "worst_case.chebyshev_factor",
    "worst_case.subgradient_bound",
    "worst_case.smooth_convex_bound",
}
READ = [id for id, claim in CLAIMS.items() if claim.about is not None and id not in OWN]


@pytest.mark.parametrize("id", READ)
@some
@given(data=data)
@ref.many_digits
def test_a_claim_is_what_the_moments_of_the_traced_rule_give(id, data):
    claim = CLAIMS[id]
    values = admissible(data.draw, claim, **WRITTEN_FOR.get(id, {}))
    at = ref.at_numbers(values)
    given_names = {name: ref.about(e, at) for name, e in claim.given.items()}
    at |= given_names
    value = mpf(claim(**asked(claim, values))) if claim.formula is None else ref.typed(claim, values | given_names)

    def found(value=None):
        return ref.about(claim.about, at if value is None else at | {claim.relation.of: value})

    if isinstance(claim.relation, Equals):
        within = ref.AGREE if claim.formula is not None else NINE_DIGITS
        assert ref.same(found(), value, within, scale=ref.NOTHING)
    elif isinstance(claim.relation, AtLeast):
        assert value <= found() * (1 + ref.AGREE)
        if claim.upper is not None:
            assert found() <= ref.typed(claim, values | given_names, claim.upper) * (1 + ref.AGREE)
    elif isinstance(claim.relation, Root):
        beside = [found(value * (1 + side * mpf("1e-6"))) for side in (-1, 1)]
        assert beside[0] * beside[1] < 0
        assert abs(found(value)) <= mpf("1e-20") * max(map(abs, beside))
    elif isinstance(claim.relation, Minimum):
        nearest = mpf("1e-9") if claim.formula is not None else _seen_by_a_search(found, value)
        assert found(value) <= min(found(value * (1 + side * nearest)) for side in (-1, 1))
    else:
        assert isinstance(claim.relation, Order)
        small = [found(mpf(10) ** -power) for power in (12, 13)]
        assert abs(mpmath.log10(small[0] / small[1]) - value) < 1e-9


def _seen_by_a_search(function, value):
    """How near to a minimum a search in floats can come: where it rises by a few roundings."""
    low, high = (function(value * (1 + side * mpf("1e-3"))) for side in (-1, 1))
    bend = (low + high - 2 * function(value)) / mpf("1e-6") / function(value)
    return max(mpf("1e-7"), 64 * mpmath.sqrt(mpf(2) ** -52 / bend))


QUADRATIC = landscapes.quadratic(noise.rademacher)
RULES = {
    "plain": (optimizers.sgd, QUADRATIC),
    "skew noise": (
        optimizers.sgd,
        landscapes.quadratic(noise.finite("skew", [(2, Fraction(1, 5)), (Fraction(-1, 2), Fraction(4, 5))])),
    ),
    "heavy ball": (optimizers.heavy_ball, QUADRATIC),
    "dampened": (optimizers.dampened, QUADRATIC),
    "Nesterov": (optimizers.nesterov, QUADRATIC),
    "Keras": (optimizers.keras_momentum, QUADRATIC),
    "averaged": (optimizers.averaged, QUADRATIC),
    "summed": (optimizers.summed, QUADRATIC),
    "batches": (optimizers.sgd, landscapes.batched(QUADRATIC, 3)),
    "samples": (optimizers.sgd, landscapes.quadratic_to_sample(noise.rademacher)),
    "regression": (optimizers.sgd, landscapes.linear_regression(noise.rademacher, noise.rademacher, dim=2)),
    "batches of regression": (
        optimizers.sgd,
        landscapes.linear_regression(noise.rademacher, noise.rademacher, batch=2),
    ),
}


@pytest.mark.parametrize("name", RULES)
@few
@given(data=data)
def test_the_moments_are_the_means_over_all_paths(name, data):
    """What the other tests compare with, in two phases of a few steps each, against every path in fractions."""
    d, rec = Draw(data.draw, exact=True), lr.trace(*RULES[name])
    at = {s.name: d.square() if s.name.startswith("lam") else d.share() for s in rec.parameters}
    start = [d.real() for _ in rec.state]
    law, paths = ref.at_point(map(ref.number, start)), dict(zip(map(str, rec.state), start, strict=True))
    powers = [p for p in product(range(5), repeat=len(rec.state)) if 0 < sum(p) <= (4 if len(rec.state) == 1 else 2)]
    for rate in (d.share(), d.share()):
        steps = data.draw(st.integers(0, 2))
        law = ref.after_steps(rec, ref.at_numbers(at | {"eta": rate}), powers, law, steps).__getitem__
        paths = enumerate_paths(rec, at | {"eta": rate}, steps, start=paths)
    for p in powers:
        monomial = sp.Mul(*(x**n for x, n in zip(rec.state, p, strict=True)))
        assert ref.same(law(p), ref.number(paths[monomial]), scale=mpf("1e-20"))


if MANY >= 20:  # a second or two for each claim

    @pytest.mark.parametrize(
        "id",
        [
            id
            for id in READ
            if CLAIMS[id].enumerable
            and CLAIMS[id].formula is not None
            and not isinstance(CLAIMS[id].relation, (Minimum, Order))
        ],
    )
    @settings(max_examples=4)
    @given(data=data)
    def test_a_claim_is_what_all_paths_give(id, data):
        claim = CLAIMS[id]
        values = admissible(data.draw, claim, exact=True, **WRITTEN_FOR.get(id, {}))
        exact = {k: sp.Rational(v) for k, v in values.items() if not isinstance(v, str)} | {"kurtosis": sp.Integer(-2)}
        exact |= {name: enumerated(e, exact) for name, e in claim.given.items()}
        if any(exact.get(x, 0) > 4 for x in ("t", "k", "lag", "n", "m")):
            assume(False)
        value = written_out(claim.formula.subs({s: exact[s.name] for s in claim.formula.free_symbols})).doit()
        if isinstance(claim.relation, Root):
            exact[claim.relation.of] = value
        try:
            found = enumerated(claim.about, exact)
        except (ValueError, TypeError) as error:  # paths are followed in fractions
            assert "root" in str(error) or "not an exact number" in str(error) or "settle" in str(error), error
            assume(False)
        if isinstance(claim.relation, Equals):
            assert is_zero(found - value)
        elif isinstance(claim.relation, Root):
            assert is_zero(found)
        elif isinstance(claim.relation, AtLeast):
            assert found >= value


# --- claims that are read in a way of their own --------------------------------------------------------------------

CHECKS = {}


def check_of(*ids):
    """The decorated function checks these claims at parameters that it draws."""

    def register(function):
        CHECKS.update(dict.fromkeys(ids, function))
        return function

    return register


def drawn(claim, d, **fixed):
    """Drawn values, their many digits, and the claim's value there (of its formula in many digits)."""
    values = admissible(d.draw, claim, **fixed)
    exact = mpf(claim(**asked(claim, values))) if claim.formula is None else ref.typed(claim, values)
    return values, ref.at_numbers(values), exact


def affine(rule, at, eta=None):
    """a and b of theta' = a theta + b xi + c of a traced rule with one state, at numbers."""
    rec = lr.trace(*rule)
    at = at | ({} if eta is None else {"eta": eta})
    c, a, b = (ref.evaluate(rec.next_state[0], at | {"theta": x, "xi": y}) for x, y in ((0, 0), (1, 0), (0, 1)))
    return a - c, b - c, c


SGD = optimizers.sgd, landscapes.quadratic()


def square_along(rates, at, second, mean=0):
    """The mean square and the mean after a step at each of these rates."""
    for rate in rates:
        a, b, _ = affine(SGD, at, rate)
        second, mean = a**2 * second + b**2, a * mean
    return second, mean


def floor(at, eta, lam="lam"):
    a, b, _ = affine(SGD, at | {"lam": at[lam]}, eta)
    return at[lam] / 2 * b**2 / (1 - a**2)


def is_lowest(function, value, near, low=0, high=mpmath.inf):
    """Whether no neighbour of a value, within its bounds, has less."""
    beside = [x for x in (value * (1 - near), value * (1 + near)) if low <= x <= high and x != value]
    return all(function(value) <= function(x) for x in beside)


def lowest(function, low, high, times=260):
    """The least value of a function with one valley, by the golden section."""
    ratio = (mpmath.sqrt(5) - 1) / 2
    low, high = mpf(low), mpf(high)
    for _ in range(times):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if function(left) <= function(right) else (left, high)
    return function((low + high) / 2)


# noise floor, quick win, slow road


@check_of("noise_floor.steps_to_reach")
def _(claim, d):
    _values, at, steps = drawn(claim, d)
    a, b, _ = affine(SGD, at)
    rest = b**2 / (1 - a**2)
    if a:
        reached = at["lam"] / 2 * (rest + (at["theta0"] ** 2 - rest) * abs(a) ** (2 * steps))
        assert ref.same(reached, at["target"])
    # in whole steps, by running
    if steps < 60:
        last = math.floor(steps)
        run = [at["lam"] / 2 * square_along([at["eta"]] * t, at, at["theta0"] ** 2)[0] for t in (last, last + 1)]
        assert run[0] * (1 + ref.AGREE) >= at["target"] >= run[1] * (1 - ref.AGREE)


@check_of("noise_floor.best_rate_for_target")
def _(claim, d):
    _values, at, best = drawn(claim, d)
    start = at["lam"] * at["theta0"] ** 2 / 2

    def steps(eta):
        a, rest = affine(SGD, at, eta)[0], floor(at, eta)
        if rest >= at["target"]:
            return mpmath.inf
        return mpf(0) if a == 0 else mpmath.log((at["target"] - rest) / (start - rest)) / (2 * mpmath.log(abs(a)))

    others = [
        best * u
        for u in (mpf("0.5"), mpf("0.9"), mpf("0.999"), mpf("1.001"), mpf("1.1"), mpf(2))
        if best * u * at["lam"] < 2
    ]
    assert steps(best) <= min(map(steps, others)) * (1 + mpf("1e-9"))


@check_of("quick_win.immediate_gain_threshold")
def _(claim, d):
    _values, at, threshold = drawn(claim, d)

    def gain(second):
        return square_along([at["eta1"]], at, second)[0] - square_along([at["eta2"]], at, second)[0]

    if mpmath.isinf(threshold):
        assert min(gain(mpf(10) ** p) for p in range(-9, 10)) > 0
    else:
        assert gain(threshold * mpf("0.999999")) > 0 > gain(threshold * mpf("1.000001"))
        assert abs(gain(threshold)) <= mpf("1e-20") * gain(0)


@check_of("quick_win.best_continuation_rate", "quick_win.best_continuation_moment")
def _(claim, d):
    values, at, value = drawn(claim, d)
    a, b, _ = affine(SGD, at, at["eta1"])
    start = second = b**2 / (1 - a**2)
    rate = CLAIMS["quick_win.best_continuation_rate"]
    for k in range(int(values["k"])):
        second, _ = square_along([ref.typed(rate, values | {"k": k})], at, second)
    if claim is rate:
        assert is_lowest(lambda eta: square_along([eta], at, second)[0], value, mpf("1e-9"))
    else:
        assert ref.same(second / start, value)


@check_of("quick_win.best_drop_factor", "quick_win.best_drop_remaining")
def _(claim, d):
    """Rates so small that the limit is reached to eight digits more than are compared."""
    _values, at, value = drawn(claim, d)
    x, eta1 = at["x"], mpf("1e-25")

    def left(rho):
        old, new = eta1 / (2 - eta1), rho * eta1 / (2 - rho * eta1)
        return (new + (old - new) * (1 - rho * eta1) ** (2 * x / eta1)) / old

    if claim.id.endswith("factor"):
        assert is_lowest(left, value, mpf("1e-6"), high=1)
    else:
        assert ref.same(lowest(left, 0, 1, 160), value, mpf("1e-15"))


def crossing_gap(at):
    a, _b, _ = affine(SGD, at | {"lam": at["lam_fast"]}, at["eta2"])
    slow = [affine(SGD, at | {"lam": at["lam_slow"]}, at[r])[0] ** 2 for r in ("eta1", "eta2")]
    win = floor(at, at["eta1"], "lam_fast") - floor(at, at["eta2"], "lam_fast")
    return lambda k: at["slow_excess"] * (slow[1] ** k - slow[0] ** k) - win * (1 - (a**2) ** k), win


@check_of("slow_road.first_crossing", "slow_road.second_crossing")
def _(claim, d):
    values = admissible(d.draw, claim)
    at = ref.at_numbers(values)
    gap, win = crossing_gap(at)
    first, second = (mpf(CLAIMS[f"slow_road.{x}_crossing"](**asked(claim, values))) for x in ("first", "second"))
    # the win of two nearly equal rates is a difference of nearly equal floors; ln(1 - h)**2 loses digits of a small h,
    # and the floor divides by 2 - h
    loses = (
        1 / (1 - at["eta2"] / at["eta1"]) + 1 / (at["eta2"] * at["lam_fast"]) + 1 / (2 - at["eta1"] * at["lam_fast"])
    )
    off = (win + at["slow_excess"]) * (mpf("1e-12") + 8 * ROUNDING * loses)
    grid = [mpf(10) ** (mpf(p) / 8) for p in range(-16, 72)]
    if mpmath.isinf(first):
        assert max(map(gap, grid)) <= off
        return
    assert 0 <= first <= second < mpmath.inf
    assert max(abs(gap(k)) for k in (first, second) if k) <= off
    margin = mpf("1e-6")
    for k in grid:
        if k < first * (1 - margin) or k > second * (1 + margin):
            assert gap(k) <= off
        elif first * (1 + margin) < k < second * (1 - margin):
            assert gap(k) >= -off


@check_of("slow_road.largest_lag")
def _(claim, d):
    _values, at, value = drawn(claim, d)
    kept, lowered = ((1 - at[r] * at["lam_slow"]) ** 2 for r in ("eta1", "eta2"))
    assume(at["eta2"] < at["eta1"] * (1 - mpf("1e-5")))
    end = -200 / mpmath.log(lowered)
    assert ref.same(
        -lowest(lambda log: kept ** mpmath.exp(log) - lowered ** mpmath.exp(log), -60, mpmath.log(end)),
        value,
        mpf("1e-20"),
    )


@check_of("slow_road.best_steps_after_drop")
def _(claim, d):
    _values, at, best = drawn(claim, d)
    fast = affine(SGD, at | {"lam": at["lam_fast"]}, at["eta2"])[0] ** 2
    kept, lowered = (affine(SGD, at | {"lam": at["lam_slow"]}, at[r])[0] ** 2 for r in ("eta1", "eta2"))
    win = floor(at, at["eta1"], "lam_fast") - floor(at, at["eta2"], "lam_fast")

    def last(left):
        return at["slow_excess0"] * kept ** (at["horizon"] - left) * lowered**left + win * fast**left

    assert 0 <= best <= at["horizon"]
    others = [best * u for u in (mpf("0.5"), 1 - mpf("1e-9"), 1 + mpf("1e-9"), mpf(2))] + [
        0,
        mpf("1e-9"),
        at["horizon"],
    ]
    assert all(last(best) <= last(x) * (1 + mpf("1e-40")) for x in others if 0 <= x <= at["horizon"])


@check_of("slow_road.best_drop_step")
def _(claim, d):
    _values, at, best = drawn(claim, d)
    a1, a2 = (affine(SGD, at, at[r])[0] for r in ("eta1", "eta2"))
    e1, e2, e0 = floor(at, at["eta1"]), floor(at, at["eta2"]), at["lam"] * at["theta0"] ** 2 / 2
    for horizon in (best + 1, 3 * best + 7):

        def last(t, horizon=horizon):
            return (e1 + (e0 - e1) * a1 ** (2 * t) - e2) * a2 ** (2 * (horizon - t))

        others = [best * u for u in (mpf("0.5"), 1 - mpf("1e-9"), 1 + mpf("1e-9"))] + [0, mpf("1e-9"), horizon]
        assert all(last(best) <= last(x) * (1 + mpf("1e-40")) for x in others if 0 <= x <= horizon)


# minibatches


def regression_map(at, count, eta=None):
    """One step of the squares of the coordinates, by the fourth moments of Gaussian inputs: matrix and noise."""
    eta, batch = at["eta"] if eta is None else eta, at["batch"]
    lams = [at[f"lam_{i + 1}"] for i in range(count)]
    matrix = mpmath.matrix(count, count)
    for i, own in enumerate(lams):
        for j, other in enumerate(lams):
            matrix[i, j] = eta**2 * own * other / batch
        matrix[i, i] += 1 - 2 * eta * own + eta**2 * own**2 * (1 + 1 / batch)
    return lams, matrix, [eta**2 * own / batch for own in lams]


@check_of("minibatch.lms_misadjustment", "minibatch.lms_excess")
def _(claim, d):
    values, at, value = drawn(claim, d)
    sigma = at.get("sigma", mpf(1))
    lams, matrix, kick = regression_map(at, len(values["lams"]))
    squares = mpmath.lu_solve(mpmath.eye(len(lams)) - matrix, mpmath.matrix([sigma**2 * x for x in kick]))
    excess = mpmath.fsum(c * x for c, x in zip(lams, squares, strict=True)) / 2
    assert ref.same(excess if "sigma" in claim.parameters else excess / (sigma**2 / 2), value)


@ref.many_digits
def test_the_fourth_moments_of_regression_are_those_of_the_traced_rule():
    for dim, batch in ((1, 1), (1, 3), (2, 2), (3, 1)):
        rec = lr.trace(optimizers.sgd, landscapes.batched(landscapes.linear_regression(dim=dim), batch))
        at = ref.at_numbers({"eta": Fraction(1, 7), "batch": batch, "sigma": 2, "lam": 3, "lams": (3, 5, 2)[:dim]})
        _, matrix, kick = regression_map(at, dim)
        start = [mpf(2), mpf(-1), mpf(3)][:dim]
        for i in range(dim):
            power = tuple(2 * (i == j) for j in range(dim))
            after = ref.after_steps(rec, at, [power], ref.at_point(start), 1)[power]
            expected = sum(matrix[i, j] * start[j] ** 2 for j in range(dim)) + 4 * kick[i]
            assert ref.same(after, expected)


@check_of("minibatch.lms_limit")
def _(claim, d):
    values, at, limit = drawn(claim, d)

    def growth(eta):
        _, matrix, _ = regression_map(at, len(values["lams"]), eta)
        return max(np.linalg.eigvals(np.array(matrix.tolist(), dtype=float)).real)

    assert growth(limit * (1 - mpf("1e-6"))) < 1 < growth(limit * (1 + mpf("1e-6")))


@check_of("minibatch.lms_limit_isotropic", "minibatch.lms_best_contraction")
def _(claim, d):
    values, at, value = drawn(claim, d)
    dim, lam = int(values.get("dim", 1)), at.get("lam", mpf(1))
    at |= {f"lam_{i + 1}": lam for i in range(dim)}

    def growth(eta):
        _, matrix, _ = regression_map(at, dim, eta)
        return mpmath.fsum(matrix[0, j] for j in range(dim))

    if claim.id.endswith("contraction"):
        assert ref.same(lowest(growth, 0, 2 / lam), value, mpf("1e-25"))
    else:
        assert ref.same(growth(value), 1)
        assert growth(value / 2) < 1 < growth(value * 2)


@check_of(*(f"minibatch.{x}" for x in ("batch_floor", "batch_versus_rate", "linear_scaling", "matching_batch_factor")))
def _(claim, d):
    _values, at, value = drawn(claim, d)
    c, sigma = at.get("factor"), at.get("sigma", mpf(2))

    def rest(rate, batch):
        return floor(at | {"sigma": sigma / mpmath.sqrt(batch)}, rate)

    eta = at["eta"]
    if claim.id.endswith("batch_floor"):
        assert ref.same(rest(eta, at["batch"]), value)
    elif claim.id.endswith("batch_versus_rate"):
        assert ref.same(rest(eta, c) / rest(eta / c, 1), value)
    elif claim.id.endswith("linear_scaling"):
        assert ref.same(rest(c * eta, c) / rest(eta, 1), value)
    else:
        assert ref.same(rest(eta, value), rest(eta / c, 1))


@check_of("minibatch.sparse_variance", "minibatch.sparse_limit")
def _(claim, d):
    _values, at, value = drawn(claim, d)
    p, sigma = at["p"], at.get("sigma", mpf(0))

    def step(second, eta):
        """The feature 1 / sqrt(p) is there, or not."""
        return p * ((1 - eta / p) ** 2 * second + eta**2 * sigma**2 / p) + (1 - p) * second

    if claim.id.endswith("limit"):
        assert ref.same(step(mpf(1), value), 1) and step(mpf(1), value / 2) < 1 < step(mpf(1), value * 2)
    else:
        assert ref.same(step(value, at["eta"]), value) and step(0, at["eta"]) > 0


@check_of("minibatch.kesten_variance", "minibatch.kesten_tail")
def _(claim, d):
    _values, at, value = drawn(claim, d)
    p = at["p"]
    if claim.id.endswith("tail"):
        assert ref.same((1 - p) * mpf(2) ** -value + p * mpf(2) ** value, 1) and value > 0
    else:
        assert ref.same((1 - p) * value / 4 + p * 4 * value + 1, value)


# shuffling


def epoch(at, steps, spread, together):
    """The variance that so many steps of an epoch give a run from 0, by the covariance of samples in random order."""
    a, b, _ = affine((optimizers.sgd, landscapes.quadratic_to_sample()), at | {"scale": mpf(1)})
    weights = [b * a**k for k in range(steps)]
    squares = mpmath.fsum(w**2 for w in weights)
    return a, spread * squares + together * (mpmath.fsum(weights) ** 2 - squares)


@check_of(*(f"shuffling.{x}_variance" for x in ("epoch_end", "mid_epoch", "shuffle_once", "batched")))
def _(claim, d):
    values, at, value = drawn(claim, d)
    n, batch = values["n"], values.get("batch", 1)
    # of the mean of a batch, and of two batches
    spread = at["variance"] * (n - batch) / (mpf(n - 1) * batch)
    together = -at["variance"] / mpf(n - 1)
    a, noise = epoch(at, n // batch, spread, together)
    end = noise / (1 - a ** (2 * n // batch))
    if claim.id.endswith("shuffle_once_variance"):
        end = noise / (1 - a**n) ** 2
    if claim.id.endswith("mid_epoch_variance"):
        j = values["j"]
        end = a ** (2 * j) * end + epoch(at, j, spread, together)[1]
    assert ref.same(end, value, mpf("1e-20"))  # nothing of 40 digits may be left of a rate of a millionth


@check_of("shuffling.epoch_end_order")
def _(claim, d):
    n, variance, lam = d.count(2, 12), d.positive(-1, 1), d.positive(-1, 1)
    ends = []
    for power in (6, 7):
        at = ref.at_numbers({"lam": lam, "eta": mpf(10) ** -power / lam, "variance": variance})
        a, noise = epoch(at, n, at["variance"], -at["variance"] / (n - 1))
        ends.append(noise / (1 - a ** (2 * n)))
    assert abs(mpmath.log10(ends[0] / ends[1]) - ref.typed(claim, {})) < 1e-3


@check_of("shuffling.unequal_bias")
def _(claim, d):
    _values, at, value = drawn(claim, d)
    h, a, eta = (at["h1"], at["h2"]), (at["a1"], at["a2"]), at["eta"]
    slope, shift = (1 - eta * h[0]) * (1 - eta * h[1]), mpf(0)
    for i, j in ((0, 1), (1, 0)):
        shift += ((1 - eta * h[j]) * eta * h[i] * a[i] + eta * h[j] * a[j]) / 2
    target = (h[0] * a[0] + h[1] * a[1]) / sum(h)
    assert ref.same(shift / (1 - slope) - target, value, mpf("1e-20"), scale=max(map(abs, a)) * mpf("1e-20"))


# momentum


def factors(at, rule="heavy_ball"):
    """Trace and determinant of the map of the traced rule, and its spectral radius."""
    rec = lr.trace(getattr(optimizers, rule), landscapes.quadratic())
    columns = [
        [ref.evaluate(f, at | {"theta": x, "v": y, "xi": 0}) for f in rec.next_state] for x, y in ((1, 0), (0, 1))
    ]
    (a, c), (b, e) = columns
    trace, det = a + e, a * e - b * c
    root = mpmath.sqrt(mpmath.mpc(trace**2 - 4 * det))
    return trace, det, max(abs((trace + root) / 2), abs((trace - root) / 2))


@check_of("momentum.stability_limit", "momentum.nesterov_stability_limit")
def _(claim, d):
    _values, at, limit = drawn(claim, d)
    rule = "nesterov" if "nesterov" in claim.id else "heavy_ball"
    assert ref.same(factors(at | {"eta": limit}, rule)[2], 1)
    assert (
        factors(at | {"eta": limit * mpf("0.999")}, rule)[2] < 1 < factors(at | {"eta": limit * mpf("1.001")}, rule)[2]
    )


@check_of("momentum.contraction")
def _(claim, d):
    _values, at, value = drawn(claim, d)
    assert ref.same(factors(at)[2], value, mpf("1e-20"))


@check_of("momentum.spiral_from", "momentum.spiral_to", "momentum.nesterov_spiral_from")
def _(claim, d):
    _values, at, value = drawn(claim, d)
    rule = "nesterov" if "nesterov" in claim.id else "heavy_ball"

    def turns(eta):
        trace, det, _ = factors(at | {"eta": eta}, rule)
        return trace**2 - 4 * det

    sides = turns(value * (1 - mpf("1e-9"))), turns(value * (1 + mpf("1e-9")))
    assert sides[0] * sides[1] < 0 and (sides[0] < 0) == claim.id.endswith("spiral_to")
    assert abs(turns(value)) <= mpf("1e-20") * max(map(abs, sides))


@check_of("momentum.best_beta")
def _(claim, d):
    _values, at, best = drawn(claim, d)
    assume(best > 0)
    for other in (best * mpf("0.999"), best * mpf("1.001"), mpf(0), (1 + best) / 2):
        if other < 1:
            assert factors(at | {"beta": best})[2] <= factors(at | {"beta": other})[2] * (1 + mpf("1e-20"))


@check_of("momentum.best_contraction")
def _(claim, d):
    _values, at, best = drawn(claim, d)
    roots = mpmath.sqrt(at["mu"]), mpmath.sqrt(at["big_l"])

    def slower(eta, beta):
        return max(factors({"eta": eta, "beta": beta, "lam": at[name], "sigma": mpf(0)})[2] for name in ("mu", "big_l"))

    eta, beta = (2 / sum(roots)) ** 2, ((roots[1] - roots[0]) / sum(roots)) ** 2
    assert ref.same(slower(eta, beta), best, mpf("1e-20"))
    assert slower(eta * mpf(d.positive(-1, 1)), mpf(d.share())) >= best


@check_of("momentum.second_moment_after_drop")
def _(claim, d):
    values = admissible(d.draw, claim)
    at = ref.at_numbers(values)
    rule = optimizers.heavy_ball if values["convention"] == "pytorch" else optimizers.keras_momentum
    eta1, eta2 = sp.symbols("eta1 eta2", positive=True)
    reading = E(THETA**2, (eta1, sp.oo), (eta2, values["k"]), rule=(rule, landscapes.quadratic()))
    assert ref.same(ref.about(reading, at), claim(**asked(claim, values)), NINE_DIGITS)


# schedules


def of_schedule(id, at, t, steps):
    if id.startswith("inverse_time"):
        return at["c"] / (t + at["t0"])
    eta0 = at["eta0"]
    if id.startswith("linear"):
        return eta0 * (1 - mpf(t) / steps)
    if id.startswith("cosine"):
        return eta0 / 2 * (1 + mpmath.cos(mpmath.pi * t / steps))
    return eta0 * at["decay"] ** t


@check_of(
    *(
        f"schedules.{x}"
        for x in (
            "inverse_time_mean",
            "inverse_time_variance",
            "linear_mean",
            "cosine_mean",
            "exponential_mean",
            "exponential_limit",
        )
    )
)
def _(claim, d):
    values = admissible(d.draw, claim)
    at, name = ref.at_numbers(values), claim.id.split(".")[1]
    steps = values.get("steps", 40)
    rates = [of_schedule(name, at, t, steps) for t in range(steps)]
    second, mean = square_along(rates, at, mpf(0), mpf(1))
    if name == "exponential_limit":
        floats = mpf(claim(**asked(claim, values)))
        # the rest of the product lies between 1 minus the sum of the other rates, and 1
        rest = at["lam"] * at["eta0"] * at["decay"] ** steps / (1 - at["decay"])
        assert mean * (1 - rest) * (1 - NINE_DIGITS) <= floats <= mean * (1 + NINE_DIGITS)
        return
    expected = second if name.endswith("variance") else mean
    assert ref.same(ref.typed(claim, values), expected, mpf("1e-20"))


@check_of("schedules.optimal_rate", "schedules.optimal_second_moment")
def _(claim, d):
    values, at, value = drawn(claim, d)
    rate = CLAIMS["schedules.optimal_rate"]
    steps = values["t"] if claim is rate else values["steps"]
    best = [ref.typed(rate, values | {"t": t}) for t in range(steps)]
    second = square_along(best, at, at["second_moment"])[0]
    if claim is rate:
        assert is_lowest(lambda eta: square_along([eta], at, second)[0], value, mpf("1e-9"))
    else:
        assert ref.same(second, value)
        # no other schedule does better, and one that is the same by chance does as well
        others = [eta * mpf(d.positive(-0.1, 0.1)) for eta in best[:8]] + best[8:]
        assert square_along(others, at, at["second_moment"])[0] >= value * (1 - ref.AGREE)


@check_of("schedules.worst_case_bound")
def _(claim, d):
    values = admissible(d.draw, claim)
    steps, shape = values["steps"], values["schedule"]
    rates = {
        "constant": lambda t: 1.0,
        "linear": lambda t: 1 - t / steps,
        "cosine": lambda t: (1 + math.cos(math.pi * t / steps)) / 2,
        "wsd": lambda t: min(1.0, (steps - t) / (round(steps / 5) + 1)),
    }[shape]
    eta = [mpf(rates(t)) for t in range(steps)]
    after = [mpmath.fsum(eta[k:]) for k in range(steps)]
    squares = [mpmath.fsum(x**2 for x in eta[k:]) for k in range(steps)]
    noise = squares[0] / after[0] + mpmath.fsum(
        eta[k] * squares[k] / (after[k + 1] * after[k]) for k in range(steps - 1)
    )

    def bound(log):
        s = mpmath.exp(log)
        return 1 / (2 * s * after[0]) + s * noise / 2

    assert ref.same(lowest(bound, -20, 20), claim(**values), NINE_DIGITS)


@check_of("schedules.noisy_quadratic_steps")
def _(claim, d):
    batch = d.draw(st.sampled_from([64, 256, 1024, 4096]))
    steps, lams = claim(batch=batch), 1 / np.arange(1, 10_001)

    def loss(eta, count):
        rest, kept = eta / batch / (2 - eta * lams) * 1.0, np.abs(1 - eta * lams) ** (2 * count)
        return float(np.sum(lams * (rest + (1 - rest) * kept)) / 2)

    rates = np.geomspace(0.01, 1.99, 400)
    assert min(loss(eta, 0.99 * steps) for eta in rates) > 0.01 > min(loss(eta, 1.01 * steps) for eta in rates)


# the double well, two valleys


def well(eta):
    """A step of the traced rule without noise, and its slope."""
    (rule,) = lr.trace(optimizers.sgd, landscapes.double_well()).next_state

    def step(x):
        return ref.evaluate(rule, {"theta": x, "eta": mpf(eta), "sigma": mpf(0), "xi": mpf(0)})

    def slope(x):  # exact for a cubic
        h = mpf("1e-12")
        return (8 * (step(x + h) - step(x - h)) - step(x + 2 * h) + step(x - 2 * h)) / (12 * h)

    return step, slope


@check_of("escape.two_cycle_high", "escape.two_cycle_low", "escape.two_cycle_multiplier", "escape.two_cycle_loss")
def _(claim, d):
    values, at, value = drawn(claim, d)
    step, slope = well(at["eta"])
    high, low = (ref.typed(CLAIMS[f"escape.two_cycle_{x}"], values) for x in ("high", "low"))
    assert high > 1 > low and ref.same(step(high), low) and ref.same(step(low), high)
    if claim.id.endswith("multiplier"):
        assert ref.same(slope(high) * slope(low), value, mpf("1e-12"))
    if claim.id.endswith("loss"):
        assert ref.same(sum((x**2 - 1) ** 2 / 8 for x in (high, low)), value)


@check_of("escape.minimum_limit", "escape.two_cycle_limit", "escape.hopping_limit", "escape.divergence_limit")
def _(claim, d):
    limit = ref.evaluate(claim.formula, {})
    for side in (1 - mpf(d.positive(-4, -1)), 1 + mpf(d.positive(-4, -1))):
        eta = limit * side
        step, slope = well(eta)
        crest = mpmath.sqrt((1 + eta) / (3 * eta))  # where the slope of a step vanishes
        assert abs(slope(crest)) < mpf("1e-12")
        if claim.id.endswith("minimum_limit"):
            beyond = abs(slope(mpf(1))) > 1
        elif claim.id.endswith("two_cycle_limit"):
            half, gap = mpmath.sqrt(1 + 3 / eta) / 2, mpmath.sqrt(1 - 1 / eta) / 2
            beyond = abs(slope(half + gap) * slope(half - gap)) > 1
        elif claim.id.endswith("hopping_limit"):
            beyond = step(step(crest)) < 0
        else:
            beyond = abs(step(step(crest))) > abs(step(crest))
        assert beyond == (side > 1)


@check_of("escape.chaos_position", "escape.chaos_loss")
def _(claim, d):
    step, _ = well(2)
    if claim.id.endswith("loss"):
        # the spread that tripling of an angle leaves as it is: before and after any number of steps
        x = [mpmath.sqrt(2) * mpmath.sin(2 * mpmath.pi * (k + mpf(d.share())) / 64) for k in range(64)]
        shift = mpf(d.share())
        x = [mpmath.sqrt(2) * mpmath.sin(2 * mpmath.pi * (k + shift) / 64) for k in range(64)]
        for _ in range(3):
            assert ref.same(mpmath.fsum((y**2 - 1) ** 2 / 4 for y in x) / 64, ref.typed(claim, {}))
            x = [step(y) for y in x]
        return
    values, at, value = drawn(claim, d)
    x = at["theta0"]
    for _ in range(values["t"]):
        x = step(x)
    assert ref.same(x, value, mpf("1e-40"), scale=1)


@check_of("escape.kramers_time")
def _(claim, d):
    """The relative error is of the order of the rate: half of it at half the rate."""
    eta, sigma = d.draw(st.sampled_from([(0.06, 0.8), (0.05, 1.0), (0.08, 0.9)]))
    errors = [lr.escape_time(rate, sigma) / claim(eta=rate, sigma=sigma) - 1 for rate in (eta, eta / 2)]
    assert abs(errors[0]) < 3 * eta and abs(errors[1]) < 0.6 * abs(errors[0])


@check_of("escape.escape_threshold")
def _(claim, d):
    threshold, (rule,) = float(claim()), lr.trace(optimizers.sgd, landscapes.double_well()).next_state
    step = sp.lambdify([THETA, sp.Symbol("eta", positive=True), XI], rule.subs(landscapes.SIGMA, 1))
    eta = d.share() / 3
    x, least = -1.0, threshold * (1 + d.positive(-3, 0))
    signs = d.draw(st.lists(st.sampled_from([-1, 1]), max_size=30))
    for sign in signs + [-1] * 200:
        x = step(x, eta, sign * threshold * 0.999999)
        assert x < 0
    x = -1.0
    for _ in range(2000):
        x = step(x, 1 / 3, -least)
    assert x > 0


@check_of("escape.valley_exit")
def _(claim, d):
    _values, at, value = drawn(claim, d)
    sharp, flat, x, count = at["h_sharp"], at["h_flat"], at["distance"] - 1, 0
    while sharp * (x + 1) ** 2 <= flat * (x - 1) ** 2:
        x, count = x - at["eta"] * sharp * (x + 1), count + 1
    assert count == value


# one data set, and worst cases


@check_of("overfitting.mode_best_step")
def _(claim, d):
    _values, at, best = drawn(claim, d)
    left, spread = 1 - at["eta"] * at["s"], at["sigma"] ** 2 / (at["n"] * at["s"])

    def risk(k):
        return left ** (2 * k) * at["b2"] + spread * (1 - left**k) ** 2

    assert is_lowest(risk, best, mpf("1e-9"))
    whole = int(mpmath.floor(best))
    if whole < 60:  # by steps of a run from 0: to b, and to b + 1
        assert min((risk(k), k) for k in range(80))[1] in (whole, whole + 1)


@check_of("overfitting.flow_versus_ridge")
def _(claim, d):
    top = -lowest(lambda x: -(((1 - mpmath.exp(-x)) * (1 + x) / x) ** 2), mpf("0.1"), 10)
    assert ref.same(top, claim(), NINE_DIGITS)


@check_of("worst_case.chebyshev_factor")
def _(claim, d):
    values, at, value = drawn(claim, d)
    steps, mu, big_l = values["steps"], at["mu"], at["big_l"]
    middle, half = (big_l + mu) / 2, (big_l - mu) / 2
    rates = [1 / (middle + half * mpmath.cos((2 * k + 1) * mpmath.pi / (2 * steps))) for k in range(steps)]

    def left(lam):
        return abs(square_along(rates, {"lam": lam, "sigma": mpf(0)}, 0, 1)[1])

    assert ref.same(left(mu), value, mpf("1e-20")) and ref.same(left(big_l), value, mpf("1e-20"))
    assert all(left(mu + (big_l - mu) * k / 12) <= value * (1 + mpf("1e-20")) for k in range(13))


@check_of("worst_case.subgradient_bound")
def _(claim, d):
    values = admissible(d.draw, claim)
    steps, radius, slope = values["steps"], values["radius"], values["g"]
    bound, rate = claim(**asked(claim, values)), values["radius"] / (values["g"] * math.sqrt(values["steps"]))
    # the worst loss, the largest coordinate, reaches it; the nearest coordinate first
    x = np.full(steps, radius / math.sqrt(steps))
    losses = []
    for _ in range(steps):
        top = int(np.argmax(np.abs(x)))
        losses.append(slope * abs(x[top]))
        x[top] -= rate * slope * np.sign(x[top])
    assert min(losses) == pytest.approx(bound, rel=1e-12)
    # others, pieces of planes around the minimum 0, stay below it
    rng = np.random.default_rng(d.draw(st.integers(0, 999)))
    planes = rng.normal(size=(6, 3))
    planes = np.vstack([planes, -planes]) * slope / np.linalg.norm(planes, axis=1).max()
    x = rng.normal(size=3)
    x *= radius / np.linalg.norm(x)
    losses = []
    for _ in range(steps):
        losses.append(max(planes @ x))
        x = x - rate * planes[np.argmax(planes @ x)]
    assert min(losses) <= bound * (1 + 1e-12)


@check_of("worst_case.smooth_convex_bound")
def _(claim, d):
    values, at, bound = drawn(claim, d)
    big_l, radius, steps = at["big_l"], at["radius"], values["steps"]
    # a Huber loss of any width stays below it, and one of them reaches it
    for width in (radius / (2 * steps + 1), radius * mpf(d.share())):
        x = radius
        for _ in range(steps):
            x -= (big_l * x if abs(x) <= width else big_l * width * mpmath.sign(x)) / big_l
        left = big_l * x**2 / 2 if abs(x) <= width else big_l * width * (abs(x) - width / 2)
        assert left <= bound * (1 + ref.AGREE)
        if width == radius / (2 * steps + 1):
            assert ref.same(left, bound)


# signs and absolute losses


@check_of("l1_cycle.entry", "l1_cycle.distance_on_entry", "l1_cycle.distance_after", "l1_cycle.regret")
def _(claim, d):
    exact = d.draw(st.booleans())  # among the fractions are some that hit the minimum
    values = admissible(d.draw, claim, exact=exact)
    at = {k: Fraction(v) for k, v in values.items()}
    x, eta = at["dist"], at["eta"]
    walk = [x]
    for _ in range(int(at["dist"] / eta) + int(at.get("steps", 0)) + 2):
        x -= eta * ((x > 0) - (x < 0))
        walk.append(x)
    entry = next(t for t, x in enumerate(walk) if abs(x) < eta)
    expected = {
        "entry": entry,
        "distance_on_entry": abs(walk[entry]),
        "distance_after": abs(walk[entry + 1]),
        "regret": sum(abs(x) for x in walk[: int(at.get("steps", 0))]),
    }[claim.id.split(".")[1]]
    found = claim(**asked(claim, values if not exact else at))
    if exact:
        assert Fraction(int(found.p), int(found.q)) == expected
    else:
        assert ref.same(found, ref.number(expected), NINE_DIGITS, scale=values["dist"] * 1e-5)


def lattice(step, draws, start, far):
    """The long-run law of a walk on a lattice, positions and probabilities; it does not go farther than `far`."""
    index, queue, rows = {start: 0}, [start], []
    for x in queue:
        row = {}
        for draw, p in draws:
            y = step(x, draw)
            y = x if abs(y) > far else y
            if y not in index:
                index[y] = len(index)
                queue.append(y)
            row[index[y]] = row.get(index[y], 0.0) + float(p)
        rows.append(row)
    matrix = np.zeros((len(index), len(index)))
    for i, row in enumerate(rows):
        for j, p in row.items():
            matrix[j, i] += p
    matrix -= np.eye(len(index))
    matrix[0] = 1
    right = np.zeros(len(index))
    right[0] = 1
    return np.array([float(x) for x in queue]), np.linalg.solve(matrix, right)


def signed(x):
    return (x > 0) - (x < 0)


@check_of("l1_cycle.mean_loss")
def _(claim, d):
    eta, phase = d.positive(), Fraction(d.draw(st.integers(1, 10**6)), 10**6 + 3)
    x, _law = lattice(lambda x, _: x - signed(x), [(0, 1)], phase, 5)
    recurrent = np.abs(x) < 1
    assert recurrent.all() and float(claim(eta=eta)) == pytest.approx(eta * np.mean(np.abs(x)), rel=1e-12)


LAWS = [  # of mean 0 and variance 1, in halves
    [(-1, Fraction(1, 2)), (1, Fraction(1, 2))],
    [(2, Fraction(1, 5)), (Fraction(-1, 2), Fraction(4, 5))],
    [(-2, Fraction(1, 8)), (0, Fraction(3, 4)), (2, Fraction(1, 8))],
]


@check_of("l1_cycle.noisy_mean_distance", "l1_cycle.noisy_second_moment_bounded")
def _(claim, d):
    """Any law, any phase; for the mean square noise within 1, over all phases of its lattice."""
    parts = d.draw(st.integers(1, 3))
    bounded = claim.id.endswith("bounded")
    noise_sd = Fraction(d.draw(st.integers(1, parts if bounded else 2 * parts)), parts)
    law = LAWS[0] if bounded else d.draw(st.sampled_from(LAWS))
    eta = d.positive()
    far = 4 + 16 * float(noise_sd) ** 2

    def step(x, xi):
        return x - signed(x) - noise_sd * xi

    if not bounded:
        x, p = lattice(step, law, Fraction(d.draw(st.integers(1, 999)), 1000 * 2 * parts + 1), far)
        assert claim(eta=eta, sigma=float(noise_sd)) == pytest.approx(eta * float(p @ np.abs(x)), rel=1e-9)
        return
    moves = [abs(-1 - noise_sd * xi) for xi, _ in law] + [abs(-1 + noise_sd * xi) for xi, _ in law]
    cell = Fraction(math.gcd(*(int(m * parts) for m in moves)), parts)
    assume(noise_sd < 1 or cell)  # between crossings of 0 the mean square is a parabola of the phase: two points do
    mean = 0.0
    for node in (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4)):
        x, p = lattice(step, law, cell * node, far)
        mean += float({Fraction(1, 2): Fraction(-1, 3)}.get(node, Fraction(2, 3))) * float(p @ x**2)
    assert claim(eta=eta, sigma=float(noise_sd)) == pytest.approx(eta**2 * mean, rel=1e-9)


@check_of("l1_cycle.noisy_second_moment_gaussian")
def _(claim, d):
    from scipy.special import ndtr

    eta, sd = d.positive(), d.positive(-0.5, 1.5)
    a = np.sqrt(np.arange(1.0, 100 * sd**2 + 10)) / sd
    terms = (1 + a**2) * ndtr(-a) - a * np.exp(-(a**2) / 2) / math.sqrt(2 * math.pi)
    assert claim(eta=eta, sigma=sd) == pytest.approx(eta**2 * (1 / 3 + sd**2 * (1 + 2 * terms.sum())), rel=1e-9)
    if sd < 3:  # the density of |theta| / eta solves an integral equation
        x, weight = np.polynomial.legendre.leggauss(240)
        end = 15 * sd**2 + 4
        x, weight = (x + 1) * end / 2, weight * end / 2

        def kernel(move):
            return np.exp(-(((move + 1) / sd) ** 2) / 2) / (sd * math.sqrt(2 * math.pi))

        move = (kernel(x[:, None] - x) + kernel(-x[:, None] - x)) * weight
        system = np.vstack([move - np.eye(len(x)), weight])
        density = np.linalg.lstsq(system, np.append(np.zeros(len(x)), 1.0), rcond=None)[0]
        assert claim(eta=eta, sigma=sd) == pytest.approx(eta**2 * float(weight @ (x**2 * density)), rel=1e-7)


@check_of("l1_cycle.flipped_mean_distance")
def _(claim, d):
    eta, wrong = d.positive(), Fraction(d.draw(st.integers(0, 400)), 1000)
    phase = Fraction(d.draw(st.integers(1, 999)), 1000)
    far = 3 + 32 / math.log(float((1 - wrong) / wrong)) if wrong else 3
    x, p = lattice(lambda x, flip: x - flip * signed(x), [(1, 1 - wrong), (-1, wrong)], phase, far)
    assert claim(eta=eta, q=float(wrong)) == pytest.approx(eta * float(p @ np.abs(x)), rel=1e-9)


@check_of("l1_cycle.median_variance", "l1_cycle.sign_quadratic_variance")
def _(claim, d):
    """Detailed balance on each lattice, the lattices weighted by their shares of the Gaussian."""
    values = admissible(d.draw, claim)
    eta, scale, lam = values["eta"], values["scale"], values.get("lam", 1.0)
    assume(eta * lam > scale * 1e-3)
    spread = eta * scale / lam
    reach = int(14 * math.sqrt(spread) / eta) + 4
    total = weights = 0.0
    for phase in np.arange(16) / 16 + 1 / 32:
        x = eta * (np.arange(-reach, reach) + phase)
        down = 1 / (1 + np.exp(-x * lam / scale))  # a sample below x, or a noisy gradient above 0
        law = np.exp(np.append(0, np.cumsum(np.log((1 - down[:-1]) / down[1:]))))
        law = law / law.sum()
        share = np.exp(-((x + eta / 2) ** 2) / (2 * spread)).sum()
        total, weights = total + share * float(law @ x**2), weights + share
    assert claim(**asked(claim, values)) == pytest.approx(total / weights, rel=1e-9)


@check_of("l1_cycle.quantile_level")
def _(claim, d):
    level = Fraction(d.draw(st.integers(1, 7)), 8)
    samples = d.draw(st.lists(st.integers(-9, 9), min_size=1, max_size=6))
    rate = Fraction(d.draw(st.integers(1, 30)), 7)
    start = rate * Fraction(d.draw(st.integers(1, 99)), 8 * 100 + 9)
    draws = [(y, Fraction(1, len(samples))) for y in samples]
    x, p = lattice(lambda x, y: x + rate * (level - (y < x)), draws, start, 100)
    recurrent = float(p @ np.mean(np.array(samples)[:, None] < x, axis=0))
    assert float(claim(tau=float(level))) == pytest.approx(recurrent, rel=1e-9)


@pytest.mark.parametrize("id", CHECKS)
@some
@given(data=data)
@ref.many_digits
def test_a_claim_is_what_a_run_of_its_own_gives(id, data):
    CHECKS[id](CLAIMS[id], Draw(data.draw))


def test_every_claim_is_read_again():
    assert not set(CLAIMS) - set(READ) - set(CHECKS), "give them a check of their own"
    assert not set(CHECKS) - set(CLAIMS) and not set(WRITTEN_FOR) - set(READ) and not OWN - set(CLAIMS)
    assert not set(WRITTEN_FOR) - set(CHECKS)


# --- floats, fractions, arrays ---------------------------------------------------------------------------------------


@ref.many_digits
def close(claim, found, values):
    """Whether a float is the formula's value to nine digits, or to a few roundings of the parameters themselves."""
    exact = ref.typed(claim, values)
    rates = [Fraction(v) for k, v in values.items() if k.startswith("eta")]
    curvatures = [Fraction(v) for k, v in values.items() if k.startswith("lam") and k != "lams"]
    rates.append(sum(rates) / max(len(rates), 1))
    if any(0 < abs(rate * curvature - 1) < Fraction(1, 2**48) for rate in rates for curvature in curvatures):
        return True  # floats cannot tell such a rate, or the mean of two, from 1 / lam, where values are infinite
    if abs(exact) > mpf(2) ** 1024:  # beyond the range of floats
        return found == mpmath.sign(exact) * mpmath.inf
    slack = NINE_DIGITS * abs(exact) + mpf(2) ** -1022  # what floats cannot hold is 0
    for name, value in asked(claim, values).items():
        if isinstance(value, float):
            moved = ref.typed(claim, values | {name: Fraction(value) * (1 + Fraction(8, 2**53))})
            slack += abs(moved - exact) if not mpmath.isinf(moved) else 0
    if claim.id == "escape.chaos_position":  # every step triples a rounding
        slack += 64 * ROUNDING * abs(exact) * 3 ** values["t"]
    return abs(mpf(found) - exact) <= slack


QUICK = [id for id, claim in CLAIMS.items() if claim.parameters and id != "schedules.noisy_quadratic_steps"]
TYPED = [id for id, claim in CLAIMS.items() if claim.formula is not None and claim.parameters]


@pytest.mark.parametrize("id", TYPED)
@some
@given(data=data)
def test_floats_keep_nine_digits(id, data):
    claim = CLAIMS[id]
    values = admissible(data.draw, claim)
    try:
        found = claim(**asked(claim, values))
    except ValueError as error:  # on the two exact points where nothing is left to divide by
        assert "has no value" not in str(error) or "needs" in str(error), values
        assume(False)
    found = found[0] if isinstance(found, tuple) else found
    assert close(claim, found, values), (found, mpmath.nstr(ref.typed(claim, values), 12), values)


@pytest.mark.parametrize("id", QUICK)
@few
@given(data=data)
def test_fractions_give_exact_numbers_that_the_floats_round(id, data):
    claim = CLAIMS[id]
    values = asked(claim, admissible(data.draw, claim, exact=True))
    exact = claim(**values)
    rounded = {
        k: v if isinstance(v, str) else [float(c) for c in v] if k == "lams" else float(v) for k, v in values.items()
    }
    try:
        floats = claim(**rounded)
    except ValueError as error:
        assert id.startswith("l1_cycle.") and "floats cannot tell" in str(error)  # a run that hits the minimum
        return
    if claim.formula is not None:
        assert isinstance(exact, sp.Basic) and (not exact.has(sp.Float))
        there = ref.number(exact) if exact is not sp.oo else mpmath.inf
        assert ref.same(there, ref.typed(claim, values), scale=ref.NOTHING)
        assert close(claim, floats, values | rounded), (floats, exact, values)
    else:
        assert floats == exact


@pytest.mark.parametrize("id", QUICK)
@few
@given(data=data)
def test_arrays_are_scalars_one_by_one(id, data):
    claim = CLAIMS[id]
    drawn_values = [asked(claim, admissible(data.draw, claim)) for _ in range(2)]
    whole = {*claim.choices, "lams"}
    one, other = ({k: v if k in whole else float(v) for k, v in values.items()} for values in drawn_values)
    other |= {k: one[k] for k in whole & one.keys()}
    names = [k for k in claim.parameters if k not in whole]
    if not names:
        return
    try:
        values = [claim(**one), claim(**other)]
        together = claim(**one | {k: np.array([one[k], other[k]]) for k in names})
    except ValueError:  # the second point at the curvatures of the first
        assume(False)
    assert np.shape(together) == (2,)
    np.testing.assert_allclose(together, values, rtol=float(NINE_DIGITS))  # powers of arrays are rounded otherwise
    table = claim(**one | {names[0]: np.full((2, 1), one[names[0]]), names[-1]: np.full(3, one[names[-1]])})
    assert np.shape(table) == ((2, 3) if len(names) > 1 else (3,))
    np.testing.assert_allclose(table, np.full(np.shape(table), values[0]), rtol=1e-12)


# --- outside ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", QUICK)
@some
@given(data=data)
def test_anywhere_there_is_a_number_or_an_error_that_says_why(id, data):
    claim, d = CLAIMS[id], Draw(data.draw)
    base = admissible(data.draw, claim)
    values = asked(claim, base)
    # some of the parameters anywhere in their domain, the others where they were
    for name in data.draw(st.sets(st.sampled_from(claim.parameters), min_size=1)):
        if name == "lams":
            values["lams"] = tuple(d.positive() for _ in range(2))
        else:
            values[name] = ANY.get(name, lambda d: d.positive(-6, 6))(d)
    holds = all(_holds(claim, c.holds, values) for c in claim.conditions)
    try:
        value = claim(**values)
    except ValueError as error:
        assert str(error).startswith((id, *claim.parameters)), error
        assert not holds or "has no value" in str(error) or "floats cannot tell" in str(error), (values, error)
    else:
        assert holds, values
        assert not np.any(np.isnan(np.asarray(value, dtype=float)))


def _holds(claim, condition, values):
    """The condition at these values, in floats like its caller's."""
    asked_of = over_modes(condition, values["lams"]) if "lams" in values else condition
    letters = sorted(asked_of.free_symbols, key=str)
    if not all(s.name in values for s in letters):
        return True
    return bool(sp.lambdify(letters, asked_of, "math")(*(float(values[s.name]) for s in letters)))


@pytest.mark.parametrize("id", [id for id, claim in CLAIMS.items() if set(claim.parameters) - set(claim.choices)])
@given(data=data)
@settings(max_examples=2)
def test_what_is_no_number_of_the_kind_is_refused(id, data):
    claim = CLAIMS[id]
    values = asked(claim, admissible(data.draw, claim))
    for name in set(claim.parameters) - set(claim.choices):
        letter = claim.letter(name)
        bad = [math.nan, math.inf, -math.inf]
        if name == "lams":
            bad = [[1.0, x] for x in [*bad, -1.0, 0.0]]
        else:
            bad += [-1] * bool(letter.is_nonnegative) + [1.5] * bool(letter.is_integer)
        for value in bad:
            with pytest.raises(ValueError, match=name[:3]):
                claim(**values | {name: value})
        with pytest.raises(TypeError, match=name):
            claim(**values | {name: "much"})


# --- special cases ---------------------------------------------------------------------------------------------------

# (claim, what is special, the value there: of another claim, or of the parameters)
A = "averaging."
SPECIAL = [
    ("noise_floor.mean", {"t": 0}, lambda v: v["theta0"]),
    ("noise_floor.variance_at", {"t": 0}, lambda v: 0),
    ("noise_floor.variance_at", {"t": 1}, lambda v: v["eta"] ** 2 * v["sigma"] ** 2),
    ("noise_floor.loss_at", {"t": 0}, lambda v: v["lam"] * v["theta0"] ** 2 / 2),
    (
        "noise_floor.loss_at",
        {"sigma": 0, "t": 1},
        lambda v: v["lam"] / 2 * ((1 - v["eta"] * v["lam"]) * v["theta0"]) ** 2,
    ),
    ("noise_floor.autocovariance", {"lag": 0}, "noise_floor.variance"),
    ("noise_floor.variance", {"sigma": 0}, lambda v: 0),
    ("noise_floor.excess_kurtosis", {"kurtosis": 0}, lambda v: 0),
    ("quick_win.loss_after", {"k": 0}, ("noise_floor.excess_loss", {"eta": "eta1"})),
    ("quick_win.best_continuation_rate", {"k": 0}, "quick_win.best_next_rate"),
    ("quick_win.best_continuation_moment", {"k": 0}, lambda v: 1),
    ("quick_win.best_continuation_moment", {"k": 1}, "quick_win.best_next_gain"),
    ("quick_win.best_single_drop", {"tau": 1}, "quick_win.best_next_rate"),
    ("slow_road.gap", {"k": 0}, lambda v: 0),
    ("slow_road.first_crossing", {"slow_excess": 0}, lambda v: math.inf),
    ("slow_road.second_crossing", {"slow_excess": 0}, lambda v: math.inf),
    ("momentum.variance", {"beta": 0}, "noise_floor.variance"),
    ("momentum.dampened_variance", {"beta": 0}, "noise_floor.variance"),
    ("momentum.nesterov_variance", {"beta": 0}, "noise_floor.variance"),
    ("momentum.nesterov_iterate_variance", {"beta": 0}, "noise_floor.variance"),
    ("momentum.stability_limit", {"beta": 0}, "noise_floor.stability_limit"),
    ("momentum.nesterov_stability_limit", {"beta": 0}, "noise_floor.stability_limit"),
    ("momentum.contraction", {"beta": 0}, lambda v: abs(1 - v["eta"] * v["lam"])),
    ("momentum.spiral_from", {"beta": 0}, lambda v: 1 / v["lam"]),
    ("momentum.spiral_to", {"beta": 0}, lambda v: 1 / v["lam"]),
    ("momentum.nesterov_spiral_from", {"beta": 0}, lambda v: 1 / v["lam"]),
    ("momentum.velocity_second_moment", {"beta": 0}, lambda v: 2 * v["sigma"] ** 2 / (2 - v["eta"] * v["lam"])),
    ("momentum.second_moment_after_drop", {"k": 0}, ("momentum.variance", {"eta": "eta1"})),
    (A + "mean_variance", {"n": 1}, lambda v: (v["eta"] * v["sigma"]) ** 2),
    (A + "mean_bias", {"n": 1}, lambda v: 1 - v["eta"] * v["lam"]),
    (A + "tail_variance", {"n": 1}, "noise_floor.variance"),
    (A + "ema_variance", {"gamma": 0}, "noise_floor.variance"),
    (A + "ema_mean", {"gamma": 0}, "noise_floor.mean"),
    (A + "ema_mean", {"t": 0}, lambda v: v["theta0"]),
    ("minibatch.batch_floor", {"batch": 1}, "noise_floor.excess_loss"),
    ("minibatch.batch_versus_rate", {"factor": 1}, lambda v: 1),
    ("minibatch.matching_batch_factor", {"factor": 1}, lambda v: 1),
    ("minibatch.linear_scaling", {"factor": 1}, lambda v: 1),
    ("minibatch.sparse_variance", {"p": 1}, lambda v: v["eta"] * v["sigma"] ** 2 / (2 - v["eta"])),
    ("minibatch.sparse_limit", {"p": 1}, lambda v: 2),
    ("minibatch.lms_excess", {"sigma": 0}, lambda v: 0),
    ("shuffling.batched_variance", {"batch": 1}, "shuffling.epoch_end_variance"),
    ("shuffling.mid_epoch_variance", {"j": 0}, "shuffling.epoch_end_variance"),
    ("schedules.inverse_time_mean", {"steps": 0}, lambda v: 1),
    ("schedules.inverse_time_variance", {"steps": 0}, lambda v: 0),
    ("schedules.exponential_mean", {"steps": 0}, lambda v: 1),
    ("schedules.linear_mean", {"steps": 1}, lambda v: 1 - v["eta0"] * v["lam"]),
    ("schedules.cosine_mean", {"steps": 1}, lambda v: 1 - v["eta0"] * v["lam"]),
    ("schedules.optimal_rate", {"t": 0}, "noise_floor.best_one_step"),
    ("schedules.optimal_second_moment", {"steps": 0}, lambda v: v["second_moment"]),
    ("schedules.best_constant_rate", {"steps": 1}, "noise_floor.best_one_step"),
    ("schedules.worst_case_bound", {"steps": 1}, lambda v: 1),
    ("escape.chaos_position", {"t": 0}, lambda v: v["theta0"]),
    ("overfitting.mode_risk", {"k": 0}, lambda v: v["b2"]),
    ("boosting.bias_factor", {"m": 0}, lambda v: 1),
    ("boosting.variance_factor", {"m": 0}, lambda v: 0),
    ("boosting.bias_factor", {"s": 1}, "boosting.saturated_trees_mse"),
    ("worst_case.chebyshev_factor", {"steps": 0}, lambda v: 1),
    ("worst_case.chebyshev_factor", {"steps": 1}, "worst_case.best_gd_factor"),
    ("l1_cycle.regret", {"steps": 0}, lambda v: 0),
    ("l1_cycle.noisy_mean_distance", {"sigma": 0}, "l1_cycle.mean_loss"),
    ("l1_cycle.noisy_second_moment_bounded", {"sigma": 0}, lambda v: v["eta"] ** 2 / 3),
    ("l1_cycle.noisy_second_moment_gaussian", {"sigma": 0}, lambda v: v["eta"] ** 2 / 3),
    ("l1_cycle.flipped_mean_distance", {"q": 0}, "l1_cycle.mean_loss"),
]
# parameters set to those of others
EQUAL = [
    ("quick_win.size", {"eta2": "eta1"}, lambda v: 0),
    ("quick_win.loss_after", {"eta2": "eta1"}, ("noise_floor.excess_loss", {"eta": "eta1"})),
    ("momentum.second_moment_after_drop", {"eta2": "eta1"}, ("momentum.variance", {"eta": "eta1"})),
    ("shuffling.batched_variance", {"batch": "n"}, lambda v: 0),
    ("shuffling.mid_epoch_variance", {"j": "n"}, "shuffling.epoch_end_variance"),
    ("shuffling.unequal_bias", {"h2": "h1"}, lambda v: 0),
    ("shuffling.unequal_bias", {"a2": "a1"}, lambda v: 0),
    ("momentum.best_contraction", {"big_l": "mu"}, lambda v: 0),
]


def names_of(case):
    return f"{case[0]} where {' and '.join(f'{k} is {v}' for k, v in case[1].items())}"


@pytest.mark.parametrize("case", SPECIAL + EQUAL, ids=names_of)
@few
@given(data=data)
def test_special_cases(case, data):
    id, special, expected = case
    claim = CLAIMS[id]
    numbers = {k: v for k, v in special.items() if not isinstance(v, str)}
    values = admissible(data.draw, claim, exact=True, **numbers)
    values = {k: v if isinstance(v, (str, tuple)) else sp.Rational(v) for k, v in values.items()}
    values |= {k: values[v] if isinstance(v, str) else v for k, v in special.items()}
    if callable(expected):
        expected = expected(values)
    else:
        other, renamed = expected if isinstance(expected, tuple) else (expected, {})
        expected = CLAIMS[other](**{name: values[renamed.get(name, name)] for name in CLAIMS[other].parameters})
    found = claim(**asked(claim, values))
    if isinstance(found, float):
        assert found == pytest.approx(float(expected), rel=1e-6 if isinstance(claim.relation, Minimum) else 1e-9)
    else:
        assert sp.simplify(found - expected) == 0


@some
@given(data=data)
def test_limits_that_join_claims(data):
    d = Draw(data.draw)
    lam, share = d.positive(-1, 1), d.inner_share()
    eta, n = 2 * share / lam, 10**6
    # one curvature of regression, and a batch so large that its noise is the same everywhere
    limit = CLAIMS["minibatch.lms_limit"](lams=[lam], batch=3)
    assert limit == pytest.approx(CLAIMS["minibatch.lms_limit_isotropic"](lam=lam, dim=1, batch=3), rel=1e-12)
    whole = CLAIMS["minibatch.lms_excess"](eta=eta, lams=[lam], sigma=2.0, batch=10**9)
    additive = CLAIMS["minibatch.batch_floor"](eta=eta, lam=lam, sigma=2.0 * math.sqrt(lam), batch=10**9)
    assert whole == pytest.approx(additive, rel=1e-6, abs=0)
    # a new order for each epoch helps at its end while no step overshoots, and does harm where every step does
    n_small = data.draw(st.integers(2, 9))
    for step, sign in ((d.inner_share(), 1), (1 + d.inner_share(), -1)):
        at = {"eta": step / lam, "lam": lam, "variance": 2.0}
        ends = CLAIMS["shuffling.epoch_end_variance"](**at, n=2 if sign < 0 else n_small)
        assert sign * ends <= sign * CLAIMS["shuffling.with_replacement_variance"](**at) * (1 + sign * 1e-9)
    # so many samples that their order does not matter
    ends = CLAIMS["shuffling.batched_variance"](eta=eta, lam=lam, variance=2.0, n=n, batch=1)
    assert ends == pytest.approx(
        CLAIMS["shuffling.with_replacement_variance"](eta=eta, lam=lam, variance=2.0), rel=1e-3 / min(share, 1 - share)
    )
    # long runs
    at = {"eta": eta, "lam": lam, "sigma": 2.0}
    assert CLAIMS["noise_floor.variance_at"](**at, t=10**5) == pytest.approx(
        CLAIMS["noise_floor.variance"](**at), rel=1e-9
    )
    eta2 = eta * d.inner_share()
    drop = {"eta1": eta, "eta2": eta2, "lam": lam, "sigma": 2.0}
    assert CLAIMS["quick_win.loss_after"](**drop, k=10**6) == pytest.approx(
        CLAIMS["noise_floor.excess_loss"](eta=eta2, lam=lam, sigma=2.0), rel=1e-9
    )
    # an average that is a low-pass
    if eta2 * lam <= 1:
        ema = CLAIMS["averaging.ema_variance"](**at, gamma=max(0.0, 1 - eta2 * lam))
        assert CLAIMS["averaging.twin_variance"](**drop) == pytest.approx(ema, rel=1e-9)


# --- units and signs -------------------------------------------------------------------------------------------------

# powers of the unit of theta and of the unit of the loss
UNITS = {
    **dict.fromkeys(("eta", "eta0", "eta1", "eta2", "c"), (2, -1)),
    **dict.fromkeys(("lam", "lam_fast", "lam_slow", "mu", "big_l", "h1", "h2", "s"), (-2, 1)),
    **dict.fromkeys(("theta0", "a1", "a2", "radius", "dist", "scale"), (1, 0)),
    **dict.fromkeys(("second_moment", "variance", "b2"), (2, 0)),
    **dict.fromkeys(("sigma", "g"), (-1, 1)),
    **dict.fromkeys(("target", "slow_excess", "slow_excess0"), (0, 1)),
    **dict.fromkeys(("mean_squared_gradient", "mean_squared_update", "noise_variance"), (-2, 2)),
}
# labels have the unit of the root of the loss; steps of a sign have the unit of theta
OTHER_UNITS = {
    **{
        f"minibatch.{x}": {"sigma": (0, Fraction(1, 2)), "lams": (-2, 1)}
        for x in ("lms_excess", "lms_misadjustment", "lms_limit")
    },
    "minibatch.sparse_variance": {"sigma": (1, 0), "eta": (0, 0)},
    **{f"overfitting.{x}": {"sigma": (0, Fraction(1, 2))} for x in ("mode_risk", "mode_best_step", "mode_best_risk")},
    "l1_cycle.sign_quadratic_variance": {"eta": (1, 0), "scale": (-1, 1)},
    **{
        f"l1_cycle.{x}": {"eta": (1, 0), "sigma": (0, 0)}
        for x in (
            "entry",
            "distance_on_entry",
            "distance_after",
            "mean_loss",
            "regret",
            "noisy_mean_distance",
            "median_variance",
            "noisy_second_moment_bounded",
            "noisy_second_moment_gaussian",
            "flipped_mean_distance",
        )
    },
    **{
        f"escape.{x}": {"eta": (0, 0), "theta0": (0, 0), "sigma": (0, 0)}
        for x in (
            "two_cycle_high",
            "two_cycle_low",
            "two_cycle_multiplier",
            "two_cycle_loss",
            "chaos_position",
            "kramers_time",
        )
    },
    "escape.valley_exit": {"h_sharp": (-2, 1), "h_flat": (-2, 1), "eta": (2, -1), "distance": (0, 0)},
    **{f"boosting.{x}": {"s": (0, 0)} for x in ("bias_factor", "variance_factor")},
}
THETA_UNIT, SQUARE, LOSS, RATE = (1, 0), (2, 0), (0, 1), (2, -1)
RESULT = {
    **dict.fromkeys(
        (
            "noise_floor.mean",
            "averaging.ema_mean",
            "shuffling.unequal_bias",
            "l1_cycle.distance_on_entry",
            "l1_cycle.distance_after",
            "l1_cycle.mean_loss",
            "l1_cycle.regret",
            "l1_cycle.noisy_mean_distance",
            "l1_cycle.flipped_mean_distance",
        ),
        THETA_UNIT,
    ),
    **dict.fromkeys(
        (
            "noise_floor.variance",
            "noise_floor.variance_at",
            "noise_floor.autocovariance",
            "quick_win.immediate_gain_threshold",
            "momentum.variance",
            "momentum.dampened_variance",
            "momentum.nesterov_iterate_variance",
            "momentum.nesterov_variance",
            "momentum.second_moment_after_drop",
            "averaging.mean_variance",
            "averaging.tail_variance",
            "averaging.ema_variance",
            "averaging.twin_variance",
            "minibatch.sparse_variance",
            "shuffling.with_replacement_variance",
            "shuffling.epoch_end_variance",
            "shuffling.mid_epoch_variance",
            "shuffling.shuffle_once_variance",
            "shuffling.batched_variance",
            "schedules.inverse_time_variance",
            "schedules.optimal_second_moment",
            "overfitting.mode_risk",
            "overfitting.mode_best_risk",
            "l1_cycle.noisy_second_moment_bounded",
            "l1_cycle.noisy_second_moment_gaussian",
            "l1_cycle.median_variance",
            "l1_cycle.sign_quadratic_variance",
        ),
        SQUARE,
    ),
    **dict.fromkeys(
        (
            "noise_floor.excess_loss",
            "noise_floor.loss_at",
            "quick_win.size",
            "quick_win.loss_after",
            "quick_win.from_gradient_norm",
            "quick_win.gain_from_gradient_norm",
            "slow_road.gap",
            "minibatch.lms_excess",
            "minibatch.batch_floor",
            "momentum.fluctuation",
            "momentum.gain_from_update_norm",
            "worst_case.subgradient_bound",
            "worst_case.smooth_convex_bound",
        ),
        LOSS,
    ),
    **dict.fromkeys(
        (
            "noise_floor.stability_limit",
            "noise_floor.best_rate_for_target",
            "noise_floor.best_one_step",
            "quick_win.best_next_rate",
            "quick_win.best_continuation_rate",
            "quick_win.best_single_drop",
            "minibatch.lms_limit",
            "minibatch.lms_limit_isotropic",
            "momentum.stability_limit",
            "momentum.nesterov_stability_limit",
            "momentum.spiral_from",
            "momentum.spiral_to",
            "momentum.nesterov_spiral_from",
            "schedules.optimal_rate",
            "schedules.best_constant_rate",
            "worst_case.best_gd_rate",
        ),
        RATE,
    ),
    "momentum.velocity_second_moment": (-2, 2),
    "momentum.cross_moment": (0, 1),
}


def units(claim):
    """The units of its parameters."""
    known = UNITS | OTHER_UNITS.get(claim.id, {})
    return {name: known[name] for name in claim.parameters if known.get(name, (0, 0)) != (0, 0)}


@pytest.mark.parametrize("id", [id for id, claim in CLAIMS.items() if units(claim)])
@few
@given(data=data)
def test_a_change_of_units_changes_the_value_by_its_unit(id, data):
    claim, _d = CLAIMS[id], Draw(data.draw)
    values = admissible(data.draw, claim)
    # powers of 4, so that floats stay as they are
    theta, loss = (4.0 ** data.draw(st.integers(-3, 3)) for _ in range(2))
    if id.startswith("l1_cycle."):
        loss = theta if id != "l1_cycle.sign_quadratic_variance" else loss
    factor = {name: theta ** float(a) * loss ** float(b) for name, (a, b) in units(claim).items()}
    scaled = values | {k: tuple(c * f for c in values[k]) if k == "lams" else values[k] * f for k, f in factor.items()}
    a, b = RESULT.get(id, (0, 0))
    results = [claim(**asked(claim, v)) for v in (values, scaled)]
    results = [x[0] if isinstance(x, tuple) else x for x in results]
    within = 1e-6 if isinstance(claim.relation, (Minimum, Root)) and claim.formula is None else 1e-9
    assert results[1] == pytest.approx(results[0] * theta**a * loss**b, rel=within)


@pytest.mark.parametrize(
    ("id", "names", "sign"),
    [
        ("noise_floor.mean", ["theta0"], -1),
        ("averaging.ema_mean", ["theta0"], -1),
        ("shuffling.unequal_bias", ["a1", "a2"], -1),
        ("escape.chaos_position", ["theta0"], -1),
        ("noise_floor.loss_at", ["theta0"], 1),
        ("noise_floor.steps_to_reach", ["theta0"], 1),
        ("noise_floor.best_rate_for_target", ["theta0"], 1),
        ("slow_road.best_drop_step", ["theta0"], 1),
    ],
)
@few
@given(data=data)
def test_left_is_like_right(id, names, sign, data):
    claim = CLAIMS[id]
    values = asked(claim, admissible(data.draw, claim))
    assert claim(**values | {name: -values[name] for name in names}) == sign * claim(**values)


# --- more and less ---------------------------------------------------------------------------------------------------

# the value grows (1) or falls (-1) with the parameter
GROWS = [
    *(("noise_floor." + x, "eta", 1) for x in ("variance", "excess_loss")),
    *(("noise_floor." + x, "sigma", 1) for x in ("variance", "excess_loss", "variance_at", "loss_at")),
    ("noise_floor.variance_at", "t", 1),
    ("noise_floor.correlation_time", "eta", -1),
    ("noise_floor.best_one_step", "sigma", -1),
    ("noise_floor.best_one_step", "second_moment", 1),
    ("quick_win.size", "eta1", 1),
    ("quick_win.size", "eta2", -1),
    ("quick_win.best_next_gain", "eta1", -1),
    ("quick_win.best_continuation_rate", "k", -1),
    ("quick_win.best_continuation_moment", "k", -1),
    ("quick_win.best_drop_factor", "x", -1),
    ("quick_win.best_drop_remaining", "x", -1),
    ("slow_road.largest_lag", "eta2", -1),
    *(("momentum." + x, "eta", 1) for x in ("variance", "velocity_second_moment", "dampened_variance", "fluctuation")),
    ("momentum.stability_limit", "beta", 1),
    ("momentum.nesterov_stability_limit", "beta", -1),
    ("momentum.spiral_from", "beta", -1),
    ("momentum.spiral_to", "beta", 1),
    ("momentum.best_contraction", "big_l", 1),
    ("averaging.tail_variance", "n", -1),
    ("averaging.ema_variance", "gamma", -1),
    ("averaging.ema_variance", "eta", 1),
    ("minibatch.lms_excess", "eta", 1),
    ("minibatch.lms_excess", "batch", -1),
    ("minibatch.lms_limit", "batch", 1),
    ("minibatch.lms_limit_isotropic", "dim", -1),
    ("minibatch.lms_best_contraction", "batch", -1),
    ("minibatch.batch_floor", "batch", -1),
    ("minibatch.linear_scaling", "factor", 1),
    ("minibatch.sparse_variance", "p", -1),
    ("minibatch.kesten_variance", "p", 1),
    ("minibatch.kesten_tail", "p", -1),
    ("shuffling.with_replacement_variance", "eta", 1),
    ("shuffling.epoch_end_variance", "eta", 1),
    ("schedules.optimal_rate", "t", -1),
    ("schedules.optimal_second_moment", "steps", -1),
    ("schedules.best_constant_rate", "steps", -1),
    ("schedules.exponential_limit", "decay", -1),
    ("schedules.worst_case_bound", "steps", -1),
    ("escape.two_cycle_low", "eta", -1),
    ("escape.two_cycle_loss", "eta", 1),
    ("escape.kramers_time", "sigma", -1),
    ("escape.kramers_time", "eta", -1),
    ("escape.valley_exit", "distance", -1),
    ("overfitting.mode_best_step", "b2", 1),
    ("overfitting.mode_best_step", "sigma", -1),
    ("overfitting.mode_best_risk", "n", -1),
    ("worst_case.best_gd_factor", "big_l", 1),
    ("worst_case.chebyshev_factor", "steps", -1),
    ("worst_case.subgradient_bound", "steps", -1),
    ("worst_case.smooth_convex_bound", "steps", -1),
    ("l1_cycle.noisy_mean_distance", "sigma", 1),
    ("l1_cycle.noisy_second_moment_gaussian", "sigma", 1),
    ("l1_cycle.flipped_mean_distance", "q", 1),
    ("l1_cycle.median_variance", "scale", 1),
    ("l1_cycle.sign_quadratic_variance", "lam", -1),
]


def from_one_side(at):
    """Above 1 / lam every second step is on the other side, and an even number of them cancels better."""
    return at["eta"] * at["lam"] <= 1


# where that holds, and what the next test states
ONLY_FOR = {
    ("averaging.tail_variance", "n"): from_one_side,
    ("schedules.worst_case_bound", "steps"): lambda at: at["steps"] >= 3,  # of a shorter one most steps are its first
    ("shuffling.epoch_end_variance", "shuffling.shuffle_once_variance"): from_one_side,
}


def only_where_it_holds(which, at):
    assume(ONLY_FOR.get(which, lambda at: True)(at))


@pytest.mark.parametrize(("id", "name", "direction"), GROWS)
@few
@given(data=data)
def test_more_is_more_and_less_is_less(id, name, direction, data):
    claim, d = CLAIMS[id], Draw(data.draw)
    values = asked(claim, admissible(data.draw, claim))
    letter = claim.letter(name)
    less = values[name] * d.share() if not letter.is_integer else values[name] - d.count(1, 3)
    if letter.is_integer and less < (1 if letter.is_positive or name == "steps" else 0):
        assume(False)
    others = values | {name: less}
    only_where_it_holds((id, name), others)
    try:
        low, high = claim(**others), claim(**values)
    except ValueError:  # a condition that forbids less
        assume(False)
    assert direction * float(high) >= direction * float(low) - 1e-9 * abs(float(low))


# the first is never more than the second, at the same parameters
BELOW = [
    ("shuffling.epoch_end_variance", "shuffling.shuffle_once_variance"),
    ("averaging.tail_variance", "noise_floor.variance"),
    ("averaging.ema_variance", "noise_floor.variance"),
    ("noise_floor.variance_at", "noise_floor.variance"),
    ("momentum.dampened_variance", "noise_floor.variance"),
    ("momentum.spiral_from", "momentum.spiral_to"),
    ("momentum.spiral_to", "momentum.stability_limit"),
    ("momentum.nesterov_stability_limit", "momentum.stability_limit"),
    ("momentum.best_contraction", "worst_case.best_gd_factor"),
    ("worst_case.chebyshev_factor", "worst_case.best_gd_factor"),
    ("worst_case.best_gd_factor", "worst_case.gd_factor"),
    ("overfitting.mode_best_risk", "overfitting.mode_risk"),
    ("l1_cycle.noisy_second_moment_bounded", "l1_cycle.noisy_second_moment_gaussian"),
    ("slow_road.first_crossing", "slow_road.second_crossing"),
    ("escape.two_cycle_low", "escape.two_cycle_high"),
]


@pytest.mark.parametrize(("low", "high"), BELOW)
@few
@given(data=data)
def test_one_is_below_the_other(low, high, data):
    pair = CLAIMS[low], CLAIMS[high]
    source = max(pair, key=lambda claim: len(claim.parameters))
    values = admissible(data.draw, source)
    only_where_it_holds((low, high), values)
    try:
        results = [claim(**{name: values[name] for name in claim.parameters}) for claim in pair]
    except ValueError:
        assume(False)
    assert results[0] <= results[1] * (1 + 1e-9) + 1e-300
