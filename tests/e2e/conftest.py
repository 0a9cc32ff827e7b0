"""What the end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from massive_lab.sandbox import SandboxProcess


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    """A process whose time stands still until the test moves it."""
    with SandboxProcess(seed=7, paused=True) as process:
        yield process
