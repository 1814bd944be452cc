"""The notebooks' outputs are kept only as long as the package that made them is unchanged."""

from __future__ import annotations

from pathlib import Path

import execution
import nbformat
import pytest

NOTEBOOK = """\
---
file_format: mystnb
---

# A page

```{code-cell}
import lrtheory

print(f"the value is {lrtheory.VALUE}")
```
"""
SETTINGS = "nb_execution_timeout = 60\nmyst_enable_extensions = []\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A book of one page beside a package of one line."""
    for name, text in {
        "lrtheory/__init__.py": "VALUE = 1\n",
        "lrtheory/theorems/one.py": "",
        "book/page.md": NOTEBOOK,
        "book/data/table.csv": "1,2\n",
        "book/helper.py": "",
        "requirements.txt": "numpy==2.4.6\n",
        "conf.py": SETTINGS,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_an_unchanged_package_keeps_its_key(project):
    before = execution.cache_folder(project)
    (project / "book" / "page.md").write_text(NOTEBOOK + "More prose.\n")
    (project / "lrtheory" / "__pycache__").mkdir()
    (project / "lrtheory" / "__pycache__" / "one.pyc").write_bytes(b"compiled")
    assert execution.cache_folder(project) == before


@pytest.mark.parametrize(
    "name",
    [
        "lrtheory/__init__.py",
        "lrtheory/theorems/one.py",
        "book/data/table.csv",
        "book/helper.py",
        "requirements.txt",
    ],
)
def test_an_edit_changes_the_key(project, name):
    before = execution.cache_folder(project)
    with (project / name).open("a") as file:
        file.write("# edited\n")
    assert execution.cache_folder(project) != before


def test_a_renamed_or_added_file_changes_the_key(project):
    keys = [execution.digest(project)]
    (project / "lrtheory" / "theorems" / "one.py").rename(project / "lrtheory" / "theorems" / "two.py")
    keys.append(execution.digest(project))
    (project / "lrtheory" / "empty.py").touch()
    keys.append(execution.digest(project))
    assert len(set(keys)) == 3


def test_a_missing_package_is_an_error(project, tmp_path):
    (project / "lrtheory").rename(tmp_path / "elsewhere")
    with pytest.raises(AssertionError, match="no package found"):
        execution.digest(project)


def outputs(project: Path) -> str:
    """The text of the notebooks kept for the package as it is."""
    return "".join(p.read_text() for p in execution.cache_folder(project).glob("executed/*/base.ipynb"))


def test_outputs_follow_the_package(project, environment, capsys):
    """Executed once, kept while nothing changes, executed anew after an edit; old outputs go."""
    assert execution.execute(project, workers=2) == []
    assert "the value is 1" in outputs(project)
    assert "page.md" in capsys.readouterr().out

    assert execution.execute(project, workers=2) == []
    assert capsys.readouterr().out == "", "an unchanged notebook was executed again"

    old = execution.cache_folder(project)
    (project / "lrtheory" / "__init__.py").write_text("VALUE = 2\n")
    assert execution.execute(project, workers=2) == []
    assert "the value is 2" in outputs(project)
    assert not old.exists()


def test_a_flush_in_mid_line_breaks_no_line(project, environment):
    """A busy machine flushes when it likes: what is printed must not depend on it."""
    page = (project / "book" / "page.md").read_text()
    (project / "book" / "page.md").write_text(page.replace("print(f", 'print("before", flush=True, end=" ")\nprint(f'))
    execution.execute(project, workers=2)
    assert "before the value is 1" in outputs(project)


def test_a_failing_notebook_fails_every_time(project, environment, capsys):
    (project / "lrtheory" / "__init__.py").write_text("")
    for _ in range(2):
        assert execution.execute(project, workers=2) == ["book/page.md"]
        assert "AttributeError" in capsys.readouterr().err
    assert outputs(project) == ""


def test_a_figure_that_could_not_be_shown_is_found():
    """Jupyter falls back to an object's name where its display fails, and reports nothing."""

    def notebook(**data):
        output = nbformat.v4.new_output(
            "execute_result", data={key.replace("_", "/"): text for key, text in data.items()}
        )
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[output])])

    assert execution.unshown(notebook(text_plain="MovingFigure(name='home')"))
    assert not execution.unshown(notebook(text_plain="What it shows.", text_html="<div></div>"))
    assert not execution.unshown(notebook(text_plain="3"))
