"""One visual language: theory is a line, measurement dots with error bars, a rival dashed, labels on lines.

    figure, ax = plotting.axes("step", "mean loss")
    plotting.theory(ax, t, formula, label="theory")
    plotting.measured(ax, t, means, standard_errors, label="2000 chains")
    figure                                    # the last line of a notebook cell shows it, as SVG

Text and axes take the page's own text colour, and the colours of the roles have a light and a dark shade, so
one file serves light pages, dark pages and paper.  Matplotlib is imported at the first call, not before.
"""

from __future__ import annotations

import csv
import io
import re
from functools import cache
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import numpy as np

from .inputs import numbers, of_kind, shown

Number = Any  # a number or an array of numbers
_LARGEST = 1e300  # the length of an axis must not overflow
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Shades(NamedTuple):
    """One role's colour: where no style sheet is read, on a light page and on a dark page."""

    plain: str
    light: str
    dark: str


PALETTE: dict[str, Shades] = {
    "theory": Shades("#3b6fd4", "#2f62c4", "#7aa5ff"),
    "measured": Shades("#808080", "#5f6368", "#b4b8bd"),
    "rival": Shades("#b8479a", "#a53a89", "#e67fce"),
    "kept": Shades("#d5500a", "#c04400", "#ff8a4c"),
    "dropped": Shades("#00937d", "#007a68", "#2fc4a8"),
}
"""What each role is drawn in.  `kept` is the learning rate left as it was, `dropped` the lowered one."""

_INK, _INK_LIGHT, _INK_DARK = (
    "#6f6f71",
    "#222832",
    "#ced6dd",
)  # the first is a sentinel: it becomes currentColor
_FAINT = "#a7a7a9"  # sentinel of the grid


def color(role: str) -> str:
    """The plain colour of a role, as `#rrggbb`; `"text"` is the page's text colour.

    Raises `ValueError` for a role that the palette lacks.

    >>> color("kept")
    '#d5500a'
    """
    if role == "text":
        return _INK
    if not isinstance(role, str) or role not in PALETTE:
        raise ValueError(f"no role {shown(role)}: choose one of {', '.join(PALETTE)} or text")
    return PALETTE[role].plain


def _check_axes(ax: Any) -> None:
    from matplotlib.axes import Axes

    of_kind("ax", ax, Axes)


def _check_figure(figure: Any) -> None:
    from matplotlib.figure import Figure

    of_kind("figure", figure, Figure)


def _check_points(gaps: bool, **coordinates: Any) -> None:
    """Refuse what no axis can show; a formula may have gaps, where it is nan or infinite, a measurement may not."""
    for name, values in coordinates.items():
        array = numbers(name, values)
        wrong = ~(np.abs(array) <= _LARGEST)
        if gaps:
            wrong &= np.isfinite(array)
        if wrong.any():
            first = np.flatnonzero(wrong)[0]
            rule = f"give finite numbers up to {_LARGEST:g}, or leave this point out"
            raise ValueError(f"{name}[{first}] = {array.flat[first]:g} cannot be drawn: {rule}")


_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.titlesize": 11,
    "axes.titlepad": 10,
    "axes.titlelocation": "left",
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.edgecolor": _INK,
    "axes.linewidth": 0.8,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "grid.alpha": 0.25,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "figure.dpi": 100,
    "svg.fonttype": "path",
    "mathtext.fontset": "dejavusans",
}


def _svg_style() -> str:
    def rules(ink: str, shade: int) -> str:
        roles = ";".join(f"--{role}:{shades[shade]}" for role, shades in PALETTE.items())
        return f":root{{color:{ink};{roles}}}"

    return (
        f"<style>{rules(_INK_LIGHT, 1)}"
        f"@media (prefers-color-scheme: dark){{{rules(_INK_DARK, 2)}}}"
        f"@media print{{{rules(_INK_LIGHT, 1)}}}</style>"
    )


@cache
def _figure_class() -> Any:
    import matplotlib
    from matplotlib.figure import Figure

    class BookFigure(Figure):
        """A figure that a notebook shows as SVG, reproducible byte for byte, without pyplot."""

        def _repr_svg_(self) -> str:
            return svg(self)

        def savefig(self, *args: Any, **kwargs: Any) -> None:
            with matplotlib.rc_context(_STYLE):
                _spread_labels(self)
                super().savefig(*args, **kwargs)

    return BookFigure


def axes(
    xlabel: str = "",
    ylabel: str = "",
    width: float = 6.4,
    height: float = 3.6,
    *,
    rows: int = 1,
    columns: int = 1,
    xscale: str = "linear",
    yscale: str = "linear",
) -> tuple[Any, Any]:
    """A new figure and its axes in the book's style; `width` and `height` are inches for the whole figure.

    Returns `(figure, ax)`, with `ax` an array of axes if `rows * columns > 1`.  The y label lies flat above
    the axis, where it can be read on a phone.

    >>> figure, ax = axes("step", "loss")
    >>> ax.get_xlabel(), figure._repr_svg_().startswith("<?xml")
    ('step', True)
    """
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        figure = _figure_class()(figsize=(width, height), layout="constrained")
        grid = figure.subplots(rows, columns)
        for ax in np.ravel(grid):
            ax.set_xlabel(xlabel)
            ax.set_title(ylabel, loc="left")
            ax.tick_params(which="both", length=0)
            scale(ax, xscale, yscale)
            ax.spines["left"].set_visible(False)
    return figure, grid


def scale(ax: Any, x: str = "linear", y: str = "linear") -> None:
    """Sets both scales, each "linear" or "log"; a logarithmic axis shows plain numbers: 0.01, not a power.

    >>> _, ax = axes()
    >>> scale(ax, y="log")
    >>> ax.get_yscale()
    'log'
    """
    from matplotlib.ticker import FuncFormatter

    _check_axes(ax)
    ax.set(xscale=x, yscale=y)
    for axis, kind in ((ax.xaxis, x), (ax.yaxis, y)):
        if kind == "log":
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.minorticks_off()


def theory(ax: Any, x: Number, y: Number, label: str | None = None, role: str = "theory", **style: Any) -> Any:
    """Draws what a formula says: a solid line, with its label at its right end.  Returns the line.

    Where a coordinate is nan or infinite, the line has a gap.

    >>> _, ax = axes()
    >>> theory(ax, [0, 1], [0, 1]).get_linestyle()
    '-'
    """
    _check_axes(ax)
    _check_points(gaps=True, x=x, y=y)
    (line,) = ax.plot(x, y, **{"color": color(role), "linewidth": 2.2, "zorder": 3, **style})
    if label:
        label_line(ax, line, label, role)
    return line


def rival(ax: Any, x: Number, y: Number, label: str | None = None, role: str = "rival", **style: Any) -> Any:
    """Draws what a wrong formula says: a dashed line, with its label at its right end.  Returns the line.

    >>> _, ax = axes()
    >>> rival(ax, [0, 1], [0, 1]).get_linestyle()
    '--'
    """
    return theory(ax, x, y, label, role, **{"linestyle": (0, (4, 2.5)), "linewidth": 1.8, **style})


def measured(
    ax: Any,
    x: Number,
    y: Number,
    stderr: Number | None = None,
    label: str | None = None,
    role: str = "measured",
    **style: Any,
) -> Any:
    """Draws what was measured: dots, with bars of two standard errors each way.  Returns the dots.

    `stderr` has the units of `y`; None draws no bars.  Raises `ValueError` for a number that is not finite.

    >>> _, ax = axes()
    >>> measured(ax, [1, 2], [3, 4], stderr=[0.1, 0.1], label="20 chains").get_marker()
    'o'
    """
    _check_axes(ax)
    _check_points(gaps=False, x=x, y=y, stderr=0 if stderr is None else stderr)
    bars = None if stderr is None else 2 * np.asarray(stderr, dtype=float)
    drawn = ax.errorbar(
        x,
        y,
        yerr=bars,
        **{"color": color(role), "fmt": "o", "markersize": 4.5, "elinewidth": 1.2, "zorder": 4, **style},
    )
    if label:
        label_line(ax, drawn.lines[0], label, role)
    return drawn.lines[0]


def label_line(ax: Any, line: Any, text: str, role: str = "text", at: float | None = None) -> Any:
    """Writes `text` beside a line in the line's colour: at its right end, or above it at `x = at`.

    Labels at right ends are moved apart, if they would overlap, when the figure is drawn.  Returns the text.

    >>> _, ax = axes()
    >>> label_line(ax, theory(ax, [0, 1], [0, 1]), "floor").get_text()
    'floor'
    """
    from matplotlib.lines import Line2D

    _check_axes(ax)
    of_kind("line", line, Line2D)
    x, y = (np.asarray(values, dtype=float) for values in line.get_data())
    line._book_label = text
    seen = np.isfinite(x) & np.isfinite(y)
    if not seen.any():
        raise ValueError(f"the line to be labelled {text!r} has no finite point")
    x, y = x[seen], y[seen]
    if at is None:
        note = ax.annotate(
            text, (1, y[-1]), (5, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            va="center", annotation_clip=False,
            color=color(role), fontsize=11,
        )  # fmt: skip
        ax._labels_at_end = [*getattr(ax, "_labels_at_end", []), note]
        return note
    order = np.argsort(x)
    return ax.annotate(
        text, (at, np.interp(at, x[order], y[order])), (0, 6), textcoords="offset points",
        ha="center", va="bottom", color=color(role), fontsize=11,
    )  # fmt: skip


def apart(wanted: Any, gap: float, low: float, high: float) -> Any:
    """Ascending positions near those `wanted`, `gap` apart, and within [low, high] where they fit.

    >>> apart([0.0, 1.0, 30.0], gap=10, low=0, high=100)
    array([ 0., 10., 30.])
    """
    placed = np.clip(np.asarray(wanted, dtype=float), low, high)
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    if len(placed):
        placed[-1] = min(placed[-1], high)
    for i in range(len(placed) - 2, -1, -1):
        placed[i] = min(placed[i], placed[i + 1] - gap)
    return placed


def _spread_labels(figure: Any) -> None:
    for note in (note for ax in figure.axes for note in getattr(ax, "_labels_at_end", [])):
        note.set_position((5, 0))  # as if never drawn before: the layout makes room for labels where they are
    figure.draw_without_rendering()
    points = 72 / figure.dpi
    for ax in figure.axes:
        notes = getattr(ax, "_labels_at_end", [])
        low, high = (y * points for y in ax.get_window_extent().intervaly)
        ends = [ax.transData.transform((ax.get_xlim()[1], note.xy[1]))[1] * points for note in notes]
        order = sorted(range(len(notes)), key=lambda i: ends[i])
        for i, y in zip(order, apart([ends[i] for i in order], 15, low, high), strict=True):
            notes[i].set_position((5, y - ends[i]))


def _series(ax: Any) -> list[tuple[str, Any]]:
    """The lines that have points, each with its label or number."""
    lines = [line for line in ax.lines if len(line.get_xdata()) > 0]
    return [(getattr(line, "_book_label", None) or f"line {i}", line) for i, line in enumerate(lines, start=1)]


def _check_visible(figure: Any) -> None:
    """Refuse a line that a logarithmic axis would hide from end to end."""
    for ax in figure.axes:
        for name, line in _series(ax):
            for letter, axis, values in zip("xy", (ax.xaxis, ax.yaxis), line.get_data(), strict=True):
                if axis.get_scale() == "log" and not (np.asarray(values) > 0).any():
                    rule = f"give positive numbers, or a linear {letter} axis"
                    raise ValueError(f"{name}: {letter}[0] = {values[0]:g}, and none is positive on a log axis: {rule}")


def csv_text(figure: Any) -> str:
    """The numbers behind a figure, as CSV: one row for each point of each line, with the bars of measured points.

    >>> figure, ax = axes("step", "loss")
    >>> _ = theory(ax, [0, 1], [2, 0.5], label="formula")
    >>> print(csv_text(figure))
    panel,series,step,loss,standard error
    1,formula,0,2,
    1,formula,1,0.5,
    <BLANKLINE>
    """
    _check_figure(figure)
    out = io.StringIO()
    panels = [ax for ax in figure.axes if ax.lines or ax.containers]
    names = {(ax.get_xlabel() or "x", ax.get_title(loc="left") or "y") for ax in panels}
    xname, yname = names.pop() if len(names) == 1 else ("x", "y")
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["panel", "series", xname, yname, "standard error"])
    for number, ax in enumerate(panels, start=1):
        errors = {id(bar.lines[0]): bar for bar in ax.containers if hasattr(bar, "has_yerr")}
        for name, line in _series(ax):
            bars = [None] * len(line.get_xdata())
            if id(line) in errors and errors[id(line)].has_yerr:
                segments = errors[id(line)].lines[2][0].get_segments()
                bars = [(end[1] - start[1]) / 4 for start, end in segments]  # two standard errors each way
            for x, y, bar in zip(*line.get_data(), bars, strict=True):
                rows.writerow(
                    [number, name, f"{float(x):.10g}", f"{float(y):.10g}", "" if bar is None else f"{bar:.3g}"]
                )
    return out.getvalue()


def svg(figure: Any) -> str:
    """The figure as the text of an SVG file: transparent, in the page's text colour, the same at every run.

    Raises `ValueError` for a line without a positive number on a logarithmic axis; characters that XML cannot hold
    become U+FFFD.

    >>> figure, ax = axes()
    >>> _ = theory(ax, [0, 1], [0, 1], role="kept")
    >>> "currentColor" in svg(figure), "var(--kept" in svg(figure), svg(figure) == svg(figure)
    (True, True, True)
    """
    import matplotlib

    _check_figure(figure)
    _check_visible(figure)
    text = io.StringIO()
    # no date and no version either
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    # a fixed salt and no date: the same figure is the same file; identifiers are unique within one file only
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": "lrtheory"}):
        figure.savefig(text, format="svg", metadata=nothing)
    drawn = text.getvalue()
    for sentinel in (_INK, _FAINT):
        drawn = drawn.replace(sentinel, "currentColor")
    for role, shades in PALETTE.items():
        drawn = drawn.replace(shades.plain, f"var(--{role}, {shades.plain})")
    drawn = drawn.replace("<defs>", f"<desc>{escape(csv_text(figure))}</desc>\n <defs>", 1)
    # identifiers are hashes of positions with all their digits: number them instead
    for n, hashed in enumerate(dict.fromkeys(re.findall(r'id="([a-zA-Z][0-9a-f]{10})"', drawn))):
        drawn = drawn.replace(hashed, f"{hashed[0]}{n}")
    drawn = re.sub(r"\s*<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", drawn)
    return drawn.replace("<defs>", _svg_style() + "<defs>", 1)
