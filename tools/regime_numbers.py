"""Print the numbers of ``docs/regime.md`` from the bundled data.

::

    python tools/regime_numbers.py            # print them
    python tools/regime_numbers.py --write    # also put them into docs/regime.md
    python tools/regime_numbers.py --check    # write nothing; exit 1 if the page says otherwise

The published counts are per year of data, the year in which the mean warms up included; so are these.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import sys
from pathlib import Path

import polars as pl

from massive_lab.regime import DEFAULT_RULES, classify, flips
from massive_lab.regime.features import index_features

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "regime.md"
START, END = "<!-- numbers -->", "<!-- end of numbers -->"
LAST = dt.date(2022, 3, 10)
PUBLISHED = {"share": 76.2, 0.0: 6.5, 0.01: 2.8}
"""Days above the 200-day mean in per cent, and changes a year by band, over the S&P 500 from 1990 to 10 March 2022."""


def closes(name: str) -> pl.DataFrame:
    """Date and close of a bundled file."""
    return pl.read_parquet(ROOT / "data" / f"{name}.parquet").select("date", "close")


def trend_numbers() -> dict[str | float, float]:
    """Share of days above the mean in per cent, and changes a year by band."""
    data = closes("spx_close_1990_2022").filter(pl.col("date") <= LAST)
    years = (data["date"][-1] - data["date"][0]).days / 365.25
    made: dict[str | float, float] = {}
    for band in (0.0, 0.01):
        trend = index_features(data, dataclasses.replace(DEFAULT_RULES, trend_band=band))["trend"].drop_nulls()
        made[band] = float((trend != trend.shift()).sum()) / years
        if band == 0.0:
            made["share"] = 100.0 * float((trend == "up").sum()) / trend.len()
    return made


def page() -> str:
    """The numbers as Markdown."""
    found = trend_numbers()
    frame = classify(
        closes("spx_ohlcv_1999_2018"), closes("nasdaq_composite_ohlcv_1999_2018"), closes("vix_close_2014_2019")
    )
    known = frame.drop_nulls("regime")
    lines = [
        "| S&P 500, 1990-01-02 to 2022-03-10, 200-session mean | here | published |",
        "|---|---|---|",
        f"| days above the mean | {found['share']:.2f} % | {PUBLISHED['share']} % |",
        f"| changes a year, no band | {found[0.0]:.2f} | {PUBLISHED[0.0]} |",
        f"| changes a year, band of 1 % | {found[0.01]:.2f} | {PUBLISHED[0.01]} |",
        "",
        f"| {frame['date'][0]} to {frame['date'][-1]}, changes a year | with bands | without |",
        "|---|---|---|",
        *(f"| `{state}` | {banded:.1f} | {bare:.1f} |" for state, banded, bare in flips(frame).iter_rows()),
        "",
        f"| label, {known['date'][0]} to {known['date'][-1]} | days | share |",
        "|---|---|---|",
    ]
    for label in ("risk_on", "neutral", "risk_off", "stress"):
        days = known.filter(pl.col("regime") == label).height
        lines.append(f"| `{label}` | {days:,} | {days / known.height:.1%} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="put the numbers into docs/regime.md")
    what.add_argument("--check", action="store_true", help="exit 1 if docs/regime.md says otherwise")
    options = parser.parse_args(arguments)
    numbers = page()
    print(numbers)
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    old, after = rest.split(END)
    if options.write:
        PAGE.write_text(f"{before}{START}\n{numbers}\n{END}{after}", encoding="utf-8")
    elif options.check and old.strip() != numbers:
        print("docs/regime.md says otherwise; run: python tools/regime_numbers.py --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
