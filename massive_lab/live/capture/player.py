"""Plays a capture once: its own event loop, in which time is virtual and only records and timers make anything happen.

One thread, no input or output, no real time: what comes out depends on the capture alone. The loop asks its selector for
work when it has none; here the selector answers by moving time to the next record or timer, whichever is first.
"""

from __future__ import annotations

import asyncio
import json
import random
import selectors
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import fields
from typing import Any, cast

from massive_lab import telemetry as t
from massive_lab.clock import SystemClock
from massive_lab.config import Secret, Settings
from massive_lab.errors import CaptureDamaged, MassiveLabError, TransportError
from massive_lab.live.capture.clocks import HubClock, ReplayClock
from massive_lab.live.capture.format import Kind, Record
from massive_lab.live.capture.output import Output
from massive_lab.live.capture.reader import Capture
from massive_lab.live.capture.upstream import Upstream, error_of
from massive_lab.live.hub import Hub
from massive_lab.live.policy import Policy
from massive_lab.live.poll.budget import Budget
from massive_lab.live.readers import HubReader
from massive_lab.live.topics import Topic
from massive_lab.loaders.backfill import Backfiller
from massive_lab.loaders.session import Session
from massive_lab.loaders.snapshots import SnapshotPoller
from massive_lab.schema.plans import plan as plan_of
from massive_lab.schema.session import phase_at
from massive_lab.transports.http import Answer
from massive_lab.transports.replay import Recorded, ReplayTransport
from massive_lab.typing import Cluster

__all__ = ["Player"]

_NEAR_NS = 1_000_000_000
_LOOK_UP_S = 0.1
_KEY = Secret("replayed-without-a-key")


class _Turns(selectors.BaseSelector):
    """Tells when the loop has nothing to do, instead of waiting for sockets: there are none but the loop's own."""

    def __init__(self, idle: Callable[[], float]) -> None:
        self._real = selectors.DefaultSelector()
        self._idle = idle

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            timeout = self._idle()
        return self._real.select(timeout)


class _HubPlay:
    """One hub of the capture and what plays its world."""

    def __init__(self, clock: HubClock) -> None:
        self.clock = clock
        self.upstream = Upstream(clock)
        self.draws: deque[float] = deque()
        self.markets: deque[tuple[int, bool]] = deque()
        self.hub: Hub | None = None
        self.readers: dict[str, HubReader] = {}


class Player:
    """One run through a capture.

    Parameters
    ----------
    capture : Capture
    output : Output
        Takes what comes out.
    speed : float, optional
        Recorded seconds in one real second; None: as fast as it goes.
    """

    def __init__(self, capture: Capture, output: Output, *, speed: float | None = None) -> None:
        self._header = capture.header
        self._records = capture.records()
        self._next = next(self._records, None)
        first = self._next or Record(Kind.ONLINE, None, 0, 0, b"")
        self.clock = ReplayClock(first.mono_ns, first.utc_ns)
        self._output = output
        self._speed = speed
        self._real = SystemClock()
        self._real_start = self._real.monotonic()
        self._virtual_start = self.clock.monotonic()
        # A hub may be closed and made anew: what was recorded of each is kept apart, in order.
        self._plays: defaultdict[Cluster, deque[_HubPlay]] = defaultdict(deque)
        self._now: dict[Cluster, _HubPlay] = {}
        self._answers: dict[tuple[Cluster, int], Recorded] = {}
        self._polls: set[tuple[Cluster, int]] = set()
        self._is_over = False
        self._is_ending = False
        self._stop_for_events = False
        self._budget: Budget | None = None
        name = self._header.get("plan")
        settings = Settings(_KEY, sandbox=bool(self._header.get("sandbox")))
        self._session = Session(
            settings, telemetry=t.Telemetry(), clock=self.clock, plan=plan_of(name) if name else None, progress=False
        )
        self.rest = ReplayTransport(settings, self._session.telemetry, self.clock)
        self._session.transport = self.rest
        self._poller, self._filler = SnapshotPoller(self._session), Backfiller(self._session)
        self._expected: dict[int, Recorded] = {}
        self._n_asked = 0
        self._look_ahead(capture)
        # The last step, for what is open must be closed: a capture may be refused until here.
        self._loop = asyncio.SelectorEventLoop(_Turns(self._idle))

    def _look_ahead(self, capture: Capture) -> None:
        """What is asked for before it is due must be known before: readings, draws, and when each request ended."""
        latest: dict[Cluster, _HubPlay] = {}
        open_requests: dict[tuple[Cluster, int], tuple[int, str]] = {}
        ended: dict[int, tuple[str, int]] = {}
        polls: set[tuple[Cluster, int]] = set()
        n_polls: defaultdict[Cluster, int] = defaultdict(int)
        last_ns = 0
        for record in capture:
            cluster = record.cluster
            last_ns = max(last_ns, record.mono_ns)
            if cluster is None:
                continue
            if record.kind is Kind.HUB:
                latest[cluster] = _HubPlay(HubClock(self.clock))
                n_polls[cluster] = 0
                self._plays[cluster].append(latest[cluster])
                continue
            if (play := latest.get(cluster)) is None:
                raise _lost(cluster)
            if record.kind is Kind.READING:
                play.clock.expect(record.payload.decode(), record.mono_ns, record.utc_ns, n_polls=n_polls[cluster])
            elif record.kind is Kind.DRAW:
                play.draws.append(_told(record)["number"])
            elif record.kind is Kind.MARKET:
                play.markets.append((record.mono_ns, _told(record)["is_open"]))
            elif record.kind is Kind.ASKED:
                told = _told(record)
                _note(polls, cluster, told)
                ended[len(ended)] = told["target"], -1
                open_requests[cluster, told["number"]] = len(ended) - 1, told["target"]
            elif record.kind in (Kind.ANSWERED, Kind.FAILED, Kind.ABANDONED):
                told = _answer(record)[0] if record.kind is Kind.ANSWERED else _told(record)
                n_polls[cluster] += (cluster, told["number"]) in polls
                if (found := open_requests.pop((cluster, told["number"]), None)) is not None:
                    ended[found[0]] = found[1], record.mono_ns
        for index, (target, at_ns) in ended.items():
            recorded = self._expected[index] = Recorded(target, (last_ns if at_ns < 0 else at_ns) / 1e9)
            self.rest.expect(recorded)

    # ---- the run

    def run(self) -> None:
        """To the end of the capture."""
        for _ in self.turns(stop_for_events=False):
            pass

    def turns(self, *, stop_for_events: bool) -> Generator[None, None, None]:
        """Play, and pause whenever events have come out."""
        self._stop_for_events = stop_for_events
        try:
            while not self._is_over:
                self._loop.run_forever()
                yield
            self._output.end([play.hub for play in self._now.values() if play.hub is not None])
        finally:
            self.close()

    def close(self) -> None:
        """End every task and the loop, and close the file. Idempotent."""
        self._records.close()
        if self._loop.is_closed():
            return
        self._is_over = self._is_ending = True
        self._loop.run_until_complete(self._close_all())
        while tasks := asyncio.all_tasks(self._loop):
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _close_all(self) -> None:
        for play in self._now.values():
            if play.hub is not None:
                await play.hub.aclose()

    def _idle(self) -> float:
        """Nobody has anything to do: make the next thing happen. Seconds to wait in real time, 0 when it has happened."""
        if self._is_ending:
            return _LOOK_UP_S
        if self._stop_for_events and self._output.has_events:
            self._loop.stop()
            return 0.0
        record = self._next
        timer_ns = self.clock.next_ns()
        if record is None:
            self._is_over = True
            self._loop.stop()
            return 0.0
        is_timer = timer_ns is not None and timer_ns <= record.mono_ns
        at_ns = timer_ns if is_timer and timer_ns is not None else record.mono_ns
        if self._speed is not None:
            due = self._real_start + (at_ns / 1e9 - self._virtual_start) / self._speed
            if (wait_s := due - self._real.monotonic()) > 0:
                return min(wait_s, _LOOK_UP_S)
        if is_timer:
            self.clock.move(at_ns)
            self.clock.wake()
        else:
            self._next = next(self._records, None)
            if record.kind is not Kind.READING:
                self.clock.move(record.mono_ns, record.utc_ns)
                self._play(record)
        return 0.0

    # ---- records

    def _play(self, record: Record) -> None:
        cluster = record.cluster
        if record.kind is Kind.HOLE:
            self._output.hole(_told(record))
        if cluster is None:
            return
        if record.kind is Kind.HUB:
            self._make(cluster, _told(record))
            return
        play = self._now.get(cluster)
        if play is None or play.hub is None:
            raise _lost(cluster)
        if record.kind is Kind.FRAME_IN:
            play.upstream.frame(record.payload, record.utc_ns)
        elif record.kind is Kind.SOCKET_OPENED:
            play.upstream.opened()
            self._press(play)
        elif record.kind is Kind.OFFLINE:
            error = error_of(_told(record))
            play.upstream.offline(error if isinstance(error, TransportError) else TransportError(error.message))
            if play.upstream.is_pending:
                self._press(play)
        elif record.kind is Kind.READER_OPENED:
            self._open(play, play.hub, _told(record))
        elif record.kind is Kind.READER_CLOSED:
            reader = play.readers.pop(_told(record)["id"], None)
            if reader is not None:
                play.hub.close_reader(reader)
        elif record.kind is Kind.HUB_CLOSED:
            self._output.closing(play.hub)
            del self._now[cluster]
            self._loop.create_task(self._close(play.hub))
        else:
            self._rest(cluster, record)

    def _rest(self, cluster: Cluster, record: Record) -> None:
        if record.kind is Kind.ASKED:
            told = _told(record)
            _note(self._polls, cluster, told)
            self._answers[cluster, told["number"]] = self._expected[self._n_asked]
            self._n_asked += 1
        elif record.kind is Kind.ANSWERED:
            told, body = _answer(record)
            self._polled(cluster, told["number"])
            self._end(cluster, told["number"], Answer(told["status"], told["headers"], body, len(body), 0.0))
        elif record.kind is Kind.FAILED:
            told = _told(record)
            self._polled(cluster, told["number"])
            self._end(cluster, told["number"], error_of(told["error"]))
        elif record.kind is Kind.ABANDONED:
            self._polled(cluster, _told(record)["number"])

    def _polled(self, cluster: Cluster, number: int) -> None:
        if (cluster, number) in self._polls:
            self._now[cluster].clock.polled()

    def _end(self, cluster: Cluster, number: int, outcome: Answer | MassiveLabError) -> None:
        if (recorded := self._answers.pop((cluster, number), None)) is not None:
            recorded.end(outcome)

    def _make(self, cluster: Cluster, told: Mapping[str, Any]) -> None:
        play = self._now[cluster] = self._plays[cluster].popleft()
        known = {field.name for field in fields(Policy)}
        policy = Policy(**{name: value for name, value in told["policy"].items() if name in known})
        if self._budget is None:
            self._budget = Budget(policy, self._header.get("calls_per_minute"))
        spare = random.Random(f"replay {cluster}").random  # noqa: S311  spreads load, guards nothing
        play.hub = Hub(
            cluster, f"ws://127.0.0.1/{cluster}", _KEY, clock=play.clock, policy=policy, budget=self._budget,
            jitter=lambda: play.draws.popleft() if play.draws else spare(),
            market_open=lambda at_ns: self._is_open(play, at_ns),
            connector=play.upstream, is_synthetic=bool(self._header.get("sandbox")),
        )  # fmt: skip
        self._output.joined(play.hub)
        play.hub.join(
            self._output.telemetry, self._poller if told["polls"] else None, self._filler if told["fills"] else None
        )

    def _open(self, play: _HubPlay, hub: Hub, told: Mapping[str, Any]) -> None:
        topic = Topic.parse(hub.cluster, told["topic"])
        name = told["id"].rpartition("#")[0]
        try:
            play.readers[told["id"]] = hub.open(topic, self._output.sinks(hub, topic), name=name, caller=told["caller"])
        except MassiveLabError as error:
            hub.errors.append(error)

    def _press(self, play: _HubPlay) -> None:
        """The recorded feed had a connection, or an answer, by now: this one must not sleep, nor have given up."""
        hub = play.hub
        if hub is None or play.upstream.is_awaited:
            return
        if hub.feed.machine.is_over:
            self._loop.create_task(hub.retry())
        else:
            self.clock.hurry(f"massive_lab {hub.cluster} feed")

    async def _close(self, hub: Hub) -> None:
        await hub.aclose()
        hub.leave(self._output.telemetry)

    async def _is_open(self, play: _HubPlay, at_ns: int) -> bool:
        now_ns, markets = self.clock.mono_ns, play.markets
        while markets and markets[0][0] < now_ns - _NEAR_NS:
            markets.popleft()
        if markets and markets[0][0] <= now_ns + _NEAR_NS:
            return markets.popleft()[1]
        return phase_at(at_ns) == "regular"


def _lost(cluster: Cluster) -> CaptureDamaged:
    return CaptureDamaged(f"What the {cluster} records belong to was never recorded.", block=0, offset=0, what="order")


def _note(polls: set[tuple[Cluster, int]], cluster: Cluster, told: Mapping[str, Any]) -> None:
    """Whether a request is a poll; a hub made anew counts its requests anew."""
    (polls.add if told["cause"].startswith("poll:") else polls.discard)((cluster, told["number"]))


def _told(record: Record) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(record.payload))


def _answer(record: Record) -> tuple[dict[str, Any], bytes]:
    payload = record.payload
    end = 4 + int.from_bytes(payload[:4], "little")
    return cast("dict[str, Any]", json.loads(payload[4:end])), payload[end:]
