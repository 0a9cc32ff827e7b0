"""Reading a capture: block after block, each one checked before anything in it is believed."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from massive_lab.errors import CaptureDamaged, CaptureError
from massive_lab.live.capture.format import (
    HEAD_BYTES,
    PREFIX,
    Kind,
    Record,
    prefix_hash,
    read_head,
    read_prefix,
    unpack_block,
    unpack_records,
)

__all__ = ["Capture", "Summary", "verify"]


@dataclass(slots=True)
class Summary:
    """What a capture holds, once all of it was checked."""

    header: dict[str, Any]
    """As written at the beginning: version, label, seeds."""
    is_complete: bool = False
    """Whether it was ended as it should be. A capture that was cut short by a crash is good up to its last whole block."""
    n_blocks: int = 0
    n_bytes: int = 0
    """Bytes of the file that are good; what follows them in a file that was cut is a block that is not whole."""
    n_plain_bytes: int = 0
    n_records: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    n_lost: int = 0
    """Records that the disk was too slow for; each hole stands in the capture where they would have been."""
    first_ns: int | None = None
    last_ns: int | None = None
    """UTC of the first and the last record."""
    sha256: str = ""
    """Of the chain: the hash of the last block, and with it of all before."""

    @property
    def is_sandbox(self) -> bool:
        """Whether the data are synthetic."""
        return bool(self.header.get("sandbox"))

    @property
    def said(self) -> str:
        """In a line, for whoever says beside it whether the data are synthetic."""
        size = f"{self.n_records:,} records in {self.n_blocks} blocks, {self.n_bytes:,} bytes"
        state = "complete" if self.is_complete else f"cut short after block {self.n_blocks - 1}, good up to there"
        lost = f"; {self.n_lost:,} records are missing: the disk was too slow" if self.n_lost else ""
        return f"{size}: {state}{lost}; sha256 {self.sha256}"

    def __str__(self) -> str:
        return f"{'SANDBOX  ' if self.is_sandbox else ''}{self.said}"


class Capture:
    """A capture on disk. Every iteration reads the file anew and checks it on the way.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    CaptureError
        When there is no such file, or it cannot be read.
    CaptureDamaged
        When its first block is not that of a capture.

    Attributes
    ----------
    header : dict
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.header: dict[str, Any] = {}
        for _ in self._blocks(Summary({}), only_header=True):
            pass

    def __iter__(self) -> Iterator[Record]:
        return self.records()

    def records(self) -> Generator[Record, None, None]:
        """The records in the order in which they were written; those of a block once the whole block is good.

        Its ``close()`` closes the file.
        """
        with closing(self._blocks(Summary(self.header))) as blocks:
            for records in blocks:
                yield from records

    def verify(self, each: Callable[[Record], None] | None = None) -> Summary:
        """Read all of it, and hand over each record on the way.

        Raises
        ------
        CaptureDamaged
            Naming the first block that is wrong, the byte at which it begins, and what failed.
        """
        summary = Summary(self.header)
        kinds: Counter[str] = Counter()
        for records in self._blocks(summary):
            for record in records:
                kinds[record.kind.name.lower()] += 1
                if each is not None:
                    each(record)
                if not record.synthesized:
                    summary.first_ns = summary.first_ns or record.utc_ns
                    summary.last_ns = record.utc_ns
                if record.kind is Kind.HOLE:
                    summary.n_lost += int(json.loads(record.payload)["records"])
        summary.n_records = sum(kinds.values())
        summary.by_kind = dict(sorted(kinds.items()))
        return summary

    def _blocks(self, summary: Summary, *, only_header: bool = False) -> Generator[list[Record], None, None]:
        try:
            with self.path.open("rb") as file:
                yield from self._read(file, summary, only_header=only_header)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise CaptureError(f"{self.path.name} cannot be read: {reason}.", hint="Check the path.") from error

    def _read(self, file: BinaryIO, summary: Summary, *, only_header: bool) -> Iterator[list[Record]]:
        read_prefix(file.read(len(PREFIX)))
        digest = prefix_hash()
        offset = summary.n_bytes = len(PREFIX)
        number = 0
        while True:
            packed = file.read(HEAD_BYTES)
            if len(packed) < HEAD_BYTES:
                break  # cut short
            head = read_head(packed, number, offset)
            stored = file.read(head.n_stored)
            if len(stored) < head.n_stored:
                break  # cut short
            plain = unpack_block(head, stored, digest, number, offset)
            if (head.kind == b"H") != (number == 0):
                raise _out_of_order(number, offset)
            digest = head.digest
            if number == 0:
                self.header = _json(plain, number, offset)
                if only_header:
                    return
            elif head.kind == b"F":
                self._end(file, plain, summary, number, offset)
            else:
                yield list(unpack_records(plain, head.n_records, number, offset))
            offset += HEAD_BYTES + head.n_stored
            number += 1
            summary.n_blocks, summary.n_bytes, summary.sha256 = number, offset, digest.hex()
            summary.n_plain_bytes += len(plain)
            if head.kind == b"F":
                summary.is_complete = True
                return
        if number == 0:
            raise CaptureDamaged(
                "The file ends within its header: nothing was recorded.", block=0, offset=offset, what="head"
            )

    def _end(self, file: BinaryIO, plain: bytes, summary: Summary, number: int, offset: int) -> None:
        told = _json(plain, number, offset)
        if told.get("blocks") != number or told.get("plain_bytes") != summary.n_plain_bytes:
            raise _out_of_order(number, offset)
        at = file.tell()
        if file.read(1):
            raise CaptureDamaged(f"Bytes follow the last block, from byte {at} on.", block=number, offset=at, what="trailer")


def verify(path: str | os.PathLike[str]) -> Summary:
    """Check every byte of a capture; see `Capture.verify`."""
    return Capture(path).verify()


def _json(plain: bytes, number: int, offset: int) -> dict[str, Any]:
    try:
        told = json.loads(plain)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise CaptureDamaged(f"Block {number} at byte {offset} is not JSON.", block=number, offset=offset, what="record")
    return told


def _out_of_order(number: int, offset: int) -> CaptureDamaged:
    return CaptureDamaged(
        f"Block {number} at byte {offset} does not belong there.", block=number, offset=offset, what="order"
    )
