from __future__ import annotations

import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from massive_lab.decode.stream import Fault, StreamDecoder, Trade
from massive_lab.decode.stream_events import to_ns
from massive_lab.live.read.columns import to_frame

PRICES = st.floats(allow_nan=False, allow_infinity=False, width=64)
TRADES = st.fixed_dictionaries(
    {
        "ev": st.just("T"),
        "sym": st.text(min_size=1, max_size=8).filter(str.isprintable),
        "t": st.integers(0, 4 * 10**12),
        "p": PRICES,
    },
    optional={
        "s": st.integers(0, 10**9),
        "ds": st.decimals(0, 10**6, places=4, allow_nan=False).map(str),
        "c": st.lists(st.integers(0, 60), max_size=4) | st.integers(0, 300),
        "x": st.integers(0, 400),
        "i": st.text(max_size=8),
        "q": st.integers(0, 2**62),
        "unheard_of": st.integers(),
    },
)  # fmt: skip


@given(st.lists(TRADES, max_size=8))
def test_what_the_standard_parser_reads_is_what_comes_out(items):
    decoder = StreamDecoder()
    events = decoder.decode(json.dumps(items).encode())
    assert decoder.take_faults() == []
    for item, event in zip(items, events, strict=True):
        assert (event.symbol, event.ts_sip, event.price) == (item["sym"], item["t"] * 10**6, item["p"])
        assert event.size == (float(item["ds"]) if "ds" in item else item.get("s"))
    frame = to_frame("trades", events)
    assert frame["price"].to_list() == [item["p"] for item in items]
    assert frame["size"].to_list() == [event.size for event in events]
    conditions = [item.get("c") for item in items]
    assert frame["conditions"].to_list() == [[c] if isinstance(c, int) else c for c in conditions]


FATES = st.sampled_from(["good", "no price", "text price", "NaN", "no ev", "unknown", "list"])
JSONS = st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())


@given(st.lists(st.tuples(TRADES, FATES), max_size=8))
def test_a_bad_item_never_costs_a_good_one(pairs):
    broken = {
        "good": lambda item: item,
        "no price": lambda item: {k: v for k, v in item.items() if k != "p"},
        "text price": lambda item: {**item, "p": "1.5"},
        "NaN": lambda item: {**item, "p": math.nan},
        "no ev": lambda item: {k: v for k, v in item.items() if k != "ev"},
        "unknown": lambda item: {**item, "ev": "ZZ"},
        "list": lambda item: [item],
    }
    decoder = StreamDecoder()
    events = decoder.decode(json.dumps([broken[how](item) for item, how in pairs]).encode())
    good = [item for item, how in pairs if how == "good"]
    assert [(e.symbol, e.price) for e in events] == [(item["sym"], item["p"]) for item in good]
    n_unknown = sum(how == "unknown" for _, how in pairs)
    assert sum(decoder.unknown.values()) == n_unknown
    assert len(decoder.take_faults()) == len(pairs) - len(good) - n_unknown


@given(st.binary(max_size=200) | JSONS)
@settings(max_examples=300)
def test_no_bytes_make_it_raise_and_excerpts_are_bounded(data):
    decoder = StreamDecoder()
    events = decoder.decode(data)
    faults = decoder.take_faults()
    assert all(isinstance(fault, Fault) and len(fault.excerpt) <= 200 for fault in faults)
    assert events or faults or decoder.unknown or json.loads(data) == []


@given(st.integers(10**12, 9 * 10**12))
def test_the_unit_of_a_time_is_told_by_its_size(ms):
    assert to_ns(ms) == to_ns(ms * 1_000) == to_ns(ms * 1_000_000) == ms * 1_000_000


@given(st.lists(st.integers(0, 10**12), min_size=1), st.integers(0, 10**18))
def test_a_receipt_time_on_the_wire_is_ignored(times, recv):
    (event,) = StreamDecoder().decode(json.dumps([{"ev": "T", "sym": "A", "t": times[0], "p": 1, "ts_recv": recv}]).encode())
    assert isinstance(event, Trade)
    assert event.ts_recv == 0
