"""The queue of a slow client: what is thinned, what never is, and its bounds."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from massive_lab.decode.stream import IndexValue, MinuteBar, Quote, SecondBar, Trade
from massive_lab.gateway.outbox import Outbox, conflation_key


def test_keys_tell_what_may_replace_what() -> None:
    bar = MinuteBar("AAPL", 60_000, 1.0, 1.0, 1.0, 1.0)
    revised = MinuteBar("AAPL", 60_000, 1.0, 2.0, 1.0, 1.0)
    later = MinuteBar("AAPL", 120_000, 1.0, 1.0, 1.0, 1.0)
    assert conflation_key(Trade("AAPL", 1, 1.0)) is None
    assert conflation_key(Quote("AAPL", 1)) == conflation_key(Quote("AAPL", 2)) != conflation_key(Quote("MSFT", 1))
    assert conflation_key(IndexValue("I:SPX", 1, 1.0)) == conflation_key(IndexValue("I:SPX", 2, 3.0))
    assert conflation_key(bar) == conflation_key(revised) != conflation_key(later)
    assert conflation_key(bar) != conflation_key(SecondBar("AAPL", 60_000, 1.0, 1.0, 1.0, 1.0))


items = st.lists(st.tuples(st.one_of(st.none(), st.sampled_from("abc")), st.integers(0, 10**6)), max_size=60)


@given(items, st.integers(1, 40))
def test_against_a_plain_model(puts: list[tuple[str | None, int]], chunk: int) -> None:
    outbox = Outbox(10**6, 10.0)
    model: list[tuple[object, int]] = []
    for key, number in puts:
        outbox.put(b"%d" % number, key, now=0.0)
        places = [place for place, (known, _) in enumerate(model) if key is not None and known == key]
        if places:
            model[places[0]] = key, number
        else:
            model.append((key, number))
    assert outbox.n_bytes == sum(len(str(number)) + 1 for _, number in model)
    got: list[int] = []
    while outbox:
        text = outbox.pull(chunk)
        found = json.loads(text)
        assert len(found) == 1 or len(text) <= chunk + 2
        got += found
    assert got == [number for _, number in model]
    assert outbox.n_bytes == 0
    assert outbox.n_conflated == len(puts) - len(model)


def test_bounds() -> None:
    outbox = Outbox(10, 5.0)
    assert outbox.overrun(100.0, n_unsent=1_000) is None  # what the transport holds alone is not ours to judge
    outbox.put(b"12345", "q", now=0.0)
    assert outbox.overrun(5.0) is None
    assert outbox.overrun(5.1) == "age"
    # However often it is replaced, its place has been waiting.
    outbox.put(b"123456", "q", now=5.0)
    assert outbox.overrun(5.1) == "age"
    assert outbox.overrun(1.0, n_unsent=3) is None
    assert outbox.overrun(1.0, n_unsent=4) == "bytes"
    outbox.clear()
    assert (len(outbox), outbox.n_bytes, outbox.overrun(100.0)) == (0, 0, None)
