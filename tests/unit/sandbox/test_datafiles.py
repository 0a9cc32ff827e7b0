from __future__ import annotations

import datetime as dt
import hashlib
import re
from pathlib import Path

import polars as pl
import pytest

from massive_lab.errors import ConfigError
from massive_lab.sandbox.datafiles import _find, data_file

DATA = Path(__file__).resolve().parents[3] / "data"
NAMES = sorted(file.name for file in DATA.glob("*.parquet"))
COLUMNS = pl.Schema(
    {
        "date": pl.Date,
        "open": pl.Float64,
        "high": pl.Float64,
        "low": pl.Float64,
        "close": pl.Float64,
        "volume": pl.Int64,
    }
)


def documented() -> dict[str, dict[str, str]]:
    """The coverage table of data/README.md, one entry per file."""
    row = re.compile(
        r"^\| `(?P<name>[\w.]+)` \| (?P<rows>\d+) \| (?P<first>[\d-]+) \| (?P<last>[\d-]+)"
        r" \| (?P<missing>\d+) \| (?P<extra>\d+) \| (?P<bytes>\d+) \| `(?P<sha256>[0-9a-f]{64})` \|$",
        re.MULTILINE,
    )
    found = row.finditer((DATA / "README.md").read_text(encoding="utf-8"))
    return {match["name"]: match.groupdict() for match in found}


def test_the_readme_lists_exactly_the_files() -> None:
    assert sorted(documented()) == NAMES
    assert len(NAMES) == 4


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_agrees_with_the_file(name: str) -> None:
    said = documented()[name]
    blob = data_file(name).read_bytes()
    frame = pl.read_parquet(blob)
    assert hashlib.sha256(blob).hexdigest() == said["sha256"]
    assert len(blob) == int(said["bytes"])
    assert frame.height == int(said["rows"])
    assert frame["date"].min() == dt.date.fromisoformat(said["first"])
    assert frame["date"].max() == dt.date.fromisoformat(said["last"])


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_sessions_in_order_with_possible_prices(name: str) -> None:
    frame = pl.read_parquet(data_file(name))
    assert frame.schema == COLUMNS
    assert frame["date"].is_sorted()
    assert frame["date"].is_unique().all()
    assert frame["date"].dt.weekday().max() == 5
    assert frame.select("date", "close").null_count().row(0) == (0, 0)
    prices = frame.select("open", "high", "low", "close")
    assert prices.select(pl.all_horizontal(pl.all().is_finite() & (pl.all() > 0)).all()).item()
    low, high = pl.col("low"), pl.col("high")
    outside = (low > pl.min_horizontal("open", "close")) | (high < pl.max_horizontal("open", "close"))
    assert frame.filter(outside).is_empty()


@pytest.mark.parametrize("name", [name for name in NAMES if "ohlcv" in name])
def test_bars_have_all_four_prices(name: str) -> None:
    frame = pl.read_parquet(data_file(name))
    assert frame.select("open", "high", "low", "close").null_count().row(0) == (0, 0, 0, 0)
    assert frame["volume"].drop_nulls().min() > 0


def test_the_two_sp500_series_agree_where_they_overlap() -> None:
    bars = pl.read_parquet(data_file("spx_ohlcv_1999_2018.parquet"))
    closes = pl.read_parquet(data_file("spx_close_1990_2022.parquet"))
    both = bars.join(closes, on="date", suffix="_other")
    assert both.height == bars.height
    assert (both["close"] - both["close_other"]).abs().max() < 0.0002


def test_the_folder_inside_the_package_wins(tmp_path: Path) -> None:
    inside, checkout = tmp_path / "_data", tmp_path / "data"
    for place in (inside, checkout):
        place.mkdir()
        (place / "x.parquet").write_bytes(b"")
    assert _find("x.parquet", (inside, checkout)) == inside / "x.parquet"
    (inside / "x.parquet").unlink()
    assert _find("x.parquet", (inside, checkout)) == checkout / "x.parquet"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"ndx\.parquet.*nasdaq_composite_ohlcv_1999_2018\.parquet"):
        data_file("ndx.parquet")


@pytest.mark.parametrize("name", ["../pyproject.toml", "/etc/hostname", "", ".", ".."])
def test_a_path_is_not_a_name(name: str) -> None:
    with pytest.raises(ConfigError, match="No bundled data file"):
        data_file(name)


def test_an_installation_without_data_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="reinstall"):
        _find("spx_close_1990_2022.parquet", (tmp_path / "_data",))
