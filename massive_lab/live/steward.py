"""Housekeeping of a hub, as one task: lingers and answers that are due, what to send, when to poll, what silence means."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from massive_lab import telemetry as t
from massive_lab.errors import ConnectionLost, Timeout
from massive_lab.live.wire.feed import within
from massive_lab.schema.session import phase_at

if TYPE_CHECKING:
    from massive_lab.live.hub import Hub

__all__ = ["Steward", "in_regular_hours"]


async def in_regular_hours(now_ns: int) -> bool:
    """Whether a UTC instant lies in the regular session of the US exchanges; asked in a thread, as calendars load slowly."""
    return await asyncio.to_thread(phase_at, now_ns) == "regular"


class Steward:
    """The one task that watches the deadlines of a hub. It sleeps until the next of them, or until it is kicked."""

    def __init__(self, hub: Hub, market_open: Callable[[int], Awaitable[bool]]) -> None:
        self._hub = hub
        self.market_open = market_open
        self._kick = asyncio.Event()

    def kick(self) -> None:
        """Something changed: look again."""
        self._kick.set()

    async def run(self) -> None:
        """Until cancelled."""
        hub = self._hub
        while True:
            self._kick.clear()
            now = hub.now()
            hub.act(hub.book.tick(now))
            await self._say()
            await hub.watch.tick(now)
            machine = hub.feed.machine
            if machine.poll_at is not None and machine.poll_at <= now:
                hub.fallback.begin()
            if machine.silence_at is not None and machine.silence_at <= now:
                await self._mind_silence(now)
            poll_at = machine.poll_at if hub.fallback.has_work() else None
            due = (hub.book.deadline, poll_at, machine.silence_at, hub.watch.deadline)
            await self._wait(min((at for at in due if at is not None), default=None))

    async def _wait(self, until: float | None) -> None:
        if until is None:
            await self._kick.wait()
            return
        with contextlib.suppress(Timeout):
            await within(self._hub.clock, self._kick.wait(), until)

    async def _say(self) -> None:
        hub = self._hub
        while (send := hub.book.next_send(hub.now())) is not None:
            wires = tuple(topic.wire for topic in send.topics)
            try:
                await hub.feed.send(json.dumps({"action": send.action, "params": ",".join(wires)}))
            except ConnectionLost:
                return  # the reader of the socket sees the same loss and tells it
            if send.action == "subscribe":
                hub.gaps.asked(send.topics)
            hub.counts["sent"] += 1
            for tap in hub.taps:
                tap.sent(hub.cluster, send.action, wires)
            hub.emit(t.WireSent(hub.now(), hub.cluster, send.action, wires))

    async def _mind_silence(self, now: float) -> None:
        hub = self._hub
        machine = hub.feed.machine
        expected = await hub.watch.expects_data()
        if machine.silence_at is None or machine.silence_at > now:
            return  # data came while the calendar was asked
        if not expected:
            machine.last_frame = now  # quiet by right: look again after another interval
        elif machine.silent(now):
            await hub.feed.drop()
        hub.changed()
