"""Every page in headless Chromium, over http and straight from the disk."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

MATHEMATICS = """async () => {
  const formulas = [...document.querySelectorAll('.math')].filter(e => !e.closest('script'));
  if (!formulas.length) return [];
  if (!window.MathJax?.startup?.promise) return ['MathJax did not start'];
  await MathJax.startup.promise;
  return formulas.filter(e => !e.querySelector('mjx-container') || e.querySelector('mjx-merror'))
                 .map(e => e.textContent.slice(0, 200));
}"""
TOO_WIDE = """() => {
  const room = document.documentElement.clientWidth;
  const page = Math.max(document.documentElement.scrollWidth, document.body.scrollWidth);
  if (page <= room) return [];
  const clips = e => getComputedStyle(e).overflowX !== 'visible';
  const scrolls = e => {
    for (e = e.parentElement; e !== document.body; e = e.parentElement) if (clips(e)) return true;
    return false;
  };
  return ['the page is ' + page + ' px wide'].concat([...document.querySelectorAll('main *')]
    .filter(e => e.getBoundingClientRect().right > room + 1 && !scrolls(e)).slice(0, 5)
    .map(e => e.tagName + '.' + e.className + ': ' + e.textContent.trim().slice(0, 60)));
}"""
CURVES = "e => [...e.querySelectorAll('svg path')].map(p => p.getAttribute('d')).join('|')"
CHANGED = f"([e, before]) => ({CURVES})(e) !== before"


@pytest.fixture(scope="session")
def browser():
    assert CHROMIUM.exists(), f"{CHROMIUM} is missing: apt-get install -y chromium fonts-noto-core"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(params=["http", "file"])
def origin(request, site):
    return request.getfixturevalue("served") if request.param == "http" else site.as_uri()


@pytest.fixture
def page(browser, origin):
    """A fresh page; at the end, nothing was asked of another origin and nothing went wrong."""
    context = browser.new_context(viewport=DESKTOP, reduced_motion="reduce")
    page = context.new_page()
    outside, errors = [], []

    def on_request(request):
        if not request.url.startswith((origin + "/", "data:", "blob:")):
            outside.append(request.url)

    page.on("request", on_request)
    page.on("requestfailed", lambda request: errors.append(f"failed: {request.url}"))
    page.on("response", lambda r: errors.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
    page.on("console", lambda m: errors.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert not outside, f"requests that leave the site: {outside}"
    assert not errors, f"errors on the page: {errors}"


def test_page(page, origin, page_path):
    page.goto(f"{origin}/{page_path}", wait_until="load")
    assert page.evaluate(MATHEMATICS) == [], "formulas that MathJax did not typeset"
    for number, figure in enumerate(page.query_selector_all(".moving-figure")):
        move(page, figure, f"moving figure {number + 1} of {page_path}")
    page.set_viewport_size(PHONE)
    page.wait_for_timeout(100)
    assert page.evaluate(TOO_WIDE) == [], f"{page_path} scrolls sideways at {PHONE['width']} px"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_is_accessible(browser, site, page_path, theme):
    """axe finds nothing serious on the page, with its figures alive and its mathematics set."""
    context = browser.new_context(viewport=DESKTOP, color_scheme=theme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{site.as_uri()}/{page_path}", wait_until="load")
    page.evaluate(MATHEMATICS)
    for figure in page.query_selector_all(".moving-figure"):
        figure.scroll_into_view_if_needed()
        figure.wait_for_selector("svg path", state="attached", timeout=5000)
    found = Axe().run(page).response["violations"]
    context.close()
    serious = [
        f"{v['id']}: {v['help']}: {node['html'][:160]}"
        for v in found
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"][:3]
        if 'class="citation-list"' not in node["html"]  # docutils gives its entries no role that a list may hold
    ]
    assert not serious, "\n".join([page_path, *serious])


def move(page, figure, name):
    """Each slider, moved by one key, changes a curve."""
    figure.scroll_into_view_if_needed()
    figure.wait_for_selector("svg path", state="attached", timeout=5000)
    before = None
    while before != (before := figure.evaluate(CURVES)):
        page.wait_for_timeout(200)  # until the script has taken over from the still picture
    sliders = figure.query_selector_all("input[type=range]")
    assert sliders, f"{name} has no slider"
    for slider in sliders:
        before = figure.evaluate(CURVES)
        at_end = slider.evaluate("e => Number(e.value) >= Number(e.max)")
        slider.focus()
        page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")
        page.wait_for_function(CHANGED, arg=[figure, before], timeout=5000)


def test_a_figure_can_be_taken_away(page, origin):
    page.goto(f"{origin}/index.html", wait_until="load")
    figure = page.query_selector(".moving-figure")
    figure.scroll_into_view_if_needed()
    figure.wait_for_selector("svg path", state="attached", timeout=5000)
    for text, start, holds in (
        ("Save SVG", "<svg", 'stroke="rgb'),
        ("Save CSV", "#", "\npanel,series,x,y,standard error\n1,"),
    ):
        with page.expect_download() as download:
            page.get_by_role("button", name=text).first.click()
        content = Path(download.value.path()).read_text()
        assert content.startswith(start) and holds in content, content[:300]


def test_the_guide_prints_on_one_sheet(page, origin):
    page.goto(f"{origin}/practice.html", wait_until="load")
    page.evaluate(MATHEMATICS)
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))) == 1


def test_the_plain_answer_is_short_and_without_scripts(site):
    text = (site / "answer.html").read_text(encoding="utf-8")
    words = re.sub(r"<[^>]+>", " ", text.split("<body>")[1]).split()
    assert len(words) <= 300 and "<script" not in text


def test_search_finds_the_title(page, origin, site):
    page.goto(f"{origin}/search.html?q=learning+rate", wait_until="load")
    page.wait_for_selector("#search-results li a", timeout=10000)


def test_theme_switch_reaches_the_pictures(page, origin):
    page.goto(f"{origin}/index.html", wait_until="load")
    for mode in ("light", "dark"):
        page.evaluate("mode => { document.documentElement.dataset.theme = mode }", mode)
        assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == mode
