"""What the pages need beyond the theme: mathematics offline, moving figures, notebooks to download."""

from __future__ import annotations

import re
import shutil
from html import unescape
from importlib.util import find_spec
from pathlib import Path

import nbformat
from docutils import nodes
from sphinx.util import logging

import lrtheory as lr
from lrtheory.theorems import nearest

# What tex-chtml.js may load, relative to MathJax's folder
MATHJAX = ["tex-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2"]


def slips_of_citation(book: Path) -> list[str]:
    """Claims that a page cites and that do not exist, and claims that no page shows."""
    pages = {path.name: path.read_text(encoding="utf-8") for path in sorted(book.glob("*.md"))}
    claims = lr.claims()
    chapters = list(dict.fromkeys(id.split(".")[0] for id in claims))
    # as the pages write them: in quotes, or in backticks
    citation = re.compile(rf"(?<=[\"'`])(?:{'|'.join(chapters)})\.(?!(?:md|py)\b)[a-z_0-9]+\b")
    cited = {name: set(citation.findall(text)) for name, text in pages.items()}
    slips = []
    for name, ids in cited.items():
        for id in sorted(ids - claims.keys()):
            slips.append(f"book/{name} cites the claim {id}, which does not exist: {nearest(id)}")
    # "Also known", at the end of a chapter, shows in a loop what its argument did not
    looped = {c for c in chapters if f'chapter == "{c}"' in pages.get(f"{c}.md", "")}
    for id in claims:
        if id.split(".")[0] not in looped and not any(id in ids for ids in cited.values()):
            slips.append(f"the claim {id} is on no page: cite it in book/{id.split('.')[0]}.md, or remove it")
    return slips


def warn_of_slips(app) -> None:
    for slip in slips_of_citation(Path(app.srcdir)):
        logging.getLogger(__name__).warning(slip)


def add_figure_assets(app) -> None:
    """Load the script and the style of the moving figures, in a classic way that also works on file://."""
    static = Path(app.confdir) / "book" / "_static"
    if (static / "figures.css").exists():
        app.add_css_file("figures.css")
    if (static / "figures.js").exists():
        app.add_js_file("figures.js", defer="defer")


def modules_beside(notebook, book: Path) -> list[Path]:
    """The modules of the book's own folder that a notebook imports: a reader who downloads it has only the package."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    names = set(re.findall(r"^\s*(?:from|import) (\w+)", code, re.MULTILINE))
    return sorted(book / f"{name}.py" for name in names if (book / f"{name}.py").exists())


def offer_notebook(app, pagename, templatename, context, doctree) -> None:
    """Put the page's notebook beside its source, where the theme's download button looks for it."""
    written = Path(app.outdir).parent / "jupyter_execute" / f"{pagename}.ipynb"
    if doctree is None or app.env.metadata[pagename].get("file_format") != "mystnb" or not written.exists():
        return
    notebook = nbformat.read(written, as_version=4)
    for module in modules_beside(notebook, Path(app.srcdir)):
        text = f"%%writefile {module.name}\n{module.read_text(encoding='utf-8')}"
        notebook.cells.insert(0, nbformat.v4.new_code_cell(text))
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # nbformat draws random names; two builds must be equal
    target = Path(app.outdir) / "_sources" / f"{pagename}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
    context["ipynb_source"] = f"{pagename}.ipynb"


# plotting.svg puts the numbers of a figure into its description
NUMBERS = re.compile(r"<desc>(panel,series,.*?)</desc>\s*", re.DOTALL)


def offer_figure_files(app, doctree, docname) -> None:
    """Below each figure with numbers: its picture and its numbers, to download."""
    if app.builder.format != "html":
        return
    for figure in list(doctree.findall(nodes.figure)):
        for image in figure.findall(nodes.image):
            source = Path(app.srcdir, image["uri"])
            if source.suffix == ".svg" and source.exists() and NUMBERS.search(source.read_text(encoding="utf-8")):
                written = Path("_images", app.env.images[image["uri"]][1])
                name = (figure["ids"] or [docname])[0]
                links = " ".join(
                    f'<a href="{written.with_suffix(end)}" download="{name}{end}">{label}</a>'
                    for end, label in ((".svg", "Download SVG"), (".csv", "Data (CSV)"))
                )
                at = figure.parent.index(figure) + 1
                figure.parent.insert(at, nodes.raw("", f'<p class="figure-files">{links}</p>', format="html"))


def part_numbers_from_pictures(images: Path) -> None:
    """Write the numbers of each figure into a file of their own, beside a picture that is lighter by them."""
    for picture in images.glob("*.svg"):
        text = picture.read_text(encoding="utf-8")
        if found := NUMBERS.search(text):
            picture.with_suffix(".csv").write_text(unescape(found[1]), encoding="utf-8")
            picture.write_text(NUMBERS.sub("", text), encoding="utf-8")


def finish(app, exception) -> None:
    """Copy MathJax from its wheel, and empty the theme's icon script: its web font draws the same icons."""
    if exception or app.builder.format != "html":
        return
    part_numbers_from_pictures(Path(app.outdir) / "_images")
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
    app.connect("builder-inited", warn_of_slips)
    app.connect("builder-inited", add_figure_assets)
    app.connect("doctree-resolved", offer_figure_files)
    app.connect("html-page-context", offer_notebook)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
