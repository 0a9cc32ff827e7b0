"""Write ``constraints.txt``: the exact versions of everything the package and all its extras need.

Run it after a change of dependencies, or to move to newer versions::

    python tools/build_constraints.py            # the newest versions the bounds allow
    python tools/build_constraints.py --keep     # keep what is pinned; add and drop what changed
    python tools/build_constraints.py --check    # as --keep, but write nothing; exit 1 if a line would change

The versions come from ``pip freeze`` in a fresh virtual environment with every extra installed, made by the
interpreter that runs the script. Use the oldest supported one, Debian 12's 3.11.2: some packages have dropped
even later patch releases of 3.11, and a pin it cannot install would break ``make`` there. Installers (pip,
setuptools, wheel) and the project itself are left out. The file holds names and versions only: where packages
come from is a matter of the machine.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
HEADER = """\
# Exact versions of everything massive_lab and its extras need, direct and transitive.
# Made by tools/build_constraints.py; do not edit by hand.
"""
INSTALLERS = frozenset({"pip", "setuptools", "wheel"})


def normalised(name: str) -> str:
    """The name as indexes compare it: lower case, one dash for any run of dashes, dots and underscores."""
    return re.sub(r"[-_.]+", "-", name).lower()


def freeze(project: Path, *, constraints: Path | None) -> list[str]:
    """``name==version`` of all that a fresh environment holds with the project and every extra."""
    metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = ",".join(metadata["optional-dependencies"])
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check"]
        pinned = ["-c", str(constraints)] if constraints else []
        subprocess.run([*pip, "install", "--quiet", *pinned, f"{project}[{extras}]"], check=True)
        frozen = subprocess.run([*pip, "freeze"], check=True, capture_output=True, text=True).stdout
    left_out = INSTALLERS | {normalised(metadata["name"])}
    lines = [line for line in frozen.splitlines() if re.fullmatch(r"[\w.-]+==[\w.!+-]+", line)]
    return sorted((line for line in lines if normalised(line.split("==")[0]) not in left_out), key=str.lower)


def main(arguments: list[str] | None = None) -> int:
    """Write or check; the exit code is 1 when the check finds a difference."""
    parser = argparse.ArgumentParser(description="Write constraints.txt from a fresh virtual environment.")
    parser.add_argument("--keep", action="store_true", help="keep the versions that are pinned now")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a line would change")
    options = parser.parse_args(arguments)

    keep = options.keep or options.check
    text = HEADER + "\n".join(freeze(ROOT, constraints=CONSTRAINTS if keep else None)) + "\n"
    before = CONSTRAINTS.read_text(encoding="utf-8") if CONSTRAINTS.exists() else ""
    if text == before:
        print("constraints.txt is up to date")
        return 0
    for line in sorted(set(text.splitlines()) ^ set(before.splitlines()), key=str.lower):
        print("+" if line in text.splitlines() else "-", line)
    if options.check:
        return 1
    CONSTRAINTS.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
