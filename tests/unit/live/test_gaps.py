"""Gaps on a real socket, under a clock that the test moves, with a history that the test writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from massive_lab import telemetry as t
from massive_lab.errors import MassiveLabError, NotEntitled, Timeout
from massive_lab.frames import rest
from massive_lab.live.read.mailbox import Mailbox
from massive_lab.live.views import gap_frame
from massive_lab.loaders.backfill import Filled

pytestmark = pytest.mark.asyncio

_MS = 1_000_000


def trade(ms: int, sequence: int, price: float = 100.0, symbol: str = "AAPL") -> dict[str, Any]:
    return {"ev": "T", "sym": symbol, "t": ms, "p": price, "s": 10, "x": 4, "q": sequence}


class History:
    """A filler that knows what it is told, up to a time."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.known_ms: int | None = None
        self.asked: list[tuple[str, int, int]] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.reason = ""
        self.n_cancelled = 0

    async def fill(
        self, cluster: str, channel: str, symbol: str, start_ns: int, end_ns: int, *, max_rows: int
    ) -> Filled:
        self.asked.append((f"{channel}.{symbol}", start_ns // _MS, end_ns // _MS))
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.n_cancelled += 1
                raise
        if self.error is not None:
            raise self.error
        known = [
            {
                "price": row["p"], "size": row["s"], "exchange": row["x"], "sequence_number": row["q"],
                "sip_timestamp": row["t"] * _MS + 5,
            }
            for row in self.rows
            if row["sym"] == symbol
            and start_ns <= row["t"] * _MS + 5 < end_ns
            and (self.known_ms is None or row["t"] <= self.known_ms)
        ]  # fmt: skip
        body = json.dumps({"status": "OK", "results": known}).encode()
        return Filled(rest.trades([body], symbol=symbol), not self.reason, self.reason)


class Story:
    """One hub, one history; what the upstream pushes is history too."""

    def __init__(self, bench: Any, upstream: Any, tools: Any) -> None:
        self.bench, self.upstream, self.tools = bench, upstream, tools
        self.history = History()
        bench.hub.gaps.fillers.append(self.history)
        self.sequence = 0

    @property
    def now_ms(self) -> int:
        return self.bench.clock.now_ns() // _MS

    def read(self, *wires: str) -> Any:
        inbox = self.tools.Inbox()
        for wire in wires:
            self.bench.hub.open(self.bench.topic(wire), [inbox])
        return inbox

    def traded(self, symbol: str = "AAPL") -> dict[str, Any]:
        """Something is traded now, whether or not anybody hears of it."""
        self.sequence += 1
        self.bench.clock.advance(0.01)
        row = trade(self.now_ms, self.sequence, symbol=symbol)
        self.history.rows.append(row)
        return row

    async def streamed(self, n: int = 1, symbol: str = "AAPL") -> None:
        for _ in range(n):
            before = self.bench.hub.counts["frames"]
            await self.upstream.push(self.traded(symbol))
            await self.bench.until(lambda before=before: self.bench.hub.counts["frames"] > before)

    async def lose(self) -> None:
        self.upstream.connections[-1].transport.abort()
        await self.bench.until(lambda: self.bench.hub.state != "live")

    async def regain(self) -> None:
        hub, n = self.bench.hub, len(self.upstream.held)
        await self.bench.until(lambda: len(self.upstream.held) > n and hub.state == "live", step_s=0.05)
        await self.bench.until(lambda: all(hub.is_confirmed(topic) for topic in hub.wanted))

    async def decided(self, *, step_s: float = 0.25) -> None:
        await self.bench.until(lambda: not set(self.states()) & {"open", "filling"}, step_s=step_s)

    def states(self) -> list[str]:
        return [span.state for span in self.bench.hub.gaps.rows()]

    def sequences(self) -> list[int]:
        return [row["q"] for row in self.history.rows]


@pytest.fixture
def story(bench, upstream, tools) -> Story:
    return Story(bench, upstream, tools)


@pytest.fixture
def make_story(make_bench: Callable[..., Any], upstream, tools) -> Callable[..., Story]:
    return lambda poller=None, **changes: Story(make_bench(poller, **changes), upstream, tools)


async def test_the_hole_is_filled_in_order_and_nothing_twice(story):
    inbox = story.read("T.AAPL")
    await story.bench.live("T.AAPL")
    await story.streamed(3)
    await story.lose()
    for _ in range(4):
        story.traded()
    await story.regain()
    await story.streamed(2)
    await story.decided()
    assert sorted(event.sequence for event in inbox.got) == story.sequences()
    filled = [event for event in inbox.got if event.source == "backfill"]
    assert [event.sequence for event in filled] == [4, 5, 6, 7]
    assert {event.sub_ns for event in filled} == {5}
    assert all(event.ts_recv for event in filled)
    (row,) = gap_frame(story.bench.hub.gaps.rows()).to_dicts()
    assert (row["topic"], row["state"], row["events"], row["reason"]) == ("T.AAPL", "filled", 4, None)
    assert row["end"] > row["start"]
    (told,) = story.bench.told(t.GapFilled)
    assert (told.topic, told.state, told.n_events, told.n_duplicates) == ("T.AAPL", "filled", 4, 5)


async def test_the_newest_is_not_overwritten_by_what_is_older(story):
    story.read("T.AAPL")
    await story.bench.live("T.AAPL")
    await story.streamed()
    await story.lose()
    story.traded()
    await story.regain()
    await story.streamed()
    await story.decided()
    (tally,) = [story.bench.hub.routes.tally(topic) for topic in story.bench.hub.wanted]
    assert tally.last.sequence == 3
    assert tally.n_messages == 3


async def test_who_keeps_the_newest_only_is_not_sent_the_past(story):
    box = Mailbox("latest", overflow="latest")
    topic = story.bench.topic("T.AAPL")
    all_of_them = story.read("T.AAPL")
    story.bench.hub.open(topic, [box])
    await story.bench.live("T.AAPL")
    await story.streamed()
    await story.lose()
    story.traded()
    await story.regain()
    await story.streamed()
    assert box.get().sequence == 3
    await story.decided()
    assert [event.sequence for event in all_of_them.got if event.source == "backfill"] == [2]
    assert len(box) == 0


async def test_a_quiet_topic_is_filled_after_a_while(story):
    inbox = story.read("T.AAPL", "T.MSFT")
    await story.bench.live("T.AAPL", "T.MSFT")
    await story.streamed(2)
    await story.lose()
    story.traded("MSFT")
    story.traded("MSFT")
    await story.regain()
    await story.streamed()
    await story.decided()
    assert [event.symbol for event in inbox.got if event.source == "backfill"] == ["MSFT", "MSFT"]
    assert story.states() == ["filled", "filled"]


async def test_a_copy_that_lags_is_asked_again_until_it_reaches_past_the_return(story):
    inbox = story.read("T.AAPL")
    await story.bench.live("T.AAPL")
    await story.streamed()
    story.history.known_ms = story.now_ms
    await story.lose()
    story.traded()
    await story.regain()
    await story.streamed()
    await story.bench.until(lambda: len(story.history.asked) >= 3, step_s=0.25)
    assert story.states() == ["filling"]
    story.history.known_ms = None
    await story.decided()
    assert story.states() == ["filled"]
    assert sorted(event.sequence for event in inbox.got) == [1, 2, 3]


async def test_a_copy_that_never_reaches_so_far_is_given_up_and_said(story):
    story.read("T.AAPL")
    await story.bench.live("T.AAPL")
    await story.streamed()
    await story.lose()
    story.traded()
    story.history.known_ms = story.now_ms
    await story.regain()
    await story.streamed()
    await story.decided(step_s=1.0)
    (span,) = story.bench.hub.gaps.rows()
    assert (span.state, span.n_events) == ("partial", 1)
    assert "not reached past the return" in span.reason
    assert len(story.history.asked) == story.bench.hub.policy.stitch_attempts


@pytest.mark.parametrize(
    ("error", "n_asked"),
    [(NotEntitled("The plan lacks trades."), 1), (Timeout("No answer."), 8)],
    ids=["plan", "timeout"],
)
async def test_what_rest_does_not_give_is_unfilled_with_its_reason(error: MassiveLabError, n_asked, story):
    inbox = story.read("T.AAPL")
    await story.bench.live("T.AAPL")
    await story.streamed()
    story.history.error = error
    await story.lose()
    await story.regain()
    await story.streamed()
    await story.decided(step_s=1.0)
    (span,) = story.bench.hub.gaps.rows()
    assert (span.state, span.reason) == ("unfilled", error.message)
    assert len(story.history.asked) == n_asked
    assert {event.source for event in inbox.got} == {"stream"}


async def test_a_wildcard_and_a_hub_without_rest_say_why(story):
    story.read("T.*")
    story.bench.hub.gaps.fillers.clear()
    story.read("Q.AAPL")
    await story.bench.live("T.*", "Q.AAPL")
    await story.lose()
    await story.regain()
    reasons = {span.topic.wire: span.reason for span in story.bench.hub.gaps.rows()}
    assert "wildcard" in reasons["T.*"]
    assert "no client" in reasons["Q.AAPL"]
    assert story.states() == ["unfilled", "unfilled"]


async def test_the_first_connection_is_no_gap(story):
    story.read("T.AAPL")
    await story.bench.live("T.AAPL")
    assert story.bench.hub.gaps.rows() == []
    assert story.bench.told(t.GapDetected) == []


async def test_a_gap_is_listed_while_it_is_open(story):
    story.read("T.AAPL")
    await story.bench.live("T.AAPL")
    await story.streamed()
    await story.lose()
    (row,) = gap_frame(story.bench.hub.gaps.rows()).to_dicts()
    assert (row["state"], row["end"]) == ("open", None)
    assert row["cause"]


async def test_who_comes_late_gets_nothing_from_before(story):
    early = story.read("T.AAPL")
    await story.bench.live("T.AAPL")
    await story.streamed()
    await story.lose()
    story.traded()
    story.bench.clock.advance(1.0)
    late = story.read("T.AAPL", "T.MSFT")
    story.traded("MSFT")
    story.traded()
    await story.regain()
    await story.streamed()
    after = story.read("T.AAPL")
    await story.streamed(symbol="MSFT")
    await story.decided()
    assert sorted(event.sequence for event in early.got) == [1, 2, 4, 5]
    assert sorted(event.sequence for event in late.got) == [3, 4, 5, 6]
    assert after.got == []


async def test_lost_during_a_fill_the_gap_stays_open_and_nothing_is_lost_or_doubled(story):
    inbox = story.read("T.AAPL")
    await story.bench.live("T.AAPL")
    await story.streamed(2)
    await story.lose()
    story.traded()
    await story.regain()
    await story.streamed()
    story.history.gate = asyncio.Event()
    await story.bench.until(lambda: story.history.asked, step_s=0.25)
    await story.lose()
    await story.bench.until(lambda: story.history.n_cancelled == 1)
    assert set(story.states()) == {"open"}
    story.traded()
    story.history.gate.set()
    await story.regain()
    await story.streamed()
    await story.decided()
    assert set(story.states()) == {"filled"}
    assert sorted(event.sequence for event in inbox.got) == story.sequences()


async def test_what_is_streamed_during_a_fill_is_not_told_again(story):
    inbox = story.read("T.AAPL")
    await story.bench.live("T.AAPL")
    await story.streamed()
    await story.lose()
    story.traded()
    await story.regain()
    await story.streamed()
    story.history.gate = asyncio.Event()
    await story.bench.until(lambda: story.history.asked, step_s=0.25)
    await story.streamed(3)
    story.history.gate.set()
    await story.decided()
    await story.streamed()
    assert sorted(event.sequence for event in inbox.got) == story.sequences()


async def test_a_polled_trade_is_not_told_again_by_the_fill(make_story, rest):
    story = make_story(rest)
    inbox = story.read("T.AAPL")
    await story.bench.live("T.AAPL")
    await story.streamed()
    row = story.traded()
    rest.rows["AAPL"] = {
        "trade_price": row["p"], "trade_size": 10.0, "trade_exchange": 4, "ts_trade": row["t"] * _MS + 5,
    }  # fmt: skip
    await story.lose()
    await story.bench.until(lambda: [event for event in inbox.got if event.source == "poll"], step_s=0.02)
    story.traded()
    await story.regain()
    await story.streamed()
    await story.decided()
    assert [(event.source, event.sequence) for event in sorted(inbox.got, key=lambda event: event.ms)] == [
        ("stream", 1), ("poll", None), ("backfill", 3), ("stream", 4),
    ]  # fmt: skip


async def test_closing_during_a_fill_leaves_no_task(story):
    story.read("T.AAPL")
    await story.bench.live("T.AAPL")
    await story.streamed()
    await story.lose()
    await story.regain()
    await story.streamed()
    story.history.gate = asyncio.Event()
    await story.bench.until(lambda: story.history.asked, step_s=0.25)
    await story.bench.hub.aclose()
    assert story.history.n_cancelled == 1
    assert [task for task in asyncio.all_tasks() if "stitch" in task.get_name()] == []


async def test_nobody_is_asked_for_what_nobody_reads_any_more(story):
    reader = story.bench.hub.open(story.bench.topic("T.AAPL"), [story.tools.Inbox()])
    await story.bench.live("T.AAPL")
    await story.streamed()
    await story.lose()
    await story.regain()
    story.bench.hub.close_reader(reader)
    await story.decided()
    assert story.history.asked == []
    assert "nobody reads it" in story.bench.hub.gaps.rows()[0].reason


async def test_of_a_long_gap_the_last_part_is_filled(make_story):
    story = make_story(stitch_max_s=60.0, ping_s=1e6)
    inbox = story.read("T.AAPL")
    await story.bench.live("T.AAPL")
    await story.streamed()
    story.upstream.refuse_upgrade = 503
    await story.lose()
    story.traded()
    story.bench.clock.advance(600.0)
    story.traded()
    story.upstream.refuse_upgrade = None
    await story.regain()
    await story.streamed()
    await story.decided()
    assert [event.sequence for event in inbox.got if event.source == "backfill"] == [3]
    (span,) = story.bench.hub.gaps.rows()
    assert span.state == "partial"
    assert span.reason.startswith("only the last 60 of 6")


async def test_rows_that_were_left_out_make_it_partial(story):
    story.read("T.AAPL")
    await story.bench.live("T.AAPL")
    await story.streamed()
    await story.lose()
    story.traded()
    story.history.reason = "only the newest 50,000 rows were fetched"
    await story.regain()
    await story.streamed()
    await story.decided()
    (span,) = story.bench.hub.gaps.rows()
    assert (span.state, span.reason, span.n_events) == ("partial", "only the newest 50,000 rows were fetched", 1)


async def test_a_fault_in_a_filler_is_told_and_the_feed_lives(story):
    inbox = story.read("T.AAPL")
    await story.bench.live("T.AAPL")
    await story.streamed()
    story.history.error = ValueError("a fault")
    await story.lose()
    await story.regain()
    await story.streamed()
    await story.bench.until(
        lambda: any("stitch failed" in error.message for error in story.bench.hub.errors), step_s=0.25
    )
    await story.streamed()
    assert story.bench.hub.state == "live"
    assert [event.sequence for event in inbox.got] == [1, 2, 3]
    (span,) = story.bench.hub.gaps.rows()
    assert (span.state, "stitch failed" in span.reason) == ("unfilled", True), "nobody fills it any more"
