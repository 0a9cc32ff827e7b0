"""The vendor's stream in memory, with every way to misbehave, and a hub on it under a clock that stands still.

`Upstream` follows the wire contract (one connected, auth, one answer per topic, silence about what is held or unknown) and
keeps the book of what it published, to whom, and what of it was handed over. `World` drives the real hub against it step by
step: after each step the loop is run until nothing is left to do, so that a check sees a state and not a moment.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from massive_lab.clock import ManualClock
from massive_lab.config import Secret
from massive_lab.decode.stream import MinuteBar, SecondBar, Trade
from massive_lab.errors import ConnectionLost, MassiveLabError, Timeout, UpstreamError
from massive_lab.frames import rest
from massive_lab.live.hub import Hub
from massive_lab.live.policy import Policy
from massive_lab.live.readers import Listener
from massive_lab.live.topics import Topic, cover, covers
from massive_lab.loaders.backfill import Filled
from massive_lab.schema.timeframe import Timeframe
from massive_lab.telemetry import Event, Telemetry

KEY = "test-key"
START_NS = 1_750_000_000 * 10**9
WIRES = ("T.AAPL", "T.MSFT", "T.*", "Q.AAPL", "Q.MSFT", "A.AAPL", "A.*", "AM.AAPL")
FEEDS = ("T.AAPL", "T.MSFT", "Q.AAPL", "Q.MSFT", "A.AAPL", "A.MSFT", "AM.AAPL")
"""What is published: channel and symbol."""
JUNK = {
    "bad_json": b'[{"ev":"T","sym":"AAPL"',
    "deep": b"[" * 5_000,
    "bad_utf8": b'[{"ev":"T","sym":"\xff\xfe","p":1,"s":1,"t":1}]',
    "object": b'{"ev":"T","sym":"AAPL","p":1,"s":1,"t":1}',
    "no_ev": b'[{"sym":"AAPL","p":1,"s":1,"t":1}]',
    "missing_keys": b'[{"ev":"T","sym":"AAPL"}]',
    "string_number": b'[{"ev":"T","sym":"AAPL","p":"12.5","s":1,"t":1}]',
    "nan": b'[{"ev":"T","sym":"AAPL","p":NaN,"s":1,"t":1}]',
    "infinity": b'[{"ev":"T","sym":"AAPL","p":Infinity,"s":1,"t":1}]',
    "huge_number": b'[{"ev":"T","sym":"AAPL","p":1e999,"s":1,"t":1}]',
    "null": b'[{"ev":"T","sym":null,"p":null,"s":1,"t":1}]',
    "binary": bytes(range(256)),
    "empty": b"",
}
"""Frames of which nothing can be used."""


async def always(_now_ns: int) -> bool:
    return True


@dataclass(slots=True)
class Published:
    """One event of the vendor's."""

    id: int
    wire: str
    ms: int
    at_ns: int
    due: set[str] = field(default_factory=set)
    """Readers whose topic was confirmed when it was published."""
    is_handed: bool = False
    is_muted: bool = False
    is_late: bool = False
    """Sent again, or for the first time, after a return: whoever has it by REST must not get it twice."""

    def item(self) -> dict[str, Any]:
        channel, _, symbol = self.wire.partition(".")
        if channel == "T":
            return {"ev": "T", "sym": symbol, "p": float(self.id), "s": 1, "x": 4, "q": self.id, "i": str(self.id), "t": self.ms}
        if channel == "Q":
            return {
                "ev": "Q", "sym": symbol, "bp": float(self.id), "bs": 1, "ap": self.id + 0.5, "as": 1, "q": self.id,
                "t": self.ms,
            }  # fmt: skip
        # Each bar is one of its own: an id is a second, or a minute.
        start = (START_NS // 10**6) + self.id * (1_000 if channel == "A" else 60_000)
        price = float(self.id)
        bar = dict.fromkeys(("o", "h", "l", "c", "vw"), price)
        return {"ev": channel, "sym": symbol, "v": 1, **bar, "s": start, "e": start + 1_000}


def id_of(event: Any) -> int:
    """The id of the published event behind a decoded one."""
    if isinstance(event, Trade):
        return int(event.price)
    if isinstance(event, SecondBar | MinuteBar):
        return int(event.close)
    return int(event.bid_price)


class Socket:
    """One connection, from the client's side as `massive_lab.live.wire.feed.Socket`."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.frames: deque[tuple[bytes, tuple[Published, ...]]] = deque()
        self.control: deque[dict[str, str]] = deque()
        self.held: dict[str, None] = {}
        self.end: str | None = None
        self.is_authenticated = False
        self._waiter: asyncio.Future[None] | None = None

    # ---- the client's side

    async def recv(self) -> bytes:
        while True:
            if self.frames and not self._upstream.stalled:
                data, events = self.frames.popleft()
                self._upstream.handed(data, events)
                return data
            if self.end is not None:
                raise ConnectionLost(f"The connection ended {self.end}.")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    async def send(self, text: str) -> None:
        if self.end is not None:
            raise ConnectionLost(f"The connection ended {self.end}.")
        message = json.loads(text)
        self._upstream.said.append(message)
        self.control.append(message)
        self._upstream.work()

    async def close(self, code: int = 1000) -> None:
        self.finish(f"by this side with code {code}")

    # ---- the server's side

    def finish(self, how: str) -> None:
        """The connection is over; what the client has not taken is lost with a reset, and delivered before a close."""
        if self.end is None:
            self.end = how
            if "without" in how or self._upstream.stalled:
                self.frames.clear()
            self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def push(self, data: bytes, events: Iterable[Published] = ()) -> None:
        if self.end is None:
            self.frames.append((data, tuple(events)))
            self.wake()

    def tell(self, *statuses: tuple[str, str]) -> None:
        self.push(json.dumps([{"ev": "status", "status": name, "message": text} for name, text in statuses]).encode())


class Upstream:
    """What the vendor does. Every attribute may be changed between two steps of the loop."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.sockets: list[Socket] = []
        self.said: list[dict[str, str]] = []
        self.published: list[Published] = []
        self.double: list[str] = []
        """Topics asked for while they were held."""
        self.stray: list[str] = []
        """Topics given back that were not held."""
        self.denied: set[str] = set()
        self.silent: set[str] = set()
        """Topics that are never answered."""
        self.refuse = 0
        """Upgrades still to be refused."""
        self.hangs = False
        """Upgrades are not answered at all."""
        self.withheld: str | None = None
        """What is not said until it is None again: ``connected``, ``auth`` or ``ack``."""
        self.stalled = False
        self.mute = False
        self.evicting = False
        self.auth_error: str | None = None
        self.lags = False
        """The stream is behind REST: a subscription brings the newest event, if it was not sent."""
        self.n_frames = 0
        self.hear: Callable[[Published], None] = lambda _: None

    async def connect(self, _url: str, /, *, open_timeout_s: float, **_: Any) -> Socket:
        """The connector of the hub."""
        if self.hangs:
            await self.clock.sleep(open_timeout_s)
            raise Timeout("No upgrade in time.")
        if self.refuse:
            self.refuse -= 1
            raise UpstreamError("HTTP 503.", status=503)
        assert self.live is None, "one connection at a time"
        socket = Socket(self)
        self.sockets.append(socket)
        self.control_of(socket, {"action": "greet", "params": ""})
        return socket

    @property
    def live(self) -> Socket | None:
        """The open connection, if any."""
        return self.sockets[-1] if self.sockets and self.sockets[-1].end is None else None

    @property
    def held(self) -> set[str]:
        return set(self.live.held) if self.live else set()

    def control_of(self, socket: Socket, message: dict[str, str]) -> None:
        socket.control.append(message)
        self.work()

    def work(self) -> None:
        """Answer what the client said, as far as nothing is withheld."""
        socket = self.live
        while socket is not None and socket.end is None and socket.control:
            action = socket.control[0]["action"]
            stage = {"greet": "connected", "auth": "auth"}.get(action, "ack")
            if self.withheld == stage:
                return
            self._answer(socket, socket.control.popleft())

    def _answer(self, socket: Socket, message: dict[str, str]) -> None:
        if message["action"] == "greet":
            socket.tell(("connected", "Connected Successfully"))
        elif message["action"] == "auth":
            self._authenticate(socket, message["params"])
        elif message["action"] == "subscribe":
            self._subscribe(socket, message["params"].split(","))
        else:
            for wire in message["params"].split(","):
                if wire not in socket.held:
                    self.stray.append(wire)
                socket.held.pop(wire, None)
            socket.tell(*(("success", f"unsubscribed to: {wire}") for wire in message["params"].split(",")))

    def _authenticate(self, socket: Socket, key: str) -> None:
        assert key == KEY
        if self.evicting:
            socket.tell(("max_connections", "Maximum number of websocket connections exceeded."))
            socket.finish("by the server with code 1008")
        elif self.auth_error is not None:
            socket.tell(("auth_failed", self.auth_error))
            socket.finish("by the server with code 1008")
        else:
            socket.is_authenticated = True
            socket.tell(("auth_success", "authenticated"))

    def _subscribe(self, socket: Socket, wires: Sequence[str]) -> None:
        refusals, confirmations = [], []
        for wire in wires:
            if wire in socket.held:
                self.double.append(wire)
            elif wire in self.denied:
                refusals.append(("error", "not authorized"))
            elif wire not in self.silent:
                socket.held[wire] = None
                confirmations.append(("success", f"subscribed to: {wire}"))
        if refusals or confirmations:
            socket.tell(*refusals, *confirmations)
        if self.lags:
            for wire in wires:
                newest = next((event for event in reversed(self.published) if event.wire == wire), None)
                if newest is not None and wire in socket.held and wire[0] in "TQ" and not newest.is_handed:
                    newest.is_late = True
                    socket.push(json.dumps([newest.item()]).encode(), [newest])

    # ---- data

    def publish(self, wires: Iterable[str], due: Callable[[str], set[str]], *, twice: bool = False, junk: bytes = b"") -> None:
        """One frame with an event for each of the wires, as far as it is subscribed."""
        events = []
        for wire in wires:
            n = len(self.published) + 100
            ms = self.clock.now_ns() // 10**6
            event = Published(n, wire, ms, self.clock.now_ns(), due(wire))
            self.published.append(event)
            if self.live is None or not self.live.is_authenticated:
                continue
            if not self._is_held(wire):
                continue
            if self.mute:
                event.is_muted = True
                continue
            events.append(event)
        if self.live is not None and (events or junk):
            items = [json.dumps(event.item()).encode() for event in events] + ([junk] if junk else [])
            self.live.push(b"[" + b",".join(items) + b"]", events)
            if twice:
                self.live.push(b"[" + b",".join(items) + b"]", events)

    def _is_held(self, wire: str) -> bool:
        return wire in self.held or f"{wire.partition('.')[0]}.*" in self.held

    def handed(self, data: bytes, events: Iterable[Published]) -> None:
        self.n_frames += 1
        for event in events:
            if not event.is_handed:
                event.is_handed = True
                if not event.is_late:
                    self.hear(event)

    def release(self) -> None:
        """Say what was withheld, deliver what was stalled."""
        self.withheld = None
        self.stalled = False
        self.work()
        if self.sockets:
            self.sockets[-1].wake()


class Rest:
    """Snapshots of what was published, whoever listened."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.calls: list[tuple[str, ...]] = []
        self.fills: list[str] = []
        self.error: MassiveLabError | None = None

    async def poll(self, cluster: str, symbols: Sequence[str]) -> pl.DataFrame:
        assert cluster == "stocks"
        self.calls.append(tuple(symbols))
        if self.error is not None:
            raise self.error
        newest = {event.wire: event for event in self._upstream.published}
        return pl.DataFrame([_snapshot(symbol, newest) for symbol in symbols], infer_schema_length=None)


    async def fill(
        self, cluster: str, channel: str, symbol: str, start_ns: int, end_ns: int, *, max_rows: int
    ) -> Filled:
        """The history of a topic: all that was published, muted, lost or not."""
        assert cluster == "stocks"
        self.fills.append(f"{channel}.{symbol}")
        if self.error is not None:
            raise self.error
        events = [event for event in self._upstream.published if event.wire == f"{channel}.{symbol}"]
        if channel not in ("T", "Q"):
            return Filled(rest.bars([b'{"status":"OK","results":[]}'], symbol=symbol, timeframe=_BARS[channel]), True)
        rows = [_row(event, channel) for event in events if start_ns <= event.ms * 10**6 < end_ns]
        body = json.dumps({"status": "OK", "results": rows[-max_rows:]}).encode()
        frame = rest.trades([body], symbol=symbol) if channel == "T" else rest.quotes([body], symbol=symbol)
        return Filled(frame, len(rows) <= max_rows)


_BARS = {"A": Timeframe(1, "s"), "AM": Timeframe(1, "m")}


def _row(event: Published, channel: str) -> dict[str, Any]:
    row = {"sip_timestamp": event.ms * 10**6, "participant_timestamp": event.ms * 10**6, "sequence_number": event.id}
    if channel == "T":
        return row | {"price": float(event.id), "size": 1, "exchange": 4, "id": str(event.id), "tape": 3}
    return row | {"bid_price": float(event.id), "bid_size": 1, "ask_price": event.id + 0.5, "ask_size": 1, "tape": 3}


def _snapshot(symbol: str, newest: dict[str, Published]) -> dict[str, Any]:
    row: dict[str, Any] = {"symbol": symbol, "market_status": "open"}
    if (trade := newest.get(f"T.{symbol}")) is not None:
        row |= {"trade_price": float(trade.id), "trade_size": 1.0, "trade_exchange": 4, "ts_trade": trade.ms * 10**6}
        row |= {"last_price": float(trade.id), "ts_updated": trade.ms * 10**6}
    if (quote := newest.get(f"Q.{symbol}")) is not None:
        row |= {"bid_price": float(quote.id), "bid_size": 1.0, "ask_price": quote.id + 0.5, "ask_size": 1.0}
        row |= {"ts_quote": quote.ms * 10**6}
    return row


class Inbox:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.inbox: list[Any] = []
        self.got: list[Any] = []

    def flush(self) -> int:
        self.got.extend(self.inbox)
        self.inbox.clear()
        return 0


class Watcher(Listener):
    """One reader as the model knows it: what it must have got, and what it was told."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.sink = Inbox()
        self.expected: list[int] = []
        self.is_open = True
        self.is_confirmed = False
        self.error: MassiveLabError | None = None
        self.handle: Any = None

    def confirmed(self, topic: Topic) -> None:
        assert topic == self.topic
        assert self.is_open
        self.is_confirmed = True

    def failed(self, topic: Topic, error: MassiveLabError) -> None:
        assert topic == self.topic
        assert self.is_open, "told once"
        self.is_open = False
        self.error = error

    @property
    def streamed(self) -> list[int]:
        return [id_of(event) for event in self.sink.got if event.source == "stream"]


class World:
    """A hub, its upstream and the model of both. Each method is one step; `check` is what must hold after any."""

    def __init__(
        self, *, with_rest: bool = True, with_history: bool = False, clock: ManualClock | None = None, **changes: Any
    ) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = clock or ManualClock(START_NS)
        self.upstream = Upstream(self.clock)
        self.upstream.hear = self._heard
        self.rest = Rest(self.upstream)
        self.policy = Policy(batch_topics=3, backoff_cap_s=4.0).with_(**changes)
        self.telemetry = Telemetry()
        self.events: list[Event] = []
        self.telemetry.add(self.events.append)
        self.readers: list[Watcher] = []
        self.was_late = False
        """Whether an answer ever was too late, so that topics may be given up, or asked for or given back again."""
        self.was_denied: set[str] = set()
        self.hub: Hub = self.run(self._make(with_rest, with_history))

    async def _make(self, with_rest: bool, with_history: bool) -> Hub:
        hub = Hub(
            "stocks", "ws://upstream.test/stocks", Secret(KEY), clock=self.clock, policy=self.policy,
            poller=self.rest if with_rest else None, jitter=lambda: 1.0, market_open=always,
            connector=self.upstream.connect,
        )  # fmt: skip
        hub.join(self.telemetry, None, self.rest if with_history else None)
        return hub

    # ---- running the loop

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def whole() -> Any:
            result = await work
            await self._quiet()
            return result

        return self.loop.run_until_complete(whole())

    async def _quiet(self) -> None:
        """Until the loop has nothing left to do at this instant."""
        idle = 0
        for _ in range(100_000):
            await asyncio.sleep(0)
            idle = 0 if self.loop._ready else idle + 1  # type: ignore[attr-defined]
            if idle == 3:
                return
        raise AssertionError("the loop never came to rest")

    def _do(self, step: Callable[[], Any]) -> Any:
        async def work() -> Any:
            return step()

        return self.run(work())

    # ---- steps

    def open(self, wire: str) -> Watcher:
        topic = Topic.parse("stocks", wire)
        reader = Watcher(topic)

        def step() -> None:
            reader.handle = self.hub.open(topic, [reader.sink], reader)

        self.readers.append(reader)
        self._do(step)
        return reader

    def leave(self, reader: Watcher) -> None:
        def step() -> None:
            reader.is_open = False
            self.hub.close_reader(reader.handle)

        self._do(step)

    def drop(self, how: str = "without a close frame") -> None:
        def step() -> None:
            if self.upstream.live is not None:
                self.upstream.live.finish(how)

        self._do(step)

    def burst(self, *wires: str, twice: bool = False, junk: bytes = b"") -> None:
        self._do(lambda: self.upstream.publish(wires or FEEDS, self._due, twice=twice, junk=junk))

    def malformed(self, data: bytes) -> None:
        self._do(lambda: self.upstream.live and self.upstream.live.push(data))

    def tell(self, status: str, message: str) -> None:
        self._do(lambda: self.upstream.live and self.upstream.live.tell((status, message)))

    def deny(self, *wires: str) -> None:
        self.upstream.denied.update(wires)
        self.was_denied.update(wires)

    def evict(self) -> None:
        """Another owner comes: we are told and cut, and told again at each attempt until `evicting` is lifted."""

        def step() -> None:
            self.upstream.evicting = True
            if self.upstream.live is not None:
                self.upstream.live.tell(("max_connections", "Maximum number of websocket connections exceeded."))
                self.upstream.live.finish("by the server with code 1008")

        self._do(step)

    def withhold(self, what: str) -> None:
        self.upstream.withheld = what

    def release(self) -> None:
        self._do(self.upstream.release)

    def release_once(self) -> None:
        """Say what was withheld, and withhold what is said after that."""

        def step() -> None:
            withheld = self.upstream.withheld
            self.upstream.release()
            self.upstream.withheld = withheld

        self._do(step)

    def advance(self, seconds: float) -> None:
        """Time passes, with a stop at each deadline."""
        self._note_late()
        end = self.clock.monotonic() + seconds
        while True:
            wake, left = self.clock.next_wake_s(), end - self.clock.monotonic()
            is_last = wake is None or wake > left
            self._do(lambda by=left if is_last else wake: self.clock.advance(max(0.0, by)))
            if is_last:
                return

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: all that time passes at once."""
        self._note_late()
        self._do(lambda: self.clock.advance(seconds))

    def _note_late(self) -> None:
        up = self.upstream
        is_waiting = up.live is not None and bool(up.live.control)
        self.was_late |= up.stalled or up.withheld == "ack" or is_waiting or bool(up.silent)
        up.lags &= not self.was_late

    def calm(self) -> None:
        """Every fault ends and time passes: the feed must be live again with all that is wanted."""
        up = self.upstream
        up.refuse, up.hangs, up.mute, up.evicting = 0, False, False, False
        self.rest.error = None
        up.denied.clear()
        up.silent.clear()
        self.release()
        self.advance(3 * self.policy.ack_s + self.policy.backoff_cap_s + 1.0)
        if self.hub.state == "evicted":
            self.advance(getattr(self.policy, "lease_s", 0.0) + 1.0)
            self.advance(3 * self.policy.ack_s)
        self.burst()  # silence of this length means something, and has an end

    # ---- the model

    def _due(self, wire: str) -> set[str]:
        return {r.handle.id for r in self.readers if r.is_open and r.is_confirmed and _brings(r.topic, wire)}

    def _heard(self, event: Published) -> None:
        if any(event.id == id_of(got) for reader in self.readers for got in reader.sink.got):
            event.is_late = True  # told by a poll, or filled, while the frame was under way
            return
        for reader in self.readers:
            if reader.is_open and _brings(reader.topic, event.wire):
                reader.expected.append(event.id)

    def told(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def state(self) -> str:
        return self.hub.state

    @property
    def gaps(self) -> list[Any]:
        return self.run(self._gaps())

    async def _gaps(self) -> list[Any]:
        return self.hub.gaps.rows()

    def missing(self, reader: Watcher) -> list[int]:
        """Ids that a reader was owed and has not got, from any source."""
        got = {id_of(event) for event in reader.sink.got}
        return [event.id for event in self.upstream.published if reader.handle.id in event.due and event.id not in got]

    @property
    def is_settled(self) -> bool:
        """The socket serves and nothing is held back: upstream and wishes must agree."""
        up = self.upstream
        return self.state in ("live", "stale") and not up.stalled and up.withheld is None and not up.silent

    # ---- what must hold

    def check(self) -> None:
        """Every invariant, at rest."""
        hub, up = self.hub, self.upstream
        wants: dict[Topic, set[str]] = {topic: set() for topic in hub.wanted}
        for reader in self.readers:
            if reader.is_open:
                assert reader.topic in wants, f"{reader.topic} has a reader and is not wanted"
                wants[reader.topic].add(reader.handle.id)
        for topic, ids in wants.items():
            assert set(hub.book.readers(topic)) == ids, f"ref count of {topic}"
        for reader in self.readers:
            self._check_reader(reader)
        if not self.was_late:
            assert not up.double, "nothing is subscribed twice"
            assert not up.stray, "nothing is given back that is not held"
        assert hub.counts["frames"] == up.n_frames
        self._check_bounds()
        if self.is_settled and hub.book.is_settled:
            desired = {topic.wire for topic in cover(hub.wanted)}
            assert {topic.wire for topic in hub.book.held} == up.held
            assert up.held == desired
            self._check_gaps()

    def _check_reader(self, reader: Watcher) -> None:
        late = {event.id for event in self.upstream.published if event.is_late}
        streamed = [n for n in reader.streamed if n not in late]
        assert streamed == reader.expected, f"{reader.topic}: streamed, in order, each once"
        ids = [id_of(event) for event in reader.sink.got]
        assert len(ids) == len(set(ids)), f"{reader.topic}: nothing twice, whatever its source"
        if reader.error is not None:
            assert reader.topic.wire in self.was_denied or self.was_late, f"{reader.error}"

    def _check_bounds(self) -> None:
        tasks = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
        assert len(tasks) <= 20, [task.get_name() for task in tasks]
        assert self.clock.n_sleeping <= 16
        assert len(self.hub.errors) <= 1_000
        assert len(list(self.hub.readers)) == sum(reader.is_open for reader in self.readers)

    def _check_gaps(self) -> None:
        """What a confirmed reader was owed and never got lies in a listed gap."""
        gaps = self.hub.gaps.rows()
        by_id = {reader.handle.id: reader for reader in self.readers if reader.is_open}
        stuck = {event.id for socket in self.upstream.sockets[-1:] for _, events in socket.frames for event in events}
        for event in self.upstream.published:
            if event.is_handed or event.is_muted or event.id in stuck:
                continue
            for reader in filter(None, map(by_id.get, event.due)):
                if event.id in {id_of(got) for got in reader.sink.got}:
                    continue
                assert any(
                    gap.topic == reader.topic and gap.start_ns <= event.at_ns <= (gap.end_ns or 0) for gap in gaps
                ), f"{reader.topic} missed {event} and no gap says so: {gaps}"
                if reader.topic.channel in ("A", "AM"):
                    continue  # this history has no bars
                said = [gap for gap in gaps if gap.topic == reader.topic and gap.start_ns <= event.at_ns <= (gap.end_ns or 0)]
                assert not said or any(gap.state != "filled" for gap in said), f"{said} is not filled: {event}"

    def close(self) -> None:
        """Close the hub; nothing may be left of it."""
        hub = self.hub
        try:
            self.run(hub.aclose())
            assert hub.state == "closed"
            assert hub.wanted == ()
            assert not list(hub.readers)
            assert not hub.routes._tallies
            assert self.upstream.live is None
            assert self.clock.n_sleeping == 0
            assert [task for task in asyncio.all_tasks(self.loop) if not task.done()] == []
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()


def _brings(topic: Topic, wire: str) -> bool:
    return covers(topic, Topic.parse("stocks", wire))
