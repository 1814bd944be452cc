"""Epochs: a rule that takes each sample of a data set once, in a random order, and then starts again.

The data are the values of the landscape's noise, each as likely as the others; without replacement they are no
longer independent, which a `Recursion` cannot say.  `in_epoch` is the reading for it: in the long run, some steps
into an epoch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from itertools import permutations
from typing import Any

import numpy as np
import sympy as sp

from .enumeration import State, _function, exact, fixed_moment
from .expectation import Observed, Rule, Sample, exact_value, replaced
from .inputs import expression
from .landscapes import THETA, batched
from .letters import symbol
from .moments import _Algebra, after
from .monte_carlo import BLOCK, Moments, _generator, _merge, _observer, _over_blocks, _stepper
from .noise import Noise, any_law
from .recursion import Recursion, trace

N = symbol("n")
_MOST_SAMPLES = 7  # 5040 orders
_SETTLED = 1e-6  # what is left of the start, squared in a variance, is then far below any standard error
_always_one = Noise("always 1", lambda power: sp.S.One)


@cache
def _traced(rule: Rule, batch: int, where: tuple[tuple[str, sp.Expr], ...]) -> Recursion:
    optimizer, landscape = rule
    rec = trace(optimizer, batched(landscape, batch)).where(dict(where))
    if not _Algebra(rec).affine:
        raise ValueError(
            f"the long run of epochs is read off rules that are affine in their state, and {landscape.name} makes "
            f"{rec.next_state[0]}: choose a landscape with a linear gradient"
        )
    return rec


@dataclass(frozen=True)
class Epochs:
    """Where an epoch is looked at: the rule, the steps into the epoch (None: its end), and how it takes samples."""

    rule: Rule
    at: sp.Expr | None
    batch: sp.Expr
    reshuffle: bool
    where: tuple[tuple[str, sp.Expr], ...]

    @property
    def data(self) -> tuple[Fraction, ...]:
        """The samples: the values of the landscape's noise."""
        noises = self.rule[1].noises
        support = noises[0][1].support if len(noises) == 1 else None
        if support is None or len({p for _, p in support}) != 1:
            raise ValueError(
                f"{self.rule[1].name} has the noise {', '.join(law.name for _, law in noises)}: an epoch needs one "
                "finite list of samples, for instance noise.empirical([-1, 0, 1])"
            )
        return tuple(value for value, _ in support)

    def sizes(self, settings: Mapping[str, Any]) -> tuple[int, int, int]:
        """The samples in a batch, the steps in an epoch, and the steps into it at which it is looked at."""
        samples = len(self.data)
        if settings.get("n", samples) != samples:
            raise ValueError(f"n = {settings['n']}, and the data are {samples} samples: set n to that")
        batch = int(exact_value(self.batch, settings))
        if samples % batch:
            raise ValueError(f"{samples} samples do not make whole batches of {batch}: choose a divisor")
        at = samples // batch if self.at is None else int(exact_value(self.at, settings))
        if not 0 <= at <= samples // batch:
            raise ValueError(f"at = {at}: an epoch has {samples // batch} steps")
        return batch, samples // batch, at


class InEpoch(Observed):
    """An atom with an observable and the epochs that it is observed in; made by `in_epoch`."""

    _run: Epochs

    def derive(self) -> sp.Expr:
        rec = _traced(self.run.rule, 1, self.run.where)
        if len(rec.state) > 1:
            raise NotImplementedError(
                f"a rule with the states {', '.join(map(str, rec.state))} is not derived over epochs: enumerate or "
                "simulate it"
            )
        letters = {THETA, *(s for s, _ in rec.noises)}
        alike = not any(sp.diff(rec.next_state[0], x).free_symbols & letters for x in letters)
        return for_any_data(self) if alike else over_all_orders(self)

    def enumerate(self, settings: Mapping[str, Any]) -> sp.Rational:
        observable = exact_value(self.observable, settings)
        rec = _traced(self.run.rule, self.run.sizes(settings)[0], self.run.where)
        values = tuple(exact(s, settings[s.name]) for s in rec.parameters)
        return _enumerate(self.run, observable, rec, values, self.run.sizes(settings))

    def sample(
        self,
        members: Sequence[Any],
        settings: Mapping[str, Any],
        law: Noise,
        chains: int,
        seed: int,
        executor: Executor | None,
    ) -> Sample:
        return _simulate(self.run, [e.observable for e in members], settings, chains, seed, executor)


def in_epoch(
    observable: Any, rule: Rule, *, at: Any = None, batch: Any = 1, reshuffle: bool = True, **where: Any
) -> InEpoch:
    """The long-run expectation of `observable` after `at` steps of an epoch (default: at its end).

    Each epoch takes the samples in a new random order (`reshuffle=False`: in the random order of the first), `batch`
    at a time.  The samples are the values of the noise of the rule's landscape; `where` replaces parameters.
    Raises `ValueError`, when it is read, for data that are not a finite list, or do not fit `n`, `at` or `batch`.

    >>> from lrtheory.landscapes import quadratic_to_sample
    >>> from lrtheory.noise import empirical
    >>> from lrtheory.optimizers import sgd
    >>> variance = in_epoch(THETA**2, (sgd, quadratic_to_sample(empirical([-1, 1]))))
    >>> variance.enumerate({"eta": Fraction(1, 2), "lam": 1, "scale": 1})
    1/15
    """
    at = None if at is None else expression(at)
    run = Epochs(rule, at, expression(batch), reshuffle, replaced(where))
    return InEpoch(expression(observable), run)


# --- first reading: derived ----------------------------------------------------------------------------------------


def for_any_data(reading: InEpoch) -> sp.Expr:
    """A mean or mean square for any n samples of mean 0 and variance 1 that pull alike, in the letter `n`.

    A sample without replacement has the variance 1, and two of them the covariance c = -1 / (n - 1), since all n
    together are always 0.  These are the second moments of independent samples of variance 1 - c, and of a shift of
    variance c that they share; both are moments of the traced rule, after any number of steps.
    """
    run, data = reading.run, reading.run.data
    if sum(data) != 0 or sum(x**2 for x in data) != len(data):
        raise ValueError(f"the samples {[str(x) for x in data]} must have mean 0 and variance 1: centre and scale them")
    rec = _traced(run.rule, 1, run.where)
    (theta,) = rec.state
    covariance = 1 / (1 - N)
    own = (1 - covariance) / run.batch  # of a batch's mean; what its samples share, all batches share

    def noise(steps: sp.Expr) -> sp.Expr:
        apart = after(rec.with_noise(any_law), steps, {theta: sp.S.Zero})[theta**2]
        together = after(rec.with_noise(_always_one), steps, {theta: sp.S.Zero})[theta]
        return own * apart + covariance * together**2

    def shrink(steps: sp.Expr) -> sp.Expr:
        return after(rec.with_noise(any_law), steps, {theta: sp.S.One})[theta]

    epoch = N / run.batch
    if run.reshuffle:  # an epoch's noise does not depend on where it starts
        second = noise(epoch) / (1 - shrink(epoch) ** 2)
        if run.at is not None:
            second = shrink(run.at) ** 2 * second + noise(run.at)
    elif run.at is None:  # the limit cycle of an order starts at this order's noise / (1 - shrink)
        second = noise(epoch) / (1 - shrink(epoch)) ** 2
    else:
        raise ValueError("one order for all epochs is derived at their ends only: enumerate or simulate the rest")
    poly = sp.Poly(reading.observable, theta)
    if poly.degree() > 2:
        raise ValueError(f"{reading.observable} needs more than the variance of the samples: use over_all_orders")
    return poly.coeff_monomial(1) + poly.coeff_monomial(theta**2) * second


def over_all_orders(reading: InEpoch) -> sp.Expr:
    """Any moment for the data at hand: the traced rule composed along each order, symbolic in its parameters."""
    run = reading.run
    batch, steps, at = run.sizes({})
    rec = _traced(run.rule, batch, run.where)
    (theta,), noises = rec.state, [s for s, _ in rec.noises]
    walks = []
    for order in permutations(map(sp.Rational, run.data)):
        walk = [theta]
        for k in range(steps):
            draw = dict(zip(noises, order[k * batch : (k + 1) * batch], strict=True))
            walk.append(sp.expand(rec.next_state[0].subs({theta: walk[-1]} | draw, simultaneous=True)))
        walks.append((walk[at], walk[-1]))

    def mean(values: list[sp.Expr]) -> sp.Poly:
        return sp.Poly(sp.Add(*values) / len(values), theta)

    if not run.reshuffle:
        inverse: dict[sp.Expr, sp.Expr] = {}  # 1 / (1 - slope) as a letter for each slope: sums of polynomials are fast
        total = sp.S.Zero
        for look, end in walks:
            slope, shift = sp.Poly(end, theta).all_coeffs()
            start = shift * inverse.setdefault(slope, sp.Dummy())
            total += sp.expand(reading.observable.subs(theta, look.subs(theta, start)))
        return sp.factor(total.subs({letter: 1 / (1 - slope) for slope, letter in inverse.items()}) / len(walks))
    seen = mean([reading.observable.subs(theta, look) for look, _ in walks])
    moments = [sp.S.One]  # of theta at the ends of epochs
    for k in range(1, seen.degree() + 1):
        own, *lower = mean([end**k for _, end in walks]).all_coeffs()
        moments.append(sp.factor(sp.Add(*(c * m for c, m in zip(reversed(lower), moments, strict=True))) / (1 - own)))
    return sp.factor(sp.Add(*(c * moments[power] for (power,), c in seen.terms())))


# --- second reading: every order, exactly --------------------------------------------------------------------------


@cache
def _enumerate(
    run: Epochs, observable: sp.Expr, rec: Recursion, values: tuple[Fraction, ...], sizes: tuple[int, int, int]
) -> sp.Rational:
    batch, steps, at = sizes
    if len(run.data) > _MOST_SAMPLES:
        raise ValueError(
            f"{len(run.data)} samples have too many orders: enumerate {_MOST_SAMPLES} at most, or simulate"
        )
    step = _function((*rec.state, *(s for s, _ in rec.noises), *rec.parameters), rec.next_state)
    # the order inside a batch does not matter
    orders = Counter(
        tuple(tuple(sorted(order[k * batch : (k + 1) * batch])) for k in range(steps))
        for order in permutations(run.data)
    )
    size = len(rec.state)
    seen = tuple(sp.Dummy(s.name, real=True) for s in rec.state)
    observable = observable.xreplace(dict(zip(rec.state, seen, strict=True)))

    def epoch(order: Sequence[State], start: State) -> State:
        """The state at the end of the epoch, and what it was when it was looked at."""
        walk = [start]
        for draw in order:
            walk.append(tuple(step(*walk[-1], *draw, *values)))
        return walk[-1] + walk[at]

    def long_run(orders: Mapping[Any, int]) -> sp.Rational:
        def move(state: State) -> list[tuple[State, Fraction]]:
            return [(epoch(order, state[:size]), Fraction(count, orders_in_all)) for order, count in orders.items()]

        orders_in_all = sum(orders.values())
        return fixed_moment(move, rec.state + seen, observable)

    if run.reshuffle:
        return long_run(orders)
    return sp.Add(*(count * long_run({order: 1}) for order, count in orders.items())) / sum(orders.values())


# --- third reading: simulated --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    rec: Recursion
    observables: tuple[sp.Expr, ...]
    parameters: tuple[float, ...]
    data: tuple[float, ...]
    sizes: tuple[int, int, int]
    reshuffle: bool
    epochs: int
    seed: int
    chains: int


def _block(plan: _Plan, index: int) -> Moments:
    rng = _generator(plan.seed, index)
    chains = min(BLOCK, plan.chains - index * BLOCK)
    batch, steps, at = plan.sizes
    stepper, size = _stepper(plan.rec), len(plan.rec.state)
    arrays = list(np.zeros((stepper.arrays, chains)))
    step = stepper.bind(plan.parameters, arrays)
    deck = np.repeat(np.array(plan.data)[:, None], chains, axis=1)  # a column for each chain
    for epoch in range(plan.epochs + 1):
        if plan.reshuffle or epoch == 0:
            rng.permuted(deck, axis=0, out=deck)
        for k in range(at if epoch == plan.epochs else steps):
            for draw, drawn in zip(arrays[size:], deck[k * batch : (k + 1) * batch], strict=False):
                draw[...] = drawn
            step()
    observe = _observer(plan.rec.state, plan.observables)
    seen = np.array([np.broadcast_to(x, chains) for x in observe(*arrays[:size])], float)
    mean = seen.mean(axis=1)
    seen -= mean[:, None]
    return chains, mean[None], (seen @ seen.T)[None]


def _simulate(
    run: Epochs,
    observables: Sequence[sp.Expr],
    settings: Mapping[str, Any],
    chains: int,
    seed: int,
    executor: Executor | None,
) -> Sample:
    sizes = batch, steps, at = run.sizes(settings)
    rec = _traced(run.rule, batch, run.where)
    values = {s: float(settings[s.name]) for s in rec.parameters}
    slopes = sp.Matrix(rec.next_state).jacobian(sp.Matrix(rec.state))
    slope: Callable[..., Any] = sp.lambdify(([s for s, _ in rec.noises], list(values)), slopes, "numpy")
    epoch = np.eye(len(rec.state))
    for k in range(steps):
        epoch = slope([float(x) for x in run.data[k * batch : (k + 1) * batch]], list(values.values())) @ epoch
    growth = float(max(abs(np.linalg.eigvals(epoch))))
    if growth >= 1:
        at_values = ", ".join(f"{s} = {v}" for s, v in values.items())
        raise ValueError(f"an epoch multiplies distances by {growth:.3g} at {at_values}: choose a smaller rate")
    epochs = 1 if growth <= _SETTLED else math.ceil(math.log(_SETTLED) / math.log(growth))
    seen = tuple(exact_value(o, settings) for o in observables)
    data = tuple(float(x) for x in run.data)
    plan = _Plan(rec, seen, tuple(values.values()), data, sizes, run.reshuffle, epochs, seed, chains)
    count, means, spread = _over_blocks(partial(_block, plan), chains, executor, _merge)
    return Sample(means[0], spread[0] / (count * (count - 1)), chains * (epochs * steps + at))
