"""The hubs of this process: one per loop, address, cluster and key, counted, closed with the last who uses it."""

from __future__ import annotations

import asyncio
import hashlib
import random
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import get_args

from massive_lab.clock import Clock
from massive_lab.config import Secret, Settings
from massive_lab.errors import InvalidRequest
from massive_lab.live.gaps import Filler
from massive_lab.live.hub import Hub
from massive_lab.live.policy import Policy
from massive_lab.live.poll.budget import Budget
from massive_lab.live.poll.polling import Poller
from massive_lab.live.wire.feed import Connector
from massive_lab.telemetry import Telemetry
from massive_lab.transports.websocket import connect
from massive_lab.typing import Cluster

__all__ = ["Lease", "acquire", "hubs", "n_hubs", "retry", "watch"]

_Key = tuple[str, str, str]


@dataclass(slots=True)
class _Shared:
    hub: Hub
    key: _Key
    n_leases: int = 0


@dataclass(slots=True)
class _Hubs:
    open: dict[_Key, _Shared] = field(default_factory=dict)
    closing: dict[_Key, asyncio.Task[None]] = field(default_factory=dict)
    # Hubs whose key was changed, by the key that other clients still know them by.
    renamed: dict[_Key, _Key] = field(default_factory=dict)
    watchers: list[tuple[Settings, Callable[[Hub], None]]] = field(default_factory=list)

    def key(self, settings: Settings, cluster: Cluster) -> _Key:
        key = _key(settings, cluster)
        return self.renamed.get(key, key)
    # Of a client, for all its clusters; each lives as long as a hub that spends it.
    budgets: weakref.WeakValueDictionary[tuple[str, str], Budget] = field(default_factory=weakref.WeakValueDictionary)


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
    _shared: _Shared
    _telemetry: Telemetry
    _poller: Poller | None
    _filler: Filler | None
    _is_held: bool = True

    async def release(self) -> None:
        """Give the hub back; the last one closes it, socket and tasks. Idempotent."""
        hubs = _here()
        key = self._shared.key
        if not self._is_held:
            if (closing := hubs.closing.get(key)) is not None:
                await asyncio.shield(closing)
            return
        self._is_held = False
        self._shared.n_leases -= 1
        if self._shared.n_leases:
            self.hub.leave(self._telemetry, self._poller, self._filler)
            return
        del hubs.open[key]
        for old in [old for old, new in hubs.renamed.items() if new == key]:
            del hubs.renamed[old]
        task = asyncio.get_running_loop().create_task(self._close(key), name=f"massive_lab {self.hub.cluster} close")
        hubs.closing[key] = task
        # A cancelled caller must not leave a socket behind.
        await asyncio.shield(task)

    async def _close(self, key: _Key) -> None:
        try:
            await self.hub.aclose()
        finally:
            # The last events (topics and readers closed) belong to the client that closes.
            self.hub.leave(self._telemetry, self._poller, self._filler)
            del _here().closing[key]


async def acquire(
    settings: Settings,
    cluster: Cluster,
    *,
    clock: Clock,
    telemetry: Telemetry,
    poller: Poller | None = None,
    filler: Filler | None = None,
    policy: Policy | None = None,
    connector: Connector = connect,
) -> Lease:
    """The hub of a cluster for these settings, on the running loop. The first to ask sets clock, policy and connector.

    A hub that is closing is waited for: the vendor allows one connection, and two would evict each other.
    """
    hubs = _here()
    key = hubs.key(settings, cluster)
    while (closing := hubs.closing.get(key)) is not None:
        await asyncio.shield(closing)
    shared = hubs.open.get(key)
    is_new = shared is None
    if shared is None:
        url = f"{settings.ws_url}/{cluster}"
        seed = settings.backoff_seed
        jitter = None if seed is None else random.Random(f"{seed} {cluster}").random  # noqa: S311  spreads load, guards nothing
        budget = hubs.budgets.setdefault((key[0], key[2]), Budget(policy or Policy(), settings.calls_per_minute))
        hub = Hub(
            cluster, url, settings.api_key, clock=clock, policy=policy, budget=budget, jitter=jitter,
            is_synthetic=settings.sandbox, connector=connector,
        )  # fmt: skip
        shared = hubs.open[key] = _Shared(hub, key)
    shared.hub.fallback.budget.tighten(settings.calls_per_minute)
    shared.n_leases += 1
    shared.hub.join(telemetry, poller, filler)
    if is_new:
        for watched, watcher in list(hubs.watchers):
            if hubs.key(watched, cluster) == key:
                watcher(shared.hub)
    return Lease(shared.hub, shared, telemetry, poller, filler)


def watch(settings: Settings, watcher: Callable[[Hub], None]) -> Callable[[], None]:
    """Be given each hub that is made for an address and a key on the running loop; returns what ends that."""
    here, entry = _here(), (settings, watcher)
    here.watchers.append(entry)
    return lambda: here.watchers.remove(entry)


def hubs(settings: Settings) -> list[Hub]:
    """The hubs that are open for an address and a key, on the running loop."""
    here = _here()
    found = [here.open.get(here.key(settings, cluster)) for cluster in get_args(Cluster)]
    return [shared.hub for shared in found if shared is not None]


async def retry(settings: Settings, key: Secret | None = None) -> None:
    """Try again where a feed of these settings is down, with another key or the same; see `massive_lab.live.hub.Hub.retry`.

    Raises
    ------
    InvalidRequest
        When feeds with the other key are open already: both would fight for the one connection. Nothing was changed.
    """
    here = _here()
    other = settings if key is None else settings.with_(api_key=key)
    moves = [(here.key(settings, cluster), _key(other, cluster)) for cluster in get_args(Cluster)] if key else []
    moves = [(old, new) for old, new in moves if old in here.open and old != new]
    if any(new in here.open or new in here.closing for _, new in moves):
        raise InvalidRequest("Feeds with this key are open in this process already.", hint="Close them first, or use them.")
    for old, new in moves:
        shared = here.open[new] = here.open.pop(old)
        shared.key = new
        here.renamed = {known: new if now == old else now for known, now in here.renamed.items()} | {old: new}
        here.renamed.pop(new, None)
    await asyncio.gather(*(hub.retry(key) for hub in hubs(other)))


def _key(settings: Settings, cluster: Cluster) -> _Key:
    return settings.ws_url, cluster, hashlib.sha256(settings.api_key.reveal().encode()).hexdigest()


def n_hubs() -> int:
    """Hubs open or closing in this process; what a closed loop had is gone with it."""
    running = [hubs for loop, hubs in list(_by_loop.items()) if not loop.is_closed()]
    return sum(len(hubs.open) + len(hubs.closing) for hubs in running)
