"""What travels on the bus, and what is made of what does not belong there."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from massive_lab.config import Secret
from massive_lab.gateway.bus.fence import Fence
from massive_lab.gateway.bus.interest import Interests
from massive_lab.gateway.bus.messages import (
    MAX_BYTES,
    Events,
    Heads,
    Interest,
    Malformed,
    State,
    Subjects,
    Told,
    chunks,
    decode,
    encode,
    events_of,
    pack,
)
from massive_lab.live.topics import Topic

TRADE = b'{"ev":"T","sym":"SPY","t":1,"p":5}'
KEY = "a-key-that-nobody-may-see"


@pytest.mark.parametrize(
    "message",
    [
        Events(7, 1, "T.SPY", Raw(b"[" + TRADE + b"]")),
        State(7, "one", "live", "", ["two"]),
        Told(7, ["T.SPY"], {"Q.SPY": "not authorized"}),
        Heads(7, {"T.SPY": 9}),
        Interest("one", 3, 0, 2, ["T.SPY"]),
        Interest("one", 3, is_leaving=True),
    ],
    ids=lambda message: f"{type(message).__name__}-{len(encode(message))}",
)
def test_a_message_survives_the_wire(message):
    assert encode(decode(encode(message))) == encode(message)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"[]",
        b"\xff\xfe",
        b'{"m":"other"}',
        b'{"m":"state","epoch":0,"leader":"x","state":"live"}',
        b'{"m":"state","epoch":99999999999999999999,"leader":"x","state":"live"}',
        b'{"m":"events","epoch":1,"sequence":0,"wire":"T.SPY","events":[]}',
        b'{"m":"told","epoch":1,"confirmed":["' + b"x" * 65 + b'"]}',
        b'{"m":"interest","replica":"","version":1}',
        b'{"m":"interest","replica":"x","version":1,"parts":10001}',
        b"[" * 100_000,
        b" " * (MAX_BYTES + 1),
    ],
    ids=range(13),
)
def test_what_cannot_be_read_is_malformed(data):
    with pytest.raises(Malformed):
        decode(data)


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_no_bytes_do_more_than_be_malformed(data):
    with pytest.raises(Malformed):
        decode(data)


@pytest.mark.parametrize(
    "events",
    [
        b'{"ev":"T"}',
        b'[{"ev":"status","status":"max_connections","message":"x"}]',
        b'[{"ev":"Q","sym":"SPY"}]',
        b"[1]",
        b"[null]",
        b"[" + TRADE + b',{"status":"x","ev":"T"}]',
    ],
)
def test_only_events_of_the_topic_get_through(events):
    with pytest.raises(Malformed):
        events_of(Events(1, 1, "T.SPY", Raw(events)))
    assert events_of(Events(1, 1, "T.SPY", Raw(b"[" + TRADE + b"," + TRADE + b"]"))) == TRADE + b"," + TRADE
    assert events_of(Events(1, 1, "T.SPY", Raw(b"[]"))) == b""


@given(st.lists(st.integers(2, 400).map(lambda n: b"{" + b"x" * n + b"}"), max_size=60), st.integers(20, 600))
def test_packs_hold_everything_in_order_within_the_bound(events, most):
    packs = [bytes(each) for each in pack(events, most)]
    assert b",".join(each[1:-1] for each in packs) == b",".join(events)
    for each in packs:
        assert len(each) <= most or each.count(b"}") == 1


@given(st.lists(st.integers(), max_size=50), st.integers(1, 7))
def test_chunks_hold_everything_in_order(items, size):
    parts = list(chunks(items, size))
    assert [item for part in parts for item in part] == items
    assert all(0 < len(part) <= size for part in parts)


def test_the_key_is_in_no_subject_and_tells_keys_addresses_and_clusters_apart():
    made = [
        Subjects(url, Secret(key), cluster)
        for url in ("ws://a", "ws://b")
        for key in (KEY, "other")
        for cluster in ("stocks", "options")
    ]
    assert len({subjects.base for subjects in made}) == len({subjects.lease for subjects in made}) == 8
    for subjects in made:
        assert KEY not in f"{subjects.base} {subjects.lease} {subjects.leader} {subjects.interest}"


@given(st.from_regex(r"[A-Z]{1,5}(\.[A-Z])?", fullmatch=True))
def test_a_symbol_is_one_token_of_a_subject(symbol):
    subjects = Subjects("ws://a", Secret(KEY), "stocks")
    subject = subjects.wire("T", symbol)
    assert subject.count(".") == subjects.base.count(".") + 3
    assert not set(subject) & set(" *>\r\n\t")


def test_a_wildcard_is_the_server_s():
    assert Subjects("ws://a", Secret(KEY), "stocks").events(Topic("stocks", "T", "*")).endswith(".events.T.*")


# ---- what a follower takes

SAID = st.tuples(st.sampled_from("ab"), st.sampled_from((1, 1, 1, 1, 2, 3)), st.integers(1, 4))


@given(st.lists(SAID | SAID | st.sampled_from(("restart", "forget")), max_size=60))
@settings(max_examples=300)
def test_nothing_is_taken_twice_and_no_epoch_after_a_newer_one(steps):
    fence, taken = Fence(), []
    for step in steps:
        if step == "restart":
            fence.restart()
        elif step == "forget":
            fence.forget("T", "a")
        else:
            name, epoch, sequence = step
            if fence.take(f"T.{name}", epoch, sequence) in ("take", "hole"):
                taken.append((name, epoch, sequence))
    assert len(taken) == len(set(taken))
    assert [epoch for _, epoch, _ in taken] == sorted(epoch for _, epoch, _ in taken)


@given(st.integers(1, 20), st.data())
def test_a_hole_is_noticed_by_the_next_message_or_by_the_second_beat(n, data):
    fence = Fence()
    fence.hear(1)
    lost = data.draw(st.sets(st.integers(2, n), max_size=n - 1) if n > 1 else st.just(set()))
    verdicts = [fence.take("T.SPY", 1, i) for i in range(1, n + 1) if i not in lost]
    inside = any(i not in lost for i in range(min(lost), n + 1)) if lost else False
    assert ("hole" in verdicts) == inside
    at_the_end = n in lost
    assert fence.late({"T.SPY": n}) == []
    assert fence.late({}) == (["T.SPY"] if at_the_end else [])


def test_a_topic_that_is_only_handed_over_late_is_no_hole():
    fence = Fence()
    fence.hear(1)
    fence.take("T.SPY", 1, 1)
    assert fence.late({"T.SPY": 2}) == []
    fence.take("T.SPY", 1, 2)
    assert fence.late({}) == []


# ---- what a leader knows of its followers


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sets(st.sampled_from(["T.A", "T.B", "Q.A"]))), max_size=30))
def test_the_union_is_that_of_what_each_reads_now(steps):
    interests, model = Interests(3.0), {}
    for version, (name, topics) in enumerate(steps):
        listed = sorted(topics)
        parts = list(chunks(listed, 1)) or [[]]
        done = [interests.heard(Interest(name, version, i, len(parts), part), 0.0) for i, part in enumerate(parts)]
        assert done == [False] * (len(parts) - 1) + [True]
        model[name] = topics
        assert interests.union == set().union(*model.values())
        assert all(interests.readers(wire) == sum(wire in each for each in model.values()) for wire in interests.union)
    for name in list(model):
        interests.heard(Interest(name, 0, is_leaving=True), 0.0)
    assert interests.union == set()


def test_half_of_an_interest_is_none_and_is_asked_for():
    interests = Interests(3.0)
    interests.heard(Interest("a", 1, 0, 1, ["T.A"]), 0.0)
    assert not interests.heard(Interest("a", 2, 1, 2, ["T.C"]), 0.0)
    assert (interests.union, interests.lacks) == ({"T.A"}, ["a"])
    assert not interests.heard(Interest("a", 1, 0, 1, ["T.A"]), 0.0)  # older
    assert interests.heard(Interest("a", 2, 0, 2, ["T.B"]), 0.0)
    assert (interests.union, interests.lacks) == ({"T.B", "T.C"}, [])
    assert not interests.heard(Interest("a", 3), 0.0)  # alive, and reads something else
    assert interests.lacks == ["a"]


def test_neither_replicas_nor_topics_are_without_bound():
    interests = Interests(3.0, max_replicas=2, max_topics=3)
    for name in "abc":
        interests.heard(Interest(name, 1, 0, 1, [f"T.{name}{i}" for i in range(5)]), 0.0)
    assert interests.replicas == ("a", "b")
    assert len(interests.union) == 6


def test_events_travel_as_they_are():
    raw = Raw(b"[" + TRADE + b"]")
    assert bytes(msgspec.json.decode(encode(Events(1, 1, "T.SPY", raw)), type=Events).events) == bytes(raw)
