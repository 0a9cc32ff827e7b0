"""The client that the examples in docstrings use: one sandbox for all of them, started when the first one asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


class _Lazy:
    """Opens the client on first use, so that examples without one start no process."""

    def __init__(self) -> None:
        self.client: Any = None

    def __getattr__(self, name: str) -> Any:
        if self.client is None:
            import massive_lab as ml

            self.client = ml.connect("sandbox", progress=False)
            # A moment with a market: the examples must read the same on every day of the year.
            self.client.sandbox.control.pause()
        return getattr(self.client, name)


@pytest.fixture(scope="session")
def _example_client() -> Iterator[_Lazy]:
    lazy = _Lazy()
    yield lazy
    if lazy.client is not None:
        lazy.client.close()


@pytest.fixture(autouse=True)
def _examples(doctest_namespace: dict[str, Any], _example_client: _Lazy) -> None:
    doctest_namespace["lab"] = _example_client
