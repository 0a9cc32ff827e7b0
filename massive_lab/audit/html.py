"""Escaped HTML from plain data: numbers, tables, figures. The same bytes for the same data, in every locale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

__all__ = [
    "Column",
    "all_checks",
    "bytes_",
    "figure",
    "finding",
    "mark",
    "number",
    "paragraph",
    "percent",
    "rate",
    "seconds",
    "table",
    "text",
]

NOT_MEASURED = '<span class="none" title="not measured">n/m</span>'
_GLYPHS = {"pass": "\N{CHECK MARK}", "warn": "!", "fail": "\N{MULTIPLICATION SIGN}", "not measured": "\N{EN DASH}"}
_WORDS = {"pass": "pass", "warn": "warning", "fail": "fail", "not measured": "not measured"}


def text(value: Any) -> str:
    """Escaped text; None is *not measured*."""
    return NOT_MEASURED if value is None else escape(str(value))


def number(value: float | None, digits: int = 0) -> str:
    """A number with thousands commas and a true minus sign.

    Examples
    --------
    >>> number(-1234.5, 1), number(3)
    ('−1,234.5', '3')
    """
    return NOT_MEASURED if value is None else f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def rate(value: float | None) -> str:
    """A rate with one decimal where it has one."""
    return NOT_MEASURED if value is None else number(value, 0 if value == int(value) else 1)


def percent(share: float | None, digits: int = 1) -> str:
    """A share as per cent."""
    return NOT_MEASURED if share is None else f"{number(share * 100, digits)} %"


def seconds(value: float | None) -> str:
    """Seconds in the unit that suits them.

    Examples
    --------
    >>> seconds(0.0043), seconds(12.5)
    ('4.3 ms', '12.5 s')
    """
    if value is None:
        return NOT_MEASURED
    return f"{number(value * 1000, 1 if 0 < value < 0.1 else 0)} ms" if value < 1 else f"{number(value, 1)} s"


def bytes_(value: float | None) -> str:
    """Bytes in the unit that suits them.

    Examples
    --------
    >>> bytes_(999), bytes_(12_345), bytes_(2_500_000)
    ('999 B', '12.3 kB', '2.5 MB')
    """
    if value is None:
        return NOT_MEASURED
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= size:
            return f"{number(value / size, 1)} {unit}"
    return f"{number(value)} B"


def mark(verdict: str) -> str:
    """A verdict as a sign and a word, never as a colour alone."""
    cls = verdict.replace(" ", "-")
    return f'<span class="mark {cls}"><span class="sign" aria-hidden="true">{_GLYPHS[verdict]}</span>{_WORDS[verdict]}</span>'


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its key in the rows, its heading, and how a value is written (as HTML)."""

    key: str
    label: str
    write: Callable[[Any], str] = text
    right: bool = True


def table(
    caption: str, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], *, empty: str = "Nothing."
) -> str:
    """A table with a caption; the first column heads its rows."""
    head = "".join(f'<th scope="col"{_side(column)}>{escape(column.label)}</th>' for column in columns)
    body = []
    for row in rows:
        cells = [f"{column.write(row.get(column.key))}" for column in columns]
        first, rest = columns[0], zip(columns[1:], cells[1:], strict=True)
        body.append(
            f'<tr><th scope="row"{_side(first)}>{cells[0]}</th>'
            + "".join(f"<td{_side(column)}>{cell}</td>" for column, cell in rest)
            + "</tr>"
        )
    if not body:
        body.append(f'<tr><td colspan="{len(columns)}" class="none">{escape(empty)}</td></tr>')
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption, quote=True)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _side(column: Column) -> str:
    return ' class="r"' if column.right else ""


def figure(svg: str, caption: str) -> str:
    """A chart with the sentence that says what it shows."""
    return f'<figure><div class="scroll">{svg}</div><figcaption>{escape(caption)}</figcaption></figure>'


def paragraph(words: str) -> str:
    """A sentence or two of plain text."""
    return f"<p>{escape(words)}</p>"


def all_checks(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The checks of the score, and after them the timed ones."""
    return [*document["score"]["checks"], *document["timings"].get("checks", ())]


def finding(document: Mapping[str, Any], rule_id: str) -> str:
    """The verdict and finding of a rule, where the section it belongs to begins."""
    for check in all_checks(document):
        if check["id"] == rule_id:
            return f'<p class="finding">{mark(check["verdict"])} {escape(check["finding"])}</p>'
    return ""
