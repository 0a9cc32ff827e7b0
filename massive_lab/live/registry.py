"""The hubs of this process: one per loop, address, cluster and key, counted, closed with the last who uses it."""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import dataclass

from massive_lab.clock import Clock
from massive_lab.config import Settings
from massive_lab.live.hub import Hub
from massive_lab.live.policy import Policy
from massive_lab.live.polling import Poller
from massive_lab.telemetry import Telemetry
from massive_lab.typing import Cluster

__all__ = ["Lease", "acquire", "n_hubs"]

_Key = tuple[int, str, str, str]


@dataclass(slots=True)
class _Shared:
    hub: Hub
    n_leases: int = 0


_hubs: dict[_Key, _Shared] = {}
_closing: dict[_Key, asyncio.Task[None]] = {}


@dataclass(slots=True, eq=False)
class Lease:
    """The right to use a hub, until `release`."""

    hub: Hub
    _key: _Key
    _telemetry: Telemetry
    _poller: Poller | None
    _is_held: bool = True

    async def release(self) -> None:
        """Give the hub back; the last one closes it, socket and tasks. Idempotent."""
        if not self._is_held:
            if (closing := _closing.get(self._key)) is not None:
                await asyncio.shield(closing)
            return
        self._is_held = False
        shared = _hubs[self._key]
        shared.n_leases -= 1
        if shared.n_leases:
            self.hub.leave(self._telemetry, self._poller)
            return
        del _hubs[self._key]
        task = asyncio.get_running_loop().create_task(self._close(), name=f"massive_lab {self.hub.cluster} close")
        _closing[self._key] = task
        # A cancelled caller must not leave a socket behind.
        await asyncio.shield(task)

    async def _close(self) -> None:
        try:
            await self.hub.aclose()
        finally:
            # The last events (topics and readers closed) belong to the client that closes.
            self.hub.leave(self._telemetry, self._poller)
            del _closing[self._key]


async def acquire(
    settings: Settings,
    cluster: Cluster,
    *,
    clock: Clock,
    telemetry: Telemetry,
    poller: Poller | None = None,
    policy: Policy | None = None,
) -> Lease:
    """The hub of a cluster for these settings, on the running loop. The first to ask sets clock and policy.

    A hub that is closing is waited for: the vendor allows one connection, and two would evict each other.
    """
    digest = hashlib.sha256(settings.api_key.reveal().encode()).hexdigest()
    key: _Key = (id(asyncio.get_running_loop()), settings.ws_url, cluster, digest)
    while (closing := _closing.get(key)) is not None:
        await asyncio.shield(closing)
    shared = _hubs.get(key)
    if shared is None:
        url = f"{settings.ws_url}/{cluster}"
        seed = settings.backoff_seed
        jitter = None if seed is None else random.Random(f"{seed} {cluster}").random  # noqa: S311  spreads load, guards nothing
        shared = _hubs[key] = _Shared(Hub(cluster, url, settings.api_key, clock=clock, policy=policy, jitter=jitter))
    shared.n_leases += 1
    shared.hub.join(telemetry, poller)
    return Lease(shared.hub, key, telemetry, poller)


def n_hubs() -> int:
    """Hubs open or closing in this process."""
    return len(_hubs) + len(_closing)
