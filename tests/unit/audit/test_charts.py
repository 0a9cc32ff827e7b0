from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.audit import charts

_NUMBERS = st.floats(-1e9, 1e9, allow_nan=False)
_SVG = "{http://www.w3.org/2000/svg}"


def _well_formed(svg: str) -> ET.Element:
    root = ET.fromstring(svg)
    assert root.tag == f"{_SVG}svg"
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == root.find(f"{_SVG}title").text
    assert "nan" not in svg.lower()
    assert "inf" not in svg.lower()
    return root


@given(st.floats(-1e6, 1e6, allow_nan=False), st.floats(1e-2, 1e9))
def test_ticks_are_even_and_span_the_range(low: float, width: float) -> None:
    high = low + width
    ticks = charts.nice_ticks(low, high)
    steps = [b - a for a, b in itertools.pairwise(ticks)]
    slack = (high - low) * 1e-3 + 1e-9
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert max(steps) - min(steps) <= max(abs(low), abs(high)) * 1e-9 + 1e-9
    assert 2 <= len(ticks) <= 12


@given(st.lists(st.one_of(st.none(), _NUMBERS), max_size=30))
def test_a_line_has_a_pen_stroke_for_each_value_and_a_break_at_each_hole(values: list[float | None]) -> None:
    svg = charts.lines("t", [charts.Line("x", values, "a")], labels=[str(i) for i in range(len(values))])
    path = _well_formed(svg).find(f"{_SVG}path").attrib["d"]
    runs = re.findall("x+", "".join("." if v is None else "x" for v in values))
    assert path.count("M") == len(runs)
    assert path.count("M") + path.count("L") == sum(v is not None for v in values)


def test_bars_are_proportional_and_a_limit_is_part_of_the_scale() -> None:
    root = _well_formed(
        charts.bars("t", [charts.Bar("a", 10, "10"), charts.Bar("b", 20, "20")], limit=40, limit_label="most")
    )
    widths = [float(rect.attrib["width"]) for rect in root.iter(f"{_SVG}rect")]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.02)
    dashed = next(line for line in root.iter(f"{_SVG}line") if "stroke-dasharray" in line.attrib)
    axis = next(line for line in root.iter(f"{_SVG}line"))
    assert float(dashed.attrib["x1"]) - float(axis.attrib["x1"]) == pytest.approx(4 * widths[0], abs=0.05)


def test_markup_in_labels_is_text() -> None:
    root = _well_formed(charts.bars("<b>", [charts.Bar("<script>", 1, "&")]))
    assert root.find(f".//{_SVG}script") is None


@pytest.mark.parametrize(
    "svg",
    [
        charts.bars("t", []),
        charts.dots("t", [], unit="ms"),
        charts.lanes("t", []),
        charts.lines("t", [], labels=[]),
        charts.lines("t", [charts.Line("x", [5.0, 5.0], "b")], labels=["a", "b"]),
        charts.dots("t", [charts.Dots("chain", 0.0, 0.0, "0")], unit="ms"),
    ],
)
def test_nothing_and_flat_data_make_a_chart_too(svg: str) -> None:
    _well_formed(svg)


def test_a_lane_marks_its_moments_within_the_axis() -> None:
    lane = charts.Lane(
        "stocks", (charts.Span(0, 10, "b", "down", hollow=True), charts.Span(10, 12, "a", "live")), (0.05, 4.05)
    )
    root = _well_formed(charts.lanes("t", [lane]))
    marks = [line for line in root.iter(f"{_SVG}line") if line.attrib["class"] == "x"]
    assert len(marks) == 2
