"""The async client is generated from the sync one, and both have the same face."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

from massive_lab.lab.aio import AsyncLab
from massive_lab.lab.sync import Lab

ROOT = Path(__file__).parents[3]
PLAIN = {"live", "load_report"}


def _public(cls: type) -> dict[str, object]:
    return {name: member for name, member in vars(cls).items() if not name.startswith("_") and callable(member)}


def test_the_generated_file_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "build_async.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_both_clients_have_the_same_methods_and_arguments() -> None:
    sync, aio = _public(Lab), _public(AsyncLab)
    assert list(sync) == list(aio)
    for name, method in sync.items():
        assert inspect.signature(method) == inspect.signature(aio[name]), name
        assert inspect.iscoroutinefunction(aio[name]) == (name not in PLAIN), name


def test_every_method_is_documented_with_an_example() -> None:
    for name, method in _public(Lab).items():
        text = inspect.getdoc(method) or ""
        assert text, name
        if name not in {"live", "close"}:
            assert ">>> " in text, name
