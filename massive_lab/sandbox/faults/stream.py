"""Faults on WebSocket sessions: handshake, subscriptions, frames and the connection's life."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass

from massive_lab.sandbox.faults.book import Kind, register

__all__ = [
    "Abrupt",
    "AuthFail",
    "AuthSilent",
    "Close",
    "Duplicate",
    "Ending",
    "Malformed",
    "MaxConnections",
    "Mute",
    "NightlyDrop",
    "NotAuthorized",
    "RefuseUpgrade",
    "Reorder",
    "Unconfirmed",
]

STAGES = ("connected", "authenticated", "subscribed")


@register("refuse_upgrade", "stream")
@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseUpgrade(Kind):
    """The upgrade is answered with an HTTP error."""

    status: int = 503

    def check(self) -> str | None:
        return None if 400 <= self.status <= 599 else "status lies in 400..599"


@register("auth_silent", "stream")
@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSilent(Kind):
    """The auth message is never answered."""


@register("auth_fail", "stream")
@dataclass(frozen=True, slots=True, kw_only=True)
class AuthFail(Kind):
    """A good key is refused."""

    message: str = "authentication failed"


@register("max_connections", "stream")
@dataclass(frozen=True, slots=True, kw_only=True)
class MaxConnections(Kind):
    """The next authentication counts as one too many, whatever the plan; ``victim``: oldest, newest or random."""

    victim: str = "oldest"

    def check(self) -> str | None:
        return None if self.victim in {"oldest", "newest", "random"} else "victim: oldest, newest, random"


@register("not_authorized", "stream")
@dataclass(frozen=True, slots=True, kw_only=True)
class NotAuthorized(Kind):
    """A subscription is refused with the error that names no channel."""


@register("unconfirmed", "stream")
@dataclass(frozen=True, slots=True, kw_only=True)
class Unconfirmed(Kind):
    """A subscription is never answered; with ``data`` its events flow all the same."""

    data: bool = False


@register("mute", "stream")
@dataclass(frozen=True, slots=True, kw_only=True)
class Mute(Kind):
    """Event frames are dropped while the socket stays open and answers pings; with a topic as scope, only its events."""


@register("duplicate", "stream")
@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate(Kind):
    """An event frame is sent twice."""


@register("reorder", "stream")
@dataclass(frozen=True, slots=True, kw_only=True)
class Reorder(Kind):
    """An event frame is held back and sent right after the following one."""


@register("malformed", "stream")
@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed(Kind):
    """An event frame is replaced by a broken one; ``how``: bad_json, object, no_ev, nan, null or random."""

    how: str = "bad_json"

    def check(self) -> str | None:
        return None if self.how in {*_BROKEN, "random"} else f"how: {', '.join(_BROKEN)}, random"

    def frame(self, rng: random.Random, whole: bytes) -> bytes:
        """The broken frame that takes the place of `whole`."""
        how = rng.choice(sorted(_BROKEN)) if self.how == "random" else self.how
        return whole[: max(1, len(whole) * 2 // 3)] if how == "bad_json" else _BROKEN[how]


_BROKEN = {
    "bad_json": b"",
    "object": b'{"ev":"T","sym":"AAPL","p":1,"s":1,"t":1545233400000}',
    "no_ev": b'[{"sym":"AAPL","p":1,"s":1,"t":1545233400000}]',
    "nan": b'[{"ev":"T","sym":"AAPL","p":NaN,"s":1,"t":1545233400000}]',
    "null": b'[{"ev":"T","sym":null,"p":null,"s":1,"t":1545233400000}]',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending(Kind):
    """Ends connections in scope, open ones and later ones, ``after_s`` real seconds behind ``stage``.

    ``stage``: connected, authenticated or subscribed (something confirmed).
    """

    after_s: float = 0.0
    stage: str = "subscribed"

    def check(self) -> str | None:
        if self.after_s < 0:
            return "after_s must not be negative"
        return None if self.stage in STAGES else f"stage: {', '.join(STAGES)}"


@register("close", "stream")
@dataclass(frozen=True, slots=True, kw_only=True)
class Close(Ending):
    """Close frame with ``code`` and ``reason``."""

    code: int = 1011
    reason: str = ""

    def check(self) -> str | None:
        if not (1000 <= self.code <= 1014 or 3000 <= self.code <= 4999) or self.code in {1004, 1005, 1006}:
            return "code is one that may be sent: 1000-1003, 1007-1014, 3000-4999"
        return Ending.check(self)


@register("abrupt", "stream")
@dataclass(frozen=True, slots=True, kw_only=True)
class Abrupt(Ending):
    """TCP ends without a close frame."""


@register("nightly_drop", "stream")
@dataclass(frozen=True, slots=True, kw_only=True)
class NightlyDrop(Kind):
    """Every day when virtual time passes ``at`` (New York), connections in scope are cut without a close frame."""

    at: str = "00:30"

    def check(self) -> str | None:
        try:
            dt.time.fromisoformat(self.at)
        except ValueError:
            return "at is HH:MM"
        return None
