"""The picture: well-formed, honest about gaps and lanes, small, and free of fixed ground colours."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import polars as pl
import pytest

from massive_lab.errors import InvalidRequest
from massive_lab.regime import classify, paint
from massive_lab.regime.picture import COLOURS

DATA = Path(__file__).parents[3] / "data"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def days() -> pl.DataFrame:
    names = ("spx_ohlcv_1999_2018", "nasdaq_composite_ohlcv_1999_2018", "vix_close_2014_2019")
    return classify(*(pl.read_parquet(DATA / f"{name}.parquet").select("date", "close") for name in names))


def rects(frame: pl.DataFrame) -> list[tuple[str, float, float]]:
    """Fill, left and width of every stretch in a lane."""
    root = ET.fromstring(paint(frame).svg)
    found = [r for r in root.iter(f"{SVG}rect") if r.find(f"{SVG}title") is not None and "fill-opacity" not in r.attrib]
    return [(r.attrib["fill"], float(r.attrib["x"]), float(r.attrib["width"])) for r in found]


def test_every_stretch_of_a_label_is_a_bar_in_its_lane(days: pl.DataFrame) -> None:
    labels = days["regime"]
    starts = int(((labels != labels.shift()).fill_null(True) & labels.is_not_null()).sum())
    found = rects(days)
    assert len(found) == starts
    assert {fill for fill, _, _ in found} == set(COLOURS.values())
    # Lanes tile the labelled span: each stretch ends where the next begins.
    for (_, left, width), (_, following, _) in itertools.pairwise(found):
        assert left + width >= following - 0.11
    total = sum(width for _, _, width in found)
    span = (days["date"][-1] - days.drop_nulls("regime")["date"][0]).days / (days["date"][-1] - days["date"][0]).days
    assert total == pytest.approx(span * 882, rel=0.02)


def test_titles_shares_and_notes_are_said_and_escaped(days: pl.DataFrame) -> None:
    picture = paint(days, title="A <b> & c", note="SANDBOX <made up>")
    text = "".join(ET.fromstring(picture.svg).itertext())
    assert "A <b> & c, 1999-01-04 to 2018-12-31." in text
    assert "SANDBOX <made up>" in text
    share = (days["regime"] == "risk_on").sum() / days["regime"].count()
    assert f"risk_on {share:.1%}" in text
    assert re.search(r"risk_off, 2008-01-\d\d to 2009-0\d-\d\d, \d+ sessions", text)
    assert picture._repr_html_() == picture.svg
    assert len(picture.svg) < 150_000
    assert len(repr(picture)) < 100


def test_it_takes_its_colours_from_the_page(days: pl.DataFrame) -> None:
    svg = paint(days).svg
    assert set(re.findall(r"#[0-9A-Fa-f]{3,8}\b", svg)) == set(COLOURS.values())
    assert "<script" not in svg
    assert "<style" not in svg
    assert "http" not in svg.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_gaps_break_the_line_and_an_empty_vix_says_so(days: pl.DataFrame) -> None:
    few = days.head(400)
    assert "no values" in paint(few).svg
    holed = days.tail(600).with_columns(vix=pl.when(pl.int_range(pl.len()) % 100 != 50).then("vix"))
    root = ET.fromstring(paint(holed).svg)
    breaks = [path.attrib["d"].count("M") for path in root.iter(f"{SVG}path") if path.attrib["d"].count("L") > 100]
    assert sorted(breaks) == [1, 1, 7]  # SPX, its mean, and the VIX with six holes


def test_extremes_survive_the_thinning(days: pl.DataFrame) -> None:
    spike = dt.date(2006, 6, 7)
    shaken = days.with_columns(spx=pl.when(pl.col("date") == spike).then(9_000.0).otherwise("spx"))
    paths = [path.attrib["d"] for path in ET.fromstring(paint(shaken).svg).iter(f"{SVG}path")]
    line = max(paths, key=len)
    tops = sorted(float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", line))
    assert tops[0] < tops[1] - 50


def test_little_or_nothing(days: pl.DataFrame) -> None:
    two = paint(days.head(2))
    assert "risk_on 0.0%" in two.svg
    flat = days.head(300).with_columns(spx=100.0, mean_spx=100.0)
    ET.fromstring(paint(flat).svg)
    for bad in (days.head(1), days.head(0), days.drop("regime")):
        with pytest.raises(InvalidRequest, match="nothing to paint"):
            paint(bad)
