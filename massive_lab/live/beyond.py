"""What a server tells of itself: the vendor's, that it will disconnect; a gateway, besides, how its own upstream does.

=================== ============================================================== ==========
status              meaning                                                        served by
=================== ============================================================== ==========
upstream_lost       its connection to the vendor is gone, and is being opened      none
upstream_polling    it polls by REST until the connection is back                  poll
upstream_evicted    another process holds the vendor's connection                  none
upstream_refused    the vendor refuses it                                          none
upstream_stale      the vendor is silent                                           stream
upstream_restored   its connection to the vendor is back                           stream
subscription_failed one topic will not come; the message names it and the reason
slow_consumer       we read too slowly, and are disconnected
force_disconnect    we are disconnected
=================== ============================================================== ==========
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from massive_lab.errors import ConnectionLost, UpstreamError

if TYPE_CHECKING:
    from massive_lab.decode.stream import Status
    from massive_lab.live.hub import Hub

__all__ = ["Beyond"]

_SERVING = {
    "upstream_lost": "none",
    "upstream_polling": "poll",
    "upstream_evicted": "none",
    "upstream_refused": "none",
    "upstream_stale": "stream",
}
_FAILED = "subscription failed: "


class Beyond:
    """Behind the server of a hub.

    Attributes
    ----------
    trouble : str
        The status that says what is wrong there; empty while nothing is known to be.
    """

    def __init__(self, hub: Hub) -> None:
        self.trouble = ""
        self._hub = hub

    def serving(self, own: str) -> str:
        """Who serves: `own`, what this side of the gateway knows, unless the gateway says otherwise."""
        return _SERVING[self.trouble] if self.trouble and own == "stream" else own

    def hear(self, status: Status) -> None:
        """Take a status, whatever it is."""
        name, hub = status.status, self._hub
        if name == "subscription_failed":
            # Topics hold colons, but none with a blank behind it.
            wire, _, reason = status.message.removeprefix(_FAILED).partition(": ")
            hub.book.answers_late = True
            hub.act(hub.book.refused(wire, reason or "refused by the gateway"))
        elif name in ("slow_consumer", "force_disconnect"):
            hub.errors.append(
                UpstreamError(
                    f"The {hub.cluster} server will disconnect: {name} ({status.message}).",
                    status=1008,
                    hint="The connection is opened again and everything subscribed anew.",
                )
            )
        elif name == "upstream_restored":
            self.trouble = ""
        elif name in _SERVING and name != self.trouble:
            self.trouble = name
            hub.book.answers_late = True
            hub.errors.append(
                ConnectionLost(f"The {hub.cluster} gateway says: {status.message}.", hint="It goes on by itself.")
            )

    def forget(self) -> None:
        """The server itself is gone."""
        self.trouble = ""
