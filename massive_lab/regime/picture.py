"""The regime painted over SPX, as one SVG that needs no plotting library.

Text and lines take the colour of the page around them, so the picture reads on light and on dark. The four labels also have
a lane each: none is told by its colour alone.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

import polars as pl

from massive_lab.errors import InvalidRequest

__all__ = ["COLOURS", "Picture", "paint"]

COLOURS = {"risk_on": "#56B4E9", "neutral": "#999999", "risk_off": "#E69F00", "stress": "#D55E00"}
_WIDTH, _LEFT, _RIGHT, _TOP = 960.0, 62.0, 16.0, 46.0
_PRICE, _LANE, _VIX, _GAP = 270.0, 13.0, 80.0, 14.0
_FONT = "font-family='system-ui, sans-serif' font-size='12'"


@dataclass(frozen=True, slots=True, repr=False)
class Picture:
    """An SVG that a notebook shows."""

    svg: str

    def __repr__(self) -> str:
        return f"Picture of {len(self.svg):,} characters; .svg is the text."

    def _repr_html_(self) -> str:
        return self.svg


def paint(frame: pl.DataFrame, *, title: str = "Macro regime over SPX", note: str = "") -> Picture:
    """Paint SPX on the ground of its regime, a lane for each label, and the VIX below.

    Parameters
    ----------
    frame : polars.DataFrame
        As `massive_lab.regime.classify` returns it; at least two dates. SPX is on a logarithmic scale.
    title : str
    note : str
        What to know about the data; printed below.

    Returns
    -------
    Picture

    Raises
    ------
    InvalidRequest
        Fewer than two dates, or a column is missing.

    Examples
    --------
    >>> days = [dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(300)]
    >>> index = pl.DataFrame({"date": days, "close": [100.0 + i for i in range(300)]})
    >>> from massive_lab.regime import classify
    >>> paint(classify(index, index, index.head(0))).svg.startswith("<svg ")
    True
    """
    missing = [name for name in ("date", "spx", "mean_spx", "vix", "regime") if name not in frame.columns]
    if missing or frame.height < 2:
        raise InvalidRequest(
            f"There is nothing to paint: {'no ' + ', '.join(missing) if missing else f'{frame.height} dates'}.",
            hint="Pass what massive_lab.regime.classify returned, of two dates or more.",
        )
    days: list[int] = [day.toordinal() for day in frame["date"]]
    width = _WIDTH - _LEFT - _RIGHT

    first, last = days[0], days[-1]

    def x(day: int) -> float:
        return _LEFT + width * (day - first) / (last - first)

    lanes = _TOP + _PRICE + _GAP
    vix = lanes + len(COLOURS) * _LANE + _GAP
    end = vix + _VIX
    parts = [
        _text(_LEFT, 18, title, weight="600"),
        *_key(frame),
        *_grounds(frame, days, x, lanes),
        *_years(days, x, end),
        *_panel(frame, days, x, ("spx", "mean_spx"), _TOP, _PRICE, log=True),
        *_panel(frame, days, x, ("vix",), vix, _VIX, log=False),
        _text(_LEFT + 4, vix + 12, "VIX", weight="600"),
    ]
    if note:
        parts.append(_text(_LEFT, end + 38, note, size=11))
    height = end + (48 if note else 26)
    summary = f"{title}, {frame['date'][0]} to {frame['date'][-1]}."
    return Picture(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {height:g}" width="100%" '
        f'style="max-width:{_WIDTH:g}px" role="img" aria-label="{escape(summary)}" {_FONT} fill="currentColor">'
        f"<title>{escape(summary)}</title>{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "400", size: float = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size:g}">'
        f"{escape(words)}</text>"
    )


def _key(frame: pl.DataFrame) -> Iterator[str]:
    """The labels with their share of the labelled days, and the two lines."""
    known = max(frame.height - frame["regime"].null_count(), 1)
    at = _LEFT
    for name, colour in COLOURS.items():
        words = f"{name} {(frame['regime'] == name).sum() / known:.1%}"
        yield f'<rect x="{at:.1f}" y="27" width="11" height="11" fill="{colour}"/>{_text(at + 16, 37, words)}'
        at += 128
    for words, dash in (("SPX", ""), ("slow mean", "4 3")):
        yield f'<path d="M{at:.1f} 33h22" fill="none" stroke="currentColor" stroke-width="1.5" stroke-dasharray="{dash}"/>'
        yield _text(at + 28, 37, words)
        at += 78


def _grounds(frame: pl.DataFrame, days: Sequence[int], x: Callable[[int], float], lanes: float) -> Iterator[str]:
    """A ground behind the price and a bar in its lane for every stretch of one label."""
    for i, name in enumerate(COLOURS):
        yield _text(_LEFT - 6, lanes + (i + 1) * _LANE - 3, name, anchor="end", size=11)
    starts = 0
    for label, rows in groupby(frame["regime"].to_list()):
        first, n = starts, len(list(rows))
        starts += n
        if label not in COLOURS:
            continue
        left = x(days[first])
        wide = max(x(days[min(starts, len(days) - 1)]) - left, 0.8)
        span = f"{label}, {dt.date.fromordinal(days[first])} to {dt.date.fromordinal(days[starts - 1])}, {n} sessions"
        hint = f"<title>{escape(span)}</title>"
        lane = lanes + list(COLOURS).index(label) * _LANE
        if label != "neutral":
            ground = f'fill="{COLOURS[label]}" fill-opacity="{0.75 if label == "stress" else 0.3}"'
            yield f'<rect x="{left:.1f}" y="{_TOP:g}" width="{wide:.1f}" height="{_PRICE:g}" {ground}>{hint}</rect>'
        yield (
            f'<rect x="{left:.1f}" y="{lane + 2:.1f}" width="{wide:.1f}" height="{_LANE - 3:g}" '
            f'fill="{COLOURS[label]}">{hint}</rect>'
        )


def _years(days: Sequence[int], x: Callable[[int], float], end: float) -> Iterator[str]:
    first, last = dt.date.fromordinal(days[0]), dt.date.fromordinal(days[-1])
    marks = [(dt.date(year, 1, 1), str(year)) for year in range(first.year + 1, last.year + 1)]
    if len(marks) < 3:
        marks = [
            (dt.date(year, month, 1), f"{year}-{month:02}")
            for year in range(first.year, last.year + 1)
            for month in range(1, 13)
            if first <= dt.date(year, month, 1) <= last
        ]
    step = max(1, math.ceil(len(marks) / 12))
    for day, words in marks[::step]:
        at = x(day.toordinal())
        yield f'<path d="M{at:.1f} {_TOP:g}V{end:.1f}" stroke="currentColor" stroke-opacity=".13"/>'
        yield _text(at, end + 16, words, anchor="middle")


def _panel(
    frame: pl.DataFrame,
    days: Sequence[int],
    x: Callable[[int], float],
    columns: Sequence[str],
    top: float,
    height: float,
    *,
    log: bool,
) -> Iterator[str]:
    """Lines of the columns in one frame with its scale."""
    values = [value for name in columns for value in frame[name].drop_nulls()]
    yield (
        f'<rect x="{_LEFT:g}" y="{top:g}" width="{_WIDTH - _LEFT - _RIGHT:g}" height="{height:g}" fill="none" '
        'stroke="currentColor" stroke-opacity=".35"/>'
    )
    if not values:
        yield _text(_LEFT + 40, top + 12, "no values")
        return
    scale = math.log if log else float
    low, high = scale(min(values)), scale(max(values))
    pad = (high - low or 1.0) * 0.05

    def y(value: float) -> float:
        return top + height * (1 - (scale(value) - low + pad) / (high - low + 2 * pad))

    for tick in _ticks(min(values), max(values)):
        yield f'<path d="M{_LEFT:g} {y(tick):.1f}H{_WIDTH - _RIGHT:g}" stroke="currentColor" stroke-opacity=".13"/>'
        yield _text(_LEFT - 6, y(tick) + 4, f"{tick:,g}", anchor="end")
    for name in reversed(columns):
        dash = 'stroke-width="1.2" stroke-opacity=".8" stroke-dasharray="4 3"' if name.startswith("mean") else ""
        points = [(x(day), None if v is None else y(v)) for day, v in zip(days, frame[name], strict=True)]
        yield f'<path d="{_path(points)}" fill="none" stroke="currentColor" {dash} stroke-linejoin="round"/>'


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers from low to high.

    Examples
    --------
    >>> _ticks(676.5, 2930.8), _ticks(9.1, 40.7)
    ([1000, 1500, 2000, 2500], [10, 20, 30, 40])
    """
    rough = (high - low or abs(high) or 1.0) / 4
    base = 10.0 ** math.floor(math.log10(rough))
    step = next(base * k for k in (1, 2, 2.5, 5, 10) if base * k >= rough * 0.8)
    first = math.ceil(low / step)
    found = [k * step for k in range(first, math.floor(high / step) + 1)]
    return [int(tick) if tick == int(tick) else tick for tick in found]


def _path(points: Sequence[tuple[float, float | None]]) -> str:
    """A line through the points, at most four for each unit across: its first, lowest, highest and last. None breaks it."""
    out: list[str] = []
    pen = False
    for known, stretch in groupby(points, key=lambda point: point[1] is not None):
        if not known:
            pen = False
            continue
        for _, near in groupby(stretch, key=lambda point: round(point[0])):
            column = [(px, py) for px, py in near if py is not None]
            keep = {0, len(column) - 1}
            heights = [py for _, py in column]
            keep |= {heights.index(min(heights)), heights.index(max(heights))}
            for i in sorted(keep):
                px, py = column[i]
                out.append(f"{'L' if pen else 'M'}{px:.1f} {py:.1f}")
                pen = True
    return "".join(out)
