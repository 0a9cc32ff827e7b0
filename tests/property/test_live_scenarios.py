"""Hand-picked sequences of faults, each by its name. `World.check` holds after every one of them, and the end leaves nothing."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable, Iterator

import pytest

from massive_lab import telemetry as t
from massive_lab.decode.stream import Trade
from massive_lab.errors import ConnectionLost, NotEntitled, SubscriptionFailed, Unauthorized, UpstreamError
from massive_lab.live.stitch import stitcher
from tests.property.upstream import JUNK, World, id_of


@pytest.fixture
def make() -> Iterator[Callable[..., World]]:
    worlds: list[World] = []

    def start(**changes: object) -> World:
        worlds.append(World(**changes))
        return worlds[-1]

    yield start
    for world in worlds:
        try:
            world.check()
        finally:
            world.close()


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    return make()


def test_drop_while_the_subscribe_is_unanswered(world: World) -> None:
    world.withhold("ack")
    reader = world.open("T.AAPL")
    world.drop()
    world.release()
    world.advance(1.0)
    assert reader.is_confirmed
    assert world.upstream.held == {"T.AAPL"}
    world.burst("T.AAPL")
    assert len(reader.streamed) == 1


def test_drop_between_the_key_and_its_answer(world: World) -> None:
    world.withhold("auth")
    reader = world.open("T.AAPL")
    world.drop()
    assert not reader.is_confirmed
    world.release()
    world.advance(1.0)
    assert reader.is_confirmed
    assert world.gaps == []


def test_drop_before_the_greeting(world: World) -> None:
    world.withhold("connected")
    reader = world.open("T.AAPL")
    world.drop()
    world.release()
    world.advance(1.0)
    assert reader.is_confirmed


def test_drop_between_the_confirmation_and_the_first_event(world: World) -> None:
    reader = world.open("T.AAPL")
    world.drop()
    world.burst("T.AAPL")
    world.advance(1.0)
    assert [gap.topic.wire for gap in world.gaps] == ["T.AAPL"]
    world.burst("T.AAPL")
    assert len(reader.streamed) == 1


def test_drop_while_the_unsubscribe_is_unanswered(world: World) -> None:
    reader, kept = world.open("T.AAPL"), world.open("T.MSFT")
    world.leave(reader)
    world.withhold("ack")
    world.advance(world.policy.linger_s)
    world.drop()
    world.release()
    world.advance(1.0)
    assert world.upstream.held == {"T.MSFT"}
    assert kept.is_open


def test_drop_during_the_linger_and_the_reader_does_not_come_back(world: World) -> None:
    kept = world.open("T.MSFT")
    world.leave(world.open("T.AAPL"))
    world.drop()
    world.advance(world.policy.linger_s + 1.0)
    assert world.upstream.held == {"T.MSFT"}
    assert kept.is_confirmed


def test_drop_during_the_linger_and_the_reader_comes_back(world: World) -> None:
    world.leave(world.open("T.AAPL"))
    world.drop()
    again = world.open("T.AAPL")
    world.advance(1.0)
    assert again.is_confirmed
    assert world.upstream.held == {"T.AAPL"}


def test_drop_in_the_middle_of_a_batched_subscribe(world: World) -> None:
    world.upstream.hangs = True
    readers = [world.open(wire) for wire in ("T.AAPL", "T.MSFT", "Q.AAPL", "Q.MSFT", "A.AAPL", "AM.AAPL")]
    world.upstream.hangs = False
    world.withhold("ack")
    world.advance(world.policy.open_s + 1.0)
    assert world.upstream.said[-1]["params"].count(",") == world.policy.batch_topics - 1
    world.drop()
    world.release()
    world.advance(2.0)
    assert all(reader.is_confirmed for reader in readers)


def test_unsubscribe_while_offline(world: World) -> None:
    reader, kept = world.open("T.AAPL"), world.open("T.MSFT")
    world.upstream.refuse = 2
    world.drop()
    world.leave(reader)
    world.advance(4.0)
    assert world.upstream.held == {"T.MSFT"}
    assert kept.is_confirmed


def test_subscribe_while_offline_is_sent_once(world: World) -> None:
    world.open("T.MSFT")
    world.upstream.refuse = 2
    world.drop()
    late = [world.open("T.AAPL") for _ in range(3)]
    world.advance(4.0)
    assert all(reader.is_confirmed for reader in late)
    asked = [message["params"] for message in world.upstream.said if message["action"] == "subscribe"]
    assert ",".join(asked).split(",").count("T.AAPL") == 1


def test_the_only_reader_leaves_during_the_back_off(world: World) -> None:
    reader = world.open("T.AAPL")
    world.upstream.refuse = 3
    world.drop()
    world.advance(0.1)
    world.leave(reader)
    world.advance(10.0)
    assert world.upstream.held == set()
    assert world.hub.wanted == ()


def test_the_only_reader_leaves_while_the_upgrade_hangs(world: World) -> None:
    world.upstream.hangs = True
    reader = world.open("T.AAPL")
    world.advance(1.0)
    world.leave(reader)
    world.upstream.hangs = False
    world.advance(10.0)
    assert world.upstream.held == set()


def test_a_reader_leaves_before_its_topic_was_ever_sent(world: World) -> None:
    world.withhold("auth")
    world.leave(world.open("T.AAPL"))
    world.advance(world.policy.linger_s + 0.1)
    world.release()
    world.advance(1.0)
    assert not [message for message in world.upstream.said if message["action"] == "subscribe"]


def test_one_of_many_is_denied_during_the_reconnect(world: World) -> None:
    readers = {wire: world.open(wire) for wire in ("T.AAPL", "T.MSFT", "Q.AAPL", "Q.MSFT")}
    world.deny("Q.AAPL")
    world.drop()
    world.advance(20.0)
    assert isinstance(readers["Q.AAPL"].error, SubscriptionFailed)
    assert [wire for wire, reader in readers.items() if not reader.is_open] == ["Q.AAPL"]
    assert world.upstream.held == {"T.AAPL", "T.MSFT", "Q.MSFT"}


def test_every_reader_of_a_denied_topic_is_told_and_nobody_else(world: World) -> None:
    world.deny("T.AAPL")
    world.withhold("ack")
    kept = world.open("T.MSFT")
    lost = [world.open("T.AAPL") for _ in range(2)]
    world.release()
    assert [reader.is_open for reader in lost] == [False, False]
    assert kept.is_confirmed
    assert [event.topic for event in world.told(t.SubscriptionDenied)] == ["T.AAPL"]


def test_a_denied_topic_asked_for_again_once_the_plan_allows_it(world: World) -> None:
    world.deny("T.AAPL")
    assert not world.open("T.AAPL").is_open
    world.upstream.denied.clear()
    assert world.open("T.AAPL").is_confirmed


def test_a_denied_wildcard_leaves_its_singles(world: World) -> None:
    single = world.open("T.AAPL")
    world.deny("T.*")
    assert not world.open("T.*").is_open
    world.advance(10.0)
    assert world.upstream.held == {"T.AAPL"}
    world.burst("T.AAPL")
    assert len(single.streamed) == 1


def test_the_wildcard_leaves_while_its_single_stays_and_then_a_drop(world: World) -> None:
    wide, single = world.open("T.*"), world.open("T.AAPL")
    world.leave(wide)
    world.advance(world.policy.linger_s + 0.1)
    world.drop()
    world.advance(1.0)
    assert world.upstream.held == {"T.AAPL"}
    world.burst("T.AAPL", "T.MSFT")
    assert len(single.streamed) == 1


def test_a_wildcard_and_a_single_bring_an_event_once_across_a_drop(world: World) -> None:
    wide, single = world.open("A.*"), world.open("A.AAPL")
    world.burst("A.AAPL", "A.MSFT", "AM.AAPL")
    world.drop()
    world.advance(1.0)
    world.burst("A.AAPL", "A.MSFT", "AM.AAPL")
    assert (len(wide.streamed), len(single.streamed)) == (4, 2)


def test_evicted_while_polling(world: World) -> None:
    reader = world.open("T.AAPL")
    world.upstream.refuse = 1
    world.drop()
    world.advance(0.1)
    assert world.state == "polling"
    world.upstream.evicting = True
    world.advance(2.0)
    assert world.state == "evicted"
    n_connections, n_calls = len(world.upstream.sockets), len(world.rest.calls)
    world.burst("T.AAPL")
    world.advance(60.0)
    assert len(world.upstream.sockets) == n_connections, "no storm"
    assert len(world.rest.calls) > n_calls
    assert [id_of(event) for event in reader.sink.got] == [100]
    assert reader.sink.got[0].source == "poll"


def test_evicted_with_a_subscribe_unanswered(world: World) -> None:
    world.withhold("ack")
    reader = world.open("A.AAPL")
    world.evict()
    assert world.state == "evicted"
    assert reader.is_open, "what is wanted stays wanted"
    world.calm()
    assert reader.is_confirmed


def test_evicted_again_at_the_end_of_the_lease(world: World) -> None:
    world.open("T.AAPL")
    world.evict()
    world.advance(3 * world.policy.lease_s + 1.0)
    assert len(world.upstream.sockets) == 4, "one attempt for each lease"
    world.calm()
    assert world.upstream.held == {"T.AAPL"}


def test_a_reader_leaves_while_evicted(world: World) -> None:
    reader = world.open("T.AAPL")
    world.evict()
    world.leave(reader)
    world.calm()
    assert world.upstream.held == set()


def test_mute_until_stale_and_then_dropped(world: World) -> None:
    reader = world.open("T.AAPL")
    world.burst("T.AAPL")
    world.upstream.mute = True
    world.advance(10.0)
    world.burst("T.AAPL")
    world.advance(world.policy.stale_s["stocks"])
    assert world.state in ("stale", "polling")
    world.advance(world.policy.stale_s["stocks"] * world.policy.stale_drop_factor)
    world.upstream.mute = False
    world.advance(5.0)
    missed = world.upstream.published[1]
    assert any(gap.start_ns <= missed.at_ns <= gap.end_ns for gap in world.gaps), "a mute span is in the gap"
    world.burst("T.AAPL")
    assert len(reader.streamed) == 2


def test_mute_and_back_before_anything_is_dropped(world: World) -> None:
    reader = world.open("T.AAPL")
    world.burst("T.AAPL")
    world.upstream.mute = True
    world.advance(world.policy.stale_s["stocks"] + 1.0)
    assert world.state == "stale"
    world.upstream.mute = False
    world.burst("T.AAPL")
    assert world.state == "live"
    assert len(world.upstream.sockets) == 1
    assert len(reader.streamed) == 2


def test_a_stall_delivers_late_and_in_order(world: World) -> None:
    reader = world.open("T.AAPL")
    world.upstream.stalled = True
    for _ in range(50):
        world.burst("T.AAPL")
    assert reader.streamed == []
    world.release()
    assert reader.streamed == list(range(100, 150))


def test_a_reset_in_a_stall_loses_what_was_under_way_and_says_so(world: World) -> None:
    reader = world.open("T.AAPL")
    world.burst("T.AAPL")
    world.advance(1.0)
    world.upstream.stalled = True
    world.burst("T.AAPL")
    world.drop()
    world.release()
    world.advance(2.0)
    assert reader.streamed == [100]
    (gap,) = world.gaps
    assert gap.start_ns <= world.upstream.published[1].at_ns <= gap.end_ns


def test_a_stalled_handshake_is_given_up_and_the_next_one_serves(world: World) -> None:
    world.upstream.stalled = True
    reader = world.open("T.AAPL")
    world.advance(world.policy.connected_s + 0.1)
    world.release()
    world.advance(2.0)
    assert reader.is_confirmed
    assert world.upstream.sockets[0].end is not None


def test_answers_that_come_after_their_deadline_leave_no_topic_behind(world: World) -> None:
    world.withhold("ack")
    reader = world.open("T.AAPL")
    world.advance(world.policy.ack_s + 0.1)
    assert isinstance(reader.error, SubscriptionFailed)
    world.release()
    world.advance(world.policy.ack_s)
    assert world.upstream.held == set(), "confirmed too late, so given back"


def test_a_topic_without_an_answer_fails_alone(world: World) -> None:
    world.upstream.silent.add("T.MSFT")
    lost, kept = world.open("T.MSFT"), world.open("T.AAPL")
    world.advance(2 * world.policy.ack_s + 0.2)
    assert isinstance(lost.error, SubscriptionFailed)
    assert kept.is_confirmed


def test_refused_upgrades_then_a_key_refused_for_good(world: World) -> None:
    reader = world.open("T.AAPL")
    world.upstream.auth_error = "authentication failed"
    world.drop()
    world.advance(3.0)
    n = len(world.upstream.sockets)
    world.advance(600.0)
    assert len(world.upstream.sockets) == n, "a refused key is not tried again"
    assert world.state == "polling"
    assert reader.is_open


def test_a_plan_without_the_socket_is_polled(world: World) -> None:
    world.upstream.auth_error = "Your plan doesn't include websocket access."
    reader = world.open("T.AAPL")
    world.burst("T.AAPL")
    world.advance(10.0)
    assert isinstance(world.hub.final_error, NotEntitled)
    assert [event.source for event in reader.sink.got] == ["poll"]


def test_a_polled_event_is_not_told_again_by_the_stream(world: World) -> None:
    reader = world.open("T.AAPL")
    world.upstream.stalled = True
    world.burst("T.AAPL")
    world.drop()
    world.upstream.stalled = False
    world.upstream.refuse = 1
    world.advance(0.2)
    assert [event.source for event in reader.sink.got] == ["poll"]
    world.advance(2.0)
    # The server of the new connection sends its newest event once more.
    world.malformed(b"[" + json.dumps(world.upstream.published[0].item()).encode() + b"]")
    assert [id_of(event) for event in reader.sink.got] == [100]


def test_a_poll_under_way_when_the_socket_returns_brings_nothing_old(world: World) -> None:
    reader = world.open("T.AAPL")
    world.burst("T.AAPL")
    world.upstream.refuse = 2
    world.drop()
    world.advance(0.1)
    world.burst("T.AAPL")
    world.advance(20.0)
    world.burst("T.AAPL")
    world.advance(20.0)
    assert [id_of(event) for event in reader.sink.got][-1] == 102
    assert [event.ms for event in reader.sink.got] == sorted(event.ms for event in reader.sink.got)


def test_polls_fail_for_as_long_as_the_socket_is_down(world: World) -> None:
    reader = world.open("T.AAPL")
    world.rest.error = UpstreamError("HTTP 503.", status=503)
    world.upstream.refuse = 6
    world.drop()
    world.advance(30.0)
    assert reader.is_confirmed
    assert reader.is_open
    assert world.state == "live"
    assert len(world.rest.calls) < 20


def test_flapping_a_hundred_times_keeps_one_subscription_and_bounded_state(world: World) -> None:
    readers = [world.open(wire) for wire in ("T.AAPL", "Q.AAPL")]
    for _ in range(100):
        world.drop()
        world.burst("T.AAPL", "Q.AAPL")
        world.advance(5.0)
        world.burst("T.AAPL", "Q.AAPL")
        world.check()
    assert [len(reader.streamed) for reader in readers] == [100, 100]
    assert len(world.gaps) == 200
    assert len(world.hub.errors) <= 200
    assert world.upstream.held == {"T.AAPL", "Q.AAPL"}


def test_a_drop_at_the_very_moment_a_reader_comes(world: World) -> None:
    world.open("T.MSFT")
    world.upstream.live.finish("without a close frame")
    late = world.open("T.AAPL")
    world.advance(1.0)
    assert late.is_confirmed
    assert world.upstream.held == {"T.MSFT", "T.AAPL"}


def test_a_reader_leaves_at_the_very_moment_of_its_confirmation(world: World) -> None:
    world.withhold("ack")
    reader = world.open("T.AAPL")
    world.upstream.release()
    world.leave(reader)
    world.advance(world.policy.linger_s + 0.1)
    assert world.upstream.held == set()


def test_churn_inside_the_linger_never_reaches_the_server(world: World) -> None:
    for _ in range(40):
        world.leave(world.open("T.AAPL"))
        world.advance(0.5)
    world.open("T.AAPL")
    said = [message["action"] for message in world.upstream.said]
    assert said == ["auth", "subscribe"]


def test_a_hundred_readers_of_one_topic_across_a_drop(world: World) -> None:
    readers = [world.open("T.AAPL") for _ in range(100)]
    world.drop()
    world.advance(1.0)
    world.burst(*["T.AAPL"] * 10)
    assert {len(reader.streamed) for reader in readers} == {10}
    for reader in readers[:-1]:
        world.leave(reader)
    world.advance(5.0)
    assert world.upstream.held == {"T.AAPL"}


@pytest.mark.parametrize("seconds", [5.0, 3_600.0], ids=["five_seconds", "an_hour"])
def test_the_machine_sleeps_and_the_socket_is_gone_when_it_wakes(seconds: float, world: World) -> None:
    reader = world.open("T.AAPL")
    world.burst("T.AAPL")
    world.suspend(seconds)
    world.drop()
    world.burst("T.AAPL")
    world.advance(5.0)
    world.burst("T.AAPL")
    assert reader.streamed == [100, 102]
    assert world.gaps[0].start_ns <= world.upstream.published[1].at_ns <= world.gaps[0].end_ns


def test_the_machine_sleeps_during_the_back_off_and_one_connection_is_made(world: World) -> None:
    reader = world.open("T.AAPL")
    world.upstream.refuse = 4
    world.drop()
    world.suspend(3_600.0)
    world.advance(10.0)
    assert reader.is_confirmed
    assert len(world.upstream.sockets) == 2


def test_junk_of_every_sort_in_one_session(world: World) -> None:
    reader = world.open("T.AAPL")
    for data in JUNK.values():
        world.malformed(data)
        world.burst("T.AAPL", junk=b'{"ev":"T","sym":"AAPL","p":"x","s":1,"t":1}')
    assert len(reader.streamed) == len(JUNK)
    assert world.hub.counts["quarantined"] >= len(JUNK)
    assert len(world.upstream.sockets) == 1


NUMBERED = b'{"ev":"T","sym":"AAPL","p":7,"s":1,"t":1,"q":7}'
BARE = b'{"ev":"T","sym":"AAPL","p":7,"s":1,"t":1}'
BAR = b'{"ev":"A","sym":"AAPL","o":1,"h":1,"l":1,"c":1,"s":1000,"e":2000}'


@pytest.mark.parametrize(
    ("items", "n"),
    [((NUMBERED,), 1), ((BARE,), 2), ((BARE, NUMBERED), 2), ((BAR,), 1), ((BAR, BARE), 4)],
    ids=["a_number", "no_number", "one_number_proves_it", "a_bar_replaces_itself", "a_bar_and_no_number"],
)
def test_a_frame_sent_again_is_told_once_and_prints_that_look_the_same_are_two(
    items: tuple[bytes, ...], n: int, world: World
) -> None:
    readers = [world.open(wire) for wire in ("T.AAPL", "A.AAPL")]
    for _ in range(2):
        world.malformed(b"[" + b",".join(items) + b"]")
    assert sum(len(reader.sink.got) for reader in readers) == n
    for reader in readers:
        reader.sink.got.clear()  # the model has not published them


def test_junk_during_the_handshake(world: World) -> None:
    world.withhold("connected")
    reader = world.open("T.AAPL")
    for data in JUNK.values():
        world.malformed(data)
    world.release()
    assert reader.is_confirmed


def test_the_server_warns_of_a_slow_consumer_and_cuts(world: World) -> None:
    reader = world.open("T.AAPL")
    world.tell("slow_consumer", "you are too slow")
    world.drop("by the server with code 1008")
    world.advance(1.0)
    assert reader.is_confirmed
    assert any("slow_consumer" in str(error) for error in world.hub.errors)


def test_confirmations_of_topics_nobody_asked_for_are_not_believed(world: World) -> None:
    world.open("T.AAPL")
    world.tell("success", "subscribed to: T.NVDA")
    world.tell("success", "unsubscribed to: T.MSFT")
    world.tell("error", "not authorized")
    assert world.upstream.held == {"T.AAPL"}
    assert {topic.wire for topic in world.hub.wanted} == {"T.AAPL"}


def test_attempts_used_up_with_rest_at_hand_goes_on_by_polling(make: Callable[..., World]) -> None:
    world = make(max_attempts=3)
    reader = world.open("T.AAPL")
    world.upstream.refuse = 1_000
    world.drop()
    world.burst("T.AAPL")
    world.advance(60.0)
    assert isinstance(world.hub.final_error, ConnectionLost)
    assert 1_000 - world.upstream.refuse == 3
    assert [event.source for event in reader.sink.got] == ["poll"]


def test_without_rest_a_drop_is_only_a_gap(make: Callable[..., World]) -> None:
    world = make(with_rest=False)
    reader = world.open("T.AAPL")
    world.burst("T.AAPL")
    world.upstream.refuse = 2
    world.drop()
    world.burst("T.AAPL")
    world.advance(10.0)
    assert world.told(t.FallbackStarted) == []
    assert reader.streamed == [100]
    assert [gap.state for gap in world.gaps] == ["unfilled"]


def test_what_a_poll_told_is_not_told_by_the_polls_of_the_next_outage(world: World) -> None:
    reader = world.open("T.AAPL")
    world.upstream.refuse = 1
    world.drop()
    world.burst("T.AAPL")
    world.advance(2.0)
    assert [event.source for event in reader.sink.got] == ["poll"]
    world.advance(40.0)
    world.upstream.refuse = 6
    world.drop()
    world.advance(30.0)
    assert [id_of(event) for event in reader.sink.got] == [100]


def test_what_was_polled_for_a_topic_asked_for_in_an_outage_is_not_filled_again(make: Callable[..., World]) -> None:
    world = make(with_history=True)
    world.open("T.AAPL")
    world.evict()
    world.burst("Q.AAPL")
    late = world.open("Q.AAPL")
    world.advance(10.0)
    assert [event.source for event in late.sink.got] == ["poll"]
    world.calm()
    world.advance(60.0)
    assert [id_of(event) for event in late.sink.got].count(100) == 1


def test_a_stall_long_enough_to_be_polled_over_and_then_all_of_it_comes(world: World) -> None:
    reader = world.open("T.AAPL")
    world.burst("T.AAPL")
    world.upstream.stalled = True
    for _ in range(8):
        world.burst("T.AAPL", "T.AAPL")
        world.advance(6.0)
    polled = [id_of(event) for event in reader.sink.got if event.source == "poll"]
    assert len(polled) >= 2
    assert len(world.upstream.sockets) == 1
    world.release()
    world.advance(1.0)
    got = [id_of(event) for event in reader.sink.got]
    assert sorted(got) == list(range(100, 117)), "each once, by the poll or by the stream"


@pytest.mark.parametrize("with_rest", [True, False], ids=["polled_and_filled", "filled"])
@pytest.mark.parametrize("n", [1, 2], ids=["one", "two_of_one_millisecond"])
def test_what_was_filled_long_ago_is_not_told_by_a_stream_that_begins_with_it(
    n: int, with_rest: bool, make: Callable[..., World]
) -> None:
    world = make(with_rest=with_rest, with_history=True)
    reader = world.open("T.AAPL")
    world.burst("T.AAPL")
    world.drop()
    world.advance(0.01)
    world.burst(*["T.AAPL"] * n)
    world.advance(20.0)
    assert len(reader.sink.got) == 1 + n
    world.upstream.lags = True
    world.evict()
    world.calm()
    assert world.state == "live"
    assert sorted(id_of(event) for event in reader.sink.got) == list(range(100, 102 + n))


def test_what_was_polled_long_ago_is_not_told_when_its_topic_is_asked_for_alone(world: World) -> None:
    reader, wide = world.open("T.AAPL"), world.open("T.*")
    world.burst("T.AAPL")
    world.upstream.refuse = 1
    world.drop()
    world.advance(0.04)
    world.burst("T.AAPL")
    world.advance(5.0)
    assert [event.source for event in reader.sink.got] == ["stream", "poll"]
    for _ in range(4):
        world.advance(20.0)
        world.burst("T.MSFT")
    world.upstream.lags = True
    world.leave(wide)
    world.advance(5.5)
    assert "T.AAPL" in world.upstream.held
    assert [event.source for event in reader.sink.got] == ["stream", "poll"]


@pytest.mark.parametrize("with_rest", [True, False], ids=["polled_and_filled", "filled"])
def test_what_a_wildcard_brought_is_not_filled_for_a_single_asked_for_in_the_outage(
    with_rest: bool, make: Callable[..., World]
) -> None:
    world = make(with_rest=with_rest, with_history=True)
    world.burst("T.AAPL")
    wide = world.open("T.*")
    for _ in range(3):
        world.burst("T.AAPL")
    world.drop()
    single = world.open("T.AAPL")
    world.calm()
    assert single.is_confirmed
    assert [id_of(event) for event in wide.sink.got if event.source == "stream"][:3] == [101, 102, 103]
    assert sorted(id_of(event) for event in wide.sink.got if event.symbol == "AAPL") == [100, 101, 102, 103, 104]


def test_what_comes_between_the_return_and_the_confirmation_is_in_the_gap_and_is_filled(make: Callable[..., World]) -> None:
    world = make(with_history=True)
    readers = [world.open(wire) for wire in ("T.AAPL", "T.MSFT", "Q.AAPL", "Q.MSFT")]  # more than one message holds
    world.burst("Q.MSFT")
    world.withhold("ack")
    world.drop()
    world.advance(4.0)
    world.release_once()
    world.advance(4.0)
    assert world.state == "live"
    assert not world.hub.is_confirmed(readers[3].topic)
    world.burst("Q.MSFT")
    world.advance(0.5)
    world.release()
    assert world.hub.is_confirmed(readers[3].topic)
    gap = next(gap for gap in world.gaps if gap.topic == readers[3].topic)
    assert gap.start_ns < world.upstream.published[1].at_ns < gap.end_ns == world.clock.now_ns()
    world.advance(20.0)
    assert world.missing(readers[3]) == []
    assert {gap.state for gap in world.gaps} == {"filled"}


def test_a_topic_that_is_denied_at_the_return_leaves_no_gap_behind_that_waits(make: Callable[..., World]) -> None:
    world = make(with_history=True)
    kept, lost = world.open("T.AAPL"), world.open("T.MSFT")
    world.burst()
    world.deny("T.MSFT")
    world.drop()
    world.advance(20.0)
    assert (kept.is_open, lost.is_open) == (True, False)
    assert {gap.topic.wire: gap.state for gap in world.gaps} == {"T.AAPL": "filled", "T.MSFT": "unfilled"}


@pytest.mark.parametrize("late_s", [0.1, 5.5], ids=["answered", "answered_after_its_deadline"])
def test_a_topic_asked_for_while_it_is_given_back_is_confirmed_only_when_it_is_held_again(
    late_s: float, world: World
) -> None:
    world.leave(world.open("T.AAPL"))
    world.upstream.stalled = True
    world.advance(1.1)
    assert world.upstream.said[-1]["action"] == "unsubscribe"
    reader = world.open("T.AAPL")
    assert not reader.is_confirmed
    world.advance(late_s)
    world.release()
    assert reader.is_confirmed
    assert world.upstream.held == {"T.AAPL"}
    world.burst("T.AAPL")
    assert len(reader.streamed) == 1


def test_the_errors_that_are_kept_hold_no_socket(make: Callable[..., World]) -> None:
    world = make(with_rest=False)
    world.open("T.AAPL")
    for _ in range(20):
        world.drop()
        world.advance(15.0)
    assert len(world.hub.errors) == 20
    ended = [weakref.ref(socket) for socket in world.upstream.sockets[:-1]]
    del world.upstream.sockets[:-1]
    gc.collect()
    assert [socket() for socket in ended] == [None] * 20


def test_of_two_clients_that_look_the_same_the_one_that_leaves_is_forgotten(world: World) -> None:
    stays, leaves, heard = t.Telemetry(), t.Telemetry(), []
    for telemetry in (stays, leaves):
        world.hub.join(telemetry)
    world.hub.leave(leaves)
    stays.add(heard.append)
    world.open("T.AAPL")
    assert heard


def test_what_is_polled_in_a_long_outage_is_bounded_for_a_topic_asked_for_in_it(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stitcher, "_POLLED", 20)
    world = make(with_history=True)
    world.open("T.MSFT")
    world.burst("T.MSFT")
    world.evict()
    late = world.open("T.AAPL")
    for _ in range(25):
        world.burst("T.AAPL")
        world.advance(10.0)
    assert len(late.sink.got) == 25
    assert len(world.hub.gaps._stitcher._meanwhile[Trade, "AAPL"]) == 20


def test_a_fault_of_the_feed_is_not_shown_as_live_and_is_over_with_a_retry(world: World) -> None:
    reader = world.open("T.AAPL")
    world.burst("T.AAPL")

    async def broken() -> bytes:
        raise KeyError("a fault")

    assert world.upstream.live is not None
    world.upstream.live.recv = broken  # type: ignore[method-assign]
    world.burst("T.AAPL")
    assert (world.state, world.hub.is_confirmed(reader.topic), world.upstream.live) == ("closed", False, None)
    assert "feed failed: KeyError" in str(world.hub.final_error)
    world.advance(0.1)
    world.burst("T.AAPL")
    world.advance(10.0)
    assert world.state == "polling"
    assert [event.source for event in reader.sink.got] == ["stream", "stream", "poll"]
    world.run(world.hub.retry())
    assert world.state == "live"
    assert [gap.topic for gap in world.gaps] == [reader.topic]


def test_rest_that_refuses_the_key_too_is_asked_no_longer_until_a_retry(world: World) -> None:
    reader = world.open("T.AAPL")
    world.upstream.auth_error = "authentication failed"
    world.rest.error = Unauthorized("no")
    world.drop()
    world.advance(600.0)
    n_asked = len(world.rest.calls)
    assert n_asked <= 3
    assert isinstance(world.hub.final_error, Unauthorized)
    world.upstream.auth_error = world.rest.error = None
    world.run(world.hub.retry())
    assert reader.is_confirmed
    world.upstream.refuse = 4
    world.drop()
    world.advance(1.0)
    assert len(world.rest.calls) > n_asked, "and asked again after that"
