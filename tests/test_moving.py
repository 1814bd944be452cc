"""Moving figures: the page runs the same formulas and the same random numbers as the still picture."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
from test_javascript import node

import lrtheory as lr
from lrtheory import landscapes, moving, noise, optimizers
from lrtheory.letters import symbols
from lrtheory.moving import (
    Crossing,
    Curve,
    Histogram,
    Level,
    Mark,
    Mode,
    MovingFigure,
    Panel,
    Readout,
    Run,
    Slider,
)

RUNTIME = Path(__file__).parents[1] / "book/_static/figures.js"
eta, lam, theta, t = symbols("eta lam theta t")
eta1, eta2, sigma, drop, v = symbols("eta1 eta2 sigma drop_step v")
SGD = lr.trace(optimizers.sgd, landscapes.quadratic())
LAWS = ["gaussian", "uniform", "laplace", "logistic"]
FINITE = {"values": [-1, 0, 4], "edges": [0.3, 0.8]}


def loss_at(rate, start, steps, curvature):
    floor = rate * sigma**2 / (2 * (2 - rate * curvature))
    return floor + (start - floor) * (1 - rate * curvature) ** (2 * steps)


def drop_figure(**changes):
    """Two curvatures, 1 and 1/50, and the rate kept or lowered at a step that the reader sets."""
    starts = {sp.Integer(1): 2, sp.Rational(1, 50): 20}  # curvature: theta at the start
    kept = sum(loss_at(eta1, c * start**2 / 2, t, c) for c, start in starts.items())
    lowered = sum(loss_at(eta2, loss_at(eta1, c * start**2 / 2, drop, c), t - drop, c) for c, start in starts.items())
    a = Curve(kept, "kept", "kept")
    b = Curve(sp.Piecewise((kept, t <= drop), (lowered, True)), "dropped", "dropped")

    def run(rate, role, same=None):
        modes = [Mode(SGD, {eta: rate, lam: c}, {theta: start}) for c, start in starts.items()]
        return Run(modes, lam * theta**2 / 2, steps=300, chains=200, role=role, same_noise_as=same)

    first = run(eta1, "kept")
    second = run(sp.Piecewise((eta1, t < drop), (eta2, True)), "dropped", first)
    crossing = Crossing(a, b, after=drop, label="crossing")
    items = [a, b, first, second, Mark(drop, "drop"), crossing]
    return MovingFigure(**{
        "name": "drop",
        "sliders": [
            Slider(eta1, "η₁", 0.05, 2.5, 0.05, 0.9),
            Slider(eta2, "η₂", 0.01, 1.9, 0.01, 0.1),
            Slider(sigma, "σ", 0, 2, 0.05, 0.8),
            Slider(drop, "drop at step", 0, 280, 5, 40),
        ],
        "panels": [Panel(items, (0, 300), "step", "mean loss")],
        "readouts": [Readout("cross at step {k:1}, rate {r}", {"k": crossing, "r": eta1}, "no crossing")],
        "valid": [(eta1 < 2, "unstable: η₁ must stay below 2/λ")],
        "alt": "The dropped rate wins at once and loses later.",
        **changes,
    })  # fmt: skip


def other_figure():
    """What the first leaves out: a path in a plane, histograms of several laws, log axes, burn-in."""
    ball = lr.trace(optimizers.heavy_ball, landscapes.quadratic())
    variance = eta * sigma**2 / (2 - eta)
    density = sp.exp(-(theta**2) / (2 * variance)) / sp.sqrt(2 * sp.pi * variance)
    lr_sgd = [SGD.with_noise(law) for law in (noise.rademacher, noise.uniform, noise.laplace, noise.logistic)]
    biased = SGD.with_noise(noise.empirical([-1, -1, 0, 5]))
    path = Run(Mode(ball, {"beta": 0.9, "lam": 1}, {"theta": 1}), theta, steps=50, chains=1, against=v)
    histograms = [
        Histogram(Mode(rec, {lam: 1}), theta, steps=90, chains=3, every=2, burn_in=30, density=density, label="θ")
        for rec in [*lr_sgd, biased]
    ]
    floors = [Curve(variance / 2, "floor"), Level(sigma**2 / 4, "level", "rival"), Mark(eta, "η")]
    return MovingFigure(
        "other",
        [Slider(eta, "η", 0.1, 1.9, 0.1, 0.5), Slider(sigma, "σ", 0.1, 10, 0.05, 1, log=True)],
        [
            Panel([path], (-3, 3), "v", "θ", x=v),
            Panel(histograms, (-3, 3), "θ", "density", x=theta),
            Panel(floors, (0.01, 1.9), "η", "floor", x=eta, log_x=True, log_y=True, yrange=(0.001, 10)),
        ],
        alt="a path, histograms and a floor",
    )  # fmt: skip


class Page(HTMLParser):
    """Elements in order, with their attributes, and the text of each script."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.depth, self.inside = [], [], 0, False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.depth += tag not in ("img", "br")
        if tag == "script":
            self.scripts.append("")
        self.inside = tag == "script"

    def handle_endtag(self, tag):
        self.depth -= 1
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data


def in_node(figure, values):
    """What figures.js computes for the figure, with the sliders at these values."""
    _, functions = Page(moving.to_html(figure)).scripts
    spec = Page(moving.to_html(figure)).scripts[0]
    return node(
        f"globalThis.window = globalThis;\n{RUNTIME.read_text()}\n{functions}\nconst spec = {spec};\n"
        "const draws = lrtheory.draws(spec, lrtheory.generator(spec.seed));\n"
        f"const f = lrtheory.functions[spec.name], s = {json.dumps(values)};\n"
        "console.log(JSON.stringify(lrtheory.evaluate(spec, f, s, draws)));"
    )


@pytest.mark.parametrize("law", [*LAWS, FINITE], ids=str)
def test_both_languages_draw_the_same_random_numbers(law):
    for seed in (0, 1, 2**32 - 1, 123456789):
        got = node(
            f"{RUNTIME.read_text()}\nconst random = lrtheory.generator({seed});\n"
            f"const first = lrtheory.draw({json.dumps(law)}, 1001, random);\n"
            "console.log(JSON.stringify([...first, ...lrtheory.draw('gaussian', 3, random)]));"
        )
        twin = moving.Mulberry(seed)
        np.testing.assert_allclose(got, [*twin.draw(law, 1001), *twin.draw("gaussian", 3)], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["gaussian", "rademacher", "uniform", "laplace", "any_law"])
def test_draws_have_mean_0_and_variance_1(name):
    draws = moving.Mulberry(7).draw(moving._law(getattr(noise, name)), 200_000)
    assert abs(draws.mean()) < 5 / math.sqrt(len(draws))
    assert abs(draws.var() - 1) < 5 * math.sqrt(6 / len(draws))


@pytest.mark.parametrize("figure, settings", [
    (drop_figure(), [[0.9, 0.1, 0.8, 40], [1.5, 1.2, 0.5, 100], [0.2, 0.19, 2, 0], [2.5, 0.1, 1, 50]]),
    (other_figure(), [[0.5, 1], [1.7, 0.3]]),
], ids=["drop", "other"])  # fmt: skip
def test_the_page_and_its_twin_compute_the_same(figure, settings):
    names = [s.symbol.name for s in figure.sliders]
    for values in settings:
        page = in_node(figure, values)
        twin = moving.evaluate(figure, **dict(zip(names, values, strict=True)))
        assert page["valid"] == twin["valid"]
        assert page["readouts"] == ([] if twin["valid"] else twin["readouts"])
        for got_panel, panel in zip(page["panels"], twin["panels"], strict=bool(page["panels"])):
            for got, series in zip(got_panel, panel, strict=True):
                assert got["type"] == series["type"]
                for key in set(series) - {"type", "curve"}:
                    mine = np.array(got[key], dtype=float)  # JSON has null for NaN
                    np.testing.assert_allclose(mine, series[key], rtol=1e-9, atol=1e-12, err_msg=key)


def test_a_slider_may_have_the_letter_s():
    s = lr.symbol("s")
    panel = Panel([Curve(s * t)], (0, 2), "step", "θ", points=3)
    figure = MovingFigure("letter", [Slider(s, "s", 0, 1, 0.1, 0.5)], [panel], alt="A line.")
    assert in_node(figure, [0.25])["panels"][0][0]["y"] == [0, 0.25, 0.5]


def test_simulated_means_agree_with_the_formula():
    kept, dropped, run_kept, run_dropped = moving.evaluate(drop_figure())["panels"][0][:4]
    for curve, run in ((kept, run_kept), (dropped, run_dropped)):
        expected = np.interp(run["x"], curve["x"], curve["y"])
        late = run["x"] > 0  # the start is not random
        z = (run["y"] - expected)[late] / run["stderr"][late]
        assert np.abs(z).max() < 4.5
    before = run_kept["x"] <= 40
    np.testing.assert_array_equal(run_kept["y"][before], run_dropped["y"][before])  # the same noise


def test_a_curve_runs_between_whole_steps_where_the_base_is_negative():
    figure = drop_figure()
    shown = moving.evaluate(figure, eta1=1.5, eta2=1.2, drop_step=100)
    assert np.isfinite(shown["panels"][0][1]["y"]).all()
    assert figure.panels[0].items[5].label == "crossing"


def test_the_crossing_is_found_and_its_absence_said():
    shown = moving.evaluate(drop_figure())
    at = shown["panels"][0][5]["x"]
    assert 40 < at < 60
    assert shown["readouts"][0].startswith(f"cross at step {at:.1f}")
    assert moving.evaluate(drop_figure(), drop_step=280)["readouts"] == ["no crossing"]


def test_the_html_is_well_formed_and_holds_data_functions_and_still_picture():
    page = Page(moving.to_html(drop_figure()))
    assert page.depth == 0
    assert [tag for tag, _ in page.elements] == ["div", "div", "img", "p", "script", "script"]
    assert page.elements[0][1] == {"class": "moving-figure", "id": "moving-drop"}
    image = page.elements[2][1]
    assert image["alt"] == "The dropped rate wins at once and loses later."
    assert image["src"].startswith("data:image/svg+xml,") and len(image["src"]) > 10_000
    assert moving.to_html(drop_figure()) == moving.to_html(drop_figure())


def test_the_data_survive_json_and_labels_cannot_end_the_script():
    evil = "</script><script>alert('1 & 2')</script> \"quoted\" <!-- "
    slider = Slider(eta, evil, 0.1, 1, 0.1, 0.5)
    panel = Panel([Curve((1 - eta) ** t, evil)], (0, 10), evil, evil)
    figure = MovingFigure("evil", [slider], [panel], alt=evil, readouts=[Readout(evil)], valid=[(eta < 2, evil)])
    page = Page(moving.to_html(figure))
    assert len(page.scripts) == 2 and page.depth == 0
    assert not re.search(r"[<>&]", page.scripts[0])
    spec = json.loads(page.scripts[0])
    assert spec["sliders"][0]["label"] == spec["panels"][0]["xlabel"] == spec["alt"] == evil
    assert "alert" not in page.scripts[1]


def panel(item, **options):
    return Panel(**{"items": [item], "xrange": (0, 9), "xlabel": "", "ylabel": "", **options})


def plain(item=None, **options):
    """The HTML of a figure with one slider, eta, and one panel."""
    item = Curve((1 - eta) ** t) if item is None else item
    return moving.to_html(MovingFigure("plain", [Slider(eta, "η", 0, 1, 0.1, 0.5)], [panel(item, **options)], "A."))


def run(**changes):
    return Run(**{"modes": Mode(SGD, {lam: 1, sigma: 1}), "observable": theta, "steps": 9, **changes})


@pytest.mark.parametrize("make, message", [
    (lambda: drop_figure(alt=" "), "no alt text"),
    (lambda: drop_figure(name="Drop figure"), "small letters"),
    (lambda: Slider(eta, "η", 0, 1, 0.1, 2), "stay within"),
    (lambda: Slider(eta, "η", 0, 1, 0.1, 0.5, log=True), "must be positive"),
    (lambda: moving.to_html(drop_figure(readouts=[Readout("{size}")])), "no value is given"),
    (lambda: moving.to_html(drop_figure(panels=[panel(Curve(eta1 * lam))])), "lam occurs in"),
    (lambda: moving.evaluate(drop_figure(), rate=1), "no slider"),
    (lambda: moving.to_html(drop_figure(panels=[panel(Level(1, role="blue"))])), "no role"),
    (lambda: moving.to_html(drop_figure(panels=[panel(Run(Mode(SGD, {"rate": 1}), theta, 9))])), "rate"),
    (lambda: Slider(eta, "η", 0, 1, 0, 0.5), "slider 'η': step = 0: give a positive number"),
    (lambda: Slider(eta, "η", 0, 1, -1, 0.5), "slider 'η': step = -1: give a positive number"),
    (lambda: Slider(eta, "η", 0, math.inf, 0.1, 0.5), "slider 'η': max = inf: give a finite number"),
    (lambda: Slider(eta, "η", 0, 1, 0.1, math.nan), "slider 'η': value = nan: give a finite number"),
    (lambda: Slider(eta, "η", 1, 1, 0.1, 1), "min = 1.0 and max = 1.0: give min < max"),
    (lambda: Slider("eta", "η", 0, 1, 0.1, 0.5), "symbol = 'eta': give an object of type Symbol"),
    (lambda: moving.evaluate(drop_figure(), eta1=math.nan), "eta1 = nan: give a finite number"),
    (lambda: moving.evaluate(drop_figure(), eta1=9), r"eta1 = 9: stay within its slider, \[0.05, 2.5\]"),
    (lambda: moving.still(drop_figure(), eta1="1"), "eta1 = '1' is not a number"),
    (lambda: moving.to_html(None), "figure = None: give an object of type MovingFigure"),
    (lambda: plain(xrange=(9, 0)), r"xrange = \(9, 0\): give \(low, high\) with low < high"),
    (lambda: plain(xrange=(eta, 0.5)), r"xrange = \(0.5, 0.5\): give"),
    (lambda: plain(xrange=(0, 9), log_x=True), r"xrange = \(0, 9\): give \(low, high\) with 0 < low < high"),
    (lambda: plain(yrange=(0, 9), log_y=True), r"yrange = \(0, 9\): give \(low, high\) with 0 < low < high"),
    (lambda: plain(xrange=(math.nan, 9)), r"xrange1 = nan has no value: give a formula"),
    (lambda: plain(xrange=(0, math.inf)), "xrange = inf: give a finite number"),
    (lambda: plain(xrange=(0, 1, 2)), r"xrange = \(0, 1, 2\): give its two ends"),
    (lambda: plain(xrange=None), "xrange = None: give an object of type list or tuple"),
    (lambda: plain(x="t"), "x = 't': give an object of type Symbol"),
    (lambda: plain(points=1), "points = 1: give a whole number, 2 to 10000"),
    (lambda: plain(points=-3), "points = -3: give a whole number, 2 to 10000"),
    (lambda: plain(3), r"items\[0\] = 3: give an object of type Curve or Run"),
    (lambda: plain(Curve("eta * t")), r"'eta \* t' is no formula"),
    (lambda: run(steps=-1), "steps = -1: give a whole number, 1 or more"),
    (lambda: run(chains=0), "chains = 0: give a whole number, 1 or more"),
    (lambda: run(every=-1), "every = -1: give a whole number, 0 or more"),
    (lambda: run(burn_in=-5), "burn_in = -5: give a whole number, 0 or more"),
    (lambda: run(modes=[]), r"modes = \[\]: give at least 1"),
    (lambda: run(modes="sgd"), "modes = 'sgd': give an object of type list or tuple"),
    (lambda: Histogram(Mode(SGD), theta, 9, bins=0), "bins = 0: give a whole number, 1 to 10000"),
    (lambda: Mode(3), "recursion = 3: give an object of type Recursion"),
    (lambda: Mode(SGD, 3), "parameters = 3: give a mapping"),
    (lambda: Readout(None), "template = None: give an object of type str"),
    (lambda: plain(run(steps=10**9, chains=10**6)), "10{9} steps of 10{6} chains would take .* take fewer"),
    (lambda: drop_figure(name=None), "figure name None: use small letters"),
    (lambda: drop_figure(seed="a"), "seed = 'a' is not a number"),
    (lambda: drop_figure(panels=[]), r"panels = \[\]: give at least 1"),
    (lambda: drop_figure(sliders=[3]), r"sliders\[0\] = 3: give an object of type Slider"),
    (lambda: drop_figure(readouts=["a"]), r"readouts\[0\] = 'a': give an object of type Readout"),
    (lambda: drop_figure(valid=[3]), r"valid\[0\] = 3: give an object of type tuple or list"),
])  # fmt: skip
def test_errors_say_what_to_do(make, message):
    with pytest.raises((ValueError, TypeError, MemoryError), match=message):
        make()


def test_whole_numbers_may_come_from_numpy():
    assert plain(run(steps=np.int64(9), chains=3.0)) == plain(run(steps=9, chains=3))


def test_a_figure_without_alt_text_is_refused():
    with pytest.raises(TypeError, match="alt"):
        MovingFigure("decay", [], [])


def test_the_runtime_is_a_classic_script_that_loads_nothing():
    text = RUNTIME.read_text()
    assert not re.search(
        r"^\s*(import|export)\b|\bfetch\(|XMLHttpRequest|https?://(?!www\.w3\.org)", text, re.MULTILINE
    )
    assert len(text.encode()) < 24_000
