"""1,000 drop points in recorded sessions: what is delivered in the end is what an uninterrupted session delivers."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import msgspec
import pytest

from massive_lab.decode.stream import Event, MinuteBar, Quote, SecondBar, Trade
from massive_lab.live.policy import Policy
from massive_lab.live.poll.polling import PollMemory
from massive_lab.live.routes import Routes
from massive_lab.live.stitch.keys import moment_ms
from massive_lab.live.stitch.stitcher import Stitcher
from massive_lab.live.topics import Topic

_MS = 1_000_000
START_MS = 1_750_000_000_000
LENGTH_MS = 25_000
TICKS = {"AAPL": (Trade, Quote), "SPY": (Trade,), "F": (Trade, Quote)}
"""AAPL is busy and told in full; SPY has no sequences anywhere, so that its equal prints differ in nothing; F is quiet, and
the history has lost its sequences."""
TOPICS = [
    Topic("stocks", "T" if kind is Trade else "Q", symbol) for symbol, kinds in TICKS.items() for kind in kinds
] + [Topic("stocks", channel, "AAPL") for channel in ("A", "AM")]


@dataclass(frozen=True)
class Published:
    """An event, when it went out, and what the history says of it from then on."""

    ns: int
    stream: Event
    history: Event
    late_ns: int = 0
    """Some are overtaken on their way."""


def market(seed: int) -> list[Published]:
    """What an upstream publishes, in order."""
    rng = Random(seed)
    out: list[Published] = []
    for symbol, every_ms in (("AAPL", 250), ("SPY", 400), ("F", 4_000)):
        ns, sequence = START_MS * _MS, 0
        print_: tuple[float, float, int] = (100.0, 10.0, 4)
        while True:
            # Bursts within a millisecond, and now and then the same print again.
            ns += rng.choice((1_000, 300_000, round(rng.expovariate(1 / every_ms) * _MS) + 1_000))
            if ns >= (START_MS + LENGTH_MS) * _MS:
                break
            sequence += rng.randint(1, 3)
            if rng.random() > 0.3:
                print_ = (100 + rng.randint(0, 3) / 100, float(rng.randint(1, 3)), rng.choice((4, 11)))
            out.append(_published(symbol, ns, sequence, print_, is_quote=Quote in TICKS[symbol] and rng.random() < 0.5))
    out = [replace(p, late_ns=rng.randint(1, 400) * _MS) if rng.random() < 0.03 else p for p in out] + _bars(rng)
    return sorted(out, key=lambda published: published.ns)


def _published(symbol: str, ns: int, sequence: int, print_: tuple[float, float, int], *, is_quote: bool) -> Published:
    price, size, exchange = print_
    ms, sub = divmod(ns, _MS)
    told = None if symbol == "SPY" else sequence
    kept = None if symbol in ("SPY", "F") else sequence
    if is_quote:
        prices = {"bid_price": price, "bid_size": size, "ask_price": price + 0.01, "ask_size": size}
        both = {**prices, "bid_exchange": exchange, "ask_exchange": exchange}
        return Published(
            ns,
            Quote(symbol, ms, **both, sequence=told),
            Quote(symbol, ms, **both, sequence=kept, source="backfill", sub_ns=sub),
        )
    return Published(
        ns,
        Trade(symbol, ms, price, whole=size, exchange=exchange, sequence=told),
        Trade(symbol, ms, price, decimal=str(size), exchange=exchange, sequence=kept, source="backfill", sub_ns=sub),
    )


def _bars(rng: Random) -> list[Published]:
    out = []
    for kind, span_ms, lag_ms in ((SecondBar, 1_000, 2_000), (MinuteBar, 60_000, 100)):
        for start in range(START_MS // span_ms * span_ms, START_MS + LENGTH_MS - span_ms - 3_000, span_ms):
            if rng.random() < 0.2:
                continue  # nothing was traded
            volume, close = rng.randint(1, 100), 100.0
            for n_late in range(rng.choice((1, 1, 2))):
                # Told again for a late print, before the next one is told.
                volume, close = volume + n_late, close + n_late / 100
                bar = kind("AAPL", start, 100.0, 101.0, 99.0, close, end_ms=start + span_ms, whole=float(volume))
                history = msgspec.structs.replace(bar, source="backfill")
                out.append(Published((start + span_ms + lag_ms + 400 * n_late) * _MS, bar, history))
    return out


class Rest:
    """The history, a little behind."""

    def __init__(self, published: list[Published], lag_ns: int) -> None:
        self._lag_ns = lag_ns
        self._by_key: dict[tuple[type, str], list[Published]] = {}
        for p in published:
            self._by_key.setdefault((type(p.stream), p.stream.symbol), []).append(p)

    def rows(self, kind: type, symbol: str, start_ns: int, end_ns: int, now_ns: int) -> list[Event]:
        known = [
            p.history
            for p in self._by_key.get((kind, symbol), [])
            if p.ns <= now_ns - self._lag_ns and start_ns <= p.history.ts_event < end_ns
        ]
        if kind in (SecondBar, MinuteBar):
            return list({bar.ms: bar for bar in known}.values())
        return known

    def last(self, kind: type, symbol: str, now_ns: int) -> Event | None:
        """As a snapshot tells it: no sequence, and of one symbol no exchange either."""
        told = [p for p in self._by_key.get((kind, symbol), []) if p.ns <= now_ns]
        if not told:
            return None
        changes: dict[str, Any] = {"sequence": None, "source": "poll"}
        if symbol == "SPY":
            changes |= {"exchange": None}
        return msgspec.structs.replace(told[-1].history, **changes)


class Client:
    """What a hub does with frames, polls and fills, without one."""

    def __init__(self, rest: Rest, rng: Random) -> None:
        self.delivered: list[Event] = []
        self.routes = Routes()
        self.memory = PollMemory()
        self.policy = Policy()
        self.stitcher = Stitcher(self.policy, self.routes.newest.get)
        self.rest, self.rng = rest, rng
        self.is_online = False
        self.asked: list[tuple[int, Any, list[Event]]] = []

    def wanted(self) -> dict[Topic, int]:
        return dict.fromkeys(TOPICS, 0)

    def frame(self, messages: list[Event], now_ns: int) -> None:
        messages = [message for message in messages if not self.memory.already_said(message)]
        messages = self.stitcher.heard(messages, now_ns)
        self.routes.dispatch(messages, now_ns)
        self.delivered += messages

    def poll(self, now_ns: int) -> None:
        told = [self.rest.last(kind, symbol, now_ns) for symbol, kinds in TICKS.items() for kind in kinds]
        fresh = self.memory.news([event for event in told if event is not None], self.routes.newest)
        self.routes.dispatch(fresh, now_ns)
        self.stitcher.told(fresh, now_ns)
        self.delivered += fresh

    def online(self, now_ns: int) -> None:
        self.is_online = True
        self.stitcher.returned(self.wanted(), now_ns, lambda topic: "")
        for topic in self.wanted():
            self.stitcher.confirmed(topic)

    def offline(self) -> None:
        self.is_online = False
        self.asked.clear()  # what is under way is abandoned
        self.stitcher.lost(self.wanted(), "test")

    def tick(self, now_ns: int) -> None:
        for asked in [asked for asked in self.asked if asked[0] <= now_ns]:
            self.asked.remove(asked)
            _, request, rows = asked
            missing = self.stitcher.answered(request, rows, now_ns)
            assert missing == sorted(missing, key=lambda event: event.ts_event)
            self.routes.dispatch_late(missing, now_ns, {})
            self.delivered += missing
        if self.is_online:
            for request in self.stitcher.due(now_ns):
                kind, symbol = request.span.key
                rows = self.rest.rows(kind, symbol, request.start_ns, request.end_ns, now_ns)
                self.asked.append((now_ns + self.rng.randint(0, 900) * _MS, request, rows))


def run(published: list[Published], seed: int) -> Client:
    """One session with one to three outages from a drop point on."""
    rng = Random(seed)
    # The stream may be seconds behind the history, or the other way round.
    latency_ns = rng.choice((30, 30, 2_500)) * _MS
    client = Client(Rest(published, rng.choice((0, 50, 1_500, 4_000)) * _MS), rng)
    drop = published[rng.randrange(len(published))].ns + latency_ns + rng.choice((0, 1))
    marks: list[tuple[int, int, str, Any]] = []
    order = itertools.count()

    def at(ns: int, what: str, detail: Any = None) -> None:
        marks.append((ns, next(order), what, detail))

    at(START_MS * _MS - 1, "online")
    down: list[tuple[int, int]] = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        known = drop + rng.choice((0, 5, 400)) * _MS
        back = known + round(rng.choice((0.05, 1.0, 6.0)) * rng.random() * 1e9) + 1
        heard_from = back + rng.choice((0, 80)) * _MS
        at(known, "offline")
        at(back, "online")
        down.append((drop, heard_from))
        if rng.random() < 0.7:
            for poll in range(known + 50 * _MS, back, 700 * _MS):
                at(poll, "poll")
        drop = heard_from + round(rng.choice((0.02, 0.6, 8.0)) * rng.random() * 1e9) + 1
    # A frame holds what comes within 20 ms over one connection.
    frames: dict[tuple[int, int], list[Event]] = {}
    for p in sorted(published, key=lambda p: p.ns + p.late_ns):
        arrival = p.ns + p.late_ns + latency_ns
        if not any(start <= arrival and p.ns < end for start, end in down):
            frame = sum(start <= arrival for start, _ in down), arrival // (20 * _MS)
            if frame not in frames:
                frames[frame] = []
                at(arrival, "frame", frame)
            frames[frame].append(p.stream)
    for tick in range(START_MS * _MS, (START_MS + LENGTH_MS + 120_000) * _MS, 250 * _MS):
        at(tick, "tick")
    for now_ns, _, what, detail in sorted(marks):
        if what == "frame":
            client.frame(list(frames[detail]), now_ns)
        elif what == "online":
            client.online(now_ns)
        elif what == "offline":
            client.offline()
        elif what == "poll":
            client.poll(now_ns)
        else:
            client.tick(now_ns)
            if now_ns > (START_MS + LENGTH_MS + 6_000) * _MS and client.stitcher.is_idle:
                break
    return client


def assert_same(client: Client, published: list[Published]) -> None:
    expected: dict[tuple[type, str], list[Event]] = {}
    for p in published:
        expected.setdefault((type(p.stream), p.stream.symbol), []).append(p.stream)
    for (kind, symbol), events in expected.items():
        got = [event for event in client.delivered if type(event) is kind and event.symbol == symbol]
        if kind in (SecondBar, MinuteBar):
            # A bar told again replaces the one before.
            def last(bars: list[Any]) -> dict[int, tuple[float, float]]:
                return {bar.ms: (bar.close, bar.volume) for bar in bars}

            assert last(got) == last(events), (kind, symbol)
            continue
        faces = [Counter(_face(event) for event in side) for side in (got, events)]
        assert faces[0] == faces[1], (kind, symbol, faces[0] - faces[1], faces[1] - faces[0])
        sequences = [event.sequence for event in got if event.sequence is not None]
        assert len(sequences) == len(set(sequences)), (kind, symbol)


def _face(event: Any) -> tuple[Any, ...]:
    if isinstance(event, Trade):
        return event.ms, event.price, event.size
    return event.ms, event.bid_price, event.bid_size, event.ask_price, event.ask_size


MARKETS = {seed: market(seed) for seed in range(10)}


@pytest.mark.parametrize("seed", MARKETS)
def test_any_drop_point_gives_exactly_the_uninterrupted_session(seed: int) -> None:
    published = MARKETS[seed]
    n_filled = n_polled = 0
    for drop in range(100):
        client = run(published, seed * 1_000 + drop)
        try:
            assert client.stitcher.is_idle
            assert_same(client, published)
            assert {span.state for span in client.stitcher.rows} == {"filled"}
        except AssertionError as error:
            raise AssertionError(f"market {seed}, drop {drop}: {error}") from error
        sources = Counter(event.source for event in client.delivered)
        n_filled += sources["backfill"]
        n_polled += sources["poll"]
    assert n_filled > 1_000
    assert n_polled > 100


def test_the_session_has_what_makes_it_hard() -> None:
    trades = [p.stream for p in MARKETS[0] if isinstance(p.stream, Trade) and p.stream.symbol == "SPY"]
    assert max(Counter(_face(trade) for trade in trades).values()) >= 2
    assert max(Counter(moment_ms(trade) for trade in trades).values()) >= 3
