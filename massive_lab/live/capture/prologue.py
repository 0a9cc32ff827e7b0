"""Where a hub stands when recording begins, told as if it had just come there: who reads, what is connected and confirmed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from massive_lab.errors import ConnectionLost
from massive_lab.live.capture.format import Kind
from massive_lab.live.hub import Hub
from massive_lab.live.readers import HubReader
from massive_lab.live.topics import cover
from massive_lab.live.wire.handshake import Evicted

__all__ = ["prologue"]

_Told = tuple[Kind, Any, bool]


def prologue(hub: Hub, told_error: Callable[[BaseException], dict[str, Any]]) -> Iterator[_Told]:
    """Kind, payload and whether it is synthesized, in the order in which a replay must hear them.

    Readers of confirmed topics come first: the replay then asks for these, and the synthesized answers are theirs. The
    subscriptions of the others go out after that, and are answered by what was recorded.
    """
    yield Kind.HUB, {"policy": hub.policy, "polls": bool(hub.fallback.pollers), "fills": bool(hub.gaps.fillers)}, False
    is_live = hub.gaps.is_online
    confirmed = [reader for reader in hub.readers if is_live and hub.is_confirmed(reader.topic)]
    for reader in confirmed:
        yield _opened(reader)
    yield from _connection(hub, told_error)
    if is_live:
        topics = list(dict.fromkeys(reader.topic for reader in confirmed))
        asked = [topic.wire for topic in topics if topic in cover(topics)]
        # As the book sends them: it hears of a topic only what it has asked.
        for i in range(0, len(asked), hub.policy.batch_topics):
            yield _frame(*(("success", f"subscribed to: {wire}") for wire in asked[i : i + hub.policy.batch_topics]))
    for reader in hub.readers:
        if reader not in confirmed:
            yield _opened(reader)


def _connection(hub: Hub, told_error: Callable[[BaseException], dict[str, Any]]) -> Iterator[_Told]:
    machine = hub.feed.machine
    refused = hub.refusal.error
    if hub.gaps.was_online:
        yield Kind.SOCKET_OPENED, b"", True
        yield _frame(("connected", "Connected Successfully"))
        yield _frame(("auth_success", "authenticated"))
    if hub.gaps.is_online:
        return
    if isinstance(refused, Evicted):
        if not hub.gaps.was_online:
            yield Kind.SOCKET_OPENED, b"", True
        yield _frame(("max_connections", "Maximum number of connections reached."))
    elif refused is not None or machine.lost_at is not None:
        error = refused or (hub.errors[-1] if hub.errors else ConnectionLost("The socket was down when recording began."))
        yield Kind.OFFLINE, told_error(error), True
    if machine.is_shaking_hands:
        yield Kind.SOCKET_OPENED, b"", True
        yield _frame(("connected", "Connected Successfully"))


def _opened(reader: HubReader) -> _Told:
    return Kind.READER_OPENED, {"id": reader.id, "topic": reader.topic.wire, "caller": reader.caller}, True


def _frame(*statuses: tuple[str, str]) -> _Told:
    told = [{"ev": "status", "status": status, "message": message} for status, message in statuses]
    return Kind.FRAME_IN, json.dumps(told).encode(), True
