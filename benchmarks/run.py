"""Run every benchmark of this folder: `python -m benchmarks.run [name ...]`.

A benchmark is a module with a ``main()``. One that fails is reported and the run ends with status 1, after the others.
"""

from __future__ import annotations

import gc
import importlib
import pkgutil
import sys
import traceback

import benchmarks


def main(names: list[str]) -> int:
    found = [module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name != "run"]
    unknown = [name for name in names if name not in found]
    if unknown:
        print(f"No benchmark {', '.join(unknown)}; there are {', '.join(found)}.", file=sys.stderr)
        return 2
    failed = []
    for name in names or found:
        module = importlib.import_module(f"benchmarks.{name}")
        if not hasattr(module, "main"):
            continue  # shared by benchmarks, none itself
        print(f"== {name}", flush=True)
        gc.collect()
        sys.argv = [name]  # a benchmark's own options keep their defaults
        try:
            module.main()
        except Exception:  # noqa: BLE001 - one broken benchmark must not hide the others
            traceback.print_exc()
            failed.append(name)
        print(flush=True)
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
