"""What each trade may change, by the vendor's table of conditions and by the corrections of the tape."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.schema.session import session

__all__ = ["FLAGS", "conditions_of", "keyed", "with_flags"]

FLAGS = ("high_low", "open_close", "volume")
_FORM_T = 12
_CLOSING_PRINT = 8
_VOID = (1, 7, 8, 10, 11)
"""Corrected later, found wrong later, cancelled later; a cancel record, an error record."""


@dataclass(frozen=True, slots=True)
class _Rule:
    step: str
    allows: tuple[bool, bool, bool]
    """High and low, open and close, volume."""


Rules = dict[tuple[str, int], _Rule]


def conditions_of(conditions: pl.DataFrame | None) -> Rules | None:
    """The rules of trade conditions by asset class and id; an id that has several forbids what any of them does."""
    if conditions is None:
        return None
    needed = ("condition", "name", "asset_class", *(f"updates_{flag}" for flag in FLAGS))
    if missing := [name for name in needed if name not in conditions.columns]:
        raise FrameInvariantError(f"The conditions lack {', '.join(missing)}.", rule="columns")
    if "data_types" in conditions.columns:
        conditions = conditions.filter(pl.col("data_types").fill_null("trade").str.split(",").list.contains("trade"))
    found: Rules = {}
    for row in conditions.iter_rows(named=True):
        key = row["asset_class"], row["condition"]
        # What the vendor does not say it forbids is allowed.
        allows = tuple(row[f"updates_{flag}"] is not False for flag in FLAGS)
        before = found.get(key)
        if before is not None:
            allows = tuple(a and b for a, b in zip(allows, before.allows, strict=True))
        found[key] = _Rule(_step(str(row["name"])), (allows[0], allows[1], allows[2]))
    return found


def _step(name: str) -> str:
    words = name.lower()
    if "out of sequence" in words or "late" in words.split():
        return "late_print"
    return "odd_lot" if "odd lot" in words else "condition_code"


def keyed(conditions: pl.Expr) -> pl.Expr:
    """A text for each combination of conditions, `key`; empty for none."""
    return conditions.cast(pl.List(pl.String)).list.join(",").fill_null("").alias("key")


def with_flags(ticks: pl.DataFrame, rules: Rules | None) -> pl.DataFrame:
    """Trades with a column ``<step>_<flag>`` for each step and flag, and `unknown`: conditions that no rule is known of."""
    asset = pl.when(pl.col("symbol").str.starts_with("O:")).then(pl.lit("options")).otherwise(pl.lit("stocks"))
    ticks = ticks.with_columns(asset=asset, is_extended=_is_extended(ticks))
    kinds = ticks.select("asset", "key", "is_extended").unique(maintain_order=True)
    if rules is None and (kinds["key"] != "").any():
        raise InvalidRequest("The trades have conditions.", hint="Give their rules: conditions=lab.conditions().")
    flags = [_flags(asset, key, late, rules or {}) for asset, key, late in kinds.iter_rows()]
    schema = {f"{step}_{flag}": pl.Boolean for step in ("late_print", "odd_lot", "condition_code") for flag in FLAGS}
    made = pl.DataFrame(flags, schema={**schema, "unknown": pl.String}, orient="row")
    ticks = ticks.join(kinds.hstack(made), on=("asset", "key", "is_extended"), how="left", maintain_order="left")
    stands = ~pl.col("correction").is_in(_VOID)
    return ticks.with_columns(stands.alias(f"correction_{flag}") for flag in FLAGS)


def _flags(asset: str, key: str, is_extended: bool, rules: Rules) -> tuple[bool | str, ...]:
    ids = [int(part) for part in key.split(",")] if key else []
    allowed = {step: [True, True, True] for step in ("late_print", "odd_lot", "condition_code")}
    stock = asset == "stocks"
    if stock and _CLOSING_PRINT in ids:
        allowed["condition_code"] = [False, False, False]
    for each in _known(ids, asset, rules):
        rule = rules[asset, each]
        # Outside regular hours bars are made of Form T prints, which set no price of the day.
        allows = (True, True, rule.allows[2]) if stock and is_extended and each == _FORM_T else rule.allows
        allowed[rule.step] = [a and b for a, b in zip(allowed[rule.step], allows, strict=True)]
    unknown = ",".join(str(each) for each in ids if (asset, each) not in rules)
    return (*(flag for flags in allowed.values() for flag in flags), unknown)


def _known(ids: Iterable[int], asset: str, rules: Rules) -> list[int]:
    return [each for each in ids if (asset, each) in rules]


def _is_extended(ticks: pl.DataFrame) -> pl.Series:
    """Whether each trade was made outside the regular session of its New York date."""
    local = pl.col("time").cast(pl.Datetime("ns", "UTC")).dt.convert_time_zone("America/New_York").dt.date()
    dates = ticks.select(date=local)
    days = [(date, session(date)) for date in dates["date"].unique().to_list()]
    bounds = pl.DataFrame(
        [(date, *((0, 0) if day is None else (day.open_ns, day.close_ns))) for date, day in days],
        schema={"date": pl.Date, "opening": pl.Int64, "closing": pl.Int64},
        orient="row",
    )
    joined = dates.with_columns(ticks["time"]).join(bounds, on="date", how="left", maintain_order="left")
    return joined.select((pl.col("time") < pl.col("opening")) | (pl.col("time") >= pl.col("closing"))).to_series()
