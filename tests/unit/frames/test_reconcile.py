"""Each cause by a bar that has no other."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest

import massive_lab as ml
from massive_lab.errors import FrameInvariantError, InvalidRequest
from massive_lab.frames.build import build, sort
from massive_lab.frames.reconcile import reconcile_bars
from massive_lab.schema.session import new_york_ns

S = 10**9
MS = 10**6
M = 60 * S
T = new_york_ns(dt.date(2025, 6, 2), 10)
END = T + M
RULES = [
    # id, name, asset class, high and low, open and close, volume
    (2, "Average Price Trade", "stocks", False, False, True),
    (8, "Closing Prints", "stocks", True, True, True),
    (12, "Form T/Extended Hours", "stocks", False, False, True),
    (14, "Intermarket Sweep", "stocks", True, True, True),
    (15, "Market Center Official Close", "stocks", False, False, False),
    (33, "Sold (Out Of Sequence)", "stocks", True, False, True),
    (37, "Odd Lot Trade", "stocks", False, False, True),
    (201, "Canceled", "options", False, False, False),
    (209, "Automatic Execution", "options", True, True, True),
    (37, "An option's own 37", "options", True, True, True),
]


def conditions(rules: list[tuple[Any, ...]] = RULES) -> pl.DataFrame:
    names = ("condition", "name", "asset_class", "updates_high_low", "updates_open_close", "updates_volume")
    columns = {name: [row[i] for row in rules] for i, name in enumerate(names)}
    return build("conditions", {**columns, "type": ["sale_condition"] * len(rules), "data_types": ["trade"] * len(rules)})


def trades(*rows: tuple[int, float, float, list[int] | None] | dict[str, Any], symbol: str = "A") -> pl.DataFrame:
    """Rows of participant time, price, size and conditions; the rest by name. Published a microsecond later."""
    full = []
    for i, row in enumerate(rows):
        one = row if isinstance(row, dict) else dict(zip(("at", "price", "size", "conditions"), row, strict=True))
        one = {"conditions": None, "size": 100.0, **one}
        full.append({"symbol": symbol, "sequence": i + 1, "correction": None, "ts_sip": one["at"] + 1_000, **one})
    columns = {name: [row[name] for row in full] for name in ("symbol", "sequence", "correction", "price", "size",
                                                              "conditions", "ts_sip")}  # fmt: skip
    return sort("trades", build("trades", {**columns, "ts_participant": [row["at"] for row in full]}))


def bar(open_: float, high: float, low: float, close: float, volume: float, vwap: float, n: int, at: int = T,
        symbol: str = "A", length: int = M) -> pl.DataFrame:  # fmt: skip
    return build("bars", {
        "symbol": [symbol], "ts_event": [at], "ts_close": [at + length], "open": [open_], "high": [high], "low": [low],
        "close": [close], "volume": [volume], "vwap": [vwap], "trade_count": [n],
    })  # fmt: skip


def causes(made: pl.DataFrame) -> dict[str, str]:
    return dict(made.select("field", "cause").rows())


PLAIN = [(T + S, 5.0, 100.0, None), (T + 30 * S, 7.0, 100.0, [14]), (T + 59 * S, 6.0, 200.0, None)]
BAR = bar(5.0, 7.0, 5.0, 6.0, 400.0, 6.0, 3)


def test_a_bar_that_is_its_trades_has_no_row() -> None:
    made = reconcile_bars(trades(*PLAIN), BAR, conditions())
    assert made.height == 0
    assert made.columns == [
        "symbol", "ts_event", "ts_close", "field", "vendor", "built", "plain", "cause", "causes", "detail"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("extra", "changed", "expected"),
    [
        ((T + 20 * S, 9.0, 1.0, [37]), {"volume": 401.0, "trade_count": 4}, {"high": "odd_lot", "vwap": "odd_lot"}),
        ((T + 20 * S, 9.0, 1.0, [2]), {"volume": 401.0, "trade_count": 4}, dict.fromkeys(("high", "vwap"), "condition_code")),
        ((T + 59 * S + 1, 9.0, 1.0, [15]), {}, dict.fromkeys(
            ("high", "close", "volume", "vwap", "trade_count"), "condition_code")),
        ((T + 59 * S + 1, 6.5, 100.0, [33]), {"volume": 500.0, "vwap": 6.1, "trade_count": 4}, {"close": "late_print"}),
    ],
    ids=["odd_lot", "average_price", "official_close", "sold_out_of_sequence"],
)  # fmt: skip
def test_what_a_condition_may_not_change(extra: Any, changed: dict[str, float], expected: dict[str, str]) -> None:
    names = {"volume": 400.0, "vwap": 6.0, "trade_count": 3, **changed}
    vendor = bar(5.0, 7.0, 5.0, 6.0, names["volume"], names["vwap"], int(names["trade_count"]))
    made = reconcile_bars(trades(*PLAIN, extra), vendor, conditions())
    assert causes(made) == expected
    assert made["built"].equals(made["vendor"])
    assert made["detail"].str.contains("1 of 4 trades").all()


def test_a_late_print_counts_where_it_was_made() -> None:
    late = {"at": T + 40 * S, "price": 8.0, "ts_sip": END + 70 * S}
    vendor = pl.concat([bar(5.0, 8.0, 5.0, 6.0, 500.0, 6.4, 4), bar(6.0, 6.0, 6.0, 6.0, 100.0, 6.0, 1, END + M)])
    made = reconcile_bars(trades(*PLAIN, (END + M + S, 6.0, 100.0, None), late), vendor, conditions())
    first = made.filter(ts_event=BAR["ts_event"][0])
    assert causes(first) == dict.fromkeys(("high", "volume", "vwap", "trade_count"), "late_print")
    assert first["detail"][0] == "1 of 4 trades reported late."
    # The minute in which it was published has it only in the plain summary.
    second = made.filter(pl.col("ts_event") > BAR["ts_event"][0])
    assert causes(second) == dict.fromkeys(("high", "close", "volume", "vwap", "trade_count"), "late_print")
    assert second["detail"][0] == "0 of 1 trades reported late, and 1 of another interval."


def test_a_bar_from_before_a_late_print_is_explained_whole_or_not_at_all() -> None:
    ticks = trades(*PLAIN, {"at": T + 40 * S, "price": 8.0, "ts_sip": END + 70 * S}, (END + 90 * S, 6.0, 100.0, None))
    made = reconcile_bars(ticks, BAR, conditions())
    assert set(made["cause"]) == {"late_print"}
    assert made["detail"][0] == "It is from before a print that was published 70 s after its end."
    assert made.filter(field="high").select("vendor", "built", "plain").row(0) == (7.0, 8.0, 7.0)
    half = bar(5.0, 8.0, 5.0, 6.0, 400.0, 6.0, 3)  # the high of after, the volume of before
    rest = dict.fromkeys(("volume", "vwap", "trade_count"), "unexplained")
    assert causes(reconcile_bars(ticks, half, conditions())) == {"high": "late_print", **rest}


def test_a_trade_that_was_cancelled_does_not_count_and_a_bar_from_before_says_so() -> None:
    for code, stands in ((1, False), (7, False), (8, False), (10, False), (11, False), (12, True), (0, True)):
        ticks = trades(*PLAIN, {"at": T + 40 * S, "price": 8.0, "correction": code})
        with_it, without = bar(5.0, 8.0, 5.0, 6.0, 500.0, 6.4, 4), BAR
        assert reconcile_bars(ticks, with_it if stands else without, conditions())["cause"].unique().to_list() == (
            [] if stands else ["correction"]
        )
        if not stands:
            before = reconcile_bars(ticks, with_it, conditions())
            assert set(before["cause"]) == {"correction"}
            assert before["detail"][0] == "It counts a trade that was corrected or cancelled."


def test_an_interval_without_a_price_has_no_bar() -> None:
    ticks = trades(*PLAIN, (END + S, 6.0, 5.0, [37]), (END + M + S, 6.0, 100.0, None))
    vendor = pl.concat([BAR, bar(6.0, 6.0, 6.0, 6.0, 100.0, 6.0, 1, END + M)])
    made = reconcile_bars(ticks, vendor, conditions())
    assert made.select("field", "vendor", "built", "plain", "cause").rows() == [("bar", None, None, 1.0, "odd_lot")]
    # One that the vendor has not, though there is a price; and one that it has, though there is no trade.
    ticks = trades(*PLAIN, (END + S, 6.0, 100.0, None), (END + M + S, 6.0, 100.0, None))
    lone = reconcile_bars(ticks, vendor, conditions())
    assert lone.select("field", "vendor", "built", "cause").rows() == [("bar", None, 1.0, "unexplained")]
    more = pl.concat([BAR, bar(6.0, 6.0, 6.0, 6.0, 100.0, 6.0, 1, END), vendor[1:]])
    ticks = trades(*PLAIN, (END + M + S, 6.0, 100.0, None))
    lone = reconcile_bars(ticks, more, conditions())
    assert lone.select("field", "vendor", "built", "cause", "detail").rows() == [
        ("bar", 1.0, None, "unexplained", "There is no trade of it.")
    ]


def test_without_a_bar_of_a_symbol_nothing_is_compared_unless_it_is_said_what_should_be_there() -> None:
    ticks, none = trades(*PLAIN), build("bars", {name: [] for name in ("symbol", "ts_event", "ts_close")})
    assert reconcile_bars(ticks, none, conditions()).height == 0, "its first bar is still to come"
    other = reconcile_bars(pl.concat([ticks, trades(*PLAIN, symbol="B")]), BAR, conditions())
    assert other.height == 0
    at = [dt.datetime.fromtimestamp(ns / S, dt.UTC) for ns in (T, END)]
    made = reconcile_bars(ticks, none, conditions(), start=at[0], end=at[1])
    assert made.select("field", "cause").rows() == [("bar", "unexplained")]


def test_outside_regular_hours_form_t_makes_the_bar_and_the_closing_print_is_in_none() -> None:
    early = new_york_ns(dt.date(2025, 6, 2), 8)
    ticks = trades((early + S, 5.0, 100.0, [12]), (early + 2 * S, 9.0, 10.0, [12, 37]), (early + 3 * S, 6.0, 100.0, [12]))
    made = reconcile_bars(ticks, bar(5.0, 6.0, 5.0, 6.0, 210.0, 5.5, 3, early), conditions())
    assert causes(made) == {"high": "odd_lot", "vwap": "odd_lot"}
    regular = trades(*PLAIN, (T + 59 * S + 1, 9.0, 100.0, [12]))
    assert causes(reconcile_bars(regular, bar(5.0, 7.0, 5.0, 6.0, 500.0, 6.0, 4), conditions())) == dict.fromkeys(
        ("high", "close", "vwap"), "condition_code"
    )
    close = new_york_ns(dt.date(2025, 6, 2), 16)
    ticks = trades((close + S, 9.0, 5e6, [8]), (close + 2 * S, 6.0, 100.0, [12]))
    made = reconcile_bars(ticks, bar(6.0, 6.0, 6.0, 6.0, 100.0, 6.0, 1, close), conditions())
    assert set(made["cause"]) == {"condition_code"}
    assert made["built"].equals(made["vendor"])


def test_options_have_their_own_conditions() -> None:
    symbol = "O:SPY250620C00600000"
    ticks = trades((T + S, 5.0, 1.0, [209]), (T + 2 * S, 9.0, 1.0, [201]), (T + 3 * S, 6.0, 1.0, [37]), symbol=symbol)
    made = reconcile_bars(ticks, bar(5.0, 6.0, 5.0, 6.0, 2.0, 5.5, 2, symbol=symbol), conditions())
    assert causes(made) == dict.fromkeys(("high", "volume", "vwap", "trade_count"), "condition_code")


def test_a_condition_that_nobody_knows_is_named() -> None:
    ticks = trades(*PLAIN, (T + 40 * S, 8.0, 100.0, [999]))
    assert reconcile_bars(ticks, bar(5.0, 8.0, 5.0, 6.0, 500.0, 6.4, 4), conditions()).height == 0
    made = reconcile_bars(ticks, bar(5.0, 7.0, 5.0, 6.0, 500.0, 6.0, 4), conditions())
    assert set(made["cause"]) == {"condition_code"}
    assert made["detail"][0] == "Trades of conditions 999, which the table lacks, set no price."
    made = reconcile_bars(ticks, BAR, conditions())
    assert made["detail"][0] == "Trades of conditions 999, which the table lacks, do not count."


def test_the_order_within_a_millisecond_and_the_last_decimal_are_rounding() -> None:
    # The stream tells milliseconds; which of the two of the last one closed is not known.
    stream = trades((T + S, 5.0, 100.0, None), (T + 59 * S, 7.0, 100.0, None), (T + 59 * S, 6.0, 100.0, None))
    stream = stream.with_columns(ts_sip=pl.col("ts_sip").dt.truncate("1ms"))
    assert reconcile_bars(stream, bar(5.0, 7.0, 5.0, 6.0, 300.0, 6.0, 3), conditions()).height == 0
    made = reconcile_bars(stream, bar(5.0, 7.0, 5.0, 7.0, 300.0, 6.0, 3), conditions())
    assert causes(made) == {"close": "rounding"}
    exact = stream.with_columns(ts_participant=pl.col("ts_participant") + pl.duration(nanoseconds=1))
    assert causes(reconcile_bars(exact, bar(5.0, 7.0, 5.0, 7.0, 300.0, 6.0, 3), conditions())) == {"close": "unexplained"}
    near = bar(5.0, 7.0, 5.0, 6.0, 400.0001, 6.0001, 3)
    assert causes(reconcile_bars(trades(*PLAIN), near, conditions())) == {"volume": "rounding", "vwap": "rounding"}
    far = bar(5.0, 7.0, 5.0, 6.0, 400.0, 6.01, 3)
    assert causes(reconcile_bars(trades(*PLAIN), far, conditions())) == {"vwap": "unexplained"}


def test_a_vwap_over_all_trades_is_recognised() -> None:
    ticks = trades(*PLAIN, (T + 20 * S, 9.0, 100.0, [37]))
    made = reconcile_bars(ticks, bar(5.0, 7.0, 5.0, 6.0, 500.0, 6.6, 4), conditions())
    assert causes(made) == {"high": "odd_lot", "vwap": "condition_code"}
    assert made["detail"][1] == "Its VWAP weighs all trades that count in the volume."


def test_holes_and_ends_of_the_trades_are_missing_trades_and_nothing_else_is() -> None:
    ticks = trades(*(row for row in PLAIN if row[1] != 7.0), (END + S, 6.0, 100.0, None))
    bars = pl.concat([BAR, bar(6.0, 6.0, 6.0, 6.0, 100.0, 6.0, 1, END)])
    whole = {"start": dt.datetime.fromtimestamp(T / S, dt.UTC), "end": dt.datetime.fromtimestamp((END + M) / S, dt.UTC)}
    made = reconcile_bars(ticks, bars, conditions(), **whole)
    assert set(made["cause"]) == {"unexplained"}
    assert made["detail"][0] == "The vendor has 1 trades more and a volume 100 higher."

    def gap(start: int, end: int | None, **more: str) -> pl.DataFrame:
        stamps = pl.DataFrame({"start": [start], "end": [end]}, schema=dict.fromkeys(("start", "end"), pl.Datetime("ns", "UTC")))
        return stamps.with_columns(**{name: pl.lit(value) for name, value in more.items()})

    lacking = bars[1:]
    for topic, expected in (("AM.A", "missing_bar"), ("T.A", "unexplained"), ("AM.B", "unexplained"), (None, "missing_bar")):
        gaps = gap(END + S, END + 3 * S, **({} if topic is None else {"topic": topic}))
        made = reconcile_bars(trades(*PLAIN, (END + S, 6.0, 100.0, None)), lacking, conditions(), gaps=gaps, **whole)
        assert made.select("field", "cause").rows() == [("bar", expected)], topic

    cases = [
        (gap(T + 20 * S, T + 35 * S), "missing_trade"),
        (gap(T + 20 * S, None), "missing_trade"),
        (gap(T + 20 * S, T + 35 * S, topic="T.A", state="unfilled"), "missing_trade"),
        (gap(T + 20 * S, T + 35 * S, topic="T.A", state="filled"), "unexplained"),
        (gap(T + 20 * S, T + 35 * S, topic="T.B"), "unexplained"),
        (gap(T + 20 * S, T + 35 * S, topic="Q.A"), "unexplained"),
        (gap(END, END + S), "unexplained"),
    ]
    for gaps, expected in cases:
        assert set(reconcile_bars(ticks, bars, conditions(), gaps=gaps, **whole)["cause"]) == {expected}
    # A gap on our clock, which is years off: the trades say when they came.
    came = pl.Series([1_000 * S, 1_001 * S, 1_100 * S], dtype=pl.Datetime("ns", "UTC"))
    live = ticks.with_columns(ts_recv=came, source=pl.lit("stream"))
    for span, expected in (((1_000, 1_001), "missing_trade"), ((1_050, 1_060), "missing_trade"), ((2_000, 2_001), "unexplained")):
        gaps = gap(span[0] * S, span[1] * S, topic="T.A", state="partial")
        assert set(reconcile_bars(live, bars, conditions(), gaps=gaps, **whole)["cause"]) == {expected}, span
    # Without bounds, the first trade seen may not be the first there was.
    begun = reconcile_bars(trades(*PLAIN[1:], (END + S, 6.0, 100.0, None)), bars, conditions())
    assert set(begun["cause"]) == {"missing_trade"}
    assert begun["detail"][0].startswith("The trades begin within it. The vendor has")
    ended = reconcile_bars(trades(*PLAIN[:2]), bars, conditions())
    assert ended["ts_event"].unique().to_list() == [BAR["ts_event"][0]]
    assert set(ended["cause"]) == {"missing_trade"}


def test_seconds_live_tables_pandas_and_several_symbols() -> None:
    ticks = pl.concat([trades(*PLAIN), trades((T + S, 1.0, 1.0, None), symbol="B")])
    same, other = (5.0, 5.0, 5.0, 5.0, 100.0, 5.0, 1), (2.0, 2.0, 2.0, 2.0, 1.0, 2.0, 1)
    bars = pl.concat([bar(*same, T + S, length=S), bar(*other, T + S, "B", S)])
    made = reconcile_bars(ticks, bars, conditions(), "1s")
    assert made["symbol"].unique().to_list() == ["B"]
    live = bars.drop("trade_count")
    assert "trade_count" not in set(reconcile_bars(ticks, live, conditions(), "1s")["field"])
    again = reconcile_bars(ticks.to_pandas(), bars.to_pandas(), conditions().to_pandas(), "1s")
    assert again["cause"].tolist() == made["cause"].to_list()
    assert ml.reconcile_bars is reconcile_bars
    assert reconcile_bars(ticks.head(0), bars.head(0), conditions(), "1s").height == 0


def test_what_it_cannot_work_with_is_said() -> None:
    ticks = trades(*PLAIN)
    with pytest.raises(InvalidRequest, match="Use '1s' or '1m'"):
        reconcile_bars(ticks, BAR, conditions(), "5m")
    with pytest.raises(InvalidRequest, match=r"conditions=lab\.conditions"):
        reconcile_bars(ticks, BAR)
    assert reconcile_bars(ticks.with_columns(conditions=None), BAR).height == 0
    with pytest.raises(FrameInvariantError, match="are not of 1 s"):
        reconcile_bars(ticks, BAR, conditions(), "1s")
    with pytest.raises(FrameInvariantError, match="trades lack price"):
        reconcile_bars(ticks.drop("price"), BAR, conditions())
    with pytest.raises(FrameInvariantError, match="conditions lack name"):
        reconcile_bars(ticks, BAR, conditions().drop("name"))
    with pytest.raises(InvalidRequest, match="time zone"):
        reconcile_bars(ticks, BAR, conditions(), start=dt.datetime(2025, 6, 2))
    with pytest.raises(InvalidRequest, match="end is '2025'"):
        reconcile_bars(ticks, BAR, conditions(), end="2025")
