"""What callers give: refused with its name, its value and what to give instead, before it is computed with.

Text is never read as a number or a formula: SymPy would evaluate it as code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Number
from typing import Any

import numpy as np

Array = np.ndarray
MEMORY = 4 << 30  # bytes: more is refused before it is taken
_COUNTED = 1 << 53  # more than that floats cannot count
_SHOWN = 60  # characters of a value in a message


def shown(value: Any) -> str:
    """The value for a message, cut if it is long.

    >>> shown("0.1"), len(shown(list(range(1000))))
    ("'0.1'", 60)
    """
    try:
        text = repr(value) if isinstance(value, (str, bytes)) else str(value)
    except ValueError:  # a whole number of more digits than Python prints
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def numbers(name: str, values: Any) -> Array:
    """The values as an array of floats, of any shape; they may be infinite or nan, which the caller judges.

    Raises `TypeError` for anything that holds text, truth values, complex numbers or nothing at all.

    >>> numbers("eta", [1, 0.5])
    array([1. , 0.5])
    >>> numbers("eta", ["0.1"])
    Traceback (most recent call last):
    ...
    TypeError: eta = ['0.1'] is not a number or an array of numbers: give numbers, without quotes
    """
    try:
        array = np.asarray(values)
        if array.dtype.kind == "O" and not any(
            isinstance(x, (str, bytes, bool, complex, type(None))) for x in array.flat
        ):
            array = array.astype(float)  # Fractions, SymPy numbers, whole numbers beyond 64 bits
    except (TypeError, ValueError, OverflowError):  # rows of different lengths, symbols
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "iuf":
        quotes = ", without quotes" if array.dtype.kind in "US" else ""
        raise TypeError(f"{name} = {shown(values)} is not a number or an array of numbers: give numbers{quotes}")
    if array.dtype != float:
        affordable(f"{name} as an array of floats", 8 * float(array.size), "give fewer numbers")
    return array.astype(float, copy=False)


def _one(name: str, value: Any) -> float:
    array = numbers(name, value)
    if array.ndim:
        raise TypeError(f"{name} = {shown(value)}: give one number")
    return float(array)


def number(name: str, value: Any) -> float:
    """One finite number as a float.

    >>> number("eta", float("nan"))
    Traceback (most recent call last):
    ...
    ValueError: eta = nan: give a finite number
    """
    x = _one(name, value)
    if not math.isfinite(x):
        raise ValueError(f"{name} = {shown(value)}: give a finite number")
    return x


def positive(name: str, value: Any, or_zero: bool = False) -> float:
    """One positive number as a float (`or_zero`: or 0).

    >>> positive("eta", 0)
    Traceback (most recent call last):
    ...
    ValueError: eta = 0: give a positive number
    """
    x = _one(name, value)
    if not (math.isfinite(x) and (x > 0 or (or_zero and x == 0))):
        raise ValueError(f"{name} = {shown(value)}: give {'a number, 0 or more' if or_zero else 'a positive number'}")
    return x


def whole(name: str, value: Any, least: int = 0, most: int | None = _COUNTED) -> int:
    """A whole number, at least `least`, and at most 2**53, or what `most` says (None: without end).

    >>> whole("steps", 3.0)
    3
    >>> whole("steps", 1.5)
    Traceback (most recent call last):
    ...
    ValueError: steps = 1.5: give a whole number, 0 or more
    """
    wanted = f"{least} or more" if most in (None, _COUNTED) else f"{least} to {most}"
    if not isinstance(value, Number) or isinstance(value, (bool, complex)):
        raise TypeError(f"{name} = {shown(value)} is not a number: give a whole number, {wanted}")
    try:
        count = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):  # nan, infinity
        count = None
    if count == value and most == _COUNTED < count:
        raise ValueError(f"{name} = {shown(value)} is more than floats can count: give 2**53 at most")
    if count is None or count != value or count < least or (most is not None and count > most):
        raise ValueError(f"{name} = {shown(value)}: give a whole number, {wanted}")
    return count


def affordable(what: str, need: float, remedy: str) -> None:
    """Raise `MemoryError` if something would take more than 4 GiB, before it does.

    >>> affordable("the list", 1e12, "make it shorter")
    Traceback (most recent call last):
    ...
    MemoryError: the list would take about 931 GiB, and 4 are allowed: make it shorter
    """
    if need > MEMORY:
        raise MemoryError(f"{what} would take about {need / 2**30:.3g} GiB, and {MEMORY >> 30} are allowed: {remedy}")


def of_kind(name: str, value: Any, *kinds: type) -> None:
    """Raises `TypeError` for a value that is of none of these kinds.

    >>> of_kind("ax", None, list, tuple)
    Traceback (most recent call last):
    ...
    TypeError: ax = None: give an object of type list or tuple
    """
    if not isinstance(value, kinds):
        types = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"{name} = {shown(value)}: give an object of type {types}")


def named(name: str, mapping: Any) -> dict[str, Any]:
    """A mapping with names (or symbols) for keys, as a dictionary keyed by name.

    >>> named("start", 3)
    Traceback (most recent call last):
    ...
    TypeError: start = 3: give a mapping from names to values, for instance {'theta': 1}
    """
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{name} = {shown(mapping)}: give a mapping from names to values, for instance {{'theta': 1}}")
    found = {str(key): value for key, value in mapping.items()}
    if len(found) < len(mapping):
        twice = next(key for key in found if sum(str(other) == key for other in mapping) > 1)
        raise ValueError(f"{name} has {twice} twice, by name and by symbol: give it once")
    return found


def expression(value: Any) -> Any:
    """The value as a SymPy expression (tuples, lists and mappings element by element).

    Raises `TypeError` for text, truth values and what is no formula.

    >>> from fractions import Fraction
    >>> expression(Fraction(1, 3))
    1/3
    >>> expression("theta**2")
    Traceback (most recent call last):
    ...
    TypeError: 'theta**2' is no formula: write it with symbols, for instance symbol('theta'); text is never evaluated
    """
    import sympy as sp

    if isinstance(value, (sp.Basic, sp.MatrixBase)):
        return value
    if isinstance(value, Mapping):
        return sp.Dict({expression(key): expression(x) for key, x in value.items()})
    if isinstance(value, (list, tuple)):
        return sp.Tuple(*map(expression, value))
    if isinstance(value, Number) and not isinstance(value, bool):
        return sp.sympify(value)
    raise TypeError(
        f"{shown(value)} is no formula: write it with symbols, for instance symbol('theta'); text is never evaluated"
    )
