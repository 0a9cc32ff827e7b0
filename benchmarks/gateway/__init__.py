"""The gateway under load: every module here with a ``main()`` is a benchmark of its own."""

from __future__ import annotations

import importlib
import pkgutil


def main() -> None:
    for found in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{found.name}")
        if hasattr(module, "main"):
            print(f"-- {found.name}", flush=True)
            module.main()
