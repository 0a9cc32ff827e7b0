"""What the README and the page on live data show is what happens."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import massive_lab as ml

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = {
    f"{page} {n}": block
    for page in ("README.md", "docs/live.md")
    for n, block in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL))
}


def test_the_transcript_prints_what_it_says() -> None:
    (block,) = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
    # A frame's first line is its shape, which the transcript leaves out.
    examples = doctest.DocTestParser().get_doctest(
        block[block.index(">>>") :].replace("\n┌", "\nshape: (2, 5)\n┌"), {}, "README.md", "README.md", 0
    )
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    runner.run(examples, out=report.append)
    assert runner.failures == 0, "".join(report)
    assert runner.tries >= 5


@pytest.mark.parametrize("block", PYTHON.values(), ids=PYTHON)
def test_the_examples_run(block: str) -> None:
    exec(compile(block, "README.md", "exec"), {"ml": ml})


def test_the_first_result_is_within_thirty_lines() -> None:
    assert any(line.startswith("┌") for line in README.splitlines()[:30])
