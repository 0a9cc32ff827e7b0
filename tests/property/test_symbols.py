"""Laws of symbols: what is built is read back, and nothing but a symbol or the typed error ever comes out."""

from __future__ import annotations

import datetime as dt

from hypothesis import assume, given
from hypothesis import strategies as st

from massive_lab.errors import UnknownSymbol
from massive_lab.schema.endpoints import ENDPOINTS, classify
from massive_lab.schema.symbols import OptionSymbol, Symbol, parse_symbol

roots = st.from_regex(r"[A-Z][A-Z0-9]{0,5}", fullmatch=True)
expirations = st.dates(dt.date(2000, 1, 1), dt.date(2099, 12, 31))
option_types = st.sampled_from(["call", "put"])
thousandths = st.integers(1, 10**8 - 1)


@given(roots, expirations, option_types, thousandths)
def test_what_is_built_is_read_back(root: str, expiration: dt.date, option_type: str, strike: int) -> None:
    built = OptionSymbol.build(root, expiration, option_type, strike / 1000)  # type: ignore[arg-type]
    assert parse_symbol(built.text) == built
    assert (built.root, built.expiration, built.option_type) == (root, expiration, option_type)
    assert round(built.strike * 1000) == strike
    assert len(built.text) == 2 + len(root) + 15


@given(roots, expirations, option_types, thousandths)
def test_what_is_read_is_built_again(root: str, expiration: dt.date, option_type: str, strike: int) -> None:
    text = f"O:{root}{expiration:%y%m%d}{option_type[0].upper()}{strike:08d}"
    parsed = parse_symbol(text)
    assert isinstance(parsed, OptionSymbol)
    assert OptionSymbol.build(parsed.root, parsed.expiration, parsed.option_type, parsed.strike).text == text


@given(st.one_of(st.text(), st.text("AIOCX:BRK.Bp19-/ \n", max_size=25), st.from_regex(r"O:[A-Z0-9]{15,22}")))
def test_any_text_is_a_symbol_or_the_typed_error(text: str) -> None:
    try:
        symbol = parse_symbol(text)
    except UnknownSymbol:
        return
    assert isinstance(symbol, Symbol)
    assert symbol.text == text
    assert symbol.text.isascii()
    assert symbol.text.isprintable()
    assert (symbol.asset_class == "options") == text.startswith("O:") == isinstance(symbol, OptionSymbol)
    assert (symbol.asset_class == "indices") == text.startswith("I:")


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.binary(), st.dates(), st.just("")),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner), st.sets(st.integers())),
)


@given(anything)
def test_anything_else_is_the_typed_error(value: object) -> None:
    try:
        parse_symbol(value)
    except UnknownSymbol:
        return
    raise AssertionError(value)


@given(st.sampled_from(sorted(ENDPOINTS)), st.from_regex(r"(?:I:|O:)?[A-Z][A-Z0-9.]{0,20}", fullmatch=True))
def test_every_template_is_classified_as_itself(name: str, symbol: str) -> None:
    values = {
        "multiplier": "5", "timespan": "minute", "start": "2025-06-02", "end": "1748836800000", "date": "2025-06-02",
        "direction": "gainers", "symbol": symbol, "underlying": symbol, "contract": "O:SPY251219C00650000",
    }  # fmt: skip
    path = ENDPOINTS[name].format(**values)
    assume(path != ENDPOINTS["snapshot_stocks"])
    assert classify(path) == name
