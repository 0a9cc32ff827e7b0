"""Mutate recorded answers and decode them: `python fuzz/fuzz_decode.py [--count N] [--seed S]`.

Bounded by count, not by time, and repeatable by seed. Whatever the bytes, decoding gives a frame of its table's schema or raises
one of `ALLOWED`; anything else is a finding, written out with the seed and the bytes. Where a quick way exists it must agree with
the exact one.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl

from massive_lab.decode import bars, ticks
from massive_lab.decode.pages import read_page
from massive_lab.errors import (
    DecodeError,
    MassiveLabError,
    NotEntitled,
    RateLimited,
    Unauthorized,
    UnknownSymbol,
    UpstreamError,
)
from massive_lab.frames import rest
from massive_lab.frames.build import build, to_schema
from massive_lab.schema.timeframe import parse_timeframe

ALLOWED = (DecodeError, NotEntitled, RateLimited, Unauthorized, UnknownSymbol, UpstreamError)
GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "decode"
WORDS = (
    b"null",
    b"true",
    b"1e400",
    b"-0",
    b"1.5e3",
    b"[]",
    b"{}",
    b'"x"',
    b"},{",
    b'":',
    b"\\",
    b"\x00",
    b"\xff",
    b",",
    b"NaN",
    b"9" * 25,
)

Call = Callable[[bytes], pl.DataFrame]
CALLS: dict[str, tuple[str, Call]] = {
    "aggs_minute": ("bars", lambda b: rest.bars([b], symbol="A", timeframe=parse_timeframe("1m"))),
    "aggs_index_day": ("bars", lambda b: rest.bars([b], symbol="A", timeframe=parse_timeframe("1d"))),
    "aggs_prev": ("bars", lambda b: rest.previous_close(b, symbol="A")),
    "aggs_grouped": ("bars", lambda b: rest.grouped_daily(b, date="2025-06-02")),
    "open_close": ("open_close", lambda b: rest.open_close(b, symbol="A")),
    "trades": ("trades", lambda b: rest.trades([b], symbol="A")),
    "quotes": ("quotes", lambda b: rest.quotes([b], symbol="A")),
    "last_trade": ("trades", lambda b: rest.last_trade(b, symbol="A")),
    "last_quote": ("quotes", lambda b: rest.last_quote(b, symbol="A")),
    "chain": ("chain", lambda b: rest.chain([b], underlying="A")),
    "chain_contract_index": ("chain", rest.chain_contract),
    "snapshot": ("snapshot", lambda b: rest.snapshot([b])),
    "snapshot_indices": ("indices", lambda b: rest.indices([b])),
    "contracts": ("contracts", lambda b: rest.contracts([b])),
    "tickers": ("tickers", lambda b: rest.tickers([b])),
    "exchanges": ("exchanges", rest.exchanges),
    "conditions": ("conditions", lambda b: rest.conditions([b])),
    "indicator_macd": ("server_indicator", lambda b: rest.server_indicator([b], symbol="A")),
    "market_status": ("market_status", rest.market_status),
    "market_holidays": ("holidays", rest.holidays),
}


def mutate(body: bytes, draw: random.Random) -> bytes:
    text = bytearray(body)
    for _ in range(draw.randint(1, 3)):
        at, kind = draw.randrange(len(text) + 1), draw.choice((0, 1, 2, 3, 4, 5, *[6] * 8, *[7] * 8))
        if kind == 0:
            text[at : at + draw.randint(1, 20)] = b""
        elif kind == 1:
            text[at:at] = draw.choice(WORDS)
        elif kind == 2:
            text[at : at + 1] = bytes([draw.randrange(256)])
        elif kind == 3:
            start = draw.randrange(len(text) + 1)
            text[at:at] = text[start : start + draw.randint(1, 60)]
        elif kind == 4:
            text[at : at + draw.randint(1, 6)] = draw.choice(WORDS)
        elif kind == 5:
            del text[at:]
        elif kind == 6:  # another digit where one stands: the page stays whole
            places = [i for i, byte in enumerate(text) if 48 <= byte <= 57]
            if places:
                text[draw.choice(places)] = draw.randrange(48, 58)
        else:  # another value after a colon
            parts = bytes(text).split(b":")
            i = draw.randrange(len(parts))
            rest_of = parts[i].lstrip(b"-+.eE0123456789")
            parts[i] = draw.choice(WORDS) + rest_of if rest_of != parts[i] else parts[i]
            text = bytearray(b":".join(parts))
        if not text:
            break
    return bytes(text)


def grown(body: bytes) -> bytes:
    """The same page with its rows repeated and without spaces: long enough for the quick way."""
    body = body.replace(b'"resultsCount"', b'"was"').replace(b"1.748871000123456789e18", b"1748871000123456789000"[:19])
    start, end = body.find(b'"results":[') + 11, body.rfind(b"}\n]") + 1
    rows = body[start:end].replace(b"\n", b"")
    return body[:start] + b",".join([rows] * 30) + body[end + 1 :]


def check(name: str, body: bytes) -> str:
    table, call = CALLS[name]
    with contextlib.suppress(*ALLOWED):
        read_page(body, endpoint=name)
    try:
        frame = call(body)
    except ALLOWED as error:
        return type(error).__name__
    if frame.schema != to_schema(table):
        raise AssertionError(f"schema of {name}: {frame.schema}")
    return "frame"


def agree(name: str, body: bytes) -> None:
    if name == "trades":
        quick, exact = (
            _outcome(lambda f=f: build("trades", f(body))) for f in (ticks.trade_columns, ticks.trade_columns_exact)
        )
    elif name == "quotes":
        quick, exact = (
            _outcome(lambda f=f: build("quotes", f(body))) for f in (ticks.quote_columns, ticks.quote_columns_exact)
        )
    else:
        quick, exact = (
            _outcome(lambda f=f: f(body, endpoint=name)) for f in (bars.bar_columns, bars.bar_columns_exact)
        )
    same = (
        quick.equals(exact) if isinstance(quick, pl.DataFrame) and isinstance(exact, pl.DataFrame) else quick == exact
    )
    if not same:
        raise AssertionError(f"the quick and the exact way differ: {quick} {exact}")


def _outcome(call: Callable[[], pl.DataFrame]) -> object:
    try:
        return call()
    except MassiveLabError as error:
        return type(error).__name__


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    outcomes: Counter[str] = Counter()
    goldens = {name: (GOLDEN / f"{name}.json").read_bytes() for name in CALLS}
    long = {name: grown(goldens[name]) for name in ("aggs_index_day", "trades", "quotes")}
    for i in range(args.count):
        draw = random.Random(f"{args.seed}/{i}")
        name = draw.choice(sorted(CALLS))
        body = mutate(goldens[name], draw)
        try:
            outcomes[check(name, body)] += 1
            if i % 10 == 0:
                name = draw.choice(sorted(long))
                body = mutate(long[name], draw)
                agree(name, body)
        except Exception as error:  # noqa: BLE001 - an error that is not allowed is what is looked for
            print(f"finding: seed {args.seed}, step {i}, {name}: {type(error).__name__}: {error}\n{body!r}")
            return 1
    print(f"{args.count} answers: {dict(outcomes.most_common())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
