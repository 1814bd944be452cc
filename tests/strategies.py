"""Admissible parameters of every claim, drawn by Hypothesis up to the edges of what its conditions allow."""

from __future__ import annotations

import math
from fractions import Fraction

from hypothesis import assume
from hypothesis import strategies as st

from lrtheory.ledger import Claim

_EDGE = st.floats(2, 6).map(lambda power: 10.0**-power)
_SHARE = st.one_of(st.floats(0.01, 0.99), _EDGE, _EDGE.map(lambda x: 1 - x))
_SMALL = st.integers(1, 9)


class Draw:
    """What parameters are made of: floats over many powers of ten and close to edges, or small fractions."""

    def __init__(self, draw, exact: bool = False):
        self.draw, self.exact = draw, exact

    def positive(self, low=-3.0, high=3.0):
        """A positive number, of any order between these powers of ten."""
        if self.exact:
            return Fraction(self.draw(_SMALL), self.draw(_SMALL))
        return 10.0 ** self.draw(st.floats(low, high))

    def share(self):
        """A number between 0 and 1, down to a millionth from either."""
        if self.exact:
            part = self.draw(_SMALL)
            return Fraction(part, part + self.draw(_SMALL))
        return self.draw(_SHARE)

    def inner_share(self):
        """A number between 0 and 1 that is near neither."""
        return self.share() if self.exact else self.draw(st.floats(0.01, 0.99))

    def sign(self):
        return self.draw(st.sampled_from([-1, 1]))

    def real(self):
        return self.sign() * self.positive()

    def count(self, low=0, high=40):
        return self.draw(st.integers(low, min(high, low + 5) if self.exact else high))

    def square(self):
        """A positive number with a root that is a number of the same kind."""
        return self.positive(-1.5, 1.5) ** 2

    def root(self, x):
        if not self.exact:
            return math.sqrt(x)
        root = Fraction(math.isqrt(x.numerator), math.isqrt(x.denominator))
        assert root**2 == x
        return root


# what a name stands for where no other parameter bounds it
ANY = {
    "theta0": Draw.real,
    "a1": Draw.real,
    "a2": Draw.real,
    "kurtosis": lambda d: d.positive() - 2,
    "second_moment": Draw.square,
    "variance": Draw.square,
    "b2": Draw.square,
    "t": Draw.count,
    "k": Draw.count,
    "lag": Draw.count,
    "m": Draw.count,
    "j": Draw.count,
    "n": lambda d: d.count(1),
    "steps": lambda d: d.count(1),
    "tau": lambda d: d.count(1),
    "horizon": lambda d: d.count(1, 400),
    "batch": lambda d: d.count(1),
    "dim": lambda d: d.count(1),
    "beta": Draw.share,
    "gamma": Draw.share,
    "decay": Draw.inner_share,
    "q": Draw.share,
    "p": Draw.share,
    "convention": lambda d: d.draw(st.sampled_from(["pytorch", "keras"])),
    "schedule": lambda d: d.draw(st.sampled_from(["constant", "cosine", "linear", "wsd"])),
}


def _stable(d, at):
    at["lam"] = d.positive()
    at["eta"] = 2 * d.share() / at["lam"]


def _off_the_floor(d, at):
    """A start whose loss is not that of the long run, by chance."""
    _stable(d, at)
    at["sigma"], at["theta0"] = d.positive(), d.real()
    assume(at["lam"] * at["theta0"] ** 2 * (2 - at["eta"] * at["lam"]) != at["eta"] * at["sigma"] ** 2)


def _within(limit):
    """The rate a share of a limit that depends on the curvature and the momentum."""

    def fill(d, at):
        at["lam"] = d.positive()
        at.setdefault("beta", d.share())
        at["eta"] = limit(at["beta"]) * d.share() / at["lam"]

    return fill


def _drop(below=2):
    """Two rates for one curvature, the second lower."""

    def fill(d, at):
        at["lam"] = d.positive()
        at["eta1"] = below * d.share() / at["lam"]
        at["eta2"] = at["eta1"] * d.share()

    return fill


def _two_rates(d, at):
    at["lam"] = d.positive()
    at["eta1"], at["eta2"] = (2 * d.share() / at["lam"] for _ in range(2))
    assume(at["eta1"] != at["eta2"])


def _two_modes(d, at):
    at["lam_fast"] = d.positive()
    at["eta1"] = 2 * d.share() / at["lam_fast"]
    at["eta2"] = at["eta1"] * d.share()
    at["lam_slow"] = d.share() / at["eta1"]
    assume(at["eta2"] * at["lam_fast"] != 1)


def _two_modes_apart(d, at):
    """Two modes whose curves can cross: a win, and a debt of the same order."""
    _two_modes(d, at)
    at["lam_slow"] = d.inner_share() * (d.positive(-2, 0) if not d.exact else 1) / at["eta1"]
    at["sigma"] = d.positive(-1, 1)
    win = at["sigma"] ** 2 / 2 * sum(s * r / (2 - r * at["lam_fast"]) for s, r in ((1, at["eta1"]), (-1, at["eta2"])))
    at["slow_excess"] = win * d.positive(-1, 3)


def _to_target(d, at):
    """A start above the floor, and a target between the two."""
    _stable(d, at)
    at["sigma"] = d.positive()
    at["theta0"] = d.sign() * (1 + d.positive(-2, 2)) * at["sigma"] / at["lam"] / (2 - at["eta"] * at["lam"])
    floor, start = at["eta"] * at["sigma"] ** 2 / (2 * (2 - at["eta"] * at["lam"])), at["lam"] * at["theta0"] ** 2 / 2
    at["target"] = floor + d.inner_share() * (start - floor)


def _any_target(d, at):
    at["lam"], at["theta0"] = d.positive(), d.real()
    at["target"] = at["lam"] * at["theta0"] ** 2 / 2 * d.inner_share()


def _from_above_the_floor(d, at):
    _drop(1)(d, at)
    at["sigma"] = d.positive()
    at["theta0"] = d.sign() * (1 + d.positive(-2, 2)) * at["sigma"] / at["lam"]


def _with_gradients(d, at):
    at["mean_squared_gradient"] = d.positive()
    at["noise_variance"] = at["mean_squared_gradient"] * d.share()
    _drop()(d, at)


def _with_updates(d, at):
    at["lam"], at["beta"], at["mean_squared_update"] = d.positive(), d.share(), d.positive()
    at["noise_variance"] = (1 - at["beta"] ** 2) * at["mean_squared_update"] * d.inner_share()
    at["eta1"] = 2 * (1 + at["beta"]) * d.share() / at["lam"]
    at["eta2"] = at["eta1"] * d.share()


def _momentum_drop(d, at):
    at["lam"], at["beta"] = d.positive(), d.share()
    at["eta1"], at["eta2"] = (2 * (1 + at["beta"]) * d.share() / at["lam"] for _ in range(2))


def _two_lams(d, at):
    at["mu"] = d.square()
    at["big_l"] = at["mu"] * (1 + d.positive(-2, 2)) ** 2


def _smooth(d, at):
    _two_lams(d, at)
    at["eta"] = 3 * d.share() / at["big_l"]
    at["steps"] = d.count(1, 12)


def _regression(d, at):
    """Curvatures, and a rate below that at which the shares of all of them would be those of the largest."""
    at["lams"] = tuple(d.square() for _ in range(d.draw(st.integers(1, 4))))
    at["batch"] = d.count(1)
    top = max(at["lams"])
    safe = Fraction(2) / (Fraction(sum(at["lams"])) / at["batch"] + (1 + Fraction(1, at["batch"])) * Fraction(top))
    at["eta"] = (safe if d.exact else float(safe)) * d.share()


def _factor(d, at):
    """A larger or a smaller batch, at a rate that is stable in both runs."""
    at.setdefault("factor", d.positive(-2, 2))
    at["lam"] = d.positive()
    at["eta"] = 2 * d.share() * min(1, at["factor"]) / at["lam"]


def _linear(d, at):
    at.setdefault("factor", d.positive(-2, 2))
    at["lam"] = d.positive()
    at["eta"] = 2 * d.share() / max(1, at["factor"]) / at["lam"]


def _sparse(d, at):
    at.setdefault("p", d.inner_share() ** 2)
    at["eta"] = 2 * at["p"] * d.share()


def _epochs(d, at):
    _stable(d, at)
    at["batch"] = d.count(1, 4)
    at["n"] = at["batch"] * d.count(2, 12)
    at["j"] = d.draw(st.integers(0, at["n"]))


def _two_parabolas(d, at):
    at["h1"], at["h2"] = d.positive(-2, 2), d.positive(-2, 2)
    at["eta"] = 2 * d.share() / max(at["h1"], at["h2"])


def _inverse_time(d, at):
    at["lam"], at["t0"] = d.positive(), d.positive(-1, 2)
    at["c"] = 2 * at["t0"] * d.share() / at["lam"]
    at.setdefault("steps", d.count(1, 9))  # the sum is written out


def _from_rate(limit):
    def fill(d, at):
        at["lam"] = d.positive()
        at["eta0"] = limit * d.share() / at["lam"]

    return fill


def _twin(d, at):
    at["lam"] = d.positive()
    at["eta1"], at["eta2"] = 2 * d.share() / at["lam"], d.share() / at["lam"]


def _tail(d, at):
    """A rate at which the floor is a square, if the other numbers are fractions."""
    at["lam"], ratio = d.positive(), d.positive(-3, 3)
    at["eta"] = 2 * ratio**2 / (1 + ratio**2) / at["lam"]


def _lattice(d, at):
    at["eta"] = d.positive()
    at["dist"] = at["eta"] * (d.draw(st.integers(0, 30)) + d.inner_share())
    at["steps"] = d.count(0, 60)


def _cycle(d, at):
    at["eta"] = 1 + d.positive(-4, 1)


def _valley(d, at):
    at["h_flat"], ratio = d.positive(-1, 1), 1 + d.positive(-1, 1)
    at["h_sharp"] = at["h_flat"] * ratio**2
    at["eta"] = (2 + d.positive(-1, 1)) / at["h_sharp"]
    at["distance"] = 2 / (1 + ratio) * d.inner_share() * (1 if d.exact else d.positive(-3, 0))
    # a step that ends on a border exactly is told from its neighbours by all of its digits
    borders = {2 / (1 + ratio), 2 / (ratio - 1)}
    assume(not any(at["distance"] * abs(1 - at["eta"] * at["h_sharp"]) ** k in borders for k in range(40)))


def _learning(limit):
    def fill(d, at):
        at["s"] = d.square()
        at["eta"] = limit * d.share() / at["s"]

    return fill


def _coarse(d, at):
    at["lam"], at["scale"] = d.positive(-1, 1), d.positive()
    at["eta"] = 2 * at["scale"] * d.share() / at["lam"]


def _median(d, at):
    at["scale"] = d.positive()
    at["eta"] = 2 * at["scale"] * d.share()


def _loud(d, at):
    """The exponent of Kramers' time up to a hundred."""
    at["sigma"] = d.positive(-1, 1)
    at["eta"] = 1 / (2 * at["sigma"] ** 2 * (d.positive(-1, 2)))


def _set(**shares):
    return lambda d, at: at.update({name: make(d) for name, make in shares.items() if name not in at})


_CHAPTERS = {
    "noise_floor": _stable,
    "quick_win": _drop(),
    "slow_road": _two_modes,
    "momentum": _within(lambda beta: 2 * (1 + beta)),
    "averaging": _stable,
    "shuffling": _epochs,
    "overfitting": _learning(2),
    "worst_case": _smooth,
}
_CLAIMS = {
    "noise_floor.loss_relaxation_time": _off_the_floor,
    "noise_floor.steps_to_reach": _to_target,
    "noise_floor.best_rate_for_target": _any_target,
    "quick_win.size": _two_rates,
    "quick_win.time_constant": _two_rates,
    "quick_win.loss_after": _two_rates,
    "quick_win.gain_from_gradient_norm": _with_gradients,
    "quick_win.from_gradient_norm": _stable,
    "slow_road.slowdown": _drop(),
    "slow_road.first_crossing": _two_modes_apart,
    "slow_road.second_crossing": _two_modes_apart,
    "slow_road.best_drop_step": _from_above_the_floor,
    "momentum.dampened_variance": _within(lambda beta: 2 * (1 + beta) / (1 - beta)),
    "momentum.nesterov_iterate_variance": _within(lambda beta: 2 * (1 + beta) / (1 + 2 * beta)),
    "momentum.nesterov_variance": _within(lambda beta: 2 * (1 + beta) / (1 + 2 * beta)),
    "momentum.contraction": _within(lambda beta: 5),
    "momentum.best_beta": _within(lambda beta: 4),
    "momentum.best_contraction": _two_lams,
    "momentum.gain_from_update_norm": _with_updates,
    "momentum.second_moment_after_drop": _momentum_drop,
    "averaging.tail_variance": _tail,
    "averaging.twin_variance": _twin,
    "minibatch.lms_misadjustment": _regression,
    "minibatch.lms_excess": _regression,
    "minibatch.lms_limit": _regression,
    "minibatch.batch_floor": _stable,
    "minibatch.batch_versus_rate": _factor,
    "minibatch.matching_batch_factor": _factor,
    "minibatch.linear_scaling": _linear,
    "minibatch.sparse_variance": _sparse,
    "minibatch.kesten_variance": _set(p=lambda d: d.share() / 5),
    "minibatch.kesten_tail": _set(p=lambda d: d.share() / 2),
    "shuffling.unequal_bias": _two_parabolas,
    "schedules.inverse_time_mean": _inverse_time,
    "schedules.inverse_time_variance": _inverse_time,
    "schedules.linear_mean": _from_rate(2),
    "schedules.cosine_mean": _from_rate(2),
    "schedules.exponential_mean": _from_rate(2),
    "schedules.exponential_limit": _from_rate(1),
    "escape.two_cycle_high": _cycle,
    "escape.two_cycle_low": _cycle,
    "escape.two_cycle_multiplier": _cycle,
    "escape.two_cycle_loss": _cycle,
    "escape.chaos_position": _set(
        theta0=lambda d: d.sign() * d.inner_share() * Fraction(7, 5), t=lambda d: d.count(0, 8)
    ),
    "escape.kramers_time": _loud,
    "escape.valley_exit": _valley,
    "overfitting.mode_best_step": _learning(1),
    "overfitting.flow_versus_ridge": _set(),
    "boosting.bias_factor": _set(s=lambda d: 1, nu=lambda d: 2 * d.share()),
    "worst_case.sgd_bound_ratio": lambda d, at: _within(lambda beta: 1)(d, at),
    "l1_cycle.entry": _lattice,
    "l1_cycle.distance_on_entry": _lattice,
    "l1_cycle.distance_after": _lattice,
    "l1_cycle.regret": _lattice,
    "l1_cycle.noisy_second_moment_bounded": _set(sigma=Draw.share),
    "l1_cycle.flipped_mean_distance": _set(q=lambda d: d.share() / 2),
    "l1_cycle.median_variance": _median,
    "l1_cycle.sign_quadratic_variance": _coarse,
    "l1_cycle.quantile_level": _set(tau=Draw.share),
}


def admissible(draw, claim: Claim, exact: bool = False, **fixed):
    """Values of the parameters of a claim, and of the letters that its expectation has besides, within its conditions.

    `fixed` values are not drawn.
    """
    d = Draw(draw, exact)
    at = dict(fixed)
    fill = _CLAIMS.get(claim.id, _CHAPTERS.get(claim.id.split(".")[0]))
    if fill is not None:
        fill(d, at)
    names = dict.fromkeys((*claim.parameters, *claim.optional, *claim.given, *claim.settings))
    values = {name: at[name] if name in at else ANY.get(name, Draw.positive)(d) for name in names}
    try:
        claim._admitted({k: v for k, v in values.items() if k in (*claim.parameters, *claim.optional)})
    except ValueError:  # by rounding, or a rare coincidence
        assume(False)
    return values


def asked(claim: Claim, values):
    """What the claim is called with."""
    return {name: values[name] for name in claim.parameters}
