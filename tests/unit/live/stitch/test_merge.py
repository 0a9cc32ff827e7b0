from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.decode.stream import MinuteBar, Quote, SecondBar, Trade
from massive_lab.live.stitch.keys import Bag, face, marks, moment_ms
from massive_lab.live.stitch.merge import missing_bars, missing_ticks, says_more

PRINTS = st.tuples(
    st.integers(1, 3), st.sampled_from([5.0, 5.5]), st.sampled_from([1.0, 2.0]), st.sampled_from([4, 11])
)
KINDS = st.sampled_from(["stream", "poll", "vague poll", "no", "no"])


def history(prints, *, has_sequence: bool) -> list[Trade]:
    return [
        Trade(
            "AAPL",
            ms,
            price,
            whole=size,
            exchange=exchange,
            sequence=n + 1 if has_sequence else None,
            source="backfill",
        )
        for n, (ms, price, size, exchange) in enumerate(sorted(prints))
    ]


def told(row: Trade, n: int, kind: str) -> Trade:
    if kind == "stream":
        return msgspec.structs.replace(row, source="stream", sequence=n + 1)
    exchange = None if kind == "vague poll" else row.exchange
    return msgspec.structs.replace(row, source="poll", sequence=None, exchange=exchange)


@given(st.lists(st.tuples(PRINTS, KINDS), max_size=30), st.booleans())
def test_rows_and_what_was_delivered_make_up_the_history_however_vague_it_was(drawn, has_sequence):
    drawn = sorted(drawn)
    rows = history([print_ for print_, _ in drawn], has_sequence=has_sequence)
    delivered = [told(row, n, kind) for n, (row, (_, kind)) in enumerate(zip(rows, drawn, strict=True)) if kind != "no"]
    missing = missing_ticks(rows, delivered)
    assert Counter(map(face, [*missing, *delivered])) == Counter(map(face, rows))
    assert [row.ms for row in missing] == sorted(row.ms for row in missing)
    assert missing_ticks(rows, [*delivered, *missing]) == []


def test_two_prints_that_differ_in_nothing_are_two():
    rows = [Trade("AAPL", 1, 5.0, whole=1.0) for _ in range(3)]
    assert len(missing_ticks(rows, rows[:1])) == 2


def test_another_sequence_is_another_print():
    row, other = (Trade("AAPL", 1, 5.0, sequence=n) for n in (1, 2))
    assert missing_ticks([row], [other]) == [row]


def test_a_missing_side_is_zero_on_the_stream_and_null_in_the_history():
    streamed = Quote("AAPL", 1, bid_price=0.0, bid_size=0.0, bid_exchange=0, ask_price=5.0, ask_size=1.0, sequence=3)
    row = Quote("AAPL", 1, bid_price=None, bid_size=None, bid_exchange=0, ask_price=5.0, ask_size=1.0, sequence=3)
    assert missing_ticks([row], [streamed]) == []


def test_a_sequence_of_zero_is_unknown():
    assert marks(Trade("O:SPY251219C00650000", 1, 5.0, exchange=300, sequence=0)) == (300, None)


def test_a_bag_counts():
    bag = Bag([Trade("AAPL", 1, 5.0, sequence=2)])
    assert not bag.take_same(Trade("AAPL", 1, 5.0))
    assert bag.n == 1
    assert bag.take_same(Trade("AAPL", 1, 5.0, sequence=2))
    assert (bag.n, bag.take(Trade("AAPL", 1, 5.0))) == (0, False)


def bar(start: int, volume: float | None = 1.0, close: float = 1.0, high: float = 2.0, kind=SecondBar):
    return kind(
        "AAPL", start, 1.0, high, 1.0, close, end_ms=start + (1_000 if kind is SecondBar else 60_000), whole=volume
    )


def test_bars_that_were_not_delivered_are_missing_and_streamed_ones_win():
    rows = [bar(start, 9.0) for start in (0, 1_000, 2_000, 3_000)]
    missing = missing_bars(rows, [bar(0, 9.0)], [bar(3_000, 1.0)], closed_ms=10_000)
    assert [row.ms for row in missing] == [1_000, 2_000]


def test_a_bar_that_was_revised_unheard_is_replaced_and_one_that_lags_is_not():
    rows = [bar(0, 2.0), bar(1_000, 2.0)]
    missing = missing_bars(rows, [bar(0, 1.0), bar(1_000, 3.0)], [], closed_ms=10_000)
    assert [row.ms for row in missing] == [0]


def test_a_bar_still_being_made_is_left_to_the_stream():
    assert missing_bars([bar(0, kind=MinuteBar)], [], [], closed_ms=59_999) == []
    assert len(missing_bars([bar(0, kind=MinuteBar)], [], [], closed_ms=60_000)) == 1


def test_old_bars_that_nobody_remembers_were_delivered():
    assert [row.ms for row in missing_bars([bar(0), bar(1_000), bar(2_000)], [], [], 9_000, known_ms=1_000)] == [
        1_000,
        2_000,
    ]


@pytest.mark.parametrize(("high", "more"), [(3.0, True), (2.0, False), (1.5, False)])
def test_index_bars_are_compared_by_their_range(high, more):
    assert says_more(bar(0, None, high=high), bar(0, None)) is more


def test_a_bar_is_known_at_its_end_and_a_tick_at_its_time():
    assert (moment_ms(bar(5_000)), moment_ms(Trade("AAPL", 7, 1.0))) == (6_000, 7)
