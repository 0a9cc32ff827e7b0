"""The shell around `massive_lab.gateway.bus.lease.Lease`: asks and writes the store, starts and ends the leader."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from massive_lab.clock import Clock
from massive_lab.errors import Timeout
from massive_lab.gateway.bus.lease import Lease, Read, Wait, Write, decode_record, encode_record
from massive_lab.gateway.bus.messages import BusDown
from massive_lab.gateway.bus.nats import Conflict, heed_cancellation
from massive_lab.live.wire.feed import within

__all__ = ["Elector", "Ending", "Store"]

_log = logging.getLogger("massive_lab.gateway.bus")


@dataclass(frozen=True, slots=True)
class Ending:
    """A leader steps down by itself: why, how long nobody may follow it, and how long it leaves the lease to others."""

    why: str
    rest_s: float = 0.0
    pause_s: float = 0.0


class Store(Protocol):
    """What is asked of the bus; `massive_lab.gateway.bus.nats.Bus` is one."""

    async def read(self, name: str) -> tuple[bytes, int] | None: ...
    async def write(self, name: str, data: bytes, last: int) -> int: ...


class Elector:
    """Runs for the lease of one key and cluster, and leads while it has it.

    Parameters
    ----------
    store : Store
    name : str
        Of the record.
    lease : Lease
    lease_s : float
    clock : Clock
    lead : callable
        Given the epoch, leads until it is cancelled, or gives an `Ending`.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        lease: Lease,
        lease_s: float,
        clock: Clock,
        lead: Callable[[int], Awaitable[Ending]],
    ) -> None:
        self._store = store
        self._name = name
        self._lease = lease
        self._lease_s = lease_s
        self._clock = clock
        self._lead = lead
        self._news = asyncio.Event()
        self._leading: asyncio.Task[Ending] | None = None
        self._epoch = 0
        self._is_broken = False
        self.n_terms = 0

    def kick(self) -> None:
        """Something may have changed."""
        self._news.set()

    def want(self, wants: bool) -> None:
        """Whether to run for it."""
        if self._lease.wants != wants:
            self._lease.wants = wants
            self.kick()

    def broken(self) -> None:
        """Messages of this term may have been lost on their way out: the next one needs another epoch."""
        self._is_broken = True
        self.kick()

    async def run(self) -> None:
        """Until cancelled; gives the lease back then."""
        try:
            while True:
                heed_cancellation()
                await self._supervise()
                action = self._lease.next(self._clock.monotonic())
                if isinstance(action, Read):
                    await self._read()
                elif isinstance(action, Write):
                    await self._write(action)
                else:
                    await self._wait(action)
        finally:
            await self._stop()
            await self._give_back(Ending("stopped"))

    async def _wait(self, action: Wait) -> None:
        if action.until is None:
            await self._news.wait()
        else:
            try:
                await within(self._clock, self._news.wait(), action.until)
            except Timeout:
                return
        self._news.clear()

    async def _read(self) -> None:
        clock = self._clock
        try:
            found = await self._store.read(self._name)
        except BusDown:
            self._lease.failed(clock.monotonic())
            return
        record, revision = (None, 0) if found is None else (decode_record(found[0], self._lease_s), found[1])
        self._lease.seen(record, revision, clock.monotonic())

    async def _write(self, write: Write) -> None:
        clock = self._clock
        asked_at = clock.monotonic()
        try:
            revision = await self._store.write(self._name, encode_record(write.record), write.last)
        except Conflict:
            self._lease.refused(clock.monotonic())
        except BusDown:
            self._lease.failed(clock.monotonic())
        else:
            self._lease.wrote(revision, asked_at)

    async def _supervise(self) -> None:
        lease = self._lease
        if self._leading is not None and self._leading.done():
            ending = self._ending(self._leading)
            self._leading = None
            lease.pause(self._clock.monotonic() + ending.pause_s)
            await self._give_back(ending)
        if self._is_broken:
            self._is_broken = False
            await self._stop()
            lease.release()
        leads = lease.is_leader(self._clock.monotonic())
        epoch = lease.term.epoch if leads and lease.term is not None else 0
        if self._leading is not None and epoch != self._epoch:
            _log.info("bus: epoch %d is over", self._epoch)
            await self._stop()
        if epoch and self._leading is None:
            _log.info("bus: leading, epoch %d", epoch)
            self._epoch = epoch
            self.n_terms += 1
            self._leading = asyncio.ensure_future(self._lead(epoch))
            self._leading.add_done_callback(lambda _: self.kick())

    def _ending(self, leading: asyncio.Task[Ending]) -> Ending:
        if leading.cancelled():
            return Ending("cancelled")
        if (error := leading.exception()) is not None:
            _log.error("bus: the leader failed", exc_info=error)
            return Ending(f"failed: {type(error).__name__}", self._lease_s)
        return leading.result()

    async def _stop(self) -> None:
        leading, self._leading = self._leading, None
        if leading is not None:
            leading.cancel()
            await asyncio.gather(leading, return_exceptions=True)

    async def _give_back(self, ending: Ending) -> None:
        write = self._lease.release(ending.rest_s, ending.why)
        if write is None:
            return
        _log.info("bus: stepping down: %s", ending.why)
        try:
            await self._store.write(self._name, encode_record(write.record), write.last)
        except (Conflict, BusDown):
            # Somebody else has it, or it runs out by itself.
            _log.debug("bus: the lease could not be given back")
