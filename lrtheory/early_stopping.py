"""Training on one data set for ever: the training loss falls to the end, the risk turns.

The label noise is drawn once, before the first step, and every step sees the same labels.  `on_fixed_data` is the
reading for that: it turns the noise of a traced rule into states that stay put.  The two functions give the exact
curves of gradient descent from 0 on least squares, for any inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import product
from math import prod
from typing import Any

import numpy as np
import sympy as sp

from . import monte_carlo
from .enumeration import enumerate_paths
from .expectation import _FINITE, Observed, Rule, Sample, exact_value, replaced
from .inputs import Array, affordable, expression, numbers, positive, whole
from .moments import After
from .noise import Noise, any_law
from .recursion import Recursion, trace


@dataclass(frozen=True)
class OneDataSet:
    """A rule on data that are drawn once: its steps, its start, and replaced parameters."""

    rule: Rule
    steps: sp.Expr
    start: sp.Expr
    where: tuple[tuple[str, sp.Expr], ...]

    @property
    def recursion(self) -> Recursion:
        """The traced rule, whose noises have become states that stay as they were drawn."""
        return _frozen(self.rule).where(dict(self.where))

    @property
    def noises(self) -> tuple[tuple[sp.Symbol, Noise], ...]:
        return self.rule[1].noises


@cache
def _frozen(rule: Rule) -> Recursion:
    rec = trace(*rule)
    drawn = tuple(s for s, _ in rec.noises)
    return Recursion(rec.state + drawn, rec.parameters, (), rec.next_state + drawn)


class _Drawn:
    """The moments at the start: a point for the parameter, a law for the data."""

    def __init__(self, point: Mapping[sp.Symbol, sp.Expr], noises: Sequence[tuple[sp.Symbol, Noise]]):
        self._point, self._noises = dict(point), noises

    def __getitem__(self, observable: sp.Expr) -> sp.Expr:
        poly = sp.Poly(expression(observable).subs(self._point), *(s for s, _ in self._noises))

        def mean(powers: tuple[int, ...]) -> sp.Expr:
            return sp.prod([law.moment(p) for (_, law), p in zip(self._noises, powers, strict=True)])

        return sp.Add(*(c * mean(powers) for powers, c in poly.terms()))


class OnFixedData(Observed):
    """An atom with an observable and the run that it is observed on; made by `on_fixed_data`."""

    _run: OneDataSet

    def _starts(self) -> dict[sp.Symbol, sp.Expr]:
        return dict.fromkeys(self.run.rule[1].coordinates, self.run.start)

    def derive(self) -> sp.Expr:
        start = _Drawn(self._starts(), self.run.noises)
        return After(self.run.recursion, self.run.steps, start)[self.observable]

    def enumerate(self, settings: Mapping[str, Any]) -> sp.Rational:
        """The mean over every data set that finite noise can give."""
        rec, count = self.run.recursion, int(exact_value(self.run.steps, settings))
        at = {s.name: settings[s.name] for s in rec.parameters}
        start = {x: exact_value(value, settings) for x, value in self._starts().items()}
        letters = [s for s, _ in self.run.noises]
        supports = [_FINITE.get(law, law).support for _, law in self.run.noises]
        if any(support is None for support in supports):
            raise ValueError(f"{self.run.rule[1].name} has noise without finite support: simulate it")
        total = sp.S.Zero
        for draws in product(*(support or () for support in supports)):
            weight = prod((p for _, p in draws), start=Fraction(1))
            data = {s: value for s, (value, _) in zip(letters, draws, strict=True)}
            paths = enumerate_paths(rec, at, count, start={**start, **data})
            total += sp.Rational(weight) * paths[exact_value(self.observable, settings)]
        return total

    def sample(
        self,
        members: Sequence[Any],
        settings: Mapping[str, Any],
        law: Noise,
        chains: int,
        seed: int,
        executor: Executor | None,
    ) -> Sample:
        """Each chain is a data set of its own."""
        rec, count = self.run.recursion, int(exact_value(self.run.steps, settings))
        start: dict[Any, Any] = {x: float(exact_value(value, settings)) for x, value in self._starts().items()}
        start |= {s: (law if own is any_law else own, 1.0) for s, own in self.run.noises}
        seen = [exact_value(e.observable, settings) for e in members]
        result = monte_carlo.simulate(
            rec,
            {s.name: float(settings[s.name]) for s in rec.parameters},
            count,
            chains,
            seed,
            executor,
            observables=tuple(dict.fromkeys(seen)),
            start=start,
        )
        return Sample.last(result, seen, chains * count)


def on_fixed_data(observable: Any, steps: Any, *, rule: Rule, start: Any = 0, **where: Any) -> OnFixedData:
    """The expectation of `observable` after so many steps on data that are drawn once, before the first step.

    The observable may contain the noise symbols: they are the data.  `where` replaces parameters of the rule.

    >>> from lrtheory import landscapes, optimizers, symbol
    >>> rule = (optimizers.sgd, landscapes.quadratic_to_sample())
    >>> on_fixed_data(symbol("theta") ** 2, 1, rule=rule).derive()
    eta**2*lam**2*scale**2
    """
    run = OneDataSet(rule, expression(steps), expression(start), replaced(where))
    return OnFixedData(expression(observable), run)


# --- least squares with any inputs ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Modes:
    """One row for each mode: the eigenvalue of X'X/n, the squared signal s * b**2, and of 1 - eta * s each power."""

    samples: int
    eigenvalues: Array
    signal: Array
    left: Array  # (modes, steps + 1): the share of each mode that is still to be learnt
    learnt: Array  # 1 minus that, without its cancellation


def _modes(X: Any, theta_true: Any, sigma: float, eta: float, steps: int) -> _Modes:
    inputs, truth = numbers("X", X), numbers("theta_true", theta_true)
    if inputs.ndim != 2 or 0 in inputs.shape:
        raise ValueError(f"X has the shape {inputs.shape}: give a matrix, one row for each sample")
    if truth.shape != inputs.shape[1:]:
        raise ValueError(
            f"theta_true has the shape {truth.shape} and X has {inputs.shape[1]} columns: give one coefficient for each"
        )
    sigma, eta = positive("sigma", sigma, or_zero=True), positive("eta", eta)
    steps = whole("steps", steps)
    rank = min(inputs.shape)
    affordable(
        f"the curves of {rank} modes over {steps} steps, on {len(inputs)} samples,",
        8 * (4.0 * rank * (steps + 1) + 3 * inputs.size),
        "give fewer steps, or fewer inputs",
    )
    for name, values in (("X", inputs), ("theta_true", truth)):
        if not np.all(np.isfinite(values)):
            raise ValueError(f"{name} has elements that are not finite: remove or replace them")
    samples = len(inputs)
    singular, rotation = np.linalg.svd(inputs, full_matrices=False)[1:]
    seen = singular > singular.max(initial=0.0) * max(inputs.shape) * np.finfo(float).eps
    s = singular[seen] ** 2 / samples
    if len(s) and eta * s[0] >= 2:
        raise ValueError(
            f"eta = {eta} diverges: the largest eigenvalue of X'X/n is {s[0]:.6g}; choose a rate below {2 / s[0]:.6g}"
        )
    left = np.power.outer(1 - eta * s, np.arange(steps + 1))
    with np.errstate(divide="ignore", invalid="ignore"):  # eta * s = 1 leaves nothing after one step
        log = np.log1p(np.where(eta * s < 1, -eta * s, eta * s - 2))  # of |1 - eta * s|
        learnt = -np.expm1(np.multiply.outer(log, np.arange(steps + 1)))
    learnt[:, 0] = 0
    learnt[eta * s > 1, 1::2] = 2 - learnt[eta * s > 1, 1::2]  # (1 - eta * s)**t is negative
    return _Modes(samples, s, s * (rotation[seen] @ truth) ** 2, left, learnt)


def expected_training_loss(X: Any, theta_true: Any, sigma: float, eta: float, steps: int) -> Array:
    """The expected training loss of gradient descent from 0 on least squares, after 0, 1 … `steps` steps.

    The labels are y = X @ theta_true + noise, the noise independent with mean 0 and standard deviation `sigma`, of
    any law; the loss is half the mean squared residual, ``|y - X @ theta|**2 / (2 n)``.  Returns an array of
    `steps` + 1 expectations over the noise, for these inputs; none is larger than the one before.
    Raises `ValueError` for shapes that do not fit, and for a rate at which the run diverges.

    Source: Ali, Kolter & Tibshirani (2019); here in discrete steps, by the singular values of X.

    >>> expected_training_loss([[1], [1]], [2], sigma=1, eta=0.5, steps=2).round(6).tolist()
    [2.5, 0.8125, 0.390625]
    """
    modes = _modes(X, theta_true, sigma, eta, steps)
    noise = sigma**2 / modes.samples
    never = (modes.samples - len(modes.eigenvalues)) * noise  # what no step can fit
    return ((modes.signal + noise) @ modes.left**2 + never) / 2


def in_sample_risk(X: Any, theta_true: Any, sigma: float, eta: float, steps: int) -> Array:
    """The expected excess loss on new labels at the same inputs, after 0, 1 … `steps` steps on the old ones.

    The model, the rule and the errors are those of `expected_training_loss`; the risk is half the mean squared
    distance from the true values, ``E|X @ (theta - theta_true)|**2 / (2 n)``.  Add sigma**2 / 2 for the expected loss
    on new labels.  Each mode adds half its eigenvalue times `overfitting.mode_risk`.

    >>> in_sample_risk([[1], [1]], [2], sigma=1, eta=0.5, steps=2).round(6).tolist()
    [2.0, 0.5625, 0.265625]
    """
    modes = _modes(X, theta_true, sigma, eta, steps)
    noise = sigma**2 / modes.samples
    return (modes.signal @ modes.left**2 + noise * (modes.learnt**2).sum(axis=0)) / 2
