"""What a live session is made of, on the loop thread: its topics, tables, leases and mailboxes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import polars as pl

from massive_lab.clock import Clock
from massive_lab.config import Settings
from massive_lab.errors import ClosedError, MassiveLabError, SubscriptionFailed, TransportError
from massive_lab.live.gaps import Filler
from massive_lab.live.hub import Hub
from massive_lab.live.policy import Policy
from massive_lab.live.poll.polling import Poller
from massive_lab.live.read.callbacks import Callback
from massive_lab.live.read.mailbox import Mailbox
from massive_lab.live.read.tables import RollingTable
from massive_lab.live.readers import HubReader, Listener
from massive_lab.live.registry import Lease, acquire
from massive_lab.live.topics import Topic, kind_of
from massive_lab.live.views import STATUS_COLUMNS, TOPIC_COLUMNS, gap_frame
from massive_lab.telemetry import CALLER, Telemetry
from massive_lab.transports.runner import Runner
from massive_lab.typing import Cluster

__all__ = ["Core"]


class Core(Listener):
    """The part that the loop thread may hold on to, so that a forgotten `Live` can be collected and closed."""

    def __init__(
        self,
        settings: Settings,
        runner: Runner,
        telemetry: Telemetry,
        clock: Clock,
        poller: Poller | None,
        topics: Sequence[Topic],
        policy: Policy,
        caller: str | None,
        filler: Filler | None = None,
    ) -> None:
        self.runner = runner
        self.topics = tuple(topics)
        self.policy = policy
        self.tables = {
            channel: RollingTable(kind_of(channel), max_rows=policy.table_rows, keep_s=policy.table_s)
            for channel in dict.fromkeys(topic.channel for topic in topics)
        }
        self.leases: dict[Cluster, Lease] = {}
        self.failures: dict[Topic, MassiveLabError] = {}
        self.is_closed = False
        self.broken: Exception | None = None
        self._settings = settings
        self.is_sandbox = settings.sandbox
        self._telemetry = telemetry
        self.clock = clock
        self._poller = poller
        self._filler = filler
        self._caller = caller
        self._pending = set(self.topics)
        self._refusal: MassiveLabError | None = None
        self._settled = asyncio.Event()
        self._life = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None
        self.ended = threading.Event()
        self._readers: list[HubReader] = []
        self._mailboxes: dict[Mailbox, list[HubReader]] = {}
        self.callbacks: set[Callback] = set()

    async def start(self) -> None:
        try:
            await self._open_all()
        except Exception as error:
            # Whoever waits is told at once; the runner logs it too.
            self.broken = error
            self._settled.set()
            raise

    async def _open_all(self) -> None:
        async with self._life:
            for cluster in dict.fromkeys(topic.cluster for topic in self.topics):
                if self.is_closed:
                    return
                lease = await acquire(
                    self._settings,
                    cluster,
                    clock=self.clock,
                    telemetry=self._telemetry,
                    poller=self._poller,
                    filler=self._filler,
                    policy=self.policy,
                )
                self.leases[cluster] = lease
                for topic in (topic for topic in self.topics if topic.cluster == cluster):
                    self._open(topic)

    def _open(self, topic: Topic) -> None:
        hub = self.leases[topic.cluster].hub
        try:
            reader = hub.open(topic, [self.tables[topic.channel]], self, name="live", caller=self._caller)
        except SubscriptionFailed as error:
            self.failed(topic, error)
        else:
            self._readers.append(reader)

    def confirmed(self, topic: Topic) -> None:
        self._settle(topic)

    def failed(self, topic: Topic, error: MassiveLabError) -> None:
        self.failures[topic] = error
        self._settle(topic)

    def refused(self, error: MassiveLabError) -> None:
        self._refusal = error
        self._settled.set()

    def resumed(self) -> None:
        self._refusal = None
        if self._pending and not self.is_closed:
            self._settled.clear()

    def _settle(self, topic: Topic) -> None:
        self._pending.discard(topic)
        if not self._pending:
            self._settled.set()

    async def wait(self) -> None:
        await self._settled.wait()
        if self.broken is not None:
            raise self.broken
        if self._refusal is not None:
            raise self._refusal
        for error in list(self.failures.values()):
            # A refused key or plan is clearer than its effect on one topic.
            raise error.__cause__ if isinstance(error.__cause__, TransportError) else error
        if self.is_closed:
            raise ClosedError("The live session was closed.")

    def waiting_for(self) -> list[str]:
        return sorted(topic.wire for topic in set(self._pending))

    async def listen(self, mailbox: Mailbox, topics: tuple[Topic, ...], listener: Listener) -> None:
        async with self._life:
            if self.is_closed:
                mailbox.close()
                return
            if mailbox in self._mailboxes:
                return  # asked again by a step that had been cancelled, when the one before had been heard
            opened = self._mailboxes[mailbox] = []
            caller = CALLER.get() or self._caller
            for topic in topics:
                if (error := self.failures.get(topic)) is not None:
                    listener.failed(topic, error)
                    continue
                hub = self.leases[topic.cluster].hub
                try:
                    opened.append(hub.open(topic, [mailbox], listener, name=mailbox.name, caller=caller))
                except SubscriptionFailed as late:
                    listener.failed(topic, late)

    async def unlisten(self, mailbox: Mailbox) -> None:
        for reader in self._mailboxes.pop(mailbox, []):
            self.leases[reader.topic.cluster].hub.close_reader(reader)

    async def aclose(self) -> None:
        self.is_closed = True
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="massive_lab session close")
        # A cancelled caller must not leave a socket behind.
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        async with self._life:
            for mailbox in list(self._mailboxes):
                mailbox.close()
                await self.unlisten(mailbox)
            for reader in self._readers:
                self.leases[reader.topic.cluster].hub.close_reader(reader)
            self._readers.clear()
            self._settled.set()
            for lease in self.leases.values():
                await lease.release()
            self.ended.set()

    async def topic_rows(self) -> pl.DataFrame:
        return self._own(pl.concat([pl.DataFrame(schema=TOPIC_COLUMNS), *(hub.topics() for hub in self._hubs)]))

    async def status_rows(self) -> pl.DataFrame:
        return pl.DataFrame([hub.status() for hub in self._hubs], schema=STATUS_COLUMNS, orient="row")

    async def gap_rows(self) -> pl.DataFrame:
        return self._own(gap_frame(gap for hub in self._hubs for gap in hub.gaps.rows()))

    @property
    def _hubs(self) -> list[Hub]:
        return [lease.hub for lease in self.leases.values()]

    def _own(self, frame: pl.DataFrame) -> pl.DataFrame:
        own = {(topic.cluster, topic.wire) for topic in self.topics}
        return frame.filter([pair in own for pair in frame.select("cluster", "topic").iter_rows()])
