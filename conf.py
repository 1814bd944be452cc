"""Configuration of the book (Sphinx with MyST notebooks).  `make html` builds it into _build/html."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(ROOT / "book" / "_ext")]

import execution  # noqa: E402  the two folders above must be on the path first

execution.prepare_kernels(ROOT)

project = "lrtheory"
author = "The lrtheory authors"
copyright = "2026, the lrtheory authors. Text and figures: CC BY 4.0. Code: MIT"
release = version = "0.1.0"
language = "en"

extensions = [
    "myst_nb",
    "pages",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
]

# Markdown and notebooks
myst_enable_extensions = ["amsmath", "attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_cache_path = str(execution.cache_folder(ROOT))
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 600  # the ledger checks every claim in one cell, on whatever machine this is
nb_render_markdown_format = "myst"
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"

# Numbers and references
numfig = True
numfig_secnum_depth = 1
numfig_format = {"figure": "Figure %s", "table": "Table %s", "code-block": "Listing %s"}
math_number_all = False
math_numfig = True
math_eqref_format = "({number})"
bibtex_bibfiles = ["book/references.bib"]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"

# The API page
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"show-inheritance": False}
napoleon_numpy_docstring = True
# No inventory of other projects is at hand without a network: only our own names must resolve.
nitpick_ignore_regex = [("py:.*", r"(?!lrtheory\b).*")]
# the atoms that formulas are made of: `steps_until` and `in_epoch` make them, and say what they are
nitpick_ignore = [("py:class", "lrtheory.first_passage.FirstPassage"), ("py:class", "lrtheory.permutations.InEpoch")]

# Mathematics: MathJax 3 from the installed wheel, copied into the site by the extension `pages`
html_math_renderer = "mathjax"
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {
    "options": {"enableMenu": False},
    "chtml": {"mtextInheritFont": True},
    "tex": {"packages": {"[-]": ["noundefined"]}},  # so that an unknown command is an error
}

# Pages
html_theme = "sphinx_book_theme"
html_use_index = False  # the search finds every name
html_domain_indices = False
html_title = "What the learning rate does"
html_favicon = "book/_static/favicon.svg"
html_static_path = ["book/_static"]
html_css_files = ["book.css"]
html_extra_path = ["book/_plain"]  # pages without scripts, for links from elsewhere
html_context = {"default_mode": "auto"}
html_show_search_summary = False
html_show_sphinx = False
html_last_updated_fmt = None
html_theme_options = {
    "home_page_in_toc": False,
    "navbar_persistent": [],
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": True,
    "use_fullscreen_button": False,
    "use_sidenotes": True,
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"
