"""What a hub tells whoever records it: every frame in and out, and each beginning and end of a connection."""

from __future__ import annotations

from typing import Protocol

from massive_lab.errors import TransportError
from massive_lab.typing import Cluster

__all__ = ["Tap"]


class Tap(Protocol):
    """Hears a hub, in order, on the loop thread. It must not block, and must not raise."""

    def received(self, cluster: Cluster, data: bytes) -> None:
        """One frame as it came."""
        ...

    def sent(self, cluster: Cluster, action: str, wires: tuple[str, ...]) -> None:
        """A control message: ``auth`` (told without the key), ``subscribe`` or ``unsubscribe``."""
        ...

    def online(self, cluster: Cluster) -> None:
        """The handshake is done."""
        ...

    def offline(self, cluster: Cluster, error: TransportError) -> None:
        """The connection ended or could not be opened."""
        ...
