"""Runs the book's notebooks, two or more at a time, and keeps their outputs for the build and for the tests.

jupyter-cache knows a notebook by its code cells alone.  The folder of the cache therefore carries a digest of
everything else that the outputs depend on: the package, the modules and data that chapters read, the pinned
versions.
A notebook that fails is not kept, and this script then ends with an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import runpy
import shutil
import sys
import time
from pathlib import Path

KERNEL = {
    "argv": ["python", "-m", "ipykernel_launcher", "--log-level=40", "-f", "{connection_file}"],
    "display_name": "Python 3",
    "language": "python",
}

ENVIRONMENT = {
    "JUPYTER_PATH": "",
    "IPYTHONDIR": "",
    "PYTHONPATH": "",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}


def files_read(book: Path) -> list[Path]:
    """The modules and data beside the chapters: all that is neither prose nor dressing."""
    return [
        p
        for p in book.rglob("*")
        if p.is_file()
        and p.suffix not in {".md", ".bib", ".pyc"}
        and not any(part.startswith(("_", ".")) for part in p.relative_to(book).parts)
    ]


def digest(root: Path) -> str:
    """A short key: the package, the modules and data beside the chapters, and the lock determine it."""
    package = [p for p in (root / "lrtheory").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert any(p.suffix == ".py" for p in package), f"no package found in {root / 'lrtheory'}"
    lock = root / "requirements.txt"
    assert lock.is_file(), f"no lock file {lock}"
    key = hashlib.sha256()
    for path in sorted([*package, *files_read(root / "book"), lock]):
        content = path.read_bytes()
        key.update(f"{path.relative_to(root).as_posix()}\n{len(content)}\n".encode())
        key.update(content)
    return key.hexdigest()[:16]


def build_folder(root: Path) -> Path:
    """Where everything is written: `make` may choose another place, for a checkout that is read-only."""
    return root / os.environ.get("LRTHEORY_BUILD", "_build")


def cache_folder(root: Path) -> Path:
    """The folder of the outputs that belong to the package as it is now."""
    return build_folder(root) / "execution" / digest(root)


def prune(root: Path) -> None:
    """Forget the outputs that belong to other states of the package."""
    current = cache_folder(root)
    for folder in current.parent.glob("*"):
        if folder != current:
            shutil.rmtree(folder)


def prepare_kernels(root: Path) -> None:
    """Have every kernel started from here find this package first, stay quiet, and repeat itself exactly."""
    jupyter = build_folder(root) / "jupyter"
    spec = jupyter / "kernels" / "python3" / "kernel.json"
    text = json.dumps(KERNEL)
    if not spec.exists() or spec.read_text() != text:
        spec.parent.mkdir(parents=True, exist_ok=True)
        spec.write_text(text)
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = os.pathsep.join(dict.fromkeys([str(root), *filter(None, inherited)]))
    ours = {"JUPYTER_PATH": str(jupyter), "IPYTHONDIR": str(jupyter / "ipython"), "PYTHONPATH": path}
    os.environ.update(ENVIRONMENT | ours)  # nothing of the reader's home: it may be read-only, or set up otherwise


def read_notebook(path: Path, extensions: list[str]):
    """The notebook in a MyST file, or None where the file is plain text."""
    from myst_nb.core.read import is_myst_markdown_notebook, read_myst_markdown_notebook
    from myst_parser.config.main import MdParserConfig

    text = path.read_text(encoding="utf-8")
    if not is_myst_markdown_notebook(text):
        return None
    config = MdParserConfig(enable_extensions=set(extensions))
    return read_myst_markdown_notebook(text, config=config, add_source_map=True, path=path)


def unshown(notebook) -> str | None:
    """The first figure, claim or verdict whose display failed: Jupyter then shows its name, and no error."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            text = data.get("text/plain", "")
            if set(data) == {"text/plain"} and text.startswith(("MovingFigure(", "<claim ", "Verdict(")):
                return text[:80]
    return None


def execute(root: Path, workers: int) -> list[str]:
    """Run the notebooks whose outputs are not kept yet; return the names of those that failed."""
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn
    from nbclient import NotebookClient
    from nbclient.exceptions import CellControlSignal, DeadKernelError

    settings = runpy.run_path(str(root / "conf.py"))
    prepare_kernels(root)
    prune(root)
    cache = get_cache(str(cache_folder(root)))
    failed = []

    async def run(path: Path, notebook, free: asyncio.Semaphore) -> None:
        name = path.relative_to(root).as_posix()
        client = NotebookClient(
            notebook,
            timeout=settings["nb_execution_timeout"],
            record_timing=False,  # times in the cells' metadata would change the notebook's key
            coalesce_streams=True,  # a flush in mid-line would otherwise end as a line break on the page
            resources={"metadata": {"path": str(path.parent)}},
        )
        async with free:
            start = time.perf_counter()
            try:
                await client.async_execute()
                if broken := unshown(notebook):
                    raise ValueError(f"a cell's object could not be shown as more than its name: {broken}")
            except (CellControlSignal, DeadKernelError, ValueError) as error:
                failed.append(name)
                plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
                print(f"\n{name} failed:\n{plain}", file=sys.stderr)
                return
        seconds = time.perf_counter() - start
        bundle = CacheBundleIn(notebook, str(path), data={"execution_seconds": seconds})
        cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
        print(f"{name}: {seconds:.1f} s", flush=True)

    async def run_all(pending) -> None:
        free = asyncio.Semaphore(workers)
        await asyncio.gather(*(run(path, notebook, free) for path, notebook in pending))

    pending = []
    for path in sorted((root / "book").rglob("*.md")):
        notebook = read_notebook(path, settings["myst_enable_extensions"])
        if notebook is not None:
            try:
                cache.match_cache_notebook(notebook)
            except KeyError:
                pending.append((path, notebook))
    asyncio.run(run_all(pending))
    cache.db.dispose()  # Python 3.13 warns of a database that is left open
    return failed


if __name__ == "__main__":
    book = Path(__file__).resolve().parents[2]
    broken = execute(book, workers=max(2, min(8, os.cpu_count() or 2)))
    if broken:
        sys.exit(f"{len(broken)} of the book's notebooks failed: {', '.join(broken)}")
