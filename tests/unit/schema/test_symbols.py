from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal

import numpy as np
import polars as pl
import pytest

from massive_lab.errors import InvalidRequest, UnknownSymbol
from massive_lab.schema.symbols import OptionSymbol, Symbol, parse_many, parse_symbol


@pytest.mark.parametrize("text", ["A", "AAPL", "BRK.B", "BACpL", "BF.A", "ABRpD", "A1", "BRK-B", "TWTR.WS"])
def test_stocks(text: str) -> None:
    assert parse_symbol(text) == Symbol(text, "stocks")


@pytest.mark.parametrize("text", ["I:SPX", "I:NDX", "I:VIX", "I:VIX9D", "I:DJI", "I:COMP", "I:A_B.C-1"])
def test_indices(text: str) -> None:
    assert parse_symbol(text) == Symbol(text, "indices")


def test_options() -> None:
    parsed = parse_symbol("O:SPY251219C00650500")
    assert isinstance(parsed, OptionSymbol)
    assert parsed == OptionSymbol("O:SPY251219C00650500", "options", "SPY", dt.date(2025, 12, 19), "call", 650.5)
    assert (str(parsed), parsed.underlying, parsed.is_adjusted) == ("O:SPY251219C00650500", "SPY", False)


@pytest.mark.parametrize(
    ("text", "root", "underlying", "is_adjusted"),
    [
        ("O:SPX251219P05000000", "SPX", "I:SPX", False),
        ("O:SPXW251219P05000000", "SPXW", "I:SPX", False),
        ("O:VIXW251217C00020000", "VIXW", "I:VIX", False),
        ("O:VIX251217C00020000", "VIX", "I:VIX", False),
        ("O:NDXP251219C20000000", "NDXP", "I:NDX", False),
        ("O:RUTW251219C02000000", "RUTW", "I:RUT", False),
        ("O:XSP251219C00600000", "XSP", "I:XSP", False),
        ("O:A251219C00100000", "A", "A", False),
        ("O:BRKB251219C00500000", "BRKB", "BRK.B", False),
        ("O:BRKB1251219C00500000", "BRKB1", "BRK.B", True),
        ("O:GOOGL251219C00100000", "GOOGL", "GOOGL", False),
        ("O:SOXS1251219C00010000", "SOXS1", "SOXS", True),
        ("O:ABCDE1251219C00010000", "ABCDE1", "ABCDE", True),
        ("O:F2251219C00010000", "F2", "F", True),
    ],
)
def test_roots_and_what_they_are_written_on(text: str, root: str, underlying: str, is_adjusted: bool) -> None:
    parsed = parse_symbol(text)
    assert isinstance(parsed, OptionSymbol)
    assert (parsed.root, parsed.underlying, parsed.is_adjusted) == (root, underlying, is_adjusted)
    assert parsed.expiration.year == 2025


@pytest.mark.parametrize(
    "text",
    [
        "O:",
        "O:SPY",
        "O:251219C00650000",
        "O:SPY251219C0065000",
        "O:SPY251219C006500000",
        "O:SPY251219X00650000",
        "O:SPY251219c00650000",
        "O:spy251219C00650000",
        "O:SPY251219C00000000",
        "O:SPY251319C00650000",
        "O:SPY250230C00650000",
        "O:SPY251200C00650000",
        "O:SPY251219C0065000A",
        "O:SPY251219C+0650000",
        "O:SPY25121 C00650000",
        "O:SPY\u06625121\u0669C00650000",
        "O:SPY251219C0065000\u0660",
        "O:TOOLONG251219C00650000",
        "O:1SPY251219C00650000",
        "O:BRK.B251219C00650000",
        "O:SPY251219C00650000 ",
        "O:SPY251219C00650000\n",
        "O: SPY251219C00650000",
    ],
)
def test_what_is_no_option(text: str) -> None:
    with pytest.raises(UnknownSymbol) as caught:
        parse_symbol(text)
    assert caught.value.symbol == text
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    ["aapl", "AAPL ", " AAPL", "AAPL\n", "AA PL", "1A", "BRK..B", "BRK.", ".B", "A?b", "A#b", "A%2F", "\u00c4", "I:", "I:spx",
     "I:SPX\n", "I: SPX", "i:SPX", "A:B", "$SPX", "^GSPC", "/ES", "A/../B", "../A"],
)  # fmt: skip
def test_what_is_no_symbol(text: str) -> None:
    with pytest.raises(UnknownSymbol) as caught:
        parse_symbol(text)
    assert caught.value.symbol == text


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("aapl", "AAPL"),
        ("brk.b", "BRK.B"),
        ("i:spx", "I:SPX"),
        ("I:vix", "I:VIX"),
        ("o:spy251219c00650000", "O:SPY251219C00650000"),
    ],
)
def test_small_letters_are_told_what_was_probably_meant(text: str, meant: str) -> None:
    with pytest.raises(UnknownSymbol, match=f"Did you mean '{meant}'"):
        parse_symbol(text)


@pytest.mark.parametrize("text", ["c:eurusd", "x:btcusd"])
def test_nobody_is_sent_to_a_class_that_is_refused(text: str) -> None:
    with pytest.raises(UnknownSymbol) as caught:
        parse_symbol(text)
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind"), [("C:EURUSD", "forex"), ("X:BTCUSD", "crypto"), ("C:", "forex"), ("X:A", "crypto")]
)
def test_other_asset_classes_are_refused_by_name(text: str, kind: str) -> None:
    with pytest.raises(UnknownSymbol, match=f"is a {kind} symbol.*Only stocks, options and indices"):
        parse_symbol(text)


@pytest.mark.parametrize(
    "value", [None, "", 1, 1.5, True, b"AAPL", ["AAPL"], {"AAPL"}, {"a": 1}, np.array(["A"]), object], ids=repr
)
def test_what_is_no_text_gets_the_typed_error_hashable_or_not(value: object) -> None:
    with pytest.raises(UnknownSymbol, match="must be a non-empty text"):
        parse_symbol(value)


def test_a_huge_value_is_not_quoted_whole() -> None:
    with pytest.raises(UnknownSymbol) as caught:
        parse_symbol(["AAPL"] * 10_000)
    assert len(str(caught.value)) < 300


def test_texts_of_other_kinds_become_plain_text() -> None:
    class Ticker(enum.StrEnum):
        ZION = "ZION"

    for odd in (np.str_("ZION"), Ticker.ZION):
        assert type(parse_symbol(odd).text) is str
        assert parse_symbol(odd).text == "ZION"
    assert type(parse_symbol("ZION").text) is str


# build


@pytest.mark.parametrize("strike", [650.5, Decimal("650.5"), np.float64(650.5), np.float32(650.5)], ids=repr)
def test_build_takes_any_number(strike: float) -> None:
    built = OptionSymbol.build("SPY", dt.date(2025, 12, 19), "put", strike)
    assert built.text == "O:SPY251219P00650500"
    assert type(built.strike) is float


@pytest.mark.parametrize(
    ("change", "match"),
    [
        *(({"root": root}, "root") for root in ("", "spy", "TOOLONG", "1A", "BRK.B", "SPY ", None, 5, b"SPY")),
        *(({"option_type": kind}, "option_type") for kind in ("C", "CALL", "", None)),
        *(
            ({"strike": strike}, "Strike")
            for strike in (
                0,
                -1,
                0.0004,
                1.0005,
                100_000,
                1e300,
                float("nan"),
                float("inf"),
                None,
                "650",
                Decimal("NaN"),
            )
        ),
        *(({"expiration": dt.date(year, 1, 1)}, "2000-2099") for year in (1999, 2100, 1)),
        *(({"expiration": date}, "date") for date in ("2025-12-19", None, dt.datetime(2025, 12, 19, tzinfo=dt.UTC))),
    ],
)
def test_build_refuses_what_the_form_cannot_hold(change: dict[str, object], match: str) -> None:
    parts: dict[str, object] = {
        "root": "SPY",
        "expiration": dt.date(2025, 12, 19),
        "option_type": "call",
        "strike": 650.0,
    }
    with pytest.raises(InvalidRequest, match=match):
        OptionSymbol.build(**{**parts, **change})  # type: ignore[arg-type]


# several


def test_order_is_kept_and_repeats_are_dropped() -> None:
    assert [s.text for s in parse_many(["MSFT", "AAPL", "MSFT", "I:SPX", "AAPL"])] == ["MSFT", "AAPL", "I:SPX"]
    assert [s.text for s in parse_many("AAPL")] == ["AAPL"]


@pytest.mark.parametrize(
    "given",
    [("A", "B"), iter(["A", "B"]), {"A": 1, "B": 2}, pl.Series(["A", "B"]), np.array(["A", "B"]), (s for s in "AB")],
)
def test_any_iterable_will_do(given: object) -> None:
    assert [s.text for s in parse_many(given)] == ["A", "B"]


@pytest.mark.parametrize("nothing", [[], (), {}, iter(()), pl.Series([], dtype=pl.String)])
def test_none_at_all_is_an_error(nothing: object) -> None:
    with pytest.raises(InvalidRequest, match="empty"):
        parse_many(nothing)


@pytest.mark.parametrize("value", [None, 1, 2.5, b"AAPL", bytearray(b"AAPL"), object], ids=repr)
def test_what_holds_no_symbols_is_an_error(value: object) -> None:
    with pytest.raises(InvalidRequest, match="neither a symbol nor a list"):
        parse_many(value)


@pytest.mark.parametrize("item", [None, 1, b"A", ["A"], [["A"]], "", "C:EURUSD"])
def test_one_bad_symbol_spoils_the_list(item: object) -> None:
    with pytest.raises(UnknownSymbol):
        parse_many(["AAPL", item])


def test_an_empty_text_is_no_symbol() -> None:
    with pytest.raises(UnknownSymbol):
        parse_many("")


def test_one_class_may_be_asked_for() -> None:
    assert len(parse_many(["I:SPX", "I:NDX"], asset_class="indices")) == 2
    with pytest.raises(InvalidRequest, match="AAPL belongs to stocks; this call serves indices") as caught:
        parse_many(["I:SPX", "AAPL"], asset_class="indices")
    assert caught.value.symbol == "AAPL"
