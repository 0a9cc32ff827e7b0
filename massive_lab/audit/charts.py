"""Small SVG charts as text: no script, no library, the same bytes for the same numbers.

Colours are attributes, so that a chart is right where styles are stripped, and classes, so that a page can change them
for its dark theme. Every chart has a title that a screen reader speaks; the exact numbers stand in a table beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Bar", "Dots", "Lane", "Line", "Span", "bars", "dots", "lanes", "lines", "nice_ticks"]

BLUE, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#8A939C", "#20262C"
_COLOURS = {"a": BLUE, "b": ORANGE, "c": GREY}
_WIDTH = 960
_FONT = 'font-family="system-ui,-apple-system,Segoe UI,DejaVu Sans,sans-serif" font-size="13"'


def _num(value: float) -> str:
    """Coordinates with at most two decimals and no trailing zeros."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def _text(x: float, y: float, words: str, *, cls: str = "t", anchor: str = "start", weight: str = "") -> str:
    bold = f' font-weight="{weight}"' if weight else ""
    return f'<text class="{cls}" x="{_num(x)}" y="{_num(y)}" text-anchor="{anchor}" fill="{INK}"{bold}>{escape(words)}</text>'


def _rect(
    x: float, y: float, width: float, height: float, series: str, *, title: str = "", hollow: bool = False
) -> str:
    colour = _COLOURS[series]
    paint = f'fill="none" stroke="{colour}" stroke-width="1.5"' if hollow else f'fill="{colour}"'
    kind = "s" if hollow else "f"
    tip = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<rect class="{kind}{series}" x="{_num(x)}" y="{_num(y)}" width="{_num(max(width, 0))}" height="{_num(height)}" '
        f'rx="1.5" {paint}>{tip}</rect>'
    )


def _rule(x1: float, y1: float, x2: float, y2: float, *, cls: str = "g", dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    colour = "#D9DEE3" if cls == "g" else INK
    return (
        f'<line class="{cls}" x1="{_num(x1)}" y1="{_num(y1)}" x2="{_num(x2)}" y2="{_num(y2)}" '
        f'stroke="{colour}" stroke-width="1"{dashed}/>'
    )


def _svg(title: str, height: float, parts: Sequence[str], *, width: int = _WIDTH) -> str:
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_num(height)}" width="{width}" '
        f'height="{_num(height)}" role="img" aria-label="{escape(title, quote=True)}" {_FONT}>'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def nice_ticks(low: float, high: float, n: int = 4) -> list[float]:
    """Round numbers that span ``[low, high]``, about `n` steps apart.

    Examples
    --------
    >>> nice_ticks(0, 93)
    [0.0, 25.0, 50.0, 75.0, 100.0]
    """
    # Narrower than what doubles and labels can tell apart is flat.
    if high - low <= max(abs(low), abs(high), 1e-6) * 1e-9:
        high = low + max(1.0, abs(low))
    raw = (high - low) / n
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def _tick(value: float) -> str:
    return f"{value:,.10g}".replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True, slots=True)
class Bar:
    """One horizontal bar. `series` is ``a`` (blue), ``b`` (orange) or ``c`` (grey)."""

    label: str
    value: float
    note: str
    series: str = "a"
    hollow: bool = False


def bars(title: str, rows: Sequence[Bar], *, limit: float | None = None, limit_label: str = "") -> str:
    """Horizontal bars from zero, each labelled at its end; `limit` is a dashed line.

    Examples
    --------
    >>> bars("Calls", [Bar("measured", 15, "15")]).startswith('<svg class="chart"')
    True
    """
    left, right, step, top = _margin(rows), 190, 26, 22 if limit is not None else 6
    most = max([row.value for row in rows] + ([limit] if limit is not None else []), default=1) or 1
    scale = (_WIDTH - left - right) / most
    bottom = top + step * len(rows)
    parts = [_rule(left, top - 4, left, bottom, cls="x")]
    for i, row in enumerate(rows):
        y = top + i * step
        parts += [
            _text(left - 10, y + 15, row.label, anchor="end"),
            _rect(
                left,
                y + 4,
                row.value * scale,
                step - 10,
                row.series,
                title=f"{row.label}: {row.note}",
                hollow=row.hollow,
            ),
            _text(left + row.value * scale + 7, y + 15, row.note, weight="600"),
        ]
    if limit is not None:
        x = left + limit * scale
        parts += [
            _rule(x, top - 4, x, bottom, cls="x", dash="4 3"),
            _text(x, top - 9, limit_label, anchor="middle", cls="m"),
        ]
    return _svg(title, bottom + 6, parts)


@dataclass(frozen=True, slots=True)
class Dots:
    """A range with its middle: p50 and p95 of an endpoint."""

    label: str
    low: float
    high: float
    note: str


def dots(title: str, rows: Sequence[Dots], *, unit: str) -> str:
    """One row for each range: a filled dot at `low`, a hollow one at `high`, a line between."""
    left, right, step, top = _margin(rows), 190, 24, 24
    ticks = nice_ticks(0, max((row.high for row in rows), default=1) or 1)
    scale = (_WIDTH - left - right) / ticks[-1]
    bottom = top + step * len(rows)
    parts = []
    for tick in ticks:
        x = left + tick * scale
        words = f"{_tick(tick)} {unit}" if tick == ticks[-1] else _tick(tick)
        parts += [_rule(x, top - 6, x, bottom), _text(x, top - 11, words, anchor="middle", cls="m")]
    for i, row in enumerate(rows):
        y, x1, x2 = top + i * step + 12, left + row.low * scale, left + row.high * scale
        parts += [
            _text(left - 10, y + 4, row.label, anchor="end"),
            f'<line class="sa" x1="{_num(x1)}" y1="{_num(y)}" x2="{_num(x2)}" y2="{_num(y)}" stroke="{BLUE}" stroke-width="2"/>',
            f'<circle class="fa" cx="{_num(x1)}" cy="{_num(y)}" r="4.5" fill="{BLUE}"/>',
            f'<circle class="sb p" cx="{_num(x2)}" cy="{_num(y)}" r="4" fill="#FFFFFF" stroke="{ORANGE}" stroke-width="2"/>',
            _text(_WIDTH - right + 14, y + 4, row.note),
        ]
    return _svg(title, bottom + 6, parts)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a lane, from `start` to `end` on the axis."""

    start: float
    end: float
    series: str
    label: str
    hollow: bool = False


def _margin(rows: Sequence[Bar] | Sequence[Dots]) -> int:
    """Room for the labels at the left, whatever the font: 8 units a character."""
    return max([130, *(20 + 8 * len(row.label) for row in rows)])


@dataclass(frozen=True, slots=True)
class Lane:
    """One row of a timeline: spans, and moments that are marked by a tick above it."""

    label: str
    spans: tuple[Span, ...]
    marks: tuple[float, ...] = ()


def lanes(title: str, rows: Sequence[Lane], *, unit: str = "s") -> str:
    """Timeline with one lane for each row; all on one axis."""
    left, right, step, top = 90, 24, 40, 6
    start = min((span.start for row in rows for span in row.spans), default=0.0)
    end = max((span.end for row in rows for span in row.spans), default=1.0)
    scale = (_WIDTH - left - right) / ((end - start) or 1)
    bottom = top + step * len(rows)
    parts = []
    for tick in nice_ticks(0, end - start, 6):
        if tick <= (end - start) * 1.0001:
            x = left + tick * scale
            parts += [
                _rule(x, top, x, bottom),
                _text(x, bottom + 16, f"{_tick(tick)} {unit}", anchor="middle", cls="m"),
            ]
    for i, row in enumerate(rows):
        y = top + i * step
        parts.append(_text(left - 10, y + 24, row.label, anchor="end"))
        for span in row.spans:
            x, width = left + (span.start - start) * scale, (span.end - span.start) * scale
            parts.append(_rect(x, y + 12, max(width - 1, 1.5), 16, span.series, title=span.label, hollow=span.hollow))
        for mark in row.marks:
            x = left + (mark - start) * scale
            parts.append(_rule(x, y + 3, x, y + 11, cls="x"))
    return _svg(title, bottom + 24, parts)


@dataclass(frozen=True, slots=True)
class Line:
    """One series over equidistant places; None breaks the line."""

    label: str
    values: Sequence[float | None]
    series: str
    width: float = 1.6


def lines(
    title: str,
    series: Sequence[Line],
    *,
    labels: Sequence[str],
    height: int = 200,
    bands: Sequence[tuple[float, str]] = (),
    shades: Sequence[tuple[int, int]] = (),
    zero: bool = False,
) -> str:
    """Lines over a common axis.

    Parameters
    ----------
    labels : sequence of str
        One for each place; the first, middle and last are written.
    bands : sequence of (float, str)
        Levels drawn as dashed rules, with their names.
    shades : sequence of (int, int)
        Half-open ranges of places drawn on a grey ground.
    zero : bool
        Whether the axis must begin at 0.
    """
    left, right, top = 62, 96, 10
    known = [v for line in series for v in line.values if v is not None] + [level for level, _ in bands]
    ticks = nice_ticks(0.0 if zero else min(known, default=0), max(known, default=1))
    n = max(len(labels), 2)
    dx = (_WIDTH - left - right) / (n - 1)
    span = ticks[-1] - ticks[0]

    def at(value: float) -> float:
        return top + height - (value - ticks[0]) / span * height

    parts = [
        f'<rect class="shade" x="{_num(left + a * dx)}" y="{top}" width="{_num((b - a) * dx)}" height="{height}" fill="#8A939C" '
        f'fill-opacity="0.16"/>'
        for a, b in shades
    ]
    for tick in ticks:
        y = at(tick)
        parts += [_rule(left, y, _WIDTH - right, y), _text(left - 8, y + 4, _tick(tick), anchor="end", cls="m")]
    for level, name in bands:
        parts += [
            _rule(left, at(level), _WIDTH - right, at(level), cls="x", dash="4 3"),
            _text(_WIDTH - right + 6, at(level) + 4, name, cls="m"),
        ]
    ends = []
    for line in series:
        parts.append(
            f'<path class="s{line.series}" d="{_path(line.values, left, dx, at)}" fill="none" '
            f'stroke="{_COLOURS[line.series]}" stroke-width="{_num(line.width)}" stroke-linejoin="round"/>'
        )
        last = next((v for v in reversed(line.values) if v is not None), None)
        if last is not None and line.label:
            ends.append((at(last), line))
    parts += _end_labels(ends, _WIDTH - right + 6)
    for place, anchor in ((0, "start"), (n // 2, "middle"), (len(labels) - 1, "end")):
        if labels and 0 <= place < len(labels):
            parts.append(_text(left + place * dx, top + height + 18, labels[place], anchor=anchor, cls="m"))
    return _svg(title, top + height + 26, parts)


def _path(values: Sequence[float | None], left: float, dx: float, at: Callable[[float], float]) -> str:
    out, pen = [], "M"
    for i, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        out.append(f"{pen}{_num(left + i * dx)} {_num(at(value))}")
        pen = "L"
    return "".join(out)


def _end_labels(ends: list[tuple[float, Line]], x: float) -> list[str]:
    """Names at the ends of the lines, pushed apart where they would cover each other."""
    parts, lowest = [], -math.inf
    for y, line in sorted(ends, key=lambda end: end[0]):
        lowest = max(y + 4, lowest + 14)
        parts.append(
            f'<text class="n{line.series}" x="{_num(x)}" y="{_num(lowest)}" fill="{_COLOURS[line.series]}" font-weight="600">'
            f"{escape(line.label)}</text>"
        )
    return parts
