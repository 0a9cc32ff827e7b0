"""The hubs of this process: one per loop, address, cluster and key, counted, closed with the last who uses it."""

from __future__ import annotations

import asyncio
import hashlib
import random
import weakref
from dataclasses import dataclass, field
from typing import get_args

from massive_lab.clock import Clock
from massive_lab.config import Settings
from massive_lab.live.gaps import Filler
from massive_lab.live.hub import Hub
from massive_lab.live.policy import Policy
from massive_lab.live.polling import Poller
from massive_lab.telemetry import Telemetry
from massive_lab.typing import Cluster

__all__ = ["Lease", "acquire", "hubs", "n_hubs"]

_Key = tuple[str, str, str]


@dataclass(slots=True)
class _Shared:
    hub: Hub
    n_leases: int = 0


@dataclass(slots=True)
class _Hubs:
    open: dict[_Key, _Shared] = field(default_factory=dict)
    closing: dict[_Key, asyncio.Task[None]] = field(default_factory=dict)


# By the loop itself and not by its id, which a later loop may get again: what a loop leaves behind dies with it.
_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Hubs] = weakref.WeakKeyDictionary()


def _here() -> _Hubs:
    for ended in [loop for loop in list(_by_loop) if loop.is_closed()]:
        # Its tasks refer to the loop, so the weak key alone would keep both for ever.
        _by_loop.pop(ended, None)
    return _by_loop.setdefault(asyncio.get_running_loop(), _Hubs())


@dataclass(slots=True, eq=False)
class Lease:
    """The right to use a hub, until `release`."""

    hub: Hub
    _key: _Key
    _telemetry: Telemetry
    _poller: Poller | None
    _filler: Filler | None
    _is_held: bool = True

    async def release(self) -> None:
        """Give the hub back; the last one closes it, socket and tasks. Idempotent."""
        hubs = _here()
        if not self._is_held:
            if (closing := hubs.closing.get(self._key)) is not None:
                await asyncio.shield(closing)
            return
        self._is_held = False
        shared = hubs.open[self._key]
        shared.n_leases -= 1
        if shared.n_leases:
            self.hub.leave(self._telemetry, self._poller, self._filler)
            return
        del hubs.open[self._key]
        task = asyncio.get_running_loop().create_task(self._close(), name=f"massive_lab {self.hub.cluster} close")
        hubs.closing[self._key] = task
        # A cancelled caller must not leave a socket behind.
        await asyncio.shield(task)

    async def _close(self) -> None:
        try:
            await self.hub.aclose()
        finally:
            # The last events (topics and readers closed) belong to the client that closes.
            self.hub.leave(self._telemetry, self._poller, self._filler)
            del _here().closing[self._key]


async def acquire(
    settings: Settings,
    cluster: Cluster,
    *,
    clock: Clock,
    telemetry: Telemetry,
    poller: Poller | None = None,
    filler: Filler | None = None,
    policy: Policy | None = None,
) -> Lease:
    """The hub of a cluster for these settings, on the running loop. The first to ask sets clock and policy.

    A hub that is closing is waited for: the vendor allows one connection, and two would evict each other.
    """
    key = _key(settings, cluster)
    hubs = _here()
    while (closing := hubs.closing.get(key)) is not None:
        await asyncio.shield(closing)
    shared = hubs.open.get(key)
    if shared is None:
        url = f"{settings.ws_url}/{cluster}"
        seed = settings.backoff_seed
        jitter = None if seed is None else random.Random(f"{seed} {cluster}").random  # noqa: S311  spreads load, guards nothing
        shared = hubs.open[key] = _Shared(Hub(cluster, url, settings.api_key, clock=clock, policy=policy, jitter=jitter))
    shared.n_leases += 1
    shared.hub.join(telemetry, poller, filler)
    return Lease(shared.hub, key, telemetry, poller, filler)


def hubs(settings: Settings) -> list[Hub]:
    """The hubs that are open for an address and a key, on the running loop."""
    found = [_here().open.get(_key(settings, cluster)) for cluster in get_args(Cluster)]
    return [shared.hub for shared in found if shared is not None]


def _key(settings: Settings, cluster: Cluster) -> _Key:
    return settings.ws_url, cluster, hashlib.sha256(settings.api_key.reveal().encode()).hexdigest()


def n_hubs() -> int:
    """Hubs open or closing in this process; what a closed loop had is gone with it."""
    running = [hubs for loop, hubs in list(_by_loop.items()) if not loop.is_closed()]
    return sum(len(hubs.open) + len(hubs.closing) for hubs in running)
