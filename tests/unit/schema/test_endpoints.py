from __future__ import annotations

import itertools
import re

import pytest

from massive_lab.schema.endpoints import ENDPOINTS, classify

SYMBOLS = [
    "AAPL",
    "BRK.B",
    "BACpL",
    "I:SPX",
    "I%3ASPX",
    "O:SPXW251219P05000000",
    "TYPES",
    "PREV",
    "NOW",
    "OPTIONS",
    "TICKERS",
]


def filled(template: str, symbol: str) -> str:
    fixed = {"multiplier": "1", "timespan": "day", "start": "2025-06-02", "end": "2025-06-03", "date": "2025-06-02"}
    return template.format(**fixed, symbol=symbol, underlying=symbol, contract="O:A251219C00650000", direction="losers")


@pytest.mark.parametrize("name", ENDPOINTS)
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_every_template_with_awkward_symbols(name: str, symbol: str) -> None:
    assert classify(filled(ENDPOINTS[name], symbol)) == name


def test_literal_segments_win_over_placeholders_and_only_as_written() -> None:
    assert classify("/v3/reference/tickers/types") == "ticker_types"
    assert classify("/v3/reference/tickers/TYPES") == "ticker_details"
    assert classify("/v2/snapshot/locale/us/markets/stocks/tickers") == "snapshot_stocks"
    assert classify("/v2/snapshot/locale/us/markets/stocks/gainers") == "snapshot_movers"
    assert classify("/v3/snapshot/indices") == "snapshot_indices"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v3/trades",
        "/v3/trades/",
        "/v3/trades/A/B",
        "/v3/trades/A/",
        "//v3/trades/A",
        "v3/trades/A",
        "/V3/trades/A",
        "/v1/indicators/wma/A",
        "/v3/snapshot/options",
        "/v3/snapshot/",
        "x/v3/snapshot",
        "/v3/snapshot/options/A/B/C",
    ],
)
def test_everything_else_is_other(path: str) -> None:
    assert classify(path) == "other"


def test_no_path_is_two_endpoints_but_for_a_literal_that_wins() -> None:
    def segments(template: str) -> list[str]:
        return re.sub(r"\{\w+\}", "*", template).split("/")

    for (_, one), (_, two) in itertools.combinations(ENDPOINTS.items(), 2):
        left, right = segments(one), segments(two)
        assert left != right, f"{one} and {two} are the same"
        if len(left) != len(right):
            continue
        if all(a == b or "*" in (a, b) for a, b in zip(left, right, strict=True)):
            # Both would match some path: then one is the other with literals in place of placeholders.
            more = [a for a, b in zip(left, right, strict=True) if a != b]
            less = [b for a, b in zip(left, right, strict=True) if a != b]
            assert "*" not in more or "*" not in less, f"{one} and {two} are ambiguous"
            literal = one if "*" not in more else two
            assert classify(filled(literal, "A")) == next(name for name, t in ENDPOINTS.items() if t == literal)


def test_templates_are_plain_paths() -> None:
    for name, template in ENDPOINTS.items():
        assert re.fullmatch(r"[a-z_]+", name)
        assert re.fullmatch(r"(?:/(?:[a-z0-9-]+|\{[a-z]+\}))+", template), template
    assert "other" not in ENDPOINTS
