"""The table of threats in the guide to the gateway: fifteen rows, and each names tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
THREATS = [
    "SSRF, open proxy",
    "WebSocket without authentication",
    "Cross-site WebSocket",
    "Reflected input",
    "Secrets in logs",
    "Request smuggling",
    "Bombs",
    "Forged headers",
    "Methods",
    "Timing of tokens",
    "Tokens in addresses",
    "Replay, expiry, revocation",
    "Rate limit",
    "CORS",
    "What the vendor sends",
]


def rows() -> list[tuple[str, str, str]]:
    section = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8").split("\n## Security\n")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| ")]
    return [(threat, holds, tests) for threat, holds, tests in cells if threat != "Threat"]


def test_every_threat_has_a_row() -> None:
    assert [threat for threat, _, _ in rows()] == THREATS


def test_every_test_that_a_row_names_exists() -> None:
    for threat, holds, tests in rows():
        assert holds, threat
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
        assert len(named) == tests.count("`") // 2 > 0, threat
        for path, name in named:
            tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
            known = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
            assert name in known, f"{threat}: {path} has no {name}"
