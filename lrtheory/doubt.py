"""Doubting a claim: every witness that applies, every rival, every mutant; the answer is a verdict.

The witnesses, strongest first: the *derivation* (what the moment equations give equals the typed formula,
symbolically), the *enumeration* (all paths of ±1 noise, in exact rationals), the *simulation* (independent chains,
as many as it takes to put the nearest rival ten standard errors away), and *outside*: a number that was computed
without the moment equations, by a direct search or by somebody else's code.
"""

from __future__ import annotations

import cmath
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from html import escape
from itertools import product
from typing import Any

import numpy as np
import sympy as sp

from .expectation import Estimate, atoms, derived, enumerated, simulated, simulated_at
from .inputs import expression, shown, whole
from .ledger import AtLeast, AtMost, Claim, Equals, Minimum, Order, Rival, Root, over_modes, written_out
from .letters import symbol
from .mutation import mutants

FALSE_ALARM = 0.01  # the chance that a correct ledger is rejected by bad luck, all its simulations together
WITNESSES = ("derivation", "enumeration", "simulation", "outside")  # strongest first
POWER = 10  # standard errors between the formula and its nearest rival
FEWEST, MOST = 8_192, 2_000_000  # chains
# a root or minimum is bracketed between value / _NEAR and value * _NEAR; a square, so that roots of it stay rational
_NEAR = sp.Rational(40, 39) ** 2


def sidak(tests: int) -> float:
    """The |z| that none of so many honest tests exceeds, with probability 1 - FALSE_ALARM.

    >>> round(sidak(1), 2), round(sidak(100), 2)
    (2.58, 3.89)
    """
    from scipy.special import ndtri

    return float(-ndtri((1 - (1 - FALSE_ALARM) ** (1 / tests)) / 2))


@dataclass(frozen=True)
class Witness:
    """One way of doubting a claim, and what it found."""

    kind: str
    passed: bool
    found: str
    z: float | None = None


@dataclass(frozen=True)
class Rejection:
    """A rival, and how the experiments rejected it: by how many standard errors, or exactly."""

    rival: Rival
    z: float | None
    exactly: bool
    threshold: float

    @property
    def rejected(self) -> bool:
        return self.exactly or (self.z is not None and abs(self.z) > self.threshold)


@dataclass(frozen=True)
class Verdict:
    """What the witnesses of a claim found; prints as a table.

    `made` counts the mutants that differ from the formula, `killed` how many each experiment told apart; `far` counts
    those that differ by more than 5 % at the settings, and `survivors` are those among them that no experiment told
    apart; `near` counts the others that no experiment told apart.
    """

    claim: Claim
    witnesses: tuple[Witness, ...]
    rivals: tuple[Rejection, ...]
    made: int
    killed: Mapping[str, int]
    far: int
    survivors: tuple[sp.Expr, ...]
    near: int
    chains: int
    chain_steps: int
    threshold: float

    @property
    def located(self) -> bool:
        """Whether the claim is a root or a minimum."""
        return isinstance(self.claim.relation, (Root, Minimum))

    @property
    def passed(self) -> bool:
        """Whether every witness agrees and every rival is rejected."""
        return bool(self.witnesses) and all(w.passed for w in self.witnesses) and all(r.rejected for r in self.rivals)

    def rows(self) -> list[tuple[str, str, str]]:
        """(what, finding, outcome) for each witness, rival and the mutants."""
        rows = [(w.kind, w.found, "agrees" if w.passed else "DISAGREES") for w in self.witnesses]
        for r in self.rivals:
            how = ("exactly" if r.exactly else "", f"by {abs(r.z):.0f} standard errors" if r.z is not None else "")
            found = " and ".join(h for h in how if h) or "not told apart"
            rows.append((f"rival: {r.rival.story}", found, "rejected" if r.rejected else "NOT REJECTED"))
        if self.made:
            kills = ", ".join(f"{n} by {kind}" for kind, n in self.killed.items())
            left = f"{len(self.survivors)} left" + (f", {self.near} too near" if self.near else "")
            rows.append(("mutants", f"{self.made} made; told apart: {kills or 'none'}", left))
        return rows

    def __str__(self) -> str:
        rows = self.rows()
        width = max((len(r[0]) for r in rows), default=0)
        head = f"{self.claim.id}: {'passed' if self.passed else 'FAILED'}"
        return "\n".join([head, *(f"  {a:<{width}}  {b}  [{c}]" for a, b, c in rows)])

    def _repr_html_(self) -> str:
        body = "".join(
            f'<tr><th scope="row">{escape(what)}</th><td>{escape(found)}</td><td>{escape(outcome)}</td></tr>'
            for what, found, outcome in self.rows()
        )
        caption = f"{escape(self.claim.id)}: {'passed' if self.passed else 'FAILED'}"
        failed = "" if self.passed else " failed"
        return f'<div class="verdict{failed}"><table><caption>{caption}</caption><tbody>{body}</tbody></table></div>'


def is_zero(expr: sp.Expr) -> bool:
    """Whether an expression vanishes identically, decided symbolically; False where that cannot be decided.

    >>> from lrtheory.letters import symbols
    >>> a, t = symbols("eta t")
    >>> is_zero((1 - a) ** (2 * t) - ((a - 1) ** 2) ** t), is_zero(a - a**2)
    (True, False)
    """
    expr = sp.powdenest(expression(expr).replace(sp.log, _split_log))
    letters: dict[tuple[sp.Expr, sp.Expr], sp.Dummy] = {}
    expr = expr.replace(lambda e: e.is_Pow and e.exp.free_symbols, lambda e: _power_in_letters(e, letters))
    signs = [d for (base, _), d in letters.items() if base is sp.S.NegativeOne]
    cases = [dict(zip(signs, values, strict=True)) for values in product((1, -1), repeat=len(signs))]
    if all(sp.expand(sp.together(expr.subs(case)).as_numer_denom()[0]) == 0 for case in cases):
        return True
    return bool(sp.simplify(expr.subs({d: base**unit for (base, unit), d in letters.items()})) == 0)


def _power_in_letters(power: sp.Pow, letters: dict[tuple[sp.Expr, sp.Expr], sp.Dummy]) -> sp.Expr:
    """base**(2 t + 1) as x**2 * base, where the letter x stands for base**t: powers become polynomials.

    A base that is the negative of another's gives the same letter, times one for (-1)**t; so does each factor of
    a product, which is right for whole numbers t.
    """
    result = sp.S.One
    for factor in sp.Mul.make_args(sp.factor(power.base)):
        base, inner = factor.as_base_exp()
        parts = [(base, inner)]
        if power.exp.is_integer and base.is_Add and base.could_extract_minus_sign():
            parts = [(sp.S.NegativeOne, inner), (sp.expand(-base), inner)]
        for term in sp.Add.make_args(sp.expand(power.exp)):
            number, unit = term.as_coeff_Mul()
            for part, times in parts:
                whole = number * times
                if unit is sp.S.One or not whole.is_Integer:
                    result *= part ** (whole * unit)
                elif part is not sp.S.NegativeOne or whole % 2:
                    letter = letters.setdefault((part, unit), sp.Dummy(positive=part.is_positive))
                    result *= letter ** (1 if part is sp.S.NegativeOne else whole)
    return result


def _as_exponentials(expr: sp.Expr, steps: sp.Symbol) -> sp.Expr:
    """Even powers b**(2 t) as exp(2 t log|b|), which means the same for real t and cancels against logarithms."""
    return expr.replace(
        lambda e: e.is_Pow and e.exp.has(steps) and e.exp.is_even, lambda e: sp.exp(e.exp * sp.log(sp.Abs(e.base)))
    )


def _split_log(argument: sp.Expr) -> sp.Expr:
    """The logarithm of a positive rational function as a sum over its factors: log a**2 is 2 log |a|."""
    total = sp.S.Zero
    for part, sign in zip(sp.fraction(sp.together(argument.replace(sp.Abs, lambda a: a))), (1, -1), strict=True):
        constant, factors = sp.factor_list(part)
        total += sign * sp.log(abs(constant))
        for f, power in factors:
            total += sign * power * sp.log(sp.Abs(f))
    return total


class _Doubt:
    """One check of one claim: the numbers that its witnesses share."""

    def __init__(self, claim: Claim, seed: int, executor: Executor | None, tests: int):
        self.claim, self.relation, self.executor = claim, claim.relation, executor
        self.seed = int(np.random.SeedSequence([seed, zlib.crc32(claim.id.encode())]).generate_state(1)[0])
        self.threshold = sidak(tests)
        numbers = claim.settings.keys() - claim.choices.keys() - {"lams"}
        self.settings = {k: expression(v) for k, v in claim.settings.items() if k in numbers}
        curvatures = list(map(expression, claim.settings.get("lams", ())))
        self.modes = tuple(symbol(f"lam_{i + 1}") for i in range(len(curvatures)))
        self.settings |= {s.name: c for s, c in zip(self.modes, curvatures, strict=True)}
        self.chains = self.chain_steps = 0
        self._estimate: Estimate | None = None
        self._order: tuple[int, float, float] | None = None
        self._heights: tuple[int, list[float]] | None = None

    def at(self, expr: sp.Expr) -> sp.Expr:
        expr = over_modes(expr, self.modes)
        try:
            value = expr.xreplace({s: self.settings[s.name] for s in expr.free_symbols if s.name in self.settings})
        except ValueError:  # a mutant's Max of a complex number
            return sp.nan
        if self.claim.about is None:  # nothing to enumerate: a float does
            return sp.N(value)
        return _rational_near(value) if value.has(sp.log) else value

    @cached_property
    def value(self) -> sp.Expr:
        """What the claim says at its settings (a rational near it, where it is numeric)."""
        if self.claim.formula is not None:
            return self.at(self._with_given(self.claim.formula))
        number = self.claim(**{name: _in_floats(self.claim.settings[name]) for name in self.claim.parameters})
        return sp.Rational(str(Fraction(number).limit_denominator(10**7)))

    def _with_given(self, formula: sp.Expr) -> sp.Expr:
        return over_modes(formula, self.modes).subs({symbol(name): e for name, e in self.claim.given.items()})

    @property
    def about(self) -> sp.Expr:
        assert self.claim.about is not None
        return self.claim.about

    @property
    def unknown(self) -> str:
        """The parameter in which the claim is a root, a minimum or an order."""
        return self.relation.of  # type: ignore[union-attr]

    def located(self, value: sp.Expr) -> dict[str, sp.Expr]:
        """The settings with the unknown of a Root or Minimum at this value (a whole number if it counts steps)."""
        name = self.unknown
        if symbol(name).is_integer and isinstance(self.relation, Minimum):
            value = sp.Integer(round(float(value)))
        return {**self.settings, name: value}

    # -- derivation --

    def derivation(self) -> Witness | None:
        if self.claim.derivation is not None:
            good = all(is_zero(r) for r in self.claim.derivation())
            return Witness("derivation", good, "the steps of the proof hold symbolically")
        if self.claim.about is None:
            return None
        found = derived(self.about)
        if isinstance(self.relation, (Root, Minimum)):
            unknown = symbol(self.unknown)
            residual = sp.diff(found, unknown) if isinstance(self.relation, Minimum) else found
            if self.claim.formula is not None:
                good = is_zero(_as_exponentials(residual, unknown).subs(unknown, self.claim.formula))
                word = "the derived slope is 0" if isinstance(self.relation, Minimum) else "the derived equation holds"
                if isinstance(self.relation, Minimum):
                    good = good and self._number(sp.diff(residual, unknown), self.value) > 0
                return Witness("derivation", good, f"{word} at the claimed value, symbolically")
            sides = [
                self._number(residual, self.value * side) for side in (sp.Rational(99, 100), sp.Rational(101, 100))
            ]
            relative = abs(self._number(residual, self.value) / (sides[1] - sides[0])) / 50
            return Witness("derivation", relative < 1e-6, f"the derived equation holds to {relative:.0e}")
        if isinstance(self.relation, Order):
            unknown = symbol(self.unknown)
            leading = sp.limit(sp.cancel(found / unknown**self.value), unknown, 0)
            good = bool(leading.is_finite and leading.is_nonzero)
            return Witness("derivation", good, f"the leading term is {leading * unknown**self.value}")
        residual = found - derived(self._with_given(self.claim.formula))
        if isinstance(self.relation, Equals):
            return Witness("derivation", is_zero(residual), "the derived formula equals the typed one")
        sign = 1 if isinstance(self.relation, AtLeast) else -1
        good = bool(sign * self.at(sp.factor(residual)) >= 0)
        return Witness("derivation", good, f"the derived left minus right is {_short(self.at(sp.factor(residual)))}")

    def _number(self, expr: sp.Expr, value: sp.Expr) -> float:
        return float(sp.N(self.at(expr.subs(symbol(self.unknown), value))))

    # -- experiments: what an expression of expectations is, by enumeration or simulation --

    def difference(self, formula: sp.Expr | None) -> tuple[sp.Expr, Mapping[str, sp.Expr]]:
        """An expression, and settings, at which it must vanish (be ≥ 0, ≤ 0) if `formula` (None: the claim) holds."""
        if isinstance(self.relation, Root):
            return self.about, self.located(self.value if formula is None else self.at(formula))
        typed = formula if formula is not None else self.claim.formula if self.claim.formula is not None else self.value
        return self.about - self._with_given(typed), self.settings

    def holds(self, difference: float) -> bool:
        if isinstance(self.relation, AtLeast):
            return difference >= 0
        return difference <= 0 if isinstance(self.relation, AtMost) else difference == 0

    @cached_property
    def bracket(self) -> tuple[sp.Expr, sp.Expr]:
        """Admissible values on both sides of the claimed root or minimum, as close as a check can see."""
        if symbol(self.unknown).is_integer:
            middle = round(float(self.value))
            return sp.Integer(max(middle - 1, 0)), sp.Integer(middle + 1)
        return self.value / _NEAR, self.value * _NEAR

    def _exactly(self, value: sp.Expr) -> sp.Expr:
        return enumerated(self.about, self.located(value))

    @cached_property
    def _exact_value(self) -> sp.Expr:
        return enumerated(*self.difference(None))

    def _halved(self) -> list[dict[str, sp.Expr]]:
        """The settings, with the small parameter of an order halved and halved again."""
        return [{**self.settings, self.unknown: self.settings[self.unknown] / 2**i} for i in range(3)]

    @cached_property
    def _exact_order(self) -> tuple[float, float]:
        """The slope of the logarithms, extrapolated, and how much the extrapolation moved it."""
        first, second = _slopes([float(enumerated(self.about, at)) for at in self._halved()])
        return 2 * second - first, abs(second - first)

    def order_estimate(self, chains: int) -> tuple[float, float]:
        """The simulated order and its standard error."""
        values, covariance = self.estimates(self._halved(), chains, salt=20)
        first, second = _slopes(list(values))
        # 2 second - first is -log2 of v0 / v1**3 * v2**2
        slope = np.array([-1, 3, -2]) / values / math.log(2)
        return 2 * second - first, math.sqrt(slope @ covariance @ slope)

    def exactly_false(self, formula: sp.Expr | None) -> bool:
        """Whether enumeration refutes a formula (None: the claim)."""
        if isinstance(self.relation, (Root, Minimum)):
            low, high = self.bracket
            if formula is not None:  # the bracket holds the only root or minimum
                value = self.at(formula)
                return not (value.is_number and value.is_real and low <= value <= high)
            middle, ends = self._exactly(self.value), (self._exactly(low), self._exactly(high))
            if isinstance(self.relation, Minimum):
                return not all(end > middle for end in ends)
            return not (sp.simplify(middle) == 0 and ends[0] * ends[1] < 0)
        if isinstance(self.relation, Order):
            order, error = self._exact_order
            return abs(order - float(self.value if formula is None else self.at(formula))) > error
        if formula is None:
            difference = self._exact_value
        elif self.claim.given or atoms(formula):
            difference = enumerated(*self.difference(formula))
        else:  # the same paths: only the typed number differs
            difference = self._exact_value + self.value - enumerated(self._with_given(formula), self.settings)
        return not self.holds(0.0 if sp.simplify(difference) == 0 else float(difference))

    def enumeration(self) -> Witness | None:
        if not self.claim.enumerable or self.claim.about is None:
            return None
        words = {
            Minimum: "higher on both sides of the claimed value",
            Root: "0 at the claimed value, of opposite signs beside it",
        }.get(type(self.relation))
        if isinstance(self.relation, Order):
            words = "the order is {:.4f} ± {:.4f}".format(*self._exact_order)
        if isinstance(self.relation, (AtLeast, AtMost)):
            words = f"left minus right is {_short(self._exact_value)}"
        elif self.claim.given:
            words = "equal, exactly"
        found = words or f"{_short(self.value)} exactly"
        return Witness("enumeration", not self.exactly_false(None), found)

    def estimate(self, expr: sp.Expr, settings: Mapping[str, sp.Expr], chains: int, salt: int = 0) -> Estimate:
        result = simulated(expr, settings, chains, self.seed + salt, self.claim.noise, self.executor)
        self.chains, self.chain_steps = max(self.chains, chains), self.chain_steps + result.chain_steps
        return result

    def estimates(
        self, several: Sequence[Mapping[str, sp.Expr]], chains: int, salt: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the claim is about, at several settings, with the covariance matrix."""
        values, covariance, work = simulated_at(
            self.about, several, chains, self.seed + salt, self.claim.noise, self.executor
        )
        self.chains, self.chain_steps = max(self.chains, chains), self.chain_steps + work
        return values, covariance

    def heights(self, chains: int) -> list[float]:
        """How many standard errors the neighbours of the claimed minimum lie above it, then each rival."""
        others = (*self.bracket, *(self.at(r.formula) for r in self.claim.rivals))
        values, covariance = self.estimates([self.located(v) for v in (self.value, *others)], chains, salt=0)
        return [
            _standardized(values[i] - values[0], covariance[i, i] + covariance[0, 0] - 2 * covariance[0, i])
            for i in range(1, len(values))
        ]

    def z(self, formula: sp.Expr | None, chains: int) -> float:
        """How many standard errors the simulation lies from a formula (for a minimum: above the claimed one)."""
        if isinstance(self.relation, Minimum):
            if self._heights is None or self._heights[0] != chains:
                self._heights = (chains, self.heights(chains))
            beside, above = self._heights[1][:2], self._heights[1][2:]
            return min(beside) if formula is None else above[[r.formula for r in self.claim.rivals].index(formula)]
        if isinstance(self.relation, Order):
            if self._order is None or self._order[0] != chains:
                self._order = (chains, *self.order_estimate(chains))
            _, order, error = self._order
            return (order - float(self.value if formula is None else self.at(formula))) / error
        expr, settings = self.difference(formula)
        if formula is not None and atoms(expr) == atoms(self.about) and not isinstance(self.relation, Root):
            # the same chains: only the typed number differs
            base, settings = self.difference(None)
            estimate = self._cached(base, chains)
            return (estimate.value + float(self.value) - float(self.at(formula))) / estimate.error
        estimate = self._cached(expr, chains) if formula is None else self.estimate(expr, settings, chains)
        return _standardized(estimate.value, estimate.error**2)

    def _cached(self, expr: sp.Expr, chains: int) -> Estimate:
        if self._estimate is None or self._estimate.chains != chains:
            self._estimate = self.estimate(expr, self.difference(None)[1], chains)
        return self._estimate

    def planned_chains(self) -> int:
        """Enough chains to put the nearest rival POWER standard errors away, by a pilot on chains of its own."""
        if isinstance(self.relation, Minimum):
            pilot = [abs(self.z(r.formula, FEWEST)) for r in self.claim.rivals]
            nearest = min(pilot, default=POWER)
            return _clipped(FEWEST * (1.5 * POWER / max(nearest, 0.1)) ** 2)
        if isinstance(self.relation, Order):
            gap = min((abs(float(self.value) - float(self.at(r.formula))) for r in self.claim.rivals), default=0.5)
            chains = FEWEST
            for tried in (FEWEST, 8 * FEWEST):  # few misjudge the spread of a quotient of small differences
                if tried <= chains:
                    chains = _clipped(tried * (1.2 * POWER * self.order_estimate(tried)[1] / gap) ** 2)
            return chains
        expr, settings = self.difference(None)
        spread = self.estimate(expr, settings, FEWEST, salt=7).error * math.sqrt(FEWEST)
        # how far a wrong formula lies from what is seen, and how much one chain scatters
        seen = [] if isinstance(self.relation, Root) or self.claim.given else [(abs(float(self.value)) / 20, spread)]
        for rival in self.claim.rivals:
            if isinstance(self.relation, Root) or self.claim.given or atoms(rival.formula):
                e, s = self.difference(rival.formula)
                there = self.estimate(e, s, FEWEST, salt=8)
                seen.append((abs(there.value), there.error * math.sqrt(FEWEST)))
            else:
                seen.append((abs(float(self.value) - float(self.at(rival.formula))), spread))
        return _clipped(max(((1.2 * POWER * scatter / gap) ** 2 for gap, scatter in seen if gap > 0), default=FEWEST))

    def simulation(self) -> Witness | None:
        if not self.claim.simulable or self.claim.about is None:
            return None
        chains = self.planned_chains()
        z = self.z(None, chains)
        if isinstance(self.relation, Minimum):
            found = f"{chains:,} chains; its neighbours are not lower"
            return Witness("simulation", z > -self.threshold, found)
        if isinstance(self.relation, (AtLeast, AtMost)):
            good = (z if isinstance(self.relation, AtLeast) else -z) >= -self.threshold
            return Witness("simulation", good, f"{chains:,} chains; the inequality holds")
        good = abs(z) <= self.threshold
        return Witness("simulation", good, f"{chains:,} chains; {z:+.1f} standard errors off", z)

    @cached_property
    def _outside(self) -> tuple[Any, Any, float]:
        assert self.claim.outside is not None
        return self.claim.outside(self.claim)

    def outside(self) -> Witness | None:
        if self.claim.outside is None:
            return None
        found, expected, tolerance = self._outside
        off = float(np.max(np.abs(np.asarray(found, float) - np.asarray(expected, float)) / np.abs(expected)))
        return Witness("outside", off <= tolerance, f"{self.claim.outside_source}: within {off:.1e}")

    def reject(self, rival: Rival, kinds: Mapping[str, Witness]) -> Rejection:
        exactly = "enumeration" in kinds and self.exactly_false(rival.formula)
        z = self.z(rival.formula, self.chains) if "simulation" in kinds else None
        if isinstance(self.relation, AtLeast) and z is not None:
            z = min(z, 0.0)  # only too high a bound is refuted
        if isinstance(self.relation, Minimum) and z is not None:
            z = max(z, 0.0)  # a rival below the claimed minimum refutes the claim, not itself
        if not kinds.keys() & {"enumeration", "simulation"} and "outside" in kinds:
            _, expected, tolerance = self._outside
            wrong = float(self.at(rival.formula))
            exactly = bool(np.all(np.abs(wrong - np.asarray(expected)) > tolerance * np.abs(expected)))
        return Rejection(rival, z, exactly, self.threshold)

    def mutants(self, kinds: Mapping[str, Witness]) -> tuple[int, dict[str, int], int, list[sp.Expr], int]:
        """How many were made, killed by each experiment, and far from the formula; which of these survived, and how
        many of the others.
        """
        formula = self.claim.formula
        if formula is None or self.claim.given or not kinds.keys() & {"enumeration", "simulation"}:
            return 0, {}, 0, [], 0
        different = _other_mutants(formula)
        located = isinstance(self.relation, (Root, Minimum))  # the simulation would need a run for each
        killed = {kind: 0 for kind in ("enumeration", "simulation")[: 1 if located else 2] if kind in kinds}
        survivors, far, near = [], 0, 0
        for mutant in different:
            value = self.at(mutant)
            number = float(value) if value.is_number and value.is_finite and value.is_real else math.inf
            told = [kind for kind in killed if self._kills(kind, mutant, number)]
            for kind in told:
                killed[kind] += 1
            if abs(number - float(self.value)) > 0.05 * abs(float(self.value)):
                far += 1
                if not told:
                    survivors.append(mutant)
            elif not told:
                near += 1
        return len(different), killed, far, survivors, near

    def _kills(self, kind: str, mutant: sp.Expr, number: float) -> bool:
        if not math.isfinite(number):
            return True
        if isinstance(self.relation, (Root, Minimum)):
            return self.exactly_false(mutant)
        if isinstance(self.relation, Order):
            if kind == "enumeration":
                return self.exactly_false(mutant)
            return abs(self.z(mutant, self.chains)) > self.threshold
        if kind == "enumeration":
            return not self.holds(float(self._exact_value + self.value) - number)
        estimate = self._estimate
        assert estimate is not None  # the simulation has run
        z = (estimate.value + float(self.value) - number) / estimate.error
        return z < -self.threshold if isinstance(self.relation, AtLeast) else abs(z) > self.threshold


def _standardized(value: float, variance: float) -> float:
    """A value in standard errors."""
    if variance <= 0:
        return 0.0 if value == 0 else math.copysign(math.inf, value)
    return float(value / math.sqrt(variance))


def _slopes(values: list[float]) -> tuple[float, float]:
    """The slopes of log value against log parameter, where the parameter is halved from one value to the next."""
    a, b, c = (math.log2(abs(v)) for v in values)
    return a - b, b - c


def _in_floats(setting: Any) -> Any:
    """A number as a float, curvatures as a list of floats, a word as it is."""
    if isinstance(setting, str):
        return setting
    return [float(x) for x in setting] if isinstance(setting, Sequence) else float(setting)


def _rational_near(value: sp.Expr) -> sp.Expr:
    """A quotient of logarithms that is a small fraction to fifty digits, as that fraction; else the value itself."""
    number = sp.N(value, 60)
    if not number.is_real or not number.is_finite:
        return value
    near = sp.Rational(str(Fraction(str(number)).limit_denominator(10**6)))
    return near if abs(number - near) < sp.Float("1e-50", 60) else value


def _short(value: sp.Expr) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{float(value):.6g}"


def _clipped(chains: float) -> int:
    return int(min(max(chains, FEWEST), MOST))


@cache  # the same for every seed
def _other_mutants(formula: sp.Expr) -> tuple[sp.Expr, ...]:
    """The mutants that differ from the formula at one of two points (a proof that they are not equal)."""
    letters = sorted(_two_modes(formula).free_symbols, key=str)
    points = [
        {
            s: sp.Integer(n + i) if s.is_integer else sp.Float(2 * i + n, 30) / (7 * (i + n))
            for i, s in enumerate(letters)
        }
        for n in (2, 5)
    ]
    here = list(_at_points(formula, points))
    return tuple(m for m in mutants(formula) if any(map(_differ, here, _at_points(m, points))))


def _two_modes(formula: sp.Expr) -> sp.Expr:
    return over_modes(formula, [symbol("lam_1"), symbol("lam_2")])


def _at_points(formula: sp.Expr, points: Sequence[Mapping[sp.Symbol, sp.Expr]]) -> Iterator[complex]:
    formula = _two_modes(formula)
    for point in points:
        try:
            yield complex(sp.N(written_out(formula.xreplace(point))))
        except (ValueError, TypeError):  # it has no value there
            yield complex("nan")


def _differ(x: complex, y: complex) -> bool:
    return not (cmath.isfinite(x) and cmath.isfinite(y)) or abs(x - y) > 1e-9 * (abs(x) + abs(y))


def check(
    claim: Claim,
    seed: int = 0,
    executor: Executor | None = None,
    tests: int = 1,
    witnesses: Sequence[str] = WITNESSES,
) -> Verdict:
    """Question a claim with every witness that applies; returns a `Verdict`.

    `seed` decides the chains; `tests` is the number of simulations that share the false-alarm rate; `witnesses` are
    the kinds to hear.  Raises nothing for a false claim: the verdict says so; `ValueError` for an unknown kind or none.

    >>> import lrtheory as lr
    >>> verdict = lr.check("noise_floor.variance")
    >>> verdict.passed, [w.kind for w in verdict.witnesses]
    (True, ['derivation', 'enumeration', 'simulation'])
    """
    if not isinstance(claim, Claim):
        raise TypeError(f"{shown(claim)} is no claim: give one, or the id of one")
    if executor is not None and not hasattr(executor, "submit"):
        raise TypeError(f"executor = {shown(executor)}: give one of concurrent.futures, or None for threads")
    seed = whole("seed", seed, 0, None)
    try:
        chosen = set(witnesses)
    except TypeError:  # None, a number
        chosen = set()
    if not chosen or not chosen <= set(WITNESSES):
        raise ValueError(f"witnesses = {shown(witnesses)}: give a list of one or more of {', '.join(WITNESSES)}")
    doubt = _Doubt(claim, seed, executor, tests)
    found = (getattr(doubt, kind)() for kind in WITNESSES if kind in chosen)
    kinds = {w.kind: w for w in found if w is not None}
    rivals = tuple(doubt.reject(rival, kinds) for rival in claim.rivals)
    made, killed, far, survivors, near = doubt.mutants(kinds)
    work = doubt.chains, doubt.chain_steps
    heard = tuple(kinds.values())
    return Verdict(claim, heard, rivals, made, killed, far, tuple(survivors), near, *work, doubt.threshold)


def miss(claim: Claim, rival: Rival) -> float | None:
    """By what share of the claim's value a rival misses it at the settings of the check; None if that says nothing.

    >>> import lrtheory as lr
    >>> variance = lr.claim("noise_floor.variance")
    >>> round(miss(variance, variance.rivals[0]), 4)
    -0.1875
    """
    if claim.given or atoms(rival.formula):
        return None
    doubt = _Doubt(claim, 0, None, 1)
    value, wrong = (sp.N(v) for v in (doubt.value, doubt.at(rival.formula)))
    if not (value.is_real and wrong.is_real and value.is_finite and wrong.is_finite) or value == 0:
        return None
    return float(wrong / value) - 1


def summary(verdicts: Sequence[Verdict]) -> list[tuple[str, str]]:
    """The totals of several verdicts, as rows (what, how many).

    >>> import lrtheory as lr
    >>> summary([lr.check("noise_floor.mean")])[0]
    ('claims that passed', '1 of 1')
    """
    heard = Counter(w.kind for v in verdicts for w in v.witnesses)
    rivals = [r for v in verdicts for r in v.rivals]
    weakest = min((abs(r.z) for r in rivals if r.z is not None), default=None)
    largest = max((abs(w.z) for v in verdicts for w in v.witnesses if w.z is not None), default=None)
    far, left = sum(v.far for v in verdicts), sum(len(v.survivors) for v in verdicts)
    rows = [("claims that passed", f"{sum(v.passed for v in verdicts)} of {len(verdicts)}")]
    rows += [(f"witnesses: {kind}", str(number)) for kind, number in heard.items()]
    rows.append(("rivals rejected", f"{sum(r.rejected for r in rivals)} of {len(rivals)}"))
    rows.append(("of these, rejected exactly", str(sum(r.exactly for r in rivals))))
    if weakest is not None:
        rows.append(("standard errors to the nearest rival that was simulated", f"{weakest:.1f}"))
    for kind in ("enumeration", "simulation"):
        tried = [v for v in verdicts if kind in v.killed]
        killed, made = (sum(n) for n in ([v.killed[kind] for v in tried], [v.made for v in tried]))
        rows.append((f"mutants told apart by {kind}", f"{killed} of {made}"))
    if far:
        rows.append(
            ("mutants that differ by more than 5 %, told apart", f"{far - left} of {far} ({1 - left / far:.1%})")
        )
        rows.append(("mutants nearer than that, told apart by nothing", str(sum(v.near for v in verdicts))))
    if largest is not None:
        rows.append(("standard errors off, at most; the bound", f"{largest:.2f}; {verdicts[0].threshold:.2f}"))
    rows.append(("steps simulated", f"{sum(v.chain_steps for v in verdicts):,}"))
    return rows
