"""All clusters of one process on the bus, for the gateway to open and close as one thing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from massive_lab.clock import Clock
from massive_lab.config import Settings
from massive_lab.gateway.bus.follower import Replica
from massive_lab.gateway.bus.nats import Bus
from massive_lab.gateway.bus.policy import BusPolicy
from massive_lab.live.policy import Policy
from massive_lab.typing import Cluster

__all__ = ["Replicas"]


class Replicas:
    """One connection to the bus and a `Replica` for each cluster. Nothing is opened before a hub asks for a socket.

    Parameters
    ----------
    url : str
        See `massive_lab.gateway.bus.nats.Bus`.
    settings : Settings
        Of the upstream.
    clusters : iterable of {"stocks", "options", "indices"}
    clock : Clock
    policy : Policy, optional
        Of the upstream's hubs.
    bus_policy : BusPolicy, optional

    Raises
    ------
    ConfigError
        When `url` is not an address of NATS.

    Examples
    --------
    >>> from massive_lab.clock import SystemClock
    >>> from massive_lab.config import Secret
    >>> replicas = Replicas("nats://127.0.0.1:4222", Settings(Secret("k")), ["stocks"], clock=SystemClock())
    >>> [(row["cluster"], row["bus"], row["is_leader"]) for row in replicas.status()]
    [('stocks', False, False)]
    """

    def __init__(
        self,
        url: str,
        settings: Settings,
        clusters: Iterable[Cluster],
        *,
        clock: Clock,
        policy: Policy | None = None,
        bus_policy: BusPolicy | None = None,
    ) -> None:
        self.bus = Bus(url)
        self._by_cluster = {
            cluster: Replica(self.bus, settings, cluster, clock=clock, policy=policy, bus_policy=bus_policy)
            for cluster in clusters
        }

    def connector(self, cluster: Cluster) -> Replica:
        """What `massive_lab.live.registry.acquire` takes as the connector of a cluster."""
        return self._by_cluster[cluster]

    def status(self) -> list[dict[str, Any]]:
        """One row for each cluster; see `Replica.status`."""
        return [replica.status() for replica in self._by_cluster.values()]

    @property
    def n_led(self) -> int:
        """Clusters whose upstream this process holds."""
        return sum(bool(row["is_leader"]) for row in self.status())

    async def aclose(self) -> None:
        """Give back what is led, and leave the bus; after the hubs are closed. Idempotent."""
        for replica in self._by_cluster.values():
            await replica.aclose()
        await self.bus.aclose()
