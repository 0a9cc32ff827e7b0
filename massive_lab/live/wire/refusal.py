"""When the server will not have us: evicted, the key refused, the attempts used up. Nothing wanted is forgotten over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from massive_lab.config import Secret
from massive_lab.errors import ConnectionLost, TransportError
from massive_lab.live.readers import HubReader, failure

if TYPE_CHECKING:
    from massive_lab.live.hub import Hub

__all__ = ["Refusal"]


class Refusal:
    """Why a hub has no socket and does not try for one now.

    Attributes
    ----------
    error : TransportError or None
    is_for_good : bool
        Whether only `retry` ends it; an eviction ends with its lease.
    """

    def __init__(self, hub: Hub) -> None:
        self.error: TransportError | None = None
        self.is_for_good = False
        self._hub = hub

    def begin(self, error: TransportError, *, for_good: bool) -> None:
        """Tell every reader. Polling serves those whom it can."""
        self.error = error
        self.is_for_good = for_good
        for reader in self._hub.readers:
            self.tell(reader)

    def tell(self, reader: HubReader) -> None:
        """Tell a reader, if there is anything to tell."""
        if self.error is None:
            return
        reader.listener.refused(self.error)
        if not self._hub.fallback.can_serve(reader.topic):
            reader.listener.suspended(reader.topic, failure(reader.topic, self.error))

    def end(self) -> None:
        """It is over: the socket is back, or about to be tried again."""
        if self.error is None:
            return
        self.error = None
        self.is_for_good = False
        for reader in self._hub.readers:
            reader.listener.resumed()

    def fault(self, name: str, error: BaseException) -> None:
        """A task of the hub ended by an error that nobody foresaw."""
        hub = self._hub
        told = ConnectionLost(f"{hub.cluster} {name} failed: {type(error).__name__}.", hint="This is a fault; see the log.")
        told.__cause__ = error
        if name == "feed" and not hub.is_closed:
            # Its socket is closed: nobody may take it for live.
            hub.feed.machine.step_down(hub.now(), told.message, evicted=False)
            hub.offline(told)
        else:
            hub.keep(told)
        if name == "stitch":
            hub.gaps.give_up(told.message)
        if name not in ("polling", "stitch") and not hub.is_closed:
            hub.over(told)
            hub.changed()

    async def retry(self, key: Secret | None) -> None:
        """Try again now, from the first attempt, with another key or with the same; nothing where all is well.

        A live connection is given up for another key. Everything wanted is subscribed again once the socket is back.
        """
        hub = self._hub
        machine = hub.feed.machine
        if key is None and machine.is_live:
            return
        await hub.tasks.stop("feed")
        if key is not None:
            hub.feed.use_key(key)
        was_live = machine.is_live
        if was_live:
            machine.lost(hub.now(), "given up for another key")
            hub.offline(ConnectionLost("The connection was given up for another key."))
        machine.reopen(hub.now())
        self.end()
        hub.fallback.retry()
        hub.changed()
        if hub.readers:
            hub.tasks.start("steward", hub.steward.run)
            hub.tasks.start("feed", hub.feed.run)
