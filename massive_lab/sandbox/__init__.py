"""A local, synthetic Massive: REST, WebSocket, accounts, faults, and a count of what was served.

`SandboxProcess` starts one as its own process; `SandboxControl` speaks to one that runs. Everything it serves is made
up, and says so: ``X-Massive-Lab: SANDBOX``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from massive_lab.sandbox.client import SandboxControl
    from massive_lab.sandbox.process import SandboxProcess

__all__ = ["SandboxControl", "SandboxProcess"]

_HOMES = {"SandboxControl": "massive_lab.sandbox.client", "SandboxProcess": "massive_lab.sandbox.process"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
