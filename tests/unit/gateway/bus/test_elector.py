"""The shell around the lease: it ends when it is told to, whatever the store makes of that."""

from __future__ import annotations

import asyncio

import pytest

from massive_lab.clock import SystemClock
from massive_lab.gateway.bus.elector import Elector, Ending
from massive_lab.gateway.bus.lease import Lease, decode_record

LEASE_S = 600.0


class Deaf:
    """A store that drops a cancellation which comes while it is asked, as a library may."""

    def __init__(self, deaf: str) -> None:
        self.deaf = deaf
        self.asked = asyncio.Event()
        self.holders: list[str] = []

    async def _hear_nothing(self, what: str) -> None:
        if what == self.deaf and not self.asked.is_set():
            self.asked.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return

    async def read(self, name: str) -> tuple[bytes, int] | None:
        await self._hear_nothing("read")
        return None

    async def write(self, name: str, data: bytes, last: int) -> int:
        await self._hear_nothing("write")
        self.holders.append(decode_record(data, LEASE_S).holder)
        return last + 1


@pytest.mark.asyncio
@pytest.mark.parametrize(("deaf", "holders"), [("read", []), ("write", ["one", ""])])
async def test_it_ends_though_the_store_drops_the_cancellation_and_gives_back_what_it_got(
    deaf: str, holders: list[str]
) -> None:
    async def lead(epoch: int) -> Ending:
        await asyncio.Event().wait()
        return Ending("never")

    store = Deaf(deaf)
    elector = Elector(store, "lease", Lease("one", LEASE_S), LEASE_S, SystemClock(), lead)
    elector.want(True)
    running = asyncio.create_task(elector.run())
    await store.asked.wait()
    running.cancel()
    ended, _ = await asyncio.wait([running], timeout=20)
    if not ended:
        running.cancel()
        await asyncio.wait([running])
    assert ended, "it went on"
    assert running.cancelled()
    assert store.holders == holders
