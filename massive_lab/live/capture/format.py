"""The container of a capture: records in compressed blocks, each block chained to the one before by SHA-256. No I/O.

::

    file    = prefix, header block, data block ..., footer block
    prefix  = magic (8 bytes), version (u16), zeros (6 bytes)
    block   = kind (1 byte: H, D or F), records (u32), stored bytes (u32), plain bytes (u32), CRC-32 of these 13 bytes,
              SHA-256 of (the hash before + these 17 bytes + the stored bytes), stored bytes
    record  = bytes that follow (u32), kind (u8), cluster (u8), flags (u8), 0 (u8), monotonic ns (i64), UTC ns (i64), payload

All numbers are little-endian. The first block is chained to the SHA-256 of the prefix. Stored bytes are a zlib stream.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from isal import isal_zlib

from massive_lab.errors import CaptureDamaged
from massive_lab.typing import Cluster

__all__ = [
    "CLUSTERS",
    "HEAD_BYTES",
    "MAX_PLAIN_BYTES",
    "PREFIX",
    "SYNTHESIZED",
    "VERSION",
    "BlockHead",
    "Kind",
    "Record",
    "pack_block",
    "pack_record",
    "prefix_hash",
    "read_head",
    "read_prefix",
    "unpack_block",
    "unpack_records",
]

VERSION = 1
_MAGIC = b"\x89MLCAP\r\n"
PREFIX = struct.pack("<8sH6x", _MAGIC, VERSION)
_HEAD = struct.Struct("<1sIII")
_CRC = struct.Struct("<I")
_HASH_BYTES = 32
HEAD_BYTES = _HEAD.size + _CRC.size + _HASH_BYTES
_LENGTH = struct.Struct("<I")
_RECORD = struct.Struct("<BBBBqq")
MAX_PLAIN_BYTES = 1 << 30
"""A block never inflates to more."""
_LEVEL = 1
SYNTHESIZED = 1
"""Flag of a record that states where a session stood when recording began, instead of something that came."""
CLUSTERS: tuple[Cluster | None, ...] = (None, "stocks", "options", "indices")


class Kind(IntEnum):
    """What a record tells. The payload is JSON unless said otherwise."""

    HUB = 1
    """A hub is there: its policy, and whether REST can stand in and fill gaps."""
    HUB_CLOSED = 2
    READER_OPENED = 3
    READER_CLOSED = 4
    SOCKET_OPENED = 5
    FRAME_IN = 6
    """The frame itself, as bytes."""
    FRAME_OUT = 7
    """A control message: action and topics; of ``auth`` the action alone."""
    ONLINE = 8
    OFFLINE = 9
    """The error that ended a connection, or an attempt at one."""
    READING = 10
    """The clock was read for something that is kept: by which task."""
    DRAW = 11
    """A number of the jitter."""
    MARKET = 12
    """Whether silence meant something."""
    ASKED = 13
    """A REST request: number, target, cause."""
    ANSWERED = 14
    """Its answer: length of the JSON (u32), JSON with number, status and headers, and the body as bytes."""
    FAILED = 15
    """It failed: number and error."""
    ABANDONED = 16
    """Nobody waited for it any more: number."""
    HOLE = 17
    """The disk was too slow: records and bytes that are missing here."""


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that happened."""

    kind: Kind
    cluster: Cluster | None
    mono_ns: int
    """The monotonic clock; its origin has no meaning."""
    utc_ns: int
    payload: bytes
    synthesized: bool = False


@dataclass(frozen=True, slots=True)
class BlockHead:
    """What stands before the stored bytes of a block."""

    kind: bytes
    n_records: int
    n_stored: int
    n_plain: int
    packed: bytes
    digest: bytes


def prefix_hash() -> bytes:
    """What the first block is chained to."""
    return hashlib.sha256(PREFIX).digest()


def pack_record(record: Record) -> bytes:
    """One record as bytes, its length first."""
    fixed = _RECORD.pack(
        record.kind, CLUSTERS.index(record.cluster), SYNTHESIZED if record.synthesized else 0, 0,
        record.mono_ns, record.utc_ns,
    )  # fmt: skip
    return _LENGTH.pack(len(fixed) + len(record.payload)) + fixed + record.payload


def pack_block(kind: bytes, n_records: int, plain: bytes, before: bytes) -> tuple[bytes, bytes]:
    """A block as bytes, and its hash.

    Examples
    --------
    >>> block, digest = pack_block(b"D", 0, b"", prefix_hash())
    >>> head = read_head(block[:HEAD_BYTES], 0, 0)
    >>> head.digest == digest, unpack_block(head, block[HEAD_BYTES:], prefix_hash(), 0, 0)
    (True, b'')
    """
    stored: bytes = isal_zlib.compress(plain, _LEVEL)
    fields = _HEAD.pack(kind, n_records, len(stored), len(plain))
    packed = fields + _CRC.pack(zlib.crc32(fields))
    digest = hashlib.sha256(before + packed + stored).digest()
    return packed + digest + stored, digest


def read_prefix(data: bytes) -> None:
    """Check the first 16 bytes.

    Raises
    ------
    CaptureDamaged
        When they are not those of a capture of this version.
    """
    if data == PREFIX:
        return
    if len(data) < len(PREFIX) and PREFIX.startswith(data):
        raise CaptureDamaged("The file ends within its first 16 bytes.", block=0, offset=len(data), what="prefix")
    if data[:8] != _MAGIC:
        offset = next((i for i, (a, b) in enumerate(zip(data, _MAGIC, strict=False)) if a != b), len(data))
        raise CaptureDamaged("This is not a capture, or its first bytes are damaged.", block=0, offset=offset, what="magic")
    offset = next(i for i, (a, b) in enumerate(zip(data, PREFIX, strict=False)) if a != b)
    version = int.from_bytes(data[8:10], "little")
    raise CaptureDamaged(
        f"The capture says version {version}; this library reads version {VERSION}.", block=0, offset=offset,
        what="version" if offset < 10 else "prefix",
    )  # fmt: skip


def read_head(data: bytes, number: int, offset: int) -> BlockHead:
    """The head of block `number`, which begins at `offset`.

    Raises
    ------
    CaptureDamaged
        When its own check sum does not agree, so that its lengths cannot be trusted.
    """
    fields, rest = data[: _HEAD.size], data[_HEAD.size :]
    (crc,) = _CRC.unpack_from(rest)
    kind, n_records, n_stored, n_plain = _HEAD.unpack(fields)
    if zlib.crc32(fields) != crc or kind not in (b"H", b"D", b"F") or n_plain > MAX_PLAIN_BYTES:
        raise CaptureDamaged(
            f"Block {number} at byte {offset}: its head does not agree with its check sum.",
            block=number, offset=offset, what="head",
        )  # fmt: skip
    return BlockHead(kind, n_records, n_stored, n_plain, fields + rest[: _CRC.size], rest[_CRC.size :])


def unpack_block(head: BlockHead, stored: bytes, before: bytes, number: int, offset: int) -> bytes:
    """The plain bytes of a block, once its hash and its lengths agree.

    Raises
    ------
    CaptureDamaged
        Naming the block, the byte at which it begins, and what failed: ``hash``, or ``inflate`` for a block that was
        written so.
    """
    if hashlib.sha256(before + head.packed + stored).digest() != head.digest:
        raise CaptureDamaged(
            f"Block {number} at byte {offset}: its SHA-256 does not agree with its {len(stored)} bytes and the block before.",
            block=number, offset=offset, what="hash",
        )  # fmt: skip
    inflater = isal_zlib.decompressobj()
    try:
        plain: bytes = inflater.decompress(stored, head.n_plain + 1)
    except isal_zlib.IsalError:  # type: ignore[misc]  # the stub calls the class a value
        plain = b""
    if len(plain) != head.n_plain or not inflater.eof or inflater.unused_data:
        raise CaptureDamaged(
            f"Block {number} at byte {offset}: it does not inflate to {head.n_plain} bytes.",
            block=number, offset=offset, what="inflate",
        )  # fmt: skip
    return plain


def unpack_records(plain: bytes, n_records: int, number: int, offset: int) -> Iterator[Record]:
    """The records of an intact data block.

    Raises
    ------
    CaptureDamaged
        When they do not add up: a block that no writer of this version wrote.
    """
    at = 0
    n_seen = 0
    while at < len(plain):
        try:
            (length,) = _LENGTH.unpack_from(plain, at)
            kind, cluster, flags, zero, mono_ns, utc_ns = _RECORD.unpack_from(plain, at + _LENGTH.size)
            body_at, end = at + _LENGTH.size + _RECORD.size, at + _LENGTH.size + length
            if length < _RECORD.size or end > len(plain) or zero or flags not in (0, SYNTHESIZED):
                raise ValueError(kind)
            record = Record(Kind(kind), CLUSTERS[cluster], mono_ns, utc_ns, plain[body_at:end], flags == SYNTHESIZED)
        except (struct.error, ValueError, IndexError):
            raise _not_records(number, offset, n_seen) from None
        yield record
        at = end
        n_seen += 1
    if n_seen != n_records:
        raise _not_records(number, offset, n_seen)


def _not_records(number: int, offset: int, n_seen: int) -> CaptureDamaged:
    return CaptureDamaged(
        f"Block {number} at byte {offset}: what follows its record {n_seen} is no record of this version.",
        block=number, offset=offset, what="record",
    )  # fmt: skip
