"""What the pages need beyond the theme: mathematics offline, moving figures, notebooks to download."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import nbformat

# What tex-chtml.js may load, relative to MathJax's folder
MATHJAX = ["tex-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2"]


def add_figure_assets(app) -> None:
    """Load the script and the style of the moving figures, in a classic way that also works on file://."""
    static = Path(app.confdir) / "book" / "_static"
    if (static / "figures.css").exists():
        app.add_css_file("figures.css")
    if (static / "figures.js").exists():
        app.add_js_file("figures.js", defer="defer")


def offer_notebook(app, pagename, templatename, context, doctree) -> None:
    """Put the page's notebook beside its source, where the theme's download button looks for it."""
    written = Path(app.outdir).parent / "jupyter_execute" / f"{pagename}.ipynb"
    if doctree is None or app.env.metadata[pagename].get("file_format") != "mystnb" or not written.exists():
        return
    notebook = nbformat.read(written, as_version=4)
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # nbformat draws random names; two builds must be equal
    target = Path(app.outdir) / "_sources" / f"{pagename}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
    context["ipynb_source"] = f"{pagename}.ipynb"


def finish(app, exception) -> None:
    """Copy MathJax from its wheel, and empty the theme's icon script: its web font draws the same icons."""
    if exception or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    wheel = find_spec("sphinx-mathjax-offline")
    if wheel is None or wheel.origin is None:
        raise RuntimeError("sphinx-mathjax-offline is not installed: run `make clean`, then `make html`")
    source = Path(wheel.origin).parent / "static" / "mathjax"
    for part in MATHJAX:
        target = static / "mathjax" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (source / part).is_dir():
            shutil.copytree(source / part, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source / part, target)
    (static / "scripts" / "fontawesome.js").write_text("")
    for extra in ["fontawesome.js.map", "bootstrap.js.map", "pydata-sphinx-theme.js.map"]:
        (static / "scripts" / extra).unlink(missing_ok=True)


def setup(app) -> dict[str, bool]:
    app.connect("builder-inited", add_figure_assets)
    app.connect("html-page-context", offer_notebook)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
