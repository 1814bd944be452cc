"""Laws of the gradient noise: a name, moments, a way to draw and, if finite, a support.

A claim uses only the moments of a law.  The same recursion can then be run with any law that has these moments,
which turns "whatever the noise" into a statement that can be tested.  Laws have mean 0 and variance 1, so that
`sigma` is always the standard deviation; `logistic` is the exception, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TypeAlias

import numpy as np
import sympy as sp

from .inputs import Array, shown, whole
from .letters import symbol

# fills `out`, an array of one dimension, with independent draws; a string, since NumPy loads `random` when asked for
Draw: TypeAlias = "Callable[[np.random.Generator, Array], None]"


@dataclass(frozen=True)
class Noise:
    """A law: `moment(n)` is E[xi**n] (a SymPy number or expression).

    Laws are made of module-level functions, so that worker processes can receive them.
    """

    name: str
    moment: Callable[[int], sp.Expr]
    draw: Draw | None = None
    support: tuple[tuple[Fraction, Fraction], ...] | None = None  # (value, probability)

    def __repr__(self) -> str:
        return f"<noise {self.name}>"


def _any_moment(n: int) -> sp.Expr:
    n = whole("n", n)
    # the third and fourth moments have names of their own: skewness and excess kurtosis
    named = (sp.S.One, sp.S.Zero, sp.S.One, symbol("skewness"), 3 + symbol("kurtosis"))
    return named[n] if n < len(named) else symbol(f"xi_moment_{n}")


def _gaussian_draw(rng: np.random.Generator, out: Array) -> None:
    if out.dtype == np.float64:
        rng.standard_normal(out=out)
        return
    # Box & Muller 1958: NumPy takes logarithms and sines of many float32 at once, in less than half the time of its
    # own normal numbers.  Their last bit may differ from one kind of processor to another.
    half = -(-out.size // 2)
    bits = rng.bit_generator.random_raw(half).view(np.uint32)
    bits >>= 9
    bits |= 0x3F800000  # the fraction of a number in [1, 2)
    uniform = bits.view(np.float32)
    radius, angle = uniform[:half], uniform[half:]
    np.log(np.subtract(2, radius, out=radius), out=radius)
    np.sqrt(np.multiply(radius, -2, out=radius), out=radius)
    angle *= 2 * np.pi
    one, other = out[:half], out[half:]
    np.multiply(np.cos(angle, out=one), radius, out=one)
    np.multiply(np.sin(angle[: other.size], out=other), radius[: other.size], out=other)


def _rademacher_draw(rng: np.random.Generator, out: Array) -> None:
    # one random bit each, 64 of them in a word
    words = rng.bit_generator.random_raw(-(-out.size // 64))
    signs = np.unpackbits(words.view(np.uint8), count=out.size).view(np.int8)
    signs *= 2
    signs -= 1
    out[...] = signs.reshape(out.shape)


def _uniform_draw(rng: np.random.Generator, out: Array) -> None:
    rng.random(out=out, dtype=out.dtype.type)
    np.subtract(out, 0.5, out=out)
    np.multiply(out, 12**0.5, out=out)


def _phase_draw(rng: np.random.Generator, out: Array) -> None:
    rng.random(out=out, dtype=out.dtype.type)


def _laplace_draw(rng: np.random.Generator, out: Array) -> None:
    rng.standard_exponential(out=out, dtype=out.dtype.type)
    # a random sign turns the exponential into a Laplace law, of variance 2
    np.copysign(out, rng.random(out.shape, dtype=out.dtype.type) - 0.5, out=out)
    np.multiply(out, 0.5**0.5, out=out)


def _logistic_draw(rng: np.random.Generator, out: Array) -> None:
    # a difference of two Gumbel variables, each -log of an exponential; unlike log(u / (1 - u)) it never meets
    # u = 0
    rng.standard_exponential(out=out, dtype=out.dtype.type)
    np.divide(rng.standard_exponential(out.shape, dtype=out.dtype.type), out, out=out)
    np.log(out, out=out)


def _gaussian_moment(n: int) -> sp.Expr:
    n = whole("n", n)
    return sp.S.Zero if n % 2 else sp.factorial2(n - 1)


def _rademacher_moment(n: int) -> sp.Expr:
    return sp.S.Zero if whole("n", n) % 2 else sp.S.One


def _uniform_moment(n: int) -> sp.Expr:
    n = whole("n", n)
    return sp.S.Zero if n % 2 else sp.sqrt(3) ** n / (n + 1)


def _phase_moment(n: int) -> sp.Expr:
    return sp.Rational(1, whole("n", n) + 1)


def _laplace_moment(n: int) -> sp.Expr:
    n = whole("n", n)
    return sp.S.Zero if n % 2 else sp.factorial(n) / sp.sqrt(2) ** n


def _logistic_moment(n: int) -> sp.Expr:
    n = whole("n", n)
    if n == 0:
        return sp.S.One
    return sp.S.Zero if n % 2 else 2 * sp.factorial(n) * (1 - sp.Rational(2) ** (1 - n)) * sp.zeta(n)


_HALF = Fraction(1, 2)
_SIGNS = ((Fraction(-1), _HALF), (Fraction(1), _HALF))

any_law = Noise("any law with mean 0 and variance 1", _any_moment)
gaussian = Noise("gaussian", _gaussian_moment, _gaussian_draw)
rademacher = Noise("±1", _rademacher_moment, _rademacher_draw, _SIGNS)
uniform = Noise("uniform", _uniform_moment, _uniform_draw)
laplace = Noise("laplace", _laplace_moment, _laplace_draw)
logistic = Noise("logistic, scale 1 (variance π²/3)", _logistic_moment, _logistic_draw)
phase = Noise("uniform on [0, 1)", _phase_moment, _phase_draw)  # of a start, not of a gradient


@dataclass(frozen=True)
class _Choice:
    """Draws one of the values, each with its probability (a class, so that a process pool can pickle it)."""

    values: tuple[float, ...]
    probabilities: tuple[float, ...]

    @cached_property
    def _edges(self) -> Array:
        return np.cumsum(self.probabilities)[:-1]

    def __call__(self, rng: np.random.Generator, out: Array) -> None:
        out[...] = np.take(self.values, np.searchsorted(self._edges, rng.random(out.shape), side="right"))


@dataclass(frozen=True)
class _FiniteMoment:
    support: tuple[tuple[Fraction, Fraction], ...]

    def __call__(self, n: int) -> sp.Expr:
        n = whole("n", n)
        return sp.Rational(sum(p * value**n for value, p in self.support))


def _fraction(value: int | Fraction) -> Fraction:
    try:
        if not isinstance(value, (str, bool)):
            float(value)  # draws are floats
            return Fraction(value)
    except (TypeError, ValueError):  # nan
        pass
    except OverflowError:  # infinity, 10**400
        raise ValueError(f"{shown(value)} is too large for a float: give a smaller number") from None
    raise TypeError(f"{shown(value)} is no finite number: give integers or Fractions")


def finite(name: str, support: Sequence[tuple[int | Fraction, Fraction]]) -> Noise:
    """The law that takes each value with its probability; the probabilities must add up to 1.

    >>> coin = finite("biased", [(1, Fraction(3, 4)), (-1, Fraction(1, 4))])
    >>> coin.moment(1)
    1/2
    """
    try:
        pairs = [(value, p) for value, p in support]
    except (TypeError, ValueError):
        raise TypeError(
            f"the support of {name!r} is {shown(support)}: give pairs (value, probability), for instance "
            "[(-1, Fraction(1, 2)), (1, Fraction(1, 2))]"
        ) from None
    exact = tuple((_fraction(value), _fraction(p)) for value, p in pairs)
    if sum(p for _, p in exact) != 1 or any(p < 0 for _, p in exact):
        raise ValueError(
            f"the probabilities of {name!r} are {shown([str(p) for _, p in exact])}: they must be non-negative and "
            "add up to 1 (pass Fractions)"
        )
    draw = _Choice(tuple(float(value) for value, _ in exact), tuple(float(p) for _, p in exact))
    return Noise(name, _FiniteMoment(exact), draw, exact)


# rational values with the Gaussian's moments up to the fifth: 1, 0, 1, 0, 3, 0
gaussian_to_fifth = finite(
    "gaussian to the fifth moment",
    [(0, Fraction(1, 2)), *((v, Fraction(1, 6 * abs(v))) for v in (-1, 1, -2, 2))],
)


def empirical(values: Sequence[int | Fraction]) -> Noise:
    """The law of one draw from a finite list, each value equally likely: a mini-batch of one.

    >>> empirical([-1, 0, 4]).moment(1)
    1
    """
    if isinstance(values, str) or not hasattr(values, "__len__"):
        raise TypeError(f"empirical() got {shown(values)}: give a list of numbers")
    if not len(values):
        raise ValueError("empirical() got an empty list: give at least one value")
    return finite("empirical", [(value, Fraction(1, len(values))) for value in values])
