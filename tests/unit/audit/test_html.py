from __future__ import annotations

import pytest

from massive_lab.audit import html


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (html.number(1234567), "1,234,567"),
        (html.number(-0.5, 1), "\u22120.5"),
        (html.rate(12.0), "12"),
        (html.rate(12.34), "12.3"),
        (html.seconds(0.05), "50.0 ms"),
        (html.seconds(0.5), "500 ms"),
        (html.seconds(0.0), "0 ms"),
        (html.bytes_(1_500), "1.5 kB"),
        (html.percent(0.1234), "12.3 %"),
    ],
)
def test_numbers_are_written_alike_everywhere(written: str, expected: str) -> None:
    assert written == expected


@pytest.mark.parametrize("write", [html.number, html.rate, html.seconds, html.bytes_, html.percent, html.text])
def test_none_is_not_measured_and_not_zero(write) -> None:
    assert "not measured" in write(None)


@pytest.mark.parametrize("verdict", ["pass", "warn", "fail", "not measured"])
def test_a_verdict_is_a_word_and_a_sign(verdict: str) -> None:
    assert "aria-hidden" in html.mark(verdict)
    assert html._WORDS[verdict] in html.mark(verdict)


def test_an_empty_table_says_so() -> None:
    assert "No topics." in html.table("Topics", [html.Column("a", "A")], [], empty="No topics.")
