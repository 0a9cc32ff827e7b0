"""The printed numbers against the published ones, and the page against the printed ones."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("regime_numbers", ROOT / "tools" / "regime_numbers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_published_share_and_counts_are_reproduced(tool: ModuleType) -> None:
    found = tool.trend_numbers()
    # Another copy of the closes, and perhaps another day's mean: six hundredths of a point.
    assert found["share"] == pytest.approx(tool.PUBLISHED["share"], abs=0.07)
    assert round(found["share"], 2) == 76.14
    assert round(found[0.0], 1) == tool.PUBLISHED[0.0] == 6.5
    assert round(found[0.01], 1) == tool.PUBLISHED[0.01] == 2.8


def test_the_page_says_what_the_command_prints() -> None:
    done = subprocess.run(
        [sys.executable, "tools/regime_numbers.py", "--check"], capture_output=True, text=True, check=False, cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)}, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "| days above the mean | 76.14 % | 76.2 % |" in done.stdout
    assert "| changes a year, band of 1 % | 2.80 | 2.8 |" in done.stdout


def test_a_page_with_other_numbers_is_found(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "regime.md"
    page.write_text(f"before\n{tool.START}\n| old |\n{tool.END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(tool, "PAGE", page)
    assert tool.main(["--check"]) == 1
    assert "says otherwise" in capsys.readouterr().err
    assert tool.main(["--write"]) == tool.main(["--check"]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
