from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from massive_lab.audit import export
from massive_lab.audit.leaks import SecretFound
from massive_lab.errors import ConfigError, InvalidRequest


def _notebook(*cells: str, parameters: str = "n = 1  # how many\nname = 'x'") -> Any:
    notebook = nbformat.v4.new_notebook()
    notebook.cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in cells]
    return notebook


def _saved(tmp_path: Path, notebook: Any) -> Path:
    path = tmp_path / "nb.ipynb"
    nbformat.write(notebook, path)
    return path


def test_parameters_replace_values_and_keep_names_order_and_comments() -> None:
    notebook = export.inject(_notebook(), {"name": "it's", "n": 20})
    assert notebook.cells[0].source == 'n = 20  # how many\nname = "it\'s"'


def test_a_parameter_that_the_notebook_does_not_know_is_an_error() -> None:
    with pytest.raises(InvalidRequest, match="seed"):
        export.inject(_notebook(), {"seed": 7})
    with pytest.raises(InvalidRequest, match="tagged"):
        export.inject(nbformat.v4.new_notebook(), {})


def test_a_notebook_runs_in_this_interpreter_and_hands_its_document_over(tmp_path: Path) -> None:
    path = _saved(tmp_path, _notebook(
        "import os, sys\nfrom IPython.display import display",
        "data = {'n': n * 2, 'exe': sys.executable, 'env': os.environ['ONE']}",
        f"display({{'{export.MIME}': data, 'text/plain': 'x'}}, raw=True)",
    ))  # fmt: skip
    executed = export.run_notebook(path, {"n": 21}, environ={"ONE": "1"})
    document = export.document_of(executed)
    assert document["n"] == 42
    assert document["env"] == "1"
    assert document["exe"] == sys.executable
    assert all("execution" not in cell.metadata for cell in executed.cells)


def test_an_error_in_a_cell_ends_the_run_with_its_own_words(tmp_path: Path) -> None:
    path = _saved(tmp_path, _notebook("raise ValueError('the moon\\nis full')"))
    with pytest.raises(export.AuditFailed, match=r"ValueError: the moon$"):
        export.run_notebook(path, {})


def test_a_notebook_without_a_result_is_an_error() -> None:
    with pytest.raises(export.AuditFailed, match=r"audit\.finish"):
        export.document_of(_notebook())


@pytest.mark.parametrize("tail", ["out", "out/deeper"])
def test_a_path_under_a_file_is_refused_before_any_work(tmp_path: Path, tail: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be written"):
        export.prepare_folder(tmp_path / "file" / tail)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is a file"):
        export.prepare_folder(tmp_path / "file")


def test_looking_at_the_folder_leaves_nothing_in_it(tmp_path: Path) -> None:
    out = export.prepare_folder(tmp_path / "a" / "out")
    assert out == tmp_path / "a" / "out"
    assert list((tmp_path / "a").iterdir()) == []


def test_three_files_are_written_and_nothing_else(tmp_path: Path, document: dict[str, Any]) -> None:
    out = tmp_path / "out"
    export.write_report(out, document, _notebook())
    export.write_report(out, document, _notebook())  # a second audit replaces the first
    assert sorted(path.name for path in out.iterdir()) == sorted(export.FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert json.loads((out / "audit.json").read_text(encoding="utf-8")) == json.loads(json.dumps(document))


def test_a_secret_anywhere_stops_the_export_and_leaves_the_old_report(tmp_path: Path, document: dict[str, Any]) -> None:
    out = tmp_path / "out"
    export.write_report(out, document, _notebook())
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(SecretFound, match=r"audit\.ipynb"):
        export.write_report(
            out, document, _notebook("print('correct-horse-battery')"), secrets=("correct-horse-battery",)
        )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_numbers_that_json_has_no_word_for_are_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="JSON"):
        export.to_json({**document, "seed": float("nan")})
