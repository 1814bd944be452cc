"""The book under the clock: how long it takes to build, what its pages weigh, and how fast they answer."""

from __future__ import annotations

import functools
import gzip
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHANGED = "distance.md"  # the chapter that is edited for the third build
SLOWER = 4  # how many times slower the processor of the landing page is made
TEXT = (".html", ".js", ".css", ".svg", ".json", ".inv")


def copy(to: Path) -> Path:
    """The tracked files as they are now, in a folder of their own."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(lambda name: name and (ROOT / name).is_file(), names):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, to / name)
    return to


def build(root: Path) -> float:
    """Seconds for what `make html` does once its environment stands."""
    start = time.perf_counter()
    run = functools.partial(subprocess.run, cwd=root, check=True, stdout=subprocess.DEVNULL)
    run([sys.executable, "book/_ext/execution.py"])
    shutil.rmtree(root / "_build" / "html", ignore_errors=True)
    run([sys.executable, "-m", "sphinx", "-q", "-E", "-c", ".", "-n", "-W", "-d", "_build/doctrees", "-b", "html",
         "book", "_build/html"])  # fmt: skip
    return time.perf_counter() - start


def slowest_cells(root: Path) -> list[tuple[str, float]]:
    """The slowest cell of each chapter: its name and first line, and its seconds."""
    import nbclient

    spec = importlib.util.spec_from_file_location("execution", root / "book" / "_ext" / "execution.py")
    execution = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(execution)
    slowest: dict[str, tuple[float, str]] = {}

    class Timed(nbclient.NotebookClient):
        async def async_execute_cell(self, cell, cell_index, **more):
            start = time.perf_counter()
            done = await super().async_execute_cell(cell, cell_index, **more)
            lines = [line for line in cell.source.splitlines() if line and not line.startswith(("import", "from"))]
            taken = time.perf_counter() - start, lines[0][:50] if lines else "imports"
            name = names[id(self.nb)]
            slowest[name] = max(slowest.get(name, (0.0, "")), taken)
            return done

    names: dict[int, str] = {}
    read = execution.read_notebook

    def read_and_name(path, extensions):
        notebook = read(path, extensions)
        names[id(notebook)] = path.stem
        return notebook

    shutil.rmtree(root / "_build" / "execution", ignore_errors=True)
    original, execution.read_notebook = nbclient.NotebookClient, read_and_name
    nbclient.NotebookClient = Timed
    try:
        assert not execution.execute(root, workers=2)
    finally:
        nbclient.NotebookClient = original
    rows = [(f"slowest cell of {name}: {line}", seconds) for name, (seconds, line) in slowest.items()]
    return sorted(rows, key=lambda row: -row[1])


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


CURVES = "f => [...f.querySelectorAll('.moving-live path')].map(p => p.getAttribute('d')).join()"
# moved by the page itself in every frame; a frame counts if it came
FRAMES = """async () => {
  const slider = document.querySelector('input[type=range]');
  const low = Number(slider.min), high = Number(slider.max);
  let frames = 0;
  const start = performance.now();
  while (performance.now() - start < 3000) {
    const phase = (performance.now() - start) / 1500 % 1;
    slider.value = low + (high - low) * phase;
    slider.dispatchEvent(new Event('input', {bubbles: true}));
    await new Promise(requestAnimationFrame);
    frames += 1;
  }
  return frames / ((performance.now() - start) / 1000);
}"""


def in_a_browser(site: Path) -> list[tuple[str, float, str]]:
    from playwright.sync_api import sync_playwright

    rows, weights, scripts = [], {}, 0
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site))) as server,
        sync_playwright() as playwright,
    ):
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for path in sorted(site.glob("*.html")):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            loaded: list[str] = []
            page.on("response", lambda response, loaded=loaded: loaded.append(response.url.split("?")[0]))
            page.goto(f"{address}/{path.name}", wait_until="networkidle")
            files = [site / url.removeprefix(address + "/") for url in dict.fromkeys(loaded) if url.startswith(address)]
            ours = [url for url in loaded if url.endswith("figures.js")]
            scripts = max(scripts, len(ours))
            weights[path.stem] = sum(
                len(gzip.compress(file.read_bytes())) if file.suffix in TEXT else file.stat().st_size
                for file in files
                if file.is_file()
            )
            page.close()
        heaviest = max(weights, key=weights.__getitem__)
        rows += [
            ("page weight, compressed: landing page", weights["index"] / 1e3, "kB"),
            ("page weight, compressed: median of all pages", statistics.median(weights.values()) / 1e3, "kB"),
            (f"page weight, compressed: heaviest page ({heaviest})", weights[heaviest] / 1e3, "kB"),
            ("times that a page loads the script of the figures, at most", float(scripts), ""),
        ]
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        answers = []
        for _ in range(5):
            page = context.new_page()
            session = context.new_cdp_session(page)
            session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
            start = time.perf_counter()
            page.goto(f"{address}/index.html", wait_until="commit")
            figure = page.wait_for_selector(".moving-figure.is-live")
            before = figure.evaluate(CURVES)
            slider = figure.query_selector("input[type=range]")
            slider.focus()
            slider.press("ArrowRight")
            page.wait_for_function(f"([figure, before]) => ({CURVES})(figure) !== before", arg=[figure, before])
            answers.append(time.perf_counter() - start)
            page.close()
        rows.append((f"landing figure answers a key, processor {SLOWER}× slower", statistics.median(answers), "s"))
        page = context.new_page()
        page.goto(f"{address}/index.html", wait_until="networkidle")
        rows.append(("frames while a slider of the landing figure moves", page.evaluate(FRAMES), "per second"))
        browser.close()
    return rows


def measure() -> list[tuple[str, float, str]]:
    """Rows (what, value, unit)."""
    with tempfile.TemporaryDirectory() as folder:
        root = copy(Path(folder))
        os.chdir(root)
        try:
            rows = [("cold build", build(root), "s"), ("nothing changed", build(root), "s")]
            chapter = root / "book" / CHANGED
            text = chapter.read_text(encoding="utf-8")
            chapter.write_text(
                text.replace("import lrtheory as lr\n", "import lrtheory as lr  # changed\n", 1), encoding="utf-8"
            )
            assert chapter.read_text(encoding="utf-8") != text
            rows.append(("one chapter changed", build(root), "s"))
            rows += in_a_browser(root / "_build" / "html")
            rows += [(what, seconds, "s") for what, seconds in slowest_cells(root)]
        finally:
            os.chdir(ROOT)
    return rows


if __name__ == "__main__":
    for what, value, unit in measure():
        print(f"{what:<90}{value:>10.2f} {unit}")
