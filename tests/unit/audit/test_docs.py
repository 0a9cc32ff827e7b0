from __future__ import annotations

import re
from pathlib import Path

import nbformat

from massive_lab.audit.rules import RULES
from massive_lab.cli.main import build_parser

_ROOT = Path(__file__).parents[3]


def test_the_page_lists_every_check_with_its_points_and_whether_it_is_critical() -> None:
    page = (_ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (.+?) \| ([\d.]+) \| (yes)? ?\| ", page, re.MULTILINE)
    whole = sum(rule.weight for rule in RULES)
    assert whole == 10
    assert [(title, float(points), bool(critical)) for title, points, critical in listed] == [
        (rule.title, rule.weight, rule.critical) for rule in RULES
    ]


def test_the_page_lists_every_option_of_the_command() -> None:
    page = (_ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    audit = build_parser()._subparsers._group_actions[0].choices["audit"]
    for action in audit._actions:
        if action.dest != "help":
            assert any(f"`{name}`" in page for name in action.option_strings), action.dest


def test_the_notebook_is_committed_without_outputs_and_within_its_schema() -> None:
    notebook = nbformat.read(_ROOT / "notebooks" / "90_audit.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count is None and cell.outputs == [] for cell in code)
    assert "parameters" in code[0].metadata["tags"]
    assert max(len(cell.source.splitlines()) for cell in code) <= 10
