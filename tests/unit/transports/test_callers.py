from __future__ import annotations

import pytest

from massive_lab.telemetry import CALLER
from massive_lab.transports.callers import user_code
from massive_lab.transports.runner import Runner


def code(file: str, **names: object) -> object:
    return eval(compile("\n\nask()", file, "eval"), {"ask": user_code, "__name__": "__main__", **names})


@pytest.mark.parametrize(
    ("file", "cells", "told"),
    [
        ("/tmp/ipykernel_12/345.py", ["", "a", "b"], "In[2]:3"),
        ("<ipython-input-2-abc>", ["", "a", "b"], "In[2]:3"),
        ("scripts/run.py", ["", "a"], "run.py:3"),
        ("/tmp/ipykernel_12/345.py", None, "345.py:3"),
        ("<stdin>", None, "<stdin>:3"),
    ],
)
def test_the_cell_or_the_line(file: str, cells: list[str] | None, told: str) -> None:
    assert code(file, In=cells) == told


def test_what_runs_on_the_loop_knows_who_asked() -> None:
    async def asked() -> str | None:
        return CALLER.get()

    with Runner("test-io") as runner:
        assert (runner.call(asked()) or "").startswith("test_callers.py:")
    assert CALLER.get() is None
