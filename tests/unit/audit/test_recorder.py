from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab import telemetry as t
from massive_lab.audit.recorder import Recorder, Recording
from massive_lab.errors import Timeout

_EVENTS = st.one_of(
    st.builds(t.RequestDone, st.just(0.0), st.sampled_from(["chain", "trades"]), st.just("x"), st.sampled_from([200, 500, None]),
              st.sampled_from(["ok", "timeout"]), st.integers(0, 99), st.just(0.1), st.just(1)),
    st.builds(t.ReaderOpened, st.just(0.0), st.just("stocks"), st.sampled_from(["T.A", "T.B"]), st.just("r")),
    st.builds(t.FrameReceived, st.just(0.0), st.just("stocks"), st.integers(0, 9), st.integers(0, 99),
              st.just((("T.A", 2),))),
    st.builds(t.PollTick, st.just(0.0), st.just("stocks"), st.just("snapshot"), st.integers(1, 9), st.just(0)),
)  # fmt: skip


@given(st.lists(_EVENTS, max_size=40), st.randoms())
def test_the_sums_do_not_depend_on_the_order_of_events(events: list[t.Event], random) -> None:
    shuffled = list(events)
    random.shuffle(shuffled)
    one, other = Recording(), Recording()
    for event in events:
        one.apply(event)
    for event in shuffled:
        other.apply(event)
    for tally in (*one.endpoints.values(), *other.endpoints.values()):
        tally.elapsed_s.sort()
    assert one.endpoints == other.endpoints
    assert (one.topics, one.frames, one.bytes, one.polls, one.n_events) == (
        other.topics, other.frames, other.bytes, other.polls, other.n_events
    )  # fmt: skip


def test_an_attempt_without_an_answer_counts_but_has_no_latency() -> None:
    recording = Recording()
    recording.apply(t.RequestDone(0.0, "chain", "chain", None, "timeout", 0, 10.0, 1))
    tally = recording.endpoints["chain"]
    assert (tally.attempts, tally.ok, tally.errors, tally.elapsed_s, dict(tally.statuses)) == (1, 0, 1, [], {})


def test_readers_are_counted_up_and_down_and_the_peak_is_kept() -> None:
    recording = Recording()
    for name in ("a", "b"):
        recording.apply(t.ReaderOpened(0.0, "stocks", "T.SPY", name))
    for name in ("a", "b"):
        recording.apply(t.ReaderClosed(1.0, "stocks", "T.SPY", name, 5))
    tally = recording.topics["stocks", "T.SPY"]
    assert (tally.readers, tally.open_readers, tally.peak_readers, tally.dropped) == (2, 0, 2, 0)


def test_control_messages_are_counted_by_topic_and_by_action() -> None:
    recording = Recording()
    recording.apply(t.WireSent(0.0, "stocks", "auth", ()))
    recording.apply(t.WireSent(0.0, "stocks", "subscribe", ("T.A", "T.B")))
    recording.apply(t.WireSent(0.0, "stocks", "unsubscribe", ("T.A",)))
    assert recording.wire == {("stocks", "auth"): 1, ("stocks", "subscribe"): 1, ("stocks", "unsubscribe"): 1}
    assert [(x.subscribes, x.unsubscribes) for x in recording.topics.values()] == [(1, 1), (1, 0)]


def test_unknown_kinds_are_counted_and_nothing_else() -> None:
    recording = Recording()
    recording.apply(t.Event(0.0))
    assert recording == Recording(n_events=1)


def test_calls_belong_to_the_phase_in_which_they_end_also_nested() -> None:
    recorder = Recorder()
    done = t.RequestDone(0.0, "chain", "chain", 200, "ok", 1, 0.1, 1)
    with recorder.phase("outer"):
        with recorder.phase("inner"):
            recorder(done)
        recorder(done)
    recorder(done)
    assert recorder.read(lambda r: dict(r.calls)) == {("inner", "chain"): 1, ("outer", "chain"): 1, ("", "chain"): 1}


def test_waiting_ends_when_another_thread_brings_it_about() -> None:
    recorder = Recorder()
    thread = threading.Thread(target=lambda: [recorder(t.TopicConfirmed(0.0, "stocks", f"T.{k}")) for k in "ABC"])
    thread.start()
    recorder.wait_for(lambda r: len(r.topics) == 3, "three topics")
    thread.join()


def test_waiting_in_vain_says_for_what() -> None:
    with pytest.raises(Timeout, match="a poll of the moon"):
        Recorder().wait_for(lambda r: False, "a poll of the moon", timeout_s=0.01)


def test_the_last_plan_of_a_poll_holds_until_polling_ends() -> None:
    recording = Recording()
    recording.apply(t.PollPlanned(1.0, "stocks", 4.0, 2))
    recording.apply(t.PollPlanned(1.5, "stocks", 5.5, 2))
    recording.apply(t.PollPlanned(1.5, "options", 3.0, 1))
    assert {cluster: plan.due_at_s for cluster, plan in recording.planned.items()} == {"stocks": 5.5, "options": 3.0}
    recording.apply(t.FallbackStopped(2.0, "stocks", 1))
    assert list(recording.planned) == ["options"]
