"""Whose code asked: the first frame outside the library."""

from __future__ import annotations

import sys
from types import FrameType

__all__ = ["user_code"]

_HERE = __name__.partition(".")[0]


def user_code() -> str | None:
    """``file:line`` of the code that called into the library; ``In[7]:2`` in a notebook; None where none did.

    Examples
    --------
    >>> eval(compile("user_code()", "scripts/run.py", "eval"), {"user_code": user_code, "__name__": "run"})
    'run.py:1'
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _top(frame) == _HERE:
        frame = frame.f_back
    if frame is None or _top(frame) in ("asyncio", "threading"):
        return None  # a task or a thread that the library began
    name = frame.f_code.co_filename
    cells = frame.f_globals.get("In")
    if isinstance(cells, list) and ("ipykernel" in name or name.startswith("<ipython-input")):
        return f"In[{len(cells) - 1}]:{frame.f_lineno}"
    return f"{name.rpartition('/')[2]}:{frame.f_lineno}"


def _top(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
