"""Bars built from ticks by the vendor's update rules, beside the bars the vendor made: every difference has a cause.

A bar is not the plain summary of the trades in its interval. From there to the vendor's bar lead four steps, each a rule
of its own, taken one after the other; what a step changes, it is the cause of:

================== ====================================================================================================
cause              rule
================== ====================================================================================================
``late_print``     a trade belongs to the interval in which it was made, not in which it was published; conditions of a
                   late report say what it may still change
``correction``     a trade that was cancelled, found wrong or corrected by another does not count
``odd_lot``        an odd lot counts in the volume and sets no price
``condition_code`` what the other conditions of a trade may change: open and close, high and low, volume
================== ====================================================================================================

What is different after these steps is looked into once more: ``late_print`` (the bar is from before a late print was
published), ``correction`` (from before a correction), ``condition_code`` (a condition that is not in the table),
``rounding`` (a last decimal, or the order within a millisecond, which the stream does not tell), ``missing_trade`` (the
vendor counted more, and the trades have a hole or an end there), ``missing_bar`` (the bars have a hole there); and what is
left is ``unexplained``.

Sources: the update rules are those of the vendor's conditions reference; correction codes are those of the consolidated
tape (0 and 12 stand, 1, 7, 8, 10 and 11 do not). The vendor documents besides: bars outside regular hours are made of Form T
prints (12), the closing print (8) is in no intraday bar, an interval without a print that may set open and close has no bar.
It does not document which prints its VWAP weighs: taken here are those that may set a price.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, overload

import polars as pl

from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.frames.check import to_polars
from massive_lab.frames.convert import to_kind
from massive_lab.frames.reconcile_residual import Span, explain
from massive_lab.frames.reconcile_rules import FLAGS, conditions_of, keyed, with_flags
from massive_lab.schema.timeframe import Timeframe, parse_timeframe

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CAUSES", "reconcile_bars"]

CAUSES = (
    "late_print", "correction", "odd_lot", "condition_code", "rounding", "missing_trade", "missing_bar", "unexplained"
)  # fmt: skip
FIELDS = ("open", "high", "low", "close", "volume", "vwap", "trade_count")
_STEPS = CAUSES[:4]
_S = 10**9
_TS = pl.Datetime("ns", "UTC")
_NEVER = 2**63 - 1
_KEY = ("symbol", "window")
_OUT: dict[str, Any] = {
    "symbol": pl.String(), "ts_event": _TS, "ts_close": _TS, "field": pl.String(), "vendor": pl.Float64(),
    "built": pl.Float64(), "plain": pl.Float64(), "cause": pl.String(), "causes": pl.List(pl.String()),
    "detail": pl.String(),
}  # fmt: skip


@overload
def reconcile_bars(
    trades: pl.DataFrame,
    bars: Any,
    conditions: Any = ...,
    timeframe: str | Timeframe = ...,
    *,
    start: dt.datetime | None = ...,
    end: dt.datetime | None = ...,
    gaps: Any = ...,
) -> pl.DataFrame: ...
@overload
def reconcile_bars(
    trades: pd.DataFrame,
    bars: Any,
    conditions: Any = ...,
    timeframe: str | Timeframe = ...,
    *,
    start: dt.datetime | None = ...,
    end: dt.datetime | None = ...,
    gaps: Any = ...,
) -> pd.DataFrame: ...
def reconcile_bars(
    trades: Any,
    bars: Any,
    conditions: Any = None,
    timeframe: str | Timeframe = "1m",
    *,
    start: dt.datetime | None = None,
    end: dt.datetime | None = None,
    gaps: Any = None,
) -> Any:
    """Explain every difference between the trades of an interval and the vendor's bar of it.

    Parameters
    ----------
    trades : polars.DataFrame or pandas.DataFrame
        Table ``trades`` or ``live_trades``, any number of stocks and options; the kind that comes in goes out.
    bars : polars.DataFrame or pandas.DataFrame
        Table ``bars`` or ``live_bars``, of one second or one minute. A field that it lacks, or that is null, is not
        compared.
    conditions : polars.DataFrame or pandas.DataFrame, optional
        Table ``conditions``, as ``lab.conditions()`` gives it. May be left out for trades without conditions.
    timeframe : {"1m", "1s"}
    start, end : datetime.datetime, optional
        With a zone; both frames are complete in ``[start, end)``, and intervals that lie in it are compared. Without them,
        those between the first and the last bar of a symbol that reach into the time between its first and its last trade;
        where such an interval is cut by either, trades may be missing from it.
    gaps : polars.DataFrame or pandas.DataFrame, optional
        Columns `start` and `end`: spans in which events may be missing, as ``lab.live.gaps()`` has them. With a column
        `topic`, each counts for its symbol and for trades (``T``) or bars (``A``, ``AM``); with a column `state`, those
        that are ``filled`` do not count. Trades with `ts_recv` say besides where the gap lies on the market's clock.

    Returns
    -------
    The kind of frame that came in
        One row per bar and field that is not the plain summary of the trades, sorted by symbol, `ts_event` and field:

        - `symbol`, `ts_event`, `ts_close`: the interval, UTC.
        - `field`: ``open high low close volume vwap trade_count``; or ``bar``, 1 where there is a bar and null where there
          is none, when only one side has it.
        - `vendor`: the vendor's value; `built`: from the trades by the rules; `plain`: from all trades by the time of their
          publication.
        - `cause`: one of `CAUSES`, what brought it to the vendor's value in the end; `causes`: all steps that changed it.
        - `detail`: a sentence.

    Raises
    ------
    InvalidRequest
        Another timeframe, an instant without a zone, or trades with conditions and no table of them.
    FrameInvariantError
        A column is missing (rule ``columns``), or bars are of another length (``grid``).

    Notes
    -----
    A late print can come minutes after its interval: give trades that reach beyond the last bar by as much.

    Examples
    --------
    >>> from massive_lab.frames.build import build
    >>> minute, t = 60 * 10**9, 1_748_872_800 * 10**9
    >>> trades = build("trades", {"symbol": "A", "ts_sip": [t + 1, t + 2, t + 3], "price": [5.0, 9.0, 6.0],
    ...                           "size": [100.0, 1.0, 100.0], "conditions": [None, [37], None], "sequence": [1, 2, 3]})
    >>> bars = build("bars", {"symbol": "A", "ts_event": [t], "ts_close": [t + minute], "open": [5.0], "high": [6.0],
    ...                       "low": [5.0], "close": [6.0], "volume": [201.0], "vwap": [5.5]})
    >>> rules = build("conditions", {"condition": [37], "type": "sale_condition", "name": "Odd Lot Trade",
    ...     "asset_class": "stocks", "data_types": "trade", "updates_high_low": False, "updates_open_close": False,
    ...     "updates_volume": True})
    >>> reconcile_bars(trades, bars, rules).select("field", "vendor", "built", "plain", "cause").rows()
    [('high', 6.0, 6.0, 9.0, 'odd_lot'), ('vwap', 5.5, 5.5, 5.5174, 'odd_lot')]
    """
    grid = parse_timeframe(timeframe)
    length = grid.duration_ns
    if length not in (_S, 60 * _S):
        raise InvalidRequest(f"timeframe is {grid}.", hint="Use '1s' or '1m'.")
    given = to_polars(trades)
    ticks = _ticks(given)
    spans = _spans(to_polars(gaps), given) if gaps is not None else []
    vendor = _vendor(to_polars(bars), length)
    ticks = with_flags(ticks, conditions_of(None if conditions is None else to_polars(conditions)))
    ticks = ticks.with_columns(
        window=pl.col("time") - pl.col("time") % length, sip_window=pl.col("sip") - pl.col("sip") % length
    )
    within = _within(ticks, vendor, length, _ns(start, "start"), _ns(end, "end"))
    rows = _compared(_steps(ticks), vendor, within)
    made = _explained(rows, ticks, vendor, within, spans, length)
    return to_kind(made, "polars" if isinstance(trades, pl.DataFrame) else "pandas")


def _ns(moment: dt.datetime | None, name: str) -> int | None:
    if moment is None:
        return None
    if getattr(moment, "tzinfo", None) is None:
        raise InvalidRequest(f"{name} is {moment!r}.", hint="Give a datetime with a time zone.")
    since = moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return (since.days * 86_400 + since.seconds) * _S + since.microseconds * 1_000


def _need(frame: pl.DataFrame, names: Iterable[str], what: str) -> None:
    if missing := [name for name in names if name not in frame.columns]:
        raise FrameInvariantError(f"The {what} lack {', '.join(missing)}.", rule="columns")


def _stamp(name: str) -> pl.Expr:
    return pl.col(name).cast(_TS).to_physical()


def _ticks(trades: pl.DataFrame) -> pl.DataFrame:
    _need(trades, ("symbol", "ts_sip", "price", "size", "conditions"), "trades")
    blank: dict[str, Any] = {"ts_participant": _TS, "sequence": pl.Int64(), "correction": pl.Int64()}
    trades = trades.with_columns(
        pl.lit(None, dtype=kind).alias(name) for name, kind in blank.items() if name not in trades.columns
    )
    conditions = pl.col("conditions").cast(pl.List(pl.Int64))
    ticks = trades.select(
        "symbol", pl.col("price", "size").cast(pl.Float64), pl.col("sequence").cast(pl.Int64), keyed(conditions),
        sip=_stamp("ts_sip"), time=pl.coalesce(_stamp("ts_participant"), _stamp("ts_sip")),
        correction=pl.col("correction").cast(pl.Int64).fill_null(0),
    )  # fmt: skip
    return ticks.filter(pl.col("price").is_not_null() & pl.col("size").is_not_null())


def _vendor(bars: pl.DataFrame, length: int) -> pl.DataFrame:
    _need(bars, ("symbol", "ts_event", "ts_close", "open", "high", "low", "close"), "bars")
    odd = bars.filter((_stamp("ts_close") - _stamp("ts_event") != length) | (_stamp("ts_event") % length != 0))
    if odd.height:
        raise FrameInvariantError(
            f"{odd.height} of {bars.height} bars are not of {length / _S:g} s, the first from {odd['ts_event'][0]}.",
            rule="grid",
            rows=odd.head(5),
        )
    fields = [name for name in FIELDS if name in bars.columns]
    return bars.select(
        "symbol", _stamp("ts_event").alias("window"), *(pl.col(name).cast(pl.Float64) for name in fields)
    )


def _spans(gaps: pl.DataFrame, trades: pl.DataFrame) -> list[Span]:
    """Gaps that REST has not filled, by our clock and by the market's."""
    _need(gaps, ("start", "end"), "gaps")
    blank = {name: pl.lit(None, dtype=pl.String).alias(name) for name in ("topic", "state") if name not in gaps.columns}
    rows = gaps.with_columns(**blank).filter(pl.col("state").is_null() | (pl.col("state") != "filled"))
    found = []
    for topic, start, end in rows.select("topic", _stamp("start"), _stamp("end").fill_null(_NEVER)).iter_rows():
        channel, _, symbol = (topic or "*.*").partition(".")
        bounds = [(start, end), *_as_received(trades, symbol, start, end)]
        found += [Span(channel, symbol, since, until) for since, until in bounds]
    return found


def _as_received(trades: pl.DataFrame, symbol: str, start: int, end: int) -> list[tuple[int, int]]:
    """A gap by what came last before it and first after it: our clock is not the market's."""
    if not {"ts_recv", "source"} <= set(trades.columns):
        return []
    own = trades if symbol == "*" else trades.filter(pl.col("symbol") == symbol)
    own = own.filter(pl.col("source") == "stream").select(sip=_stamp("ts_sip"), came=_stamp("ts_recv"))
    before = own.filter(pl.col("came") <= start)["sip"].max()
    after = own.filter(pl.col("came") >= end)["sip"].min()
    return [(before if isinstance(before, int) else 0, after if isinstance(after, int) else _NEVER)]


def _within(
    ticks: pl.DataFrame, vendor: pl.DataFrame, length: int, start: int | None, end: int | None
) -> pl.DataFrame:
    """By symbol: the first window and the end of the last to compare, and from where to where the trades are whole."""
    bars = vendor.group_by("symbol").agg(first=pl.col("window").min(), last=pl.col("window").max() + length)
    seen = ticks.group_by("symbol").agg(since=pl.col("sip").min(), until=pl.col("sip").max())
    both = bars.join(seen, on="symbol", how="full", coalesce=True)
    if start is not None:
        both = both.with_columns(first=pl.lit(-(-start // length) * length), since=pl.lit(start))
    if end is not None:
        both = both.with_columns(last=pl.lit(end // length * length), until=pl.lit(end))
    # Before the bounds are narrowed, for which one of two would do: without a bar nothing says what should have come.
    both = both.drop_nulls(["first", "last", "since", "until"])
    early, late = pl.col("since") - pl.col("since") % length, pl.col("until") - pl.col("until") % length + length
    return both.with_columns(first=pl.max_horizontal("first", early), last=pl.min_horizontal("last", late))


def _steps(ticks: pl.DataFrame) -> list[pl.DataFrame]:
    """The bars before the first step and after each."""
    everything = dict.fromkeys(FLAGS, pl.lit(value=True))
    made = [summary(ticks, "sip_window", ("sip", "sequence"), everything)]
    kept = everything
    for step in _STEPS:
        kept = {name: flag & pl.col(f"{step}_{name}") for name, flag in kept.items()}
        made.append(summary(ticks, "window", ("time", "sequence"), kept))
    return made


def summary(ticks: pl.DataFrame, window: str, order: tuple[str, ...], flags: dict[str, pl.Expr]) -> pl.DataFrame:
    """Bars of the trades: columns `symbol window`, `FIELDS`, and `bar`, which is 1."""
    ticks = ticks.sort(order, maintain_order=True).with_columns(**flags)
    price, size, prices = pl.col("price"), pl.col("size"), pl.col("high_low") | pl.col("open_close")
    weight = size.filter(prices).sum()
    return (
        ticks.group_by("symbol", pl.col(window).alias("window"))
        .agg(
            open=price.filter(pl.col("open_close")).first(),
            high=price.filter(prices).max(),
            low=price.filter(prices).min(),
            close=price.filter(pl.col("open_close")).last(),
            volume=size.filter(pl.col("volume")).sum().round(4),
            vwap=pl.when(weight > 0).then((price * size).filter(prices).sum() / weight).round(4),
            trade_count=pl.col("volume").sum().cast(pl.Float64),
            bar=pl.lit(1.0),
        )
        .filter(pl.col("open").is_not_null())
    )


def alike(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    """Whether two numbers are the same but for the last bits."""
    near = (left - right).abs() <= 1e-9 * pl.max_horizontal(right.abs(), pl.lit(1.0))
    return near.fill_null(value=False) | (left.is_null() & right.is_null())


def _long(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    values = [*(field for field in FIELDS if field in frame.columns), "bar"]
    return frame.unpivot(values, index=_KEY, variable_name="field", value_name=name)


def _compared(steps: list[pl.DataFrame], vendor: pl.DataFrame, within: pl.DataFrame) -> pl.DataFrame:
    """Windows and fields in which the vendor is not the plain summary, with the value after each step."""
    names = ["plain", *(f"after_{step}" for step in _STEPS)]
    rows = _long(vendor.with_columns(bar=pl.lit(1.0)), "vendor")
    for frame, name in zip(steps, names, strict=True):
        rows = rows.join(_long(frame, name), on=(*_KEY, "field"), how="full", coalesce=True)
    rows = rows.join(within, on="symbol", how="inner")
    rows = rows.filter((pl.col("window") >= pl.col("first")) & (pl.col("window") < pl.col("last")))
    here = rows.filter(pl.col("field") == "bar").select(*_KEY, has_bar="vendor", has_built=names[-1])
    rows = rows.join(here, on=_KEY, how="left")
    is_bar = pl.col("field") == "bar"
    both = pl.col("has_bar").is_not_null() & pl.col("has_built").is_not_null() & pl.col("vendor").is_not_null()
    differs = ~alike(pl.col("plain"), pl.col("vendor")) | ~alike(pl.col(names[-1]), pl.col("vendor"))
    return rows.filter((is_bar | both) & differs)


def _explained(
    rows: pl.DataFrame, ticks: pl.DataFrame, vendor: pl.DataFrame, within: pl.DataFrame, spans: list[Span], length: int
) -> pl.DataFrame:
    values = ["plain", *(f"after_{step}" for step in _STEPS)]
    changed = [
        pl.when(~alike(pl.col(after), pl.col(before))).then(pl.lit(step))
        for before, after, step in zip(values, values[1:], _STEPS, strict=False)
    ]
    rows = rows.with_columns(
        causes=pl.concat_list(changed).list.drop_nulls(),
        is_built=alike(pl.col(values[-1]), pl.col("vendor")),
        built=pl.col(values[-1]),
    ).with_columns(cause=pl.when("is_built").then(pl.col("causes").list.last().fill_null("rounding")))
    rows = _counted(rows, ticks)
    left = rows.filter(~pl.col("is_built"))
    told = explain(left, ticks, vendor, within, spans, length) if left.height else []
    if told:
        found = pl.DataFrame(
            told, schema={**rows.select(*_KEY, "field").schema, "own": pl.String, "said": pl.String}, orient="row"
        )
        rows = rows.join(found, on=(*_KEY, "field"), how="left").with_columns(
            cause=pl.coalesce("own", "cause"), detail=pl.coalesce("said", "detail")
        )
    order = pl.col("field").cast(pl.Enum([*FIELDS, "bar"]))
    rows = rows.with_columns(ts_event=pl.col("window").cast(_TS), ts_close=(pl.col("window") + length).cast(_TS))
    return rows.sort("symbol", "window", order).select(pl.col(name).cast(kind) for name, kind in _OUT.items())


def _counted(rows: pl.DataFrame, ticks: pl.DataFrame) -> pl.DataFrame:
    """With a sentence on how many trades a step touched in a window."""
    full = pl.lit(value=True)
    touched = {
        step: ~pl.all_horizontal(full, *(pl.col(f"{step}_{flag}") for flag in FLAGS)) for step in _STEPS
    }
    moved = pl.col("window") != pl.col("sip_window")
    touched["late_print"] |= moved
    counts = ticks.group_by(_KEY).agg(n=pl.len(), **{f"n_{step}": flag.sum() for step, flag in touched.items()})
    gone = ticks.filter(moved).group_by("symbol", window="sip_window").agg(n_gone=pl.len())
    rows = rows.join(counts, on=_KEY, how="left").join(gone, on=_KEY, how="left")
    words = {
        "late_print": "reported late", "correction": "corrected or cancelled", "odd_lot": "odd lots",
        "condition_code": "with conditions that limit what they change",
    }  # fmt: skip
    detail = pl.lit(None, dtype=pl.String)
    for step, what in words.items():
        own = pl.format(f"{{}} of {{}} trades {what}", pl.col(f"n_{step}").fill_null(0), pl.col("n").fill_null(0))
        if step == "late_print":
            n_gone = pl.col("n_gone").fill_null(0)
            own = pl.when(n_gone > 0).then(pl.format("{}, and {} of another interval", own, n_gone)).otherwise(own)
        detail = pl.when(pl.col("cause") == step).then(pl.format("{}.", own)).otherwise(detail)
    return rows.with_columns(detail=detail)
