"""The texts that go to WebSocket clients, as the vendor writes them, and the frames they travel in. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from massive_lab.decode.stream import Event

__all__ = ["MAX_FRAME", "array", "batches", "encode_event", "status", "text_frame"]

MAX_FRAME = 512 * 1024
"""Bytes of a frame that is put together here; clients of the vendor read at most 1,000,000."""

_OURS = {"src": "stream", "ns": 0, "e": 0}
"""What says nothing: the stream brought it, nothing below the millisecond, a bar whose end was not stated."""

_encoder = msgspec.json.Encoder()


def text_frame(payload: bytes) -> bytes:
    r"""An unmasked, final text frame of a server (RFC 6455, 5.2).

    Examples
    --------
    >>> text_frame(b"[]"), text_frame(b"x" * 200)[:4].hex(), text_frame(b"x" * 70_000)[:10].hex()
    (b'\x81\x02[]', '817e00c8', '817f0000000000011170')
    """
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


def array(items: Sequence[bytes]) -> bytes:
    """A JSON array of items that are JSON already.

    Examples
    --------
    >>> array([b'{"ev":"T"}', b'{"ev":"Q"}'])
    b'[{"ev":"T"},{"ev":"Q"}]'
    """
    return b"[" + b",".join(items) + b"]"


def batches(items: Iterable[bytes], max_bytes: int = MAX_FRAME) -> Iterator[bytes]:
    """Arrays of at most `max_bytes` each (more only where one item alone is larger), in order."""
    batch: list[bytes] = []
    size = 1
    for item in items:
        if batch and size + len(item) + 1 > max_bytes:
            yield array(batch)
            batch, size = [], 1
        batch.append(item)
        size += len(item) + 1
    if batch:
        yield array(batch)


def status(name: str, message: str, **fields: Any) -> bytes:
    """A control message. The official clients fail on one without a message.

    Examples
    --------
    >>> status("auth_success", "authenticated")
    b'{"ev":"status","status":"auth_success","message":"authenticated"}'
    """
    return _encoder.encode({"ev": "status", "status": name, "message": message, **fields})


def encode_event(event: Event) -> bytes:
    """An event that did not come in a frame of the vendor's, or whose frame was damaged, by the wire's names.

    What REST brought is marked by ``src`` (``poll`` or ``backfill``), and has ``ns``, nanoseconds below the millisecond of
    ``t``, where it knows them: fields that the official clients do not look at. Of the wire's fields those are lost that
    `massive_lab.decode.stream_events` does not know.

    Examples
    --------
    >>> from massive_lab.decode.stream import Trade
    >>> encode_event(Trade("AAPL", 1_750_000_000_000, 5.0, 100.0, source="poll"))
    b'{"ev":"T","sym":"AAPL","t":1750000000000,"p":5,"s":100,"src":"poll"}'
    """
    fields = {
        name: _short(value)
        for name, value in msgspec.to_builtins(event).items()
        if value is not None and not name.startswith("-")
    }
    for name, default in _OURS.items():
        if fields.get(name) == default:
            del fields[name]
    return _encoder.encode(fields)


def _short(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
