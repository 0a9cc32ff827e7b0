"""Writing a capture: a bounded queue on the loop's side, a thread on the disk's side.

Handing over a record never waits. When the disk cannot keep up and the queue is full, records are left out, and how many
is written where they would have stood.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections import deque
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from massive_lab.clock import SystemClock
from massive_lab.errors import CaptureError, InvalidRequest
from massive_lab.live.capture.format import PREFIX, Kind, Record, pack_block, pack_record, prefix_hash
from massive_lab.live.capture.reader import Summary, verify

__all__ = ["BLOCK_BYTES", "BLOCK_S", "Opener", "Writer"]

_log = logging.getLogger("massive_lab.capture")
BLOCK_BYTES = 256 * 1024
"""A block is written once it holds this much,"""
BLOCK_S = 1.0
"""or once its first record is this old: what a crash can cost."""
_QUEUE_BYTES = 64 * 1024 * 1024
# The others are few and small, and without them nothing that follows could be understood.
_HEAVY = frozenset({Kind.FRAME_IN, Kind.READING, Kind.ANSWERED})


class Opener(Protocol):
    """Makes the file anew; raises an `OSError` when it cannot."""

    def __call__(self, path: Path, /) -> BinaryIO: ...


def _new_file(path: Path) -> BinaryIO:
    # Unbuffered: what was written is with the operating system, whatever becomes of this process.
    return path.open("xb", buffering=0)


class Writer:
    """One capture being written, as ``<path>.part`` until it is complete.

    Parameters
    ----------
    path : Path
    header : dict
        Goes into the first block, as JSON.
    queue_bytes : int
        What may wait for the disk.
    opener : callable, optional
        Makes the file.

    Raises
    ------
    InvalidRequest
        When `path` or its ``.part`` exists. Nothing is written.
    CaptureError
        When the file cannot be made.

    Attributes
    ----------
    error : CaptureError or None
        Why writing has stopped.
    n_lost : int
        Records that the disk was too slow for.
    """

    def __init__(
        self, path: Path, header: dict[str, Any], *, queue_bytes: int = _QUEUE_BYTES, opener: Opener = _new_file
    ) -> None:
        self.path = path
        self.part = path.with_name(f"{path.name}.part")
        for each in (self.path, self.part):
            if each.exists():
                raise InvalidRequest(f"{each.name} exists already.", hint="Choose another name, or move it away.")
        self.error: CaptureError | None = None
        self.n_lost = 0
        self._queue_bytes = queue_bytes
        self._queue: deque[bytes] = deque()
        self._n_waiting = 0
        self._hole: tuple[Record, int, int] | None = None
        self._is_ending = False
        self._changed = threading.Condition()
        self._clock = SystemClock()
        self._digest = prefix_hash()
        self._n_blocks = 0
        self._n_plain = 0
        try:
            self._file = opener(self.part)
        except OSError as error:
            raise self._failure(error) from error
        try:
            self._file.write(PREFIX)
            self._write_block(b"H", 0, _to_json(header))
        except OSError as error:
            self._file.close()
            with contextlib.suppress(OSError):
                self.part.unlink()
            raise self._failure(error) from error
        self._thread = threading.Thread(target=self._run, name="massive_lab-capture", daemon=True)
        self._thread.start()

    # ---- the loop's side

    def put(self, record: Record) -> None:
        """Hand a record over. Never waits, never raises."""
        packed = pack_record(record)
        with self._changed:
            if self.error is not None or self._is_ending:
                return
            if self._n_waiting + len(packed) > self._queue_bytes and record.kind in _HEAVY:
                first, n, n_bytes = self._hole or (record, 0, 0)
                if not n:
                    _log.warning("the disk is too slow for the capture %s: records are left out", self.path.name)
                self._hole = first, n + 1, n_bytes + len(packed)
                self.n_lost += 1
                return
            was_empty = not self._queue
            if self._hole is not None:
                hole = pack_record(_hole(*self._hole))
                self._hole = None
                self._queue.append(hole)
                self._n_waiting += len(hole)
            self._queue.append(packed)
            self._n_waiting += len(packed)
            if self._n_waiting >= BLOCK_BYTES or was_empty:
                self._changed.notify()

    def finish(self) -> Summary:
        """Write what waits and the last block, verify the file and give it its name. To be called once.

        Raises
        ------
        CaptureError
            When the disk failed, now or before; the ``.part`` file is readable up to there.
        """
        with self._changed:
            self._is_ending = True
            self._changed.notify()
        self._thread.join()
        if self.error is not None:
            raise self.error
        summary = verify(self.part)
        try:
            if self.path.exists():
                raise CaptureError(
                    f"{self.path.name} has come into being meanwhile.", hint=f"The capture is whole, in {self.part.name}."
                )
            self.part.rename(self.path)
        except OSError as error:
            raise self._failure(error) from error
        return summary

    # ---- the disk's side

    def _run(self) -> None:
        try:
            self._drain()
        except OSError as error:
            with self._changed:
                self.error = self._failure(error)
                self._queue.clear()
            _log.error("the capture %s has stopped: %s", self.path.name, self.error.message)
        finally:
            with contextlib.suppress(OSError):
                self._file.close()

    def _drain(self) -> None:
        while True:
            batch, is_last = self._collect()
            for block in _blocks(batch):
                self._write_block(b"D", len(block), b"".join(block))
            if is_last:
                footer = {"blocks": self._n_blocks, "plain_bytes": self._n_plain}
                self._write_block(b"F", 0, _to_json(footer))
                os.fsync(self._file.fileno())
                return

    def _collect(self) -> tuple[list[bytes], bool]:
        """Wait until there is a block's worth, or a second has passed since there was anything."""
        with self._changed:
            while not self._queue and not self._is_ending:
                self._changed.wait()
            due = self._clock.monotonic() + BLOCK_S
            while not self._is_ending and self._n_waiting < BLOCK_BYTES and (left := due - self._clock.monotonic()) > 0:
                self._changed.wait(left)
            if self._is_ending and self._hole is not None:
                self._queue.append(pack_record(_hole(*self._hole)))
                self._hole = None
            batch = list(self._queue)
            self._queue.clear()
            self._n_waiting = 0
            return batch, self._is_ending

    def _write_block(self, kind: bytes, n_records: int, plain: bytes) -> None:
        block, self._digest = pack_block(kind, n_records, plain, self._digest)
        view = memoryview(block)
        while view:
            # An unbuffered file may take less than it was given.
            view = view[self._file.write(view) :]
        self._n_blocks += 1
        self._n_plain += len(plain)

    def _failure(self, error: OSError) -> CaptureError:
        reason = error.strerror or type(error).__name__
        return CaptureError(
            f"The capture {self.path.name} cannot be written: {reason}.",
            hint="Check the folder, its permissions and the room on the disk.",
        )


def _blocks(batch: list[bytes]) -> list[list[bytes]]:
    """Records in blocks of about `BLOCK_BYTES`; a larger record has a block of its own."""
    blocks: list[list[bytes]] = []
    size = BLOCK_BYTES
    for packed in batch:
        if size + len(packed) > BLOCK_BYTES:
            blocks.append([])
            size = 0
        blocks[-1].append(packed)
        size += len(packed)
    return [block for block in blocks if block]


def _hole(first: Record, n_records: int, n_bytes: int) -> Record:
    return Record(Kind.HOLE, None, first.mono_ns, first.utc_ns, _to_json({"records": n_records, "bytes": n_bytes}))


def _to_json(told: dict[str, Any]) -> bytes:
    return json.dumps(told, separators=(",", ":"), sort_keys=True).encode()
