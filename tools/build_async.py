"""Write massive_lab/lab/aio.py from massive_lab/lab/sync.py; ``--check`` only compares.

The two clients have the same names and arguments, so one is made from the other: methods become coroutines, blocking
calls become awaits, and a docstring keeps its first paragraph and points at the twin, whose examples are run.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

LAB = Path(__file__).resolve().parent.parent / "massive_lab" / "lab"
SYNC_ONLY = {"live", "load_report"}
"""Methods that do not wait, and so stay plain."""


def generate(source: str) -> str:
    text = source.replace(
        '"""The client: every loader as a blocking call, on top of the shared loop thread.\n\n'
        "This file is the one to edit; ``aio.py`` is generated from it by ``tools/build_async.py``.\n",
        '"""The client whose methods are awaited, from any event loop.\n\n'
        "Generated from ``sync.py`` by ``tools/build_async.py``; edit that file.\n",
    )
    text = text.replace("class Lab(", "class AsyncLab(").replace('__all__ = ["Lab"]', '__all__ = ["AsyncLab"]')
    text = text.replace("Made by `massive_lab.connect`", "Made by `massive_lab.aconnect`")
    text = text.replace("Safe to use from several threads.", "Safe to use from several loops.")
    text = text.replace("use it in a ``with`` block", "use it in an ``async with`` block")
    text = text.replace("self._runner.call(work)", "await self._runner.acall(work)")
    text = re.sub(r"return self\._(do|run)\(", r"return await self._\1(", text)
    text = text.replace("def __enter__", "def __aenter__").replace("def __exit__", "def __aexit__")
    text = text.replace("        self._close()\n", "        await self._aclose()\n")
    text = text.replace("        self.close()\n", "        await self.close()\n")
    text = re.sub(r"    def (\w+)\(", lambda m: m[0] if m[1] in SYNC_ONLY else f"    async def {m[1]}(", text)
    return re.sub(
        r'(    (?:async )?def (\w+)\((?:(?!"""|\n    (?:async )?def ).)*?)"""(.*?)"""', shorten, text, flags=re.DOTALL
    )


def shorten(match: re.Match[str]) -> str:
    head, name, doc = match[1], match[2], match[3]
    summary = doc.split("\n\n")[0].rstrip()
    more = "" if name == "close" else f"\n\n        See `massive_lab.lab.sync.Lab.{name}`.\n        "
    return f'{head}"""{summary}{more}"""'


def main() -> int:
    target = LAB / "aio.py"
    text = generate((LAB / "sync.py").read_text(encoding="utf-8"))
    formatted = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "-", "--stdin-filename", str(target)],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if "--check" in sys.argv[1:]:
        same = target.read_text(encoding="utf-8") == formatted
        sys.stdout.write("aio.py is up to date\n" if same else "aio.py differs: run tools/build_async.py\n")
        return 0 if same else 1
    target.write_text(formatted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
