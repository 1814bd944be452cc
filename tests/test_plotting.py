"""Static figures: legible in light and dark and to the colour-blind, the same bytes at every run."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from lrtheory import plotting
from lrtheory.plotting import PALETTE

STYLE_SHEET = Path(__file__).parents[1] / "book/_static/figures.css"
LIGHT, DARK = "#ffffff", "#121212"

# how people without L, M or S cones see linear RGB: Machado, Oliveira & Fernandes 2009, severity 1
SEEN_BY = {
    "trichromats": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopes": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopes": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopes": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(color):
    c = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    low, high = sorted(linear(c) @ [0.2126, 0.7152, 0.0722] for c in (a, b))
    return (high + 0.05) / (low + 0.05)


def lab(rgb):
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    f = np.cbrt(np.maximum(np.array(to_xyz) @ np.clip(rgb, 0, 1) / [0.95047, 1, 1.08883], 1e-4))
    return np.array([116 * f[1], 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def drawn():
    figure, ax = plotting.axes("step", "mean loss")
    steps = np.arange(50)
    plotting.theory(ax, steps, np.exp(-steps / 20), "kept", role="kept")
    plotting.theory(ax, steps, np.exp(-steps / 10), "dropped", role="dropped")
    plotting.rival(ax, steps, np.exp(-steps / 15), "rival")
    plotting.measured(ax, steps[::5], np.exp(-steps[::5] / 20), 0.02 * np.ones(10), "20 chains")
    return figure, ax


@pytest.mark.parametrize("role", PALETTE)
def test_colours_stand_out_on_light_and_on_dark_pages(role):
    shades = PALETTE[role]
    assert min(contrast(shades.plain, LIGHT), contrast(shades.plain, DARK)) >= 3
    # the shades also colour labels, which are text
    assert min(contrast(shades.light, LIGHT), contrast(shades.dark, DARK)) >= 4.5


@pytest.mark.parametrize("shade", ["light", "dark"])
@pytest.mark.parametrize("eyes", SEEN_BY)
def test_the_kept_and_the_dropped_rate_differ_for_all_eyes(eyes, shade):
    kept, dropped = (
        lab(np.array(SEEN_BY[eyes]) @ linear(getattr(PALETTE[role], shade))) for role in ("kept", "dropped")
    )
    assert np.linalg.norm(kept - dropped) > 30


def test_the_style_sheet_has_the_same_shades():
    css = STYLE_SHEET.read_text()
    light, dark = css.split('html[data-theme="dark"]')[:2]
    for role, shades in PALETTE.items():
        assert f"--lr-{role}: {shades.light};" in light
        assert f"--lr-{role}: {shades.dark};" in dark


def test_the_picture_is_the_same_at_every_run_and_follows_the_page():
    text, again = (plotting.svg(drawn()[0]) for _ in range(2))
    assert text == again
    ElementTree.fromstring(text)
    assert "prefers-color-scheme: dark" in text and "currentColor" in text and "var(--dropped" in text
    assert not re.search(r"#ffffff|<dc:date>|#000000", text)


def test_a_notebook_shows_svg():
    figure, _ = drawn()
    assert figure._repr_svg_() == plotting.svg(figure)


def test_labels_at_the_right_end_do_not_overlap():
    figure, ax = drawn()
    plotting.svg(figure)
    heights = sorted(note.get_window_extent().y0 for note in ax._labels_at_end)
    assert np.diff(heights).min() >= 14 * figure.dpi / 72


def test_bars_are_two_standard_errors():
    _, ax = plotting.axes()
    plotting.measured(ax, [1], [10], [0.5])
    (bar,) = ax.collections[0].get_segments()
    assert bar[:, 1].tolist() == [9, 11]


def test_matplotlib_is_imported_only_when_something_is_drawn():
    check = "import sys, lrtheory.plotting, lrtheory.moving; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=Path(__file__).parents[1]).returncode == 0


def on_axes(draw, *points, **scales):
    figure, ax = plotting.axes(**scales)
    draw(ax, *points)
    return plotting.svg(figure)


NAN, INF = float("nan"), float("inf")
LIMIT = r"cannot be drawn: give finite numbers up to 1e\+300, or leave this point out"


@pytest.mark.parametrize("make, message", [
    (lambda: on_axes(plotting.measured, [1, 2], [3, NAN]), rf"y\[1\] = nan {LIMIT}"),
    (lambda: on_axes(plotting.measured, [INF, 2], [3, 4]), rf"x\[0\] = inf {LIMIT}"),
    (lambda: on_axes(plotting.measured, [1, 2], [3, 4], [0.1, NAN]), rf"stderr\[1\] = nan {LIMIT}"),
    (lambda: on_axes(plotting.theory, [1, 2], [1e308, -1e308]), rf"y\[0\] = 1e\+308 {LIMIT}"),
    (lambda: on_axes(plotting.rival, [1, 2], ["3", "4"]), "y = .* give numbers, without quotes"),
    (lambda: on_axes(plotting.theory, [1, 2], [-3, 0], yscale="log"), r"line 1: y\[0\] = -3, .* or a linear y axis"),
    (lambda: on_axes(plotting.measured, [0], [1], xscale="log"), r"line 1: x\[0\] = 0, .* or a linear x axis"),
    (lambda: plotting.svg(None), "figure = None: give an object of type Figure"),
    (lambda: plotting.csv_text(None), "figure = None: give an object of type Figure"),
    (lambda: plotting.theory(None, [1], [2]), "ax = None: give an object of type Axes"),
    (lambda: plotting.measured(plotting.axes(rows=2)[1], [1], [2]), "ax = .*: give an object of type Axes"),
    (lambda: plotting.scale("log"), "ax = 'log': give an object of type Axes"),
    (lambda: plotting.label_line(plotting.axes()[1], None, "kept"), "line = None: give an object of type Line2D"),
    (lambda: plotting.color("blue"), "no role 'blue': choose one of theory, measured, rival, kept, dropped"),
    (lambda: plotting.color([]), r"no role \[\]: choose one of"),
])  # fmt: skip
def test_errors_say_what_to_do(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_a_formula_may_have_gaps_and_a_log_axis_may_hide_a_part():
    ElementTree.fromstring(on_axes(plotting.theory, [0, 1, 2, 3], [-1, NAN, INF, 4], yscale="log"))


@pytest.mark.filterwarnings("ignore:Glyph")
def test_control_characters_in_labels_leave_the_picture_well_formed():
    figure, ax = plotting.axes("step\x00")
    plotting.theory(ax, [0, 1], [0, 1], "kept\x01")
    text = plotting.svg(figure)
    ElementTree.fromstring(text)
    assert "kept\N{REPLACEMENT CHARACTER}" in text
