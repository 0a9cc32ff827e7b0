"""Every number of the bus in one place. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BusPolicy"]


@dataclass(frozen=True, slots=True)
class BusPolicy:
    """How patient replicas are with each other. Durations in seconds."""

    lease_s: float = 3.0
    """A leader that cannot renew for so long stops; another takes over after `lease_s * (1 + skew)`, a quarter more at most."""
    skew: float = 0.1
    """The largest difference in rate between the clocks of two machines, as a fraction."""
    beat_s: float = 0.5
    """Leader and replicas say so often that they live."""
    dead_s: float = 3.0
    """A replica that says nothing for so long is dead, and its topics are nobody's."""
    rest_s: float = 300.0
    """After an eviction (`max_connections`) no replica tries for so long: another program holds the connection."""
    refused_s: float = 5.0
    """The same after the vendor refused the key, while somebody still asks."""
    idle_s: float = 10.0
    """The upstream is closed, and the lease given back, when no replica has wanted anything for so long."""
    upstream_s: float = 20.0
    """A leader that has had no upstream for so long lets another replica try, from where it is, and pauses as long itself."""
    queue_bytes: int = 16 * 2**20
    """What may wait in a replica between the bus and its hub; more is a loss, and repaired as one."""
    pending_events: int = 500_000
    """What may wait in the leader for the bus; with more it steps down."""
