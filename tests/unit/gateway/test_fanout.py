"""Who gets which event, with which bytes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from massive_lab.decode.stream import Event, MinuteBar, Quote, StreamDecoder, Trade
from massive_lab.gateway.fanout import Batch, Fanout, HubSink
from massive_lab.gateway.frames import MAX_FRAME, batches, encode_event, text_frame


class Keeper:
    is_behind = False

    def __init__(self, *wires: str, since_ns: int = 0) -> None:
        self.topics = dict.fromkeys(wires, since_ns)
        self.batches: list[Batch] = []

    def offer(self, batch: Batch) -> None:
        self.batches.append(batch)

    @property
    def items(self) -> list[Any]:
        return [json.loads(item) for batch in self.batches for item in batch.items]


class Source:
    """What a hub is to a sink."""

    def __init__(self, fanout: Fanout) -> None:
        self.heard: tuple[bytes, Any] = b"", ()
        self.decoder = StreamDecoder()
        self.sink = HubSink(
            fanout,
            lambda: self.heard,
            lambda events: fanout.publish_late(events, lambda wanted_ns: wanted_ns // 10**6 or None),
        )

    def frame(self, data: bytes, *, skip: int = 0) -> None:
        messages = self.decoder.decode(data)
        self.heard = data, messages
        self.flush(*[each for each in messages if isinstance(each, Trade | Quote | MinuteBar)][skip:])

    def flush(self, *events: Event) -> None:
        self.sink.inbox.extend(events)
        inbox = self.sink.inbox
        assert self.sink.flush() == 0
        assert self.sink.inbox is inbox
        assert not inbox


def _joined(*clients: Keeper) -> tuple[Fanout, Source]:
    fanout = Fanout()
    for client in clients:
        fanout.changed(client)
    return fanout, Source(fanout)


def test_clients_with_the_same_topics_get_the_very_same_frame() -> None:
    first, second, other = Keeper("T.A", "T.B"), Keeper("T.B", "T.A"), Keeper("T.B")
    fanout, source = _joined(first, second, other)
    frame = b'[{"ev":"T","sym":"A","t":1,"p":1.50,"x_new":1},{"ev":"T","sym":"B","t":1,"p":2}]'
    source.frame(frame)
    assert first.batches[0] is second.batches[0]
    assert first.batches[0].frame == text_frame(frame)
    assert other.batches[0].frame == text_frame(b'[{"ev":"T","sym":"B","t":1,"p":2}]')
    assert (fanout.n_groups, fanout.counts.events, fanout.counts.delivered, fanout.counts.frames) == (2, 2, 5, 3)


def test_a_wildcard_and_its_single_bring_an_event_once() -> None:
    client = Keeper("T.*", "T.A")
    _, source = _joined(client)
    source.frame(b'[{"ev":"T","sym":"A","t":1,"p":1},{"ev":"T","sym":"B","t":1,"p":1}]')
    assert [item["sym"] for item in client.items] == ["A", "B"]


def test_channels_are_not_prefixes() -> None:
    client = Keeper("A.*")
    _, source = _joined(client)
    source.frame(b'[{"ev":"AM","sym":"A","s":0,"o":1,"h":1,"l":1,"c":1}]')
    assert not client.batches


def test_what_the_hub_left_out_is_left_out() -> None:
    client = Keeper("T.A")
    _, source = _joined(client)
    source.frame(b'[{"ev":"T","sym":"A","t":1,"p":1},{"ev":"T","sym":"A","t":2,"p":2,"zz":0}]', skip=1)
    assert client.items == [{"ev": "T", "sym": "A", "t": 2, "p": 2, "zz": 0}]


def test_who_leaves_or_changes_gets_no_more() -> None:
    client, stays = Keeper("T.A"), Keeper("T.A")
    fanout, source = _joined(client, stays)
    frame = b'[{"ev":"T","sym":"A","t":1,"p":1}]'
    source.frame(frame)
    fanout.leave(client)
    stays.topics = {"Q.A": 0}
    fanout.changed(stays)
    source.frame(frame)
    assert (len(client.batches), len(stays.batches), fanout.n_groups) == (1, 1, 1)
    fanout.leave(stays)
    fanout.leave(stays)
    assert fanout.n_groups == 0
    assert not fanout._by_wire


def test_history_goes_to_those_who_were_there() -> None:
    early, late = Keeper("T.A"), Keeper("T.*", since_ns=150 * 10**6)
    _, source = _joined(early, late)
    source.flush(*(Trade("A", ms, 1.0, source="backfill", sub_ns=5) for ms in (100, 200)))
    assert [item["t"] for item in early.items] == [100, 200]
    assert [item["t"] for item in late.items] == [200]
    assert {item["src"] for item in early.items} == {"backfill"}


def test_events_of_ours_are_written_by_the_wires_names() -> None:
    quote = Quote("A", 5, bid_price=1.5, bid_size=300.0, conditions=(1, 2), ts_recv=7, source="poll")
    assert json.loads(encode_event(quote)) == {
        "ev": "Q", "sym": "A", "t": 5, "bp": 1.5, "bs": 300, "c": [1, 2], "src": "poll",
    }  # fmt: skip
    bar = MinuteBar("A", 60_000, 1.0, 2.0, 0.5, 1.5, whole=3.0)
    assert json.loads(encode_event(bar)) == {
        "ev": "AM", "sym": "A", "s": 60_000, "o": 1, "h": 2, "l": 0.5, "c": 1.5, "v": 3,
    }  # fmt: skip


def test_more_than_a_client_may_read_is_not_one_frame() -> None:
    item = b'"' + b"x" * 400_000 + b'"'
    batch = Batch([Trade("A", 1, 1.0)] * 3, [item] * 3)
    assert batch.frame == b""
    assert [len(json.loads(each)) for each in batches(batch.items)] == [1, 1, 1]
    assert max(map(len, batches([b"1"] * 400_000))) <= MAX_FRAME + 1


symbols = st.sampled_from(["A", "B", "C"])
wires = st.builds("{}.{}".format, st.sampled_from("TQ"), st.sampled_from(["A", "B", "C", "*"]))
trades = st.builds(Trade, symbols, st.integers(1, 9), st.just(1.0))
quotes = st.builds(Quote, symbols, st.integers(1, 9))
events = st.lists(st.one_of(trades, quotes), max_size=8)
steps = st.lists(st.tuples(st.integers(0, 3), st.frozensets(wires, max_size=4), events), max_size=8)


@given(steps)
def test_against_a_plain_model(script: list[tuple[int, frozenset[str], list[Event]]]) -> None:
    clients = [Keeper() for _ in range(4)]
    fanout, _ = _joined(*clients)
    expected: list[list[Any]] = [[] for _ in clients]
    for number, wanted, batch in script:
        clients[number].topics = dict.fromkeys(wanted, 0)
        fanout.changed(clients[number])
        texts = [encode_event(event) for event in batch]
        fanout.publish(batch, texts)
        for event, text in zip(batch, texts, strict=True):
            channel = "T" if isinstance(event, Trade) else "Q"
            for each, client in zip(expected, clients, strict=True):
                if {f"{channel}.{event.symbol}", f"{channel}.*"} & client.topics.keys():
                    each.append(json.loads(text))
    assert [client.items for client in clients] == expected
