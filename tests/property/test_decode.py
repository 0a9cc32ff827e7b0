"""Laws of decoding: the quick ways equal the exact one to the last bit, and only typed errors come out of any bytes."""

from __future__ import annotations

import json
import struct

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from massive_lab.decode import bars, ticks
from massive_lab.decode.pages import paginate, read_page
from massive_lab.decode.status import error_from
from massive_lab.errors import DecodeError, IncompletePagination, MassiveLabError
from massive_lab.frames import rest
from massive_lab.frames.build import build, to_schema
from massive_lab.schema.timeframe import parse_timeframe

LONG = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])

digits = st.integers(0, 10**17).map(str)
fractions = st.floats(0, 1e12, allow_nan=False).map(lambda x: format(x, ".17g") if x < 1e15 else str(int(x)))
decimals = st.tuples(st.integers(0, 10**10), st.integers(0, 10**9)).map(lambda p: f"{p[0]}.{p[1]}")
exponents = st.tuples(st.integers(1, 999), st.integers(-20, 20)).map(lambda p: f"{p[0] / 100}e{p[1]}")
long_numbers = st.integers(10**18, 10**40).map(lambda x: f"{str(x)[:9]}.{str(x)[9:]}")
negatives = st.sampled_from(["-1.5", "-0", "-0.0", "-0e0", "-3", "-2.5e-3"])
positives = st.one_of(digits, fractions, decimals, exponents, long_numbers)
numbers = st.one_of(positives, negatives)
stamps = st.one_of(
    st.integers(0, 4 * 10**12).map(str),
    st.integers(0, 2 * 10**18).map(str),
    st.sampled_from(["1.7488710e12", "1748871000000.0", "1.5", "-1", "9223372036854775807", "9223372036854775808"]),
)
counts = st.one_of(st.integers(0, 10**9).map(str), st.sampled_from(["1.2e3", "7.0", "0", "-0", "1e99999", "2.5"]))
texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(['"', "\\", "},{", '"v":1', ":", "é\n", "\x00", "null", "1.5", '{"o":1}', "]}", "NaN"]),
).map(json.dumps)
hostile = st.one_of(
    texts, st.sampled_from(["null", "true", "[]", "{}", '{"o":1}', "[1,[2]]", "01", "1.", ".5", "+1", "", "NaN"])
)

BAR_FIELDS = {
    "v": numbers,
    "vw": numbers,
    "o": numbers,
    "c": numbers,
    "h": numbers,
    "l": numbers,
    "t": stamps,
    "n": counts,
    "otc": st.just("true"),
    "T": texts,
}
TRADE_FIELDS = {
    "sip_timestamp": stamps,
    "participant_timestamp": stamps,
    "price": numbers,
    "size": numbers,
    "decimal_size": st.one_of(decimals.map(json.dumps), texts),
    "conditions": st.lists(st.integers(0, 99), max_size=3).map(json.dumps),
    "exchange": counts,
    "id": texts,
    "sequence_number": counts,
}
QUOTE_FIELDS = {
    "sip_timestamp": stamps,
    "bid_price": numbers,
    "ask_price": numbers,
    "bid_size": numbers,
    "ask_exchange": counts,
    "conditions": st.sampled_from(["[]", "[1]", "[1,2]", "[null]", '["x"]', "[1.0]"]),
    "indicators": st.lists(st.integers(0, 999), max_size=2).map(json.dumps),
    "sequence_number": counts,
}
GOOD_BAR = {"v": "1", "vw": "1.5", "o": "1", "c": "2", "h": "3", "l": "0.5", "t": "1748871000000", "n": "4"}
GOOD_TRADE = {"sip_timestamp": "1748871000123456789", "price": "1.5", "size": "2", "conditions": "[1]", "id": '"7"'}
GOOD_QUOTE = {"sip_timestamp": "1748871000123456789", "bid_price": "1.5", "ask_price": "0", "conditions": "[]"}


def text_of(fields: list[tuple[str, str]], space: str = "") -> str:
    return "{" + f",{space}".join(f'"{name}":{space}{value}' for name, value in fields) + "}"


@st.composite
def bodies(draw: st.DrawFn, fields: dict[str, st.SearchStrategy[str]], good: dict[str, str]) -> bytes:
    """A page long enough for the quick way: mostly plain rows, some of them drawn, in a drawn order of fields."""
    order = draw(st.permutations(sorted(good)))
    plain = text_of([(name, good[name]) for name in order])
    rows = [plain] * 120
    for _ in range(draw(st.integers(0, 4))):
        row = dict(good)
        for name in draw(st.lists(st.sampled_from(sorted(fields)), max_size=4)):
            row[name] = draw(fields[name])
        for name in draw(st.lists(st.sampled_from(sorted(row)), max_size=2, unique=True)):
            if draw(st.booleans()):
                del row[name]
        names = draw(st.permutations(sorted(row)))
        cells = [(name, row[name]) for name in names]
        if cells and draw(st.integers(0, 7)) == 0:
            cells.insert(
                draw(st.integers(0, len(cells))), draw(st.sampled_from([*cells, ("new", "1"), ("o1", "2"), ("", "3")]))
            )
        if cells and draw(st.integers(0, 7)) == 0:
            at = draw(st.integers(0, len(cells) - 1))
            cells[at] = (cells[at][0], draw(hostile))
        rows.insert(draw(st.integers(0, len(rows))), text_of(cells, draw(st.sampled_from(["", "", "", " "]))))
    between = draw(st.sampled_from([",", ",", ",", ", ", ",\n"]))
    tail = draw(
        st.sampled_from(
            ["", ',"count":5', ',"next_url":"https://h/x?cursor=}]"', ',"results":[]', ',"x":[{"results":[{"o":1}]}]']
        )
    )
    return f'{{"ticker":"A","results":[{between.join(rows)}],"status":"OK"{tail}}}'.encode()


def outcome(frame: pl.DataFrame | None, error: MassiveLabError | None) -> object:
    if error is not None:
        return type(error)
    assert frame is not None
    # -0.0 equals 0.0 and the bits differ: compare the bits.
    bits = [
        [None if x is None else struct.pack("<d", x) for x in column]
        if column.dtype == pl.Float64
        else column.to_list()
        for column in frame
    ]
    return frame.schema, bits


def run(call: object, body: bytes, table: str | None = None) -> object:
    try:
        found = call(body)  # type: ignore[operator]
        frame = found if table is None else build(table, {"symbol": "A", **found})
    except MassiveLabError as error:
        return outcome(None, error)
    return outcome(frame, None)


@LONG
@given(bodies(BAR_FIELDS, GOOD_BAR))
def test_bars_quick_and_exact_agree(body: bytes):
    quick = run(lambda b: bars.bar_columns(b, endpoint="aggs_range"), body)
    assert quick == run(lambda b: bars.bar_columns_exact(b, endpoint="aggs_range"), body)


@LONG
@given(bodies(TRADE_FIELDS, GOOD_TRADE))
def test_trades_quick_and_exact_agree(body: bytes):
    assert run(ticks.trade_columns, body, "trades") == run(ticks.trade_columns_exact, body, "trades")


@LONG
@given(bodies(QUOTE_FIELDS, GOOD_QUOTE))
def test_quotes_quick_and_exact_agree(body: bytes):
    assert run(ticks.quote_columns, body, "quotes") == run(ticks.quote_columns_exact, body, "quotes")


@settings(max_examples=50)
@given(st.lists(st.lists(positives, min_size=4, max_size=4), min_size=60, max_size=80))
def test_every_price_is_the_double_nearest_to_its_text(rows: list[list[str]]):
    cells = [",".join(f'"{name}":{value}' for name, value in zip("ohlc", row, strict=True)) for row in rows]
    text = ",".join(f'{{{cell},"t":{i}}}' for i, cell in enumerate(cells))
    frame = bars.bar_columns(f'{{"results":[{text}]}}'.encode(), endpoint="aggs_range")
    for i, name in enumerate(("open", "high", "low", "close")):
        assert frame[name].to_list() == [float(row[i]) for row in rows]


@given(st.lists(st.integers(0, 10**6), max_size=40), st.sampled_from(["1m", "1d", "1w", "1mo"]))
def test_bars_are_ascending_and_unique_whatever_came(minutes: list[int], timeframe: str):
    rows = [{"o": i, "h": i, "l": i, "c": i, "t": 1_600_000_000_000 + m * 60_000} for i, m in enumerate(minutes)]
    body = json.dumps({"results": rows}).encode()
    frame = rest.bars([body], symbol="A", timeframe=parse_timeframe(timeframe))
    assert frame.schema == to_schema("bars")
    stamps = frame["ts_event"]
    assert stamps.is_sorted()
    assert stamps.n_unique() == frame.height
    assert (frame["ts_close"] > stamps).all()
    last = {m: float(i) for i, m in enumerate(minutes)}
    if timeframe == "1m":
        assert frame["close"].to_list() == [last[m] for m in sorted(last)]


PAGE_CALLS = {
    "bars": lambda b: rest.bars([b], symbol="A", timeframe=parse_timeframe("1d")),
    "trades": lambda b: rest.trades([b], symbol="A"),
    "quotes": lambda b: rest.quotes([b], symbol="A"),
    "last_trade": lambda b: rest.last_trade(b, symbol="A"),
    "chain": lambda b: rest.chain([b], underlying="A"),
    "snapshot": lambda b: rest.snapshot([b]),
    "indices": lambda b: rest.indices([b]),
    "contracts": lambda b: rest.contracts([b]),
    "tickers": lambda b: rest.tickers([b]),
    "indicator": lambda b: rest.server_indicator([b], symbol="A"),
    "status": rest.market_status,
    "holidays": rest.holidays,
    "open_close": lambda b: rest.open_close(b, symbol="A"),
    "page": lambda b: read_page(b, endpoint="trades"),
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["results", "ticker", "o", "t", "details", "values", "timestamp", "status", "session"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("name", PAGE_CALLS)
@settings(max_examples=60)
@given(
    body=st.one_of(
        st.binary(max_size=60),
        json_values.map(lambda v: json.dumps(v).encode()),
        json_values.map(lambda v: json.dumps({"results": v}).encode()),
    )
)
@example(body=b'{"results":' + b"[" * 100_000)
@example(body=b'{"results":' + b"[" * 500 + b"]" * 500 + b"}")
@example(body=b'{"results":[{"ticker":"\xff"}]}')
def test_only_typed_errors_come_out(name: str, body: bytes):
    try:
        PAGE_CALLS[name](body)
    except MassiveLabError as error:
        assert str(error)  # noqa: PT017 - success is allowed too


@given(
    st.integers(300, 599),
    st.binary(max_size=80),
    st.dictionaries(st.text(max_size=12), st.text(max_size=30), max_size=3),
)
def test_every_status_has_an_error_with_a_hint(status: int, body: bytes, headers: dict[str, str]):
    error = error_from(status, body, headers, endpoint="trades")
    assert error.hint
    assert len(error.message) <= 240


@given(st.integers(1, 8), st.data())
def test_paging_returns_all_or_says_what_is_missing(n: int, data: st.DataObject):
    """Pages come back whole and in order, or the first fault ends it with everything before it."""
    fault = data.draw(st.none() | st.integers(1, n))
    bodies = []
    for i in range(n):
        tail = f',"next_url":"https://h/p{i + 1}"' if i + 1 < n else ""
        body = f'{{"results":[{i}]{tail}}}'.encode()
        bodies.append(body[: len(body) // 2] if fault == i + 1 else body)
    steps = paginate("/p0", endpoint="trades")
    assert next(steps) == "/p0"

    def run_all() -> None:
        for body in bodies:
            steps.send(body)

    if fault is None:
        with pytest.raises(StopIteration) as end:
            run_all()
        assert [json.loads(page.body)["results"] for page in end.value.value] == [[i] for i in range(n)]
    elif fault == 1:
        with pytest.raises(DecodeError):
            run_all()
    else:
        with pytest.raises(IncompletePagination) as found:
            run_all()
        assert found.value.n_pages == fault - 1 == len(found.value.partial)
