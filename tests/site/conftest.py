"""The built site under test: the folder in $SITE, or _build/html.  Where it is missing, the tests fail."""

from __future__ import annotations

import functools
import os
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(os.environ.get("SITE", ROOT / "_build" / "html")).resolve()
PAGES = sorted(p.relative_to(SITE).as_posix() for p in SITE.rglob("*.html") if "_static" not in p.parts)


def pytest_generate_tests(metafunc):
    if "page_path" in metafunc.fixturenames:
        if not PAGES:
            pytest.fail(f"no page in {SITE}: run `make html` first", pytrace=False)
        metafunc.parametrize("page_path", PAGES)


@pytest.fixture(scope="session")
def site() -> Path:
    assert (SITE / "index.html").is_file(), f"no index.html in {SITE}: run `make html` first"
    return SITE


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def served(site):
    """The site's address on the loopback interface, at a free port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site))) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
