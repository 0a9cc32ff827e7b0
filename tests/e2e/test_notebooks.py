"""The notebooks run from their first cell to their last on the sandbox, and show what they promise."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

_ROOT = Path(__file__).parents[2]
_KEY = "mlab-canary-7f3kQ/x+Z9"


def _run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The code cells of a notebook after a run in a kernel of its own."""
    notebook = nbformat.read(_ROOT / "notebooks" / name, as_version=4)
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in notebook.cells)
    # A key in the environment must neither be used for the sandbox nor turn up in an output.
    monkeypatch.setenv("MASSIVE_API_KEY", _KEY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute()
    assert _KEY not in nbformat.writes(notebook)
    assert not list(folder.iterdir())
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _shown(cell: dict[str, Any], kind: str) -> str:
    return "".join(output["data"][kind] for output in cell["outputs"] if kind in output.get("data", {}))


def test_regime_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = _run("04_regime.ipynb", tmp_path, monkeypatch)
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"execute_result"}  # no error, nothing on stderr
    assert "SANDBOX" in _shown(cells[0], "text/plain")
    by_source = {cell["source"].splitlines()[-1]: cell for cell in cells}

    svg = _shown(by_source["regime.paint(days, note=NOTE)"], "text/html")
    assert svg.startswith("<svg ")
    assert svg.count("<path") > 20
    assert "SANDBOX: Nasdaq Composite in place of NDX" in svg
    assert re.search(r"risk_off, 2008-\d\d-\d\d to 2009-\d\d-\d\d, \d+ sessions", svg)

    reasons = _shown(by_source["regime.latest(days, source_notes=[NOTE])"], "text/html")
    assert "risk_off" in reasons
    assert "Faber 2007" in reasons
    flips = _shown(by_source["regime.flips(days)"], "text/plain")
    assert "trend_spx" in flips
    assert "regime" in flips
    causal = by_source['regime.classify(*past).equals(days.filter(pl.col("date") <= cut))']
    assert _shown(causal, "text/plain") == "True"
    assert "not finished" in _shown(by_source["lab.regime(live=True)"], "text/html")
