"""A headless browser without a network. Where there is none the tests are deselected, and the summary says why."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_LACKS = None if _CHROMIUM and find_spec("playwright") else "chromium" if not _CHROMIUM else "the package playwright"
_HERE = Path(__file__).parent
_deselected: list[str] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _LACKS is None:
        return
    ours = [item for item in items if item.path.is_relative_to(_HERE)]
    if ours:
        _deselected.extend(item.nodeid for item in ours)
        config.hook.pytest_deselected(items=ours)
        items[:] = [item for item in items if item not in ours]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _deselected:
        terminalreporter.section("browser tests")
        terminalreporter.write_line(
            f"{len(_deselected)} deselected: this machine lacks {_LACKS} (apt-get install chromium)."
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=_CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--hide-scrollbars",
                "--force-color-profile=srgb",
            ],
        )
        yield chromium
        chromium.close()
