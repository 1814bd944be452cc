"""Moving figures: a page draws a formula and runs its simulation live, under sliders, without a server.

A `MovingFigure` is data.  Its formulas and recursions are SymPy objects; they become JavaScript for the
browser, and NumPy for the still picture that paper and readers without scripts see.  Both draw the same
random numbers.  The runtime is one classic script, `book/_static/figures.js`.

    from lrtheory.moving import Curve, MovingFigure, Panel, Readout, Run, Slider

A figure is made of sliders, of panels that hold curves, runs, histograms, levels, marks and crossings, and of
readouts, lines of text with live numbers.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_args
from urllib.parse import quote

import numpy as np
import sympy as sp

from . import plotting
from .inputs import affordable, expression, named, number, of_kind, positive, shown, whole
from .javascript import to_javascript
from .letters import symbol
from .recursion import Recursion

Array = np.ndarray
Formula: TypeAlias = sp.Expr | float | int
Binding: TypeAlias = Mapping[Any, Formula]  # keyed by a parameter's symbol or by its name


# --- the random numbers, the same in figures.js -------------------------------------------------------------


class Mulberry:
    """The generator mulberry32, whose n-th number is a hash of `seed + n * constant`: 32 bits of state.

    Good for pictures, not for results; results come from `lrtheory.monte_carlo`.  One generator serves a
    whole figure, one stream after the other, so that its streams cannot overlap.

    >>> Mulberry(1).uniform(2)
    array([0.62707394, 0.00273572])
    """

    def __init__(self, seed: int) -> None:
        self.state = seed % 2**32

    def uniform(self, size: int) -> Array:
        """The next `size` numbers in [0, 1)."""
        step, word = np.uint64(0x6D2B79F5), np.uint64(2**32 - 1)
        z = (np.uint64(self.state) + step * np.arange(1, size + 1, dtype=np.uint64)) & word
        self.state = (self.state + int(step) * size) % 2**32
        z = ((z ^ (z >> np.uint64(15))) * (z | np.uint64(1))) & word
        z ^= (z + ((z ^ (z >> np.uint64(7))) * (z | np.uint64(61)) & word)) & word
        return np.asarray((z ^ (z >> np.uint64(14))) / 2**32)

    def draw(self, law: Any, size: int) -> Array:
        """The next `size` draws from a law as a figure's JSON names it (see `_law`)."""
        if law == "gaussian":
            u = self.uniform(size + size % 2)
            radius, angle = np.sqrt(-2 * np.log(1 - u[0::2])), 2 * math.pi * u[1::2]
            return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()[:size]
        u = self.uniform(size) + 2.0**-33  # the middle of its cell: never 0 or 1
        if law == "uniform":
            return np.asarray((u - 0.5) * math.sqrt(12))
        if law == "laplace":
            return np.where(u < 0.5, np.log(2 * u), -np.log(2 - 2 * u)) / math.sqrt(2)
        if law == "logistic":
            return np.log(u / (1 - u))
        return np.asarray(law["values"])[np.searchsorted(law["edges"], u, side="right")]


def _law(law: Any) -> Any:
    """The name of a law, or its finite support; a law that only declares its moments is drawn as Gaussian."""
    support = getattr(law, "support", None)
    if support:
        edges = np.cumsum([float(p) for _, p in support])[:-1]
        return {"values": [float(v) for v, _ in support], "edges": [float(e) for e in edges]}
    name = str(getattr(law, "name", "gaussian"))
    for known in ("gaussian", "uniform", "laplace", "logistic"):
        if name.startswith(known):
            return known
    if getattr(law, "draw", None) is None:
        return "gaussian"
    raise ValueError(
        f"a moving figure cannot draw from {name!r}: use gaussian, uniform, laplace, logistic or a finite law"
    )


# --- what a figure is made of -------------------------------------------------------------------------------

_MOST = 10_000  # points of a curve or bins: more than a screen has pixels


def _each(name: str, values: Any, *kinds: type, least: int = 1) -> None:
    of_kind(name, values, list, tuple)
    if len(values) < least:
        raise ValueError(f"{name} = {values}: give at least {least}")
    for i, value in enumerate(values):
        of_kind(f"{name}[{i}]", value, *kinds)


def _whole(item: Any, least: int, *names: str, most: int = 2**53) -> None:
    for name in names:  # NumPy's integers and 3.0 become what JSON and range can take
        object.__setattr__(item, name, whole(name, getattr(item, name), least, most))


def _ends(name: str, ends: Any, log: bool) -> tuple[float, float]:
    """The two ends of an axis, ascending, and positive if it is logarithmic."""
    low, high = (number(name, end) for end in ends)
    if not low < high or (log and low <= 0):
        rule = "0 < low < high for a logarithmic axis" if log else "low < high"
        raise ValueError(f"{name} = ({low:g}, {high:g}): give (low, high) with {rule}")
    return low, high


@dataclass(frozen=True)
class Slider:
    """A number that the reader sets: symbol, plain-text label ("η₁"), range, step and where it starts.

    On a `log` slider every step multiplies; `step` is then in decades (0.05 is a factor 1.12).
    """

    symbol: sp.Symbol
    label: str
    min: float
    max: float
    step: float
    value: float
    log: bool = False

    def __post_init__(self) -> None:
        of_kind("symbol", self.symbol, sp.Symbol)
        for name in ("min", "max", "step", "value"):
            check = positive if name == "step" else number
            object.__setattr__(self, name, check(f"slider {self.label!r}: {name}", getattr(self, name)))
        if not self.min < self.max:
            raise ValueError(f"slider {self.label!r} has min = {self.min} and max = {self.max}: give min < max")
        if not self.min <= self.value <= self.max:
            raise ValueError(f"slider {self.label!r} starts at {self.value}: stay within [{self.min}, {self.max}]")
        if self.log and self.min <= 0:
            raise ValueError(f"slider {self.label!r} is logarithmic: its minimum {self.min} must be positive")


@dataclass(frozen=True)
class Curve:
    """A formula in the sliders and the panel's x, drawn as a line; the rival is dashed.

    A whole-number x such as t may stand in exponents; the curve runs smoothly between whole numbers.
    """

    expr: Formula
    label: str = ""
    role: str = "theory"
    dashed: bool = False


@dataclass(frozen=True)
class Mode:
    """A recursion with its start and what its parameters are: formulas in the sliders and in the step t.

    A parameter that is not bound takes the slider of its name.  States that `start` leaves out begin at 0.
    """

    recursion: Recursion
    parameters: Binding = field(default_factory=dict)
    start: Binding = field(default_factory=dict)

    def __post_init__(self) -> None:
        of_kind("recursion", self.recursion, Recursion)
        named("parameters", self.parameters)
        named("start", self.start)


@dataclass(frozen=True)
class Run:
    """A live simulation: the mean of an observable over `chains` independent chains, as dots with error bars.

    `observable` is a formula in the state, the parameters, t and the sliders; with several modes, which have
    independent noise, it is added up over them.  The step t counts from 0 at the start; `burn_in` steps run
    before, at negative t.  Every `every`-th step is drawn; bars are two standard errors each way.  One chain
    (`chains=1`) is drawn as its path.  `against` replaces t on the x axis: a path through the (theta, v)
    plane.  `same_noise_as` is an earlier run of the same shape: two rates under one noise then differ by the
    rates alone.
    """

    modes: Mode | Sequence[Mode]
    observable: Formula
    steps: int
    chains: int = 200
    every: int = 0
    burn_in: int = 0
    against: Formula | None = None
    label: str = ""
    role: str = "measured"
    same_noise_as: Run | None = None

    def __post_init__(self) -> None:
        _check_sizes(self)


@dataclass(frozen=True)
class Histogram:
    """A live histogram of an observable, over all chains and every `every`-th step after `burn_in`.

    Its area is 1 and its bins divide the panel's x range; `density`, a formula in the panel's x, is drawn
    over it.
    """

    modes: Mode | Sequence[Mode]
    observable: Formula
    steps: int
    chains: int = 1
    every: int = 1
    burn_in: int = 0
    bins: int = 40
    density: Formula | None = None
    label: str = ""
    density_label: str = "theory"
    role: str = "measured"

    def __post_init__(self) -> None:
        _check_sizes(self)
        _whole(self, 1, "bins", most=_MOST)


def _check_sizes(item: Run | Histogram) -> None:
    _each("modes", [item.modes] if isinstance(item.modes, Mode) else item.modes, Mode)
    _whole(item, 1, "steps", "chains")
    _whole(item, 0, "every", "burn_in")


@dataclass(frozen=True)
class Level:
    """A horizontal line at a height given by the sliders."""

    y: Formula
    label: str = ""
    role: str = "measured"


@dataclass(frozen=True)
class Mark:
    """A vertical line at an x given by the sliders."""

    x: Formula
    label: str = ""
    role: str = "measured"


@dataclass(frozen=True)
class Crossing:
    """Where two curves of the panel cross first, right of `after`; a readout can print it.

    There is none where the difference of the curves keeps its sign within the panel: nothing is marked then,
    and readouts that print the crossing show their `otherwise`.
    """

    first: Curve
    second: Curve
    after: Formula | None = None
    label: str = ""
    role: str = "measured"


@dataclass(frozen=True)
class Readout:
    """A line of text with live numbers: "the curves cross at step {k:0}", with `values={"k": crossing}`.

    `{name}` shows three significant digits, `{name:2}` two decimals.  Values are formulas in the sliders, or
    a `Crossing`; where one of them does not exist, the text is `otherwise`.
    """

    template: str
    values: Mapping[str, Formula | Crossing] = field(default_factory=dict)
    otherwise: str = ""

    def __post_init__(self) -> None:
        of_kind("template", self.template, str)
        named("values", self.values)


Item: TypeAlias = Curve | Run | Histogram | Level | Mark | Crossing


@dataclass(frozen=True)
class Panel:
    """One pair of axes: its x and the range of x, labels, scales and what is drawn.

    `xrange` and `yrange` hold formulas in the sliders; without `yrange` the axis fits what is drawn.
    """

    items: Sequence[Item]
    xrange: tuple[Formula, Formula]
    xlabel: str
    ylabel: str
    x: sp.Symbol = field(default_factory=lambda: symbol("t"))
    yrange: tuple[Formula, Formula] | None = None
    log_x: bool = False
    log_y: bool = False
    points: int = 0

    def __post_init__(self) -> None:
        _each("items", self.items, *get_args(Item), least=0)
        of_kind("x", self.x, sp.Symbol)
        for name, ends in (("xrange", self.xrange), ("yrange", self.yrange or (0, 1))):
            of_kind(name, ends, list, tuple)
            if len(ends) != 2:
                raise ValueError(f"{name} = {shown(ends)}: give its two ends, (low, high)")
        if self.points != 0:
            _whole(self, 2, "points", most=_MOST)


@dataclass(frozen=True)
class MovingFigure:
    """A figure that moves under sliders.  Shown as HTML in a notebook; without scripts, its still picture.

    `name` is its identifier on the page; `alt` says in words what it shows (required).  `valid` lists pairs
    `(condition, message)`: where a condition on the sliders fails, the message replaces the drawing.

    >>> from lrtheory.letters import symbols
    >>> eta, t = symbols("eta t")
    >>> figure = MovingFigure(
    ...     "decay", [Slider(eta, "η", 0.1, 0.9, 0.1, 0.5)],
    ...     [Panel([Curve((1 - eta) ** t)], (0, 10), "step", "θ")], alt="θ falls to 0, faster for larger η.")
    >>> sorted(figure._repr_mimebundle_())
    ['text/html', 'text/plain']
    """

    name: str
    sliders: Sequence[Slider]
    panels: Sequence[Panel]
    alt: str
    readouts: Sequence[Readout] = ()
    valid: Sequence[tuple[Any, str]] = ()
    seed: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.alt, str) or not self.alt.strip():
            raise ValueError(f"figure {self.name!r} has no alt text: say in a sentence what it shows")
        if not isinstance(self.name, str) or not re.fullmatch(r"[a-z][a-z0-9-]*", self.name):
            raise ValueError(f"figure name {self.name!r}: use small letters, digits and hyphens")
        _each("sliders", self.sliders, Slider, least=0)
        _each("panels", self.panels, Panel)
        _each("readouts", self.readouts, Readout, least=0)
        _each("valid", self.valid, tuple, list, least=0)
        _whole(self, 0, "seed")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": to_html(self), "text/plain": self.alt}


# --- from formulas to functions, in both languages ----------------------------------------------------------


class _Functions:
    """Collects a figure's functions: for each its JavaScript, under a name, and its NumPy twin."""

    def __init__(self, sliders: Sequence[Slider]) -> None:
        self.sliders = tuple(s.symbol for s in sliders)
        self.scripts: dict[str, str] = {}
        self.twins: dict[str, Any] = {}

    def add(self, stem: str, formula: Any, *arguments: Any, instead: Sequence[sp.Symbol] = ()) -> str:
        """Registers formula(*arguments, sliders), the last an array of their values; returns its name.

        A letter in `instead` is one of the arguments' own, even if a slider has the same.
        """
        name = f"{stem}{len(self.scripts)}"
        many = isinstance(formula, (list, tuple))
        sliders = [sp.Symbol(f"{s.name}_slider") if s in instead else s for s in self.sliders]
        groups = [*arguments, ("sliders", sliders)]
        self.scripts[name] = to_javascript(formula, name=name, arguments=groups)
        nested = [list(g[1]) if isinstance(g, tuple) else g for g in groups]
        self.twins[name] = sp.lambdify(nested, list(formula) if many else formula, "numpy", cse=True)
        return name

    def step(self, recursion: Recursion) -> str:
        name = f"step{len(self.scripts)}"
        self.scripts[name] = to_javascript(recursion, name=name)
        noises = [s for s, _ in recursion.noises]
        self.twins[name] = sp.lambdify(
            [list(recursion.state), noises, list(recursion.parameters)], list(recursion.next_state), "numpy"
        )
        return name


def _smooth(formula: Formula, x: sp.Symbol, sliders: Sequence[Slider]) -> tuple[sp.Expr, sp.Symbol]:
    """The formula with a real x, so that a curve exists between whole steps: b**(2t) becomes |b|**(2t)."""
    real = sp.Symbol(x.name, real=True)
    whole = {
        s.symbol: sp.Dummy(s.symbol.name, integer=True)
        for s in sliders
        if not s.log and all(float(v).is_integer() for v in (s.min, s.step, s.value))
    }
    even = expression(formula).replace(
        lambda e: e.is_Pow and e.exp.has(x) and not e.base.has(x) and e.exp.xreplace(whole).is_even,
        lambda e: sp.Pow(sp.Abs(e.base), e.exp.xreplace({x: real}), evaluate=False),
    )
    return even.xreplace({x: real}), real


def _lookup(binding: Binding, s: sp.Symbol, default: Any) -> Any:
    for key, value in binding.items():
        if key == s or (isinstance(key, str) and key == s.name):
            return value
    return default


def _simulation(item: Run | Histogram, functions: _Functions) -> dict[str, Any]:
    t = symbol("t")
    modes = [item.modes] if isinstance(item.modes, Mode) else list(item.modes)
    against = item.against if isinstance(item, Run) else None
    observables = [item.observable] if against is None else [item.observable, against]
    # by default about 25 dots for means, every step for a path
    every = item.every or (1 if item.chains == 1 else max(1, round(item.steps / 25)))
    drawn = (item.burn_in + item.steps) * sum(len(mode.recursion.noises) for mode in modes)
    seen_at = (item.steps // every + 1) * len(observables)
    size = f"{item.steps} steps of {item.chains} chains"
    affordable(size, 40.0 * item.chains * (drawn + seen_at), "take fewer steps or chains")
    compiled = []
    for mode in modes:
        rec = mode.recursion
        known = set(rec.parameters) | set(rec.state)
        for key in [*mode.parameters, *mode.start]:
            if key not in known and key not in {s.name for s in known}:
                raise ValueError(f"{key} is not among the recursion's letters, {sorted(map(str, known))}")
        parameters = [expression(_lookup(mode.parameters, p, p)) for p in rec.parameters]
        start = [expression(_lookup(mode.start, s, 0)) for s in rec.state]
        groups = (("state", rec.state), ("parameters", rec.parameters))
        seen = [expression(o) for o in observables]
        observe = functions.add("observe", seen, *groups, t, instead=rec.parameters)
        compiled.append(
            {
                "step": functions.step(rec),
                "parameters": functions.add("parameters", parameters, t),
                "start": functions.add("start", start),
                "observe": observe,
                "laws": [_law(law) for _, law in rec.noises],
            }
        )
    return {"modes": compiled, "outputs": len(observables), "steps": item.steps, "chains": item.chains,
            "every": every, "burnIn": item.burn_in}  # fmt: skip


def _shape(run: dict[str, Any]) -> tuple[Any, ...]:
    return (*(run[key] for key in ("steps", "chains", "burnIn")), [mode["laws"] for mode in run["modes"]])


def _compile(figure: MovingFigure) -> tuple[dict[str, Any], _Functions]:
    """The figure as JSON-able data that names functions, and these functions."""
    of_kind("figure", figure, MovingFigure)
    functions = _Functions(figure.sliders)
    crossings: dict[int, list[int]] = {}
    runs: dict[int, list[int]] = {}
    panels: list[dict[str, Any]] = []
    for p, panel in enumerate(figure.panels):
        curves = {id(item): i for i, item in enumerate(panel.items) if isinstance(item, Curve)}
        items: list[dict[str, Any]] = []
        for i, item in enumerate(panel.items):
            kind = type(item).__name__.lower()
            data: dict[str, Any] = {"type": kind, "label": item.label, "role": item.role}
            plotting.color(item.role)  # refuses an unknown role
            if isinstance(item, Curve):
                smooth = _smooth(item.expr, panel.x, figure.sliders)
                data["f"] = functions.add("curve", *smooth, instead=[panel.x])
                data["dashed"] = item.dashed or item.role == "rival"
            elif isinstance(item, (Run, Histogram)):
                data["run"] = run = _simulation(item, functions)
                runs[id(item)] = [p, i]
                if isinstance(item, Run) and (other := item.same_noise_as) is not None:
                    place = runs.get(id(other))
                    if place is None:
                        raise ValueError(f"run {item.label!r}: put the run whose noise it shares before it")
                    earlier = panels[place[0]]["items"] if place[0] < p else items
                    if _shape(earlier[place[1]]["run"]) != _shape(run):
                        raise ValueError(f"run {item.label!r} shares the noise of a run of other size or laws")
                    run["noiseOf"] = place
                if isinstance(item, Histogram):
                    data["bins"] = item.bins
                    if item.density is not None:
                        smooth = _smooth(item.density, panel.x, figure.sliders)
                        data["density"] = functions.add("density", *smooth, instead=[panel.x])
                        data["densityLabel"] = item.density_label
            elif isinstance(item, Level):
                data["at"] = functions.add("level", expression(item.y))
            elif isinstance(item, Mark):
                data["at"] = functions.add("mark", expression(item.x))
            else:
                if id(item.first) not in curves or id(item.second) not in curves:
                    raise ValueError(f"Crossing {item.label!r}: put both of its curves among the panel's items, too")
                data["curves"] = [curves[id(item.first)], curves[id(item.second)]]
                after = panel.xrange[0] if item.after is None else item.after
                data["after"] = functions.add("after", expression(after))
                crossings[id(item)] = [p, i]
            items.append(data)
        ends = [expression(e) for e in panel.xrange]
        span = ends[1] - ends[0]
        whole = all(e.is_Integer for e in ends) and 100 <= span <= 800
        points = panel.points or (int(span) + 1 if whole else 241)
        panels.append(
            {
                "items": items,
                "xlabel": panel.xlabel,
                "ylabel": panel.ylabel,
                "xrange": functions.add("xrange", ends),
                "yrange": functions.add("yrange", [expression(e) for e in panel.yrange]) if panel.yrange else None,
                "logX": panel.log_x,
                "logY": panel.log_y,
                "points": points,
            }
        )
    readouts = []
    for readout in figure.readouts:
        values: dict[str, Any] = {}
        for name, value in readout.values.items():
            if isinstance(value, Crossing):
                if id(value) not in crossings:
                    raise ValueError(f"readout {readout.template!r}: its crossing {name} stands in no panel")
                values[name] = {"crossing": crossings[id(value)]}
            else:
                values[name] = {"f": functions.add("value", expression(value))}
        for name in _FIELD.findall(readout.template):
            if name[0] not in values:
                raise ValueError(f"readout {readout.template!r}: no value is given for {{{name[0]}}}")
        readouts.append({"template": readout.template, "otherwise": readout.otherwise, "values": values})
    spec = {
        "name": figure.name,
        "alt": figure.alt,
        "seed": figure.seed,
        "sliders": [
            {"label": s.label, "min": s.min, "max": s.max, "step": s.step, "value": s.value, "log": s.log}
            for s in figure.sliders
        ],
        "panels": panels,
        "readouts": readouts,
        "valid": [{"f": functions.add("valid", c), "message": m} for c, m in figure.valid],
    }
    return spec, functions


# --- the twin of figures.js: the same pictures in NumPy and Matplotlib --------------------------------------

_FIELD = re.compile(r"\{(\w+)(?::(\d))?\}")


def _number(value: float, decimals: str = "") -> str:
    """Three significant digits, or the decimals asked for, with a true minus sign."""
    if decimals:
        text = f"{value:.{int(decimals)}f}"
    else:
        text = f"{float(f'{value:.3g}'):g}" if value == 0 or 1e-3 <= abs(value) < 1000 else f"{value:.0f}"
        if 0 < abs(value) < 1e-3:
            text = f"{value:.1e}"
    return text.replace("-", "−").replace("e−0", "e−")


def _fill(template: str, numbers: Mapping[str, float]) -> str:
    return _FIELD.sub(lambda m: _number(numbers[m[1]], m[2] or ""), template)


def _draw(run: dict[str, Any], rng: Mulberry) -> list[list[Array]]:
    size = (run["burnIn"] + run["steps"], run["chains"])
    return [[rng.draw(law, size[0] * size[1]).reshape(size) for law in mode["laws"]] for mode in run["modes"]]


def _simulate(run: dict[str, Any], functions: _Functions, values: list[float], noise: list[list[Array]]) -> Array:
    """Observables at the steps that are drawn: an array (outputs, times, chains)."""
    total = run["burnIn"] + run["steps"]
    times = range(0, run["steps"] + 1, run["every"])
    seen = np.zeros((run["outputs"], len(times), run["chains"]))
    for mode, draws in zip(run["modes"], noise, strict=True):
        twins = {key: functions.twins[mode[key]] for key in ("step", "parameters", "start", "observe")}
        state = [np.full(run["chains"], float(s)) for s in twins["start"](values)]
        for n in range(total + 1):
            t = n - run["burnIn"]
            parameters = twins["parameters"](t, values)
            if t >= 0 and t % run["every"] == 0:
                for k, value in enumerate(twins["observe"](state, parameters, t, values)):
                    seen[k, t // run["every"]] += value
            if n < total:
                state = twins["step"](state, [d[n] for d in draws], parameters)
    return seen


def _crossing(difference: Any, after: float, end: float) -> float:
    """The first sign change of `difference` in (after, end], or NaN; figures.js does the same."""
    x = after + (end - after) * np.arange(401) / 400
    x[0] = after + (end - after) * 1e-6
    signs = np.sign([float(difference(v)) for v in x])
    for i in range(400):
        if signs[i] * signs[i + 1] < 0:
            low, high = x[i], x[i + 1]
            for _ in range(40):
                middle = (low + high) / 2
                low, high = (middle, high) if np.sign(float(difference(middle))) == signs[i] else (low, middle)
            return float((low + high) / 2)
    return math.nan


def evaluate(figure: MovingFigure, **values: float) -> dict[str, Any]:
    """What the figure shows, as numbers; sliders stand where they start, or at `values`, by symbol name.

    Returns `{"valid": message or None, "panels": [[series, ...], ...], "readouts": [text, ...]}`; a series
    has "x", "y" and, for a mean over chains, "stderr".  The same numbers as in the browser, to rounding.
    Raises `ValueError` for a value without a slider, or outside its slider's range.

    >>> from lrtheory.letters import symbols
    >>> eta, t = symbols("eta t")
    >>> panel = Panel([Curve((1 - eta) ** t)], (0, 2), "step", "θ", points=3)
    >>> figure = MovingFigure("decay", [Slider(eta, "η", 0, 1, 0.1, 0.5)], [panel], alt="θ falls to 0.")
    >>> evaluate(figure, eta=0.1)["panels"][0][0]["y"]
    array([1.  , 0.9 , 0.81])
    """
    spec, functions = _compile(figure)
    return _evaluate(figure, spec, functions, values)


def _settings(figure: MovingFigure, given: Mapping[str, float]) -> list[float]:
    if unknown := set(given) - {s.symbol.name for s in figure.sliders}:
        raise ValueError(f"no slider for {sorted(unknown)}: the figure has {[s.symbol.name for s in figure.sliders]}")
    values = []
    for slider in figure.sliders:
        name = slider.symbol.name
        values.append(number(name, given.get(name, slider.value)))
        if not slider.min <= values[-1] <= slider.max:
            raise ValueError(f"{name} = {values[-1]:g}: stay within its slider, [{slider.min:g}, {slider.max:g}]")
    return values


def _evaluate(
    figure: MovingFigure, spec: dict[str, Any], functions: _Functions, given: Mapping[str, float]
) -> dict[str, Any]:
    s = _settings(figure, given)
    rng = Mulberry(figure.seed)
    noise: dict[tuple[int, int], list[list[Array]]] = {}
    with np.errstate(all="ignore"):
        message = next((v["message"] for v in spec["valid"] if not functions.twins[v["f"]](s)), None)
        shown, found = [], {}
        for p, panel in enumerate(spec["panels"]):
            low, high = _ends("xrange", functions.twins[panel["xrange"]](s), panel["logX"])
            if panel["yrange"]:
                _ends("yrange", functions.twins[panel["yrange"]](s), panel["logY"])
            if panel["logX"]:
                x = low * (high / low) ** (np.arange(panel["points"]) / (panel["points"] - 1))
            else:
                x = low + (high - low) * np.arange(panel["points"]) / (panel["points"] - 1)
            series = []
            for i, item in enumerate(panel["items"]):
                data: dict[str, Any] = {"type": item["type"]}
                if "run" in item:
                    run = item["run"]
                    noise[p, i] = noise[tuple(run["noiseOf"])] if "noiseOf" in run else _draw(run, rng)
                    seen = _simulate(run, functions, s, noise[p, i])
                if item["type"] == "curve":
                    data |= {"x": x, "y": np.broadcast_to(functions.twins[item["f"]](x, s), x.shape)}
                elif item["type"] == "run":
                    times = np.arange(seen.shape[1]) * run["every"]
                    data["x"] = times if run["outputs"] == 1 else seen[1].mean(axis=1)
                    data["y"] = seen[0].mean(axis=1)
                    if run["chains"] > 1:
                        data["stderr"] = seen[0].std(axis=1, ddof=1) / math.sqrt(run["chains"])
                elif item["type"] == "histogram":
                    sample = seen[0].ravel()
                    edges = low + (high - low) * np.arange(item["bins"] + 1) / item["bins"]
                    cells = np.floor((sample - low) / (high - low) * item["bins"])
                    counts = np.array([(cells == c).sum() for c in range(item["bins"])])
                    data |= {"x": edges, "y": counts / (len(sample) * (edges[1] - edges[0]))}
                    if "density" in item:
                        data["curve"] = (x, np.broadcast_to(functions.twins[item["density"]](x, s), x.shape))
                elif item["type"] in ("level", "mark"):
                    data["at"] = float(functions.twins[item["at"]](s))
                else:
                    f, g = (functions.twins[panel["items"][c]["f"]] for c in item["curves"])
                    after = max(low, float(functions.twins[item["after"]](s)))
                    at = _crossing(lambda v, f=f, g=g: f(v, s) - g(v, s), after, high)
                    data |= {"x": at, "y": float(f(at, s))}
                    found[p, i] = at
                series.append(data)
            shown.append(series)
        readouts = []
        for readout in spec["readouts"]:
            numbers = {
                name: float(functions.twins[v["f"]](s)) if "f" in v else found[tuple(v["crossing"])]
                for name, v in readout["values"].items()
            }
            text = readout["template"] if all(map(math.isfinite, numbers.values())) else readout["otherwise"]
            readouts.append(_fill(text, numbers))
    return {"valid": message, "panels": shown, "readouts": readouts}


def still(figure: MovingFigure, **values: float) -> Any:
    """The figure as a still picture: a Matplotlib figure in the book's style, drawn from the same numbers."""
    spec, functions = _compile(figure)
    return _still(figure, spec, functions, _evaluate(figure, spec, functions, values), values)


def _still(
    figure: MovingFigure,
    spec: dict[str, Any],
    functions: _Functions,
    shown: dict[str, Any],
    given: Mapping[str, float],
) -> Any:
    rows = len(spec["panels"])
    picture, grid = plotting.axes(height=3.6 * rows, rows=rows)
    s = _settings(figure, given)
    for ax, panel, series in zip(np.ravel(grid), spec["panels"], shown["panels"], strict=True):
        plotting.scale(ax, *("log" if panel[key] else "linear" for key in ("logX", "logY")))
        ax.set(xlabel=panel["xlabel"], xlim=functions.twins[panel["xrange"]](s))
        ax.set_title(panel["ylabel"], loc="left")
        for item, data in zip(panel["items"], series, strict=True):
            label, role = item["label"], item["role"]
            if item["type"] == "curve":
                draw: Any = plotting.rival if item["dashed"] else plotting.theory
                draw(ax, data["x"], data["y"], label, role=role)
            elif item["type"] == "run" and "stderr" in data:
                plotting.measured(ax, data["x"], data["y"], data["stderr"], label, role=role)
            elif item["type"] == "run":
                plotting.theory(ax, data["x"], data["y"], label, role=role, linewidth=1)
            elif item["type"] == "histogram":
                ax.stairs(data["y"], data["x"], fill=True, color=plotting.color(role), alpha=0.45)
                place = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
                ax.annotate(label, (0, 1), (4, -4), color=plotting.color(role), **place)
                if "curve" in data:
                    plotting.theory(ax, data["curve"][0], data["curve"][1], item["densityLabel"])
            elif item["type"] == "level":
                ends = ax.get_xlim()
                plotting.theory(ax, ends, [data["at"]] * 2, label, role=role, linewidth=1.2)
            elif item["type"] == "mark":
                ax.axvline(data["at"], color=plotting.color(role), linewidth=1.2, linestyle=(0, (2, 2)))
                ax.annotate(label, (data["at"], 1), (4, -4), xycoords=("data", "axes fraction"), va="top",
                            textcoords="offset points", color=plotting.color(role))  # fmt: skip
            elif math.isfinite(data["x"]):
                ax.plot(data["x"], data["y"], "o", color=plotting.color("text"), fillstyle="none", markersize=9)
                ax.annotate(label, (data["x"], data["y"]), (7, 7), textcoords="offset points",
                            color=plotting.color("text"))  # fmt: skip
        if panel["yrange"]:
            ax.set_ylim(*functions.twins[panel["yrange"]](s))
    return picture


# --- the page -----------------------------------------------------------------------------------------------


def _json(data: Any) -> str:
    # inside a script element only "<" could end it early; ">" and "&" are escaped for XHTML's sake
    text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def to_html(figure: MovingFigure) -> str:
    """The figure as a fragment of HTML: data, functions and still picture; figures.js brings it to life."""
    spec, functions = _compile(figure)
    shown = _evaluate(figure, spec, functions, {})
    picture = plotting.svg(_still(figure, spec, functions, shown, {}))
    picture = re.sub(r">\s+<", "><", picture[picture.index("<svg") :])
    address = "data:image/svg+xml," + quote(picture, safe=" /:=;,()!*?@$'-_.~+\n").replace("\n", " ")
    scripts = "\n".join(functions.scripts.values())
    lines = "".join(f"<p>{html.escape(text)}</p>" for text in shown["readouts"] if text)
    name = figure.name
    return f"""<div class="moving-figure" id="moving-{name}">
<div class="moving-still"><img src="{html.escape(address)}" alt="{html.escape(figure.alt)}">{lines}</div>
<script type="application/json">{_json(spec)}</script>
<script>
window.lrtheory = window.lrtheory || {{}};
(lrtheory.functions = lrtheory.functions || {{}})["{name}"] = (function () {{
"use strict";
{scripts}
return {{ {", ".join(functions.scripts)} }};
}})();
</script>
</div>"""
