"""A crawl of the built pages, without a network and without a browser."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADING_TAGS = {"script", "img", "iframe", "source", "video", "audio", "embed", "track"}
LOADING_LINKS = {"stylesheet", "icon", "preload", "preconnect"}
OUTSIDE = re.compile(r"^(https?:)?//", re.IGNORECASE)
PLACEHOLDER_ALT = re.compile(r"^\s*$|^\S+\.(svg|png|jpe?g)$|[0-9a-f]{32}")


class Page(HTMLParser):
    """What one page defines (ids), links to, loads, and shows as images."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.alts: list[str] = []
        self._style = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = {name: value or "" for name, value in attributes}
        if "id" in given:
            self.ids[given["id"]] += 1
        if tag == "a" and "name" in given and given["name"] != given.get("id"):
            self.ids[given["name"]] += 1
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and LOADING_LINKS & set(given.get("rel", "").split()):
            self.loads.append(given.get("href", ""))
        elif tag == "link" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADING_TAGS and given.get("src"):
            self.loads.append(given["src"])
        if tag == "object" and given.get("data"):
            self.loads.append(given["data"])
        for candidate in filter(None, given.get("srcset", "").split(",")):
            self.loads.append(candidate.split()[0])
        self.loads += css_loads(given.get("style", ""))
        if tag == "img":
            self.alts.append(given.get("alt", ""))
        self._style = tag == "style"

    def handle_data(self, data):
        if self._style:
            self.loads += css_loads(data)

    def handle_endtag(self, tag):
        self._style = False


def css_loads(text: str) -> list[str]:
    """The addresses that a piece of CSS loads."""
    found = re.findall(r"""url\(\s*['"]?([^'")]+)['"]?\s*\)|@import\s+['"]([^'"]+)""", text)
    return [address for pair in found for address in pair if address]


@cache
def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def target(origin: Path, address: str) -> tuple[Path, str]:
    """The file and the anchor that an address on a page means."""
    parts = urlsplit(address)
    file = (origin.parent / unquote(parts.path)).resolve() if parts.path else origin
    return (file / "index.html" if file.is_dir() else file), unquote(parts.fragment)


def is_inside(address: str) -> bool:
    return not urlsplit(address).scheme and not address.startswith("//")


def test_links_and_anchors(site, page_path):
    origin = site / page_path
    broken = []
    for address in filter(is_inside, read(origin).links):
        file, anchor = target(origin, address)
        if not file.is_relative_to(site) or not file.is_file():
            broken.append(f"{address}: no such file")
        elif anchor and file.suffix == ".html" and anchor not in read(file).ids:
            broken.append(f"{address}: no such anchor")
    assert not broken, f"{page_path}: {broken}"


def test_ids_are_unique(site, page_path):
    twice = [name for name, count in read(site / page_path).ids.items() if count > 1]
    assert not twice, f"{page_path} defines these ids more than once: {twice}"


def test_nothing_is_loaded_from_outside(site, page_path):
    origin = site / page_path
    loads = read(origin).loads
    outside = [address for address in loads if OUTSIDE.match(address)]
    assert not outside, f"{page_path} loads from outside: {outside}"
    own = [a for a in loads if is_inside(a) and not a.startswith("#")]
    missing = [a for a in own if not target(origin, a)[0].is_file()]
    assert not missing, f"{page_path} loads files that are not there: {missing}"


def test_images_say_what_they_show(site, page_path):
    bad = [alt for alt in read(site / page_path).alts if PLACEHOLDER_ALT.search(alt)]
    assert not bad, f"{page_path}: images whose alt text is empty or a file name: {bad}"


def test_style_sheets_load_nothing_from_outside(site):
    for sheet in site.rglob("*.css"):
        for address in css_loads(sheet.read_text(encoding="utf-8")):
            assert not OUTSIDE.match(address), f"{sheet.relative_to(site)} loads {address}"
            if is_inside(address) and not address.startswith("#"):
                assert target(sheet, address)[0].is_file(), f"{sheet.relative_to(site)} lacks {address}"


def test_no_page_names_a_folder_of_the_machine_that_built_it(site, page_path):
    text = (site / page_path).read_text(encoding="utf-8")
    assert str(site.parent) not in text
    assert "file:///" not in text
