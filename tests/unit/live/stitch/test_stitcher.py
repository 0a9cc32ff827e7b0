"""The machine of the stitch, alone: what it asks for, and what it takes an answer for."""

from __future__ import annotations

import pytest

from massive_lab.decode.stream import Event, MinuteBar, SecondBar, Status, Trade
from massive_lab.errors import ConnectionLost, InvalidRequest, RateLimited
from massive_lab.live.policy import Policy
from massive_lab.live.routes import Routes
from massive_lab.live.stitch.span import Span
from massive_lab.live.stitch.stitcher import Stitcher
from massive_lab.live.stitch.tail import Tail
from massive_lab.live.topics import Topic

_MS = 1_000_000
T0 = 1_750_000_000_000
TOPIC = Topic("stocks", "T", "AAPL")


def trade(ms: int, sequence: int | None = None, symbol: str = "AAPL", source: str = "stream") -> Trade:
    return Trade(symbol, T0 + ms, 5.0, whole=1.0, exchange=4, sequence=sequence or ms, source=source)


class Line:
    """A stitcher whose local clock is 50 ms behind the exchange's."""

    def __init__(self, *topics: Topic, **changes: object) -> None:
        self.routes = Routes()
        self.stitcher = Stitcher(Policy().with_(**changes), self.routes.newest.get)
        self.wanted = dict.fromkeys(topics or (TOPIC,), 0)
        self.got: list[Event] = []
        self.back(-1)

    def ns(self, ms: int) -> int:
        return (T0 + ms + 50) * _MS

    def hear(self, *events: Event) -> None:
        now_ns = self.ns(max(event.ms for event in events) - T0)
        kept = self.stitcher.heard(list(events), now_ns)
        self.routes.dispatch(kept, now_ns)
        self.got += kept  # type: ignore[arg-type]

    def lose(self) -> None:
        self.stitcher.lost(self.wanted, "a test")

    def back(self, ms: int) -> list[Span]:
        ended = self.stitcher.returned(self.wanted, self.ns(ms), lambda topic: "")
        for topic in self.wanted:
            self.stitcher.confirmed(topic)
        return ended

    def ask(self, ms: int):
        (request,) = self.stitcher.due(self.ns(ms))
        return request

    def states(self) -> list[str]:
        return [span.state for span in self.stitcher.rows]


def test_it_asks_from_a_margin_before_the_loss_to_what_was_streamed_since_the_return():
    line = Line()
    line.hear(trade(9_000), trade(10_000))
    line.lose()
    line.back(15_000)
    line.hear(trade(15_500))
    assert line.stitcher.due(line.ns(15_900)) == []
    line.hear(trade(15_800))
    request = line.ask(16_100)
    assert (request.start_ns // _MS - T0, request.end_ns // _MS - T0) == (8_000, 15_801)
    history = [trade(ms, source="backfill") for ms in (9_000, 10_000, 11_000, 12_000, 15_500, 15_800)]
    assert line.stitcher.answered(request, history, line.ns(16_200)) == history[2:4]
    assert line.states() == ["filled"]
    assert line.stitcher.is_idle


def test_a_topic_asked_for_a_moment_ago_gets_nothing_from_before_it():
    line = Line()
    other = Topic("stocks", "T", "MSFT")
    line.hear(trade(9_000), trade(10_000))
    line.wanted[other] = line.ns(9_900)
    line.lose()
    spans = {span.topic: span.lo_ms for span in line.stitcher.rows}
    assert line.stitcher.rows[1].before == []
    assert spans == {TOPIC: T0 + 8_000, other: T0 + 9_900}


def test_a_session_that_has_just_begun_is_filled_from_its_first_event_on():
    line = Line()
    line.wanted[TOPIC] = line.ns(9_900)
    line.hear(trade(9_950), trade(10_000))
    line.lose()
    (span,) = line.stitcher.rows
    assert (span.lo_ms, len(span.before)) == (T0 + 9_950, 2)


def test_a_topic_asked_for_while_the_socket_is_down_has_a_gap_from_then_on():
    line = Line()
    other = Topic("stocks", "T", "MSFT")
    line.hear(trade(10_000))
    line.lose()
    line.wanted[other] = line.ns(12_000)
    ended = line.back(15_000)
    assert [span.topic for span in ended] == [TOPIC, other]
    assert ended[1].lo_ms == T0 + 12_000
    assert ended[1].start_ns == line.ns(12_000)


def test_without_any_event_before_the_loss_the_first_one_after_it_tells_the_time():
    line = Line()
    line.stitcher.heard([Status("success", "subscribed to: T.AAPL")], line.ns(1_000))
    line.lose()
    line.back(5_000)
    line.hear(trade(5_100))
    request = line.ask(5_700)
    # By the first event the local clock is 50 ms late, and the last frame before the loss came at 1,050 of it.
    assert request.start_ns // _MS - T0 == 1_000
    rows = [trade(ms, source="backfill") for ms in (2_000, 5_100)]
    assert line.stitcher.answered(request, rows, line.ns(5_800)) == rows[:1]


def test_without_any_event_at_all_the_place_of_the_gap_is_unknown():
    line = Line()
    line.lose()
    line.back(5_000)
    assert line.stitcher.due(line.ns(60_000)) == []
    (span,) = line.stitcher.rows
    assert (span.state, span.reason) == ("unfilled", "no event has told the exchange's time")


def test_back_too_briefly_to_hear_anything_two_outages_are_one_gap():
    line = Line()
    line.hear(trade(10_000))
    line.lose()
    line.back(12_000)
    line.lose()
    line.back(20_000)
    (span,) = line.stitcher.rows
    assert (span.start_ns, span.end_ns) == (line.ns(10_000), line.ns(20_000))


def test_heard_in_between_they_are_two_and_both_are_filled():
    line = Line()
    line.hear(trade(10_000))
    line.lose()
    line.back(12_000)
    line.hear(trade(12_100))
    line.lose()
    assert line.states() == ["open", "open"]
    line.back(20_000)
    line.hear(trade(20_100))
    history = [trade(ms, source="backfill") for ms in (10_000, 11_000, 12_100, 13_000, 20_100)]
    for request in line.stitcher.due(line.ns(20_800)):
        rows = [row for row in history if request.start_ns <= row.ts_event < request.end_ns]
        line.got += line.stitcher.answered(request, rows, line.ns(20_900))
    assert sorted(event.ms - T0 for event in line.got) == [10_000, 11_000, 12_100, 13_000, 20_100]
    assert line.states() == ["filled", "filled"]


def test_what_a_fill_has_told_first_is_not_streamed_again():
    line = Line()
    line.hear(trade(10_000))
    line.lose()
    line.back(12_000)
    request = line.ask(19_000)
    rows = [trade(ms, source="backfill") for ms in (11_000, 18_990)]
    assert line.stitcher.answered(request, rows, line.ns(19_000)) == rows
    again = [trade(18_990), trade(18_995)]
    assert line.stitcher.heard([*again, Status("success", "")], line.ns(19_100)) == [again[1], Status("success", "")]
    assert line.stitcher.heard([trade(18_990)], line.ns(19_200)) != []
    assert line.stitcher.heard([trade(11_000)], line.ns(60_000)) != []


def test_where_the_tail_was_too_short_nothing_delivered_is_asked_for_again():
    line = Line(stitch_tail_events=3)
    for ms in range(9_000, 10_001, 100):
        line.hear(trade(ms))
    line.lose()
    (span,) = line.stitcher.rows
    assert span.lo_ms == T0 + 9_801
    assert [event.ms - T0 for event in span.before] == [9_900, 10_000]


@pytest.mark.parametrize(
    ("error", "state", "again_ms"),
    [
        (ConnectionLost("gone"), "filling", 1_000),
        (RateLimited("slow down", retry_after_s=30.0), "filling", 30_000),
        (InvalidRequest("no history"), "unfilled", None),
    ],
    ids=["lost", "limited", "final"],
)
def test_a_failure_is_tried_again_unless_it_is_final(error, state, again_ms):
    line = Line()
    line.hear(trade(10_000))
    line.lose()
    line.back(12_000)
    line.hear(trade(12_100))
    line.stitcher.failed(line.ask(13_000), error, line.ns(13_000))
    assert line.states() == [state]
    if again_ms is not None:
        assert line.stitcher.due(line.ns(13_000 + again_ms - 1)) == []
        assert line.ask(13_000 + again_ms)


def test_a_socket_that_flaps_for_ever_does_not_pile_up_gaps():
    line = Line()
    line.hear(trade(10_000))
    for n in range(100):
        line.lose()
        line.back(11_000 + 100 * n)
        line.hear(trade(11_001 + 100 * n))
    states = line.states()
    assert states.count("filling") <= 16
    assert set(states[:80]) == {"unfilled"}


def test_bars_are_filled_up_to_those_that_were_made_when_asked():
    bars = {
        start: SecondBar("AAPL", T0 + start, 1.0, 2.0, 1.0, 2.0, end_ms=T0 + start + 1_000, whole=9.0)
        for start in range(0, 30_000, 1_000)
    }
    line = Line(Topic("stocks", "A", "AAPL"))
    for start in (6_000, 7_000, 8_000):
        line.stitcher.heard([bars[start]], line.ns(start + 3_000))
        line.routes.dispatch([bars[start]], line.ns(start + 3_000))
    line.lose()
    line.back(15_000)
    request = line.ask(21_000)
    missing = line.stitcher.answered(request, list(bars.values()), line.ns(21_000))
    # The exchange's time is that of the newest bar's end, two seconds late: 19,000; less what a bar may take to come.
    assert [bar.ms - T0 for bar in missing] == list(range(9_000, 16_000, 1_000))


def test_minute_bars_from_before_the_oldest_memory_are_not_told_again():
    bars = [MinuteBar("AAPL", T0 - T0 % 60_000 + k * 60_000, 1.0, 2.0, 1.0, 2.0, whole=9.0) for k in range(6)]
    line = Line(Topic("stocks", "AM", "AAPL"))
    for bar in bars[:3]:
        line.stitcher.heard([bar], bar.ts_close + 50 * _MS)
        line.routes.dispatch([bar], bar.ts_close + 50 * _MS)
    line.lose()
    line.stitcher.returned(line.wanted, bars[4].ts_close, lambda topic: "")
    line.stitcher.heard([bars[5]], bars[5].ts_close + 50 * _MS)
    (request,) = line.stitcher.due(bars[5].ts_close + 1_000 * _MS)
    assert line.stitcher.answered(request, bars, bars[5].ts_close + 1_000 * _MS) == bars[3:5]


def test_the_tail_keeps_a_window_of_the_exchanges_time_and_is_bounded():
    tail = Tail(window_ms=1_000, max_events=5)
    assert (tail.exchange_ms(0), tail.high_ms, tail.by_key()) == (None, None, {})
    tail.append([], 0)
    tail.append([Status()], 1)
    tail.append([trade(0)], 2)
    tail.append([trade(2_000)], 3)
    assert [event.ms - T0 for event in tail.by_key()[Trade, "AAPL"]] == [2_000]
    assert not tail.is_cut
    tail.append([trade(2_000 + n, n + 1) for n in range(5)], 4)
    assert tail.is_cut
    assert len(tail.by_key()[Trade, "AAPL"]) == 5
    tail.append([trade(2_100 + n, n + 1) for n in range(9)], 5)
    assert len(tail.by_key()[Trade, "AAPL"]) == 9


def test_an_outage_of_hours_does_not_pile_up_what_was_polled():
    line = Line(stitch_max_s=60.0)
    line.hear(trade(10_000))
    line.lose()
    for ms in range(11_000, 11_000 + 20_000 * 500, 500):
        line.stitcher.told([trade(ms, source="poll")], line.ns(ms))
    (span,) = line.stitcher.rows
    assert len(span.before) <= 1_001
    assert span.before[-1].ms == T0 + 11_000 + 19_999 * 500
