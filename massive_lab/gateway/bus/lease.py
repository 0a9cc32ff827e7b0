"""Who may hold the upstream of a key and cluster: a lease in a store that compares and sets, as a machine without I/O.

::

    watching --the record is absent, given back, or unchanged for a lease--> write --done--> leading --renewal--> leading
       ^                                                                       |conflict        |
       +-----------------------------------------------------------------------+----------------+  expired, overtaken, given up

- The revision of the write that took the lease is the epoch: no two terms share one, and a later term has a larger one.
- A leader counts its lease from before it asked for the renewal, everybody else from after they saw it. So with clocks whose
  rates differ by less than `skew`, nobody leads before the last leader has stopped; instants of two clocks are never compared.
- Where clocks are worse than that, the epoch fences: see `massive_lab.gateway.bus.fence`.
- A write without an answer may have been done. It is looked up before anything else is tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import msgspec
from msgspec import Struct

__all__ = ["Action", "Lease", "Read", "Record", "Term", "Wait", "Write", "decode_record", "encode_record"]

_MOST_S = 3_600.0


class Record(Struct, frozen=True):
    """What the store holds."""

    holder: str
    """Who leads; empty when the lease was given back."""
    term: int = 0
    """Counts the terms of one holder."""
    lease_s: float = 0.0
    rest_s: float = 0.0
    """After a return: how long nobody may take it."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """Ask the store for the record; answer by `Lease.seen`."""


@dataclass(frozen=True, slots=True)
class Write:
    """Write if the last revision is still `last` (0: no record); answer by `wrote`, `refused` or `failed`."""

    record: Record
    last: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing before `until` (monotonic seconds; None: until something changes)."""

    until: float | None


Action: TypeAlias = Read | Write | Wait


@dataclass(slots=True)
class Term:
    """A time of leadership."""

    epoch: int
    number: int
    revision: int
    until: float
    renew_at: float
    is_doubtful: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode


def encode_record(record: Record) -> bytes:
    return _encode(record)


def decode_record(data: bytes, lease_s: float) -> Record:
    """Read a record. One that cannot be read counts as somebody's, and is left alone for a lease.

    Examples
    --------
    >>> decode_record(encode_record(Record("one", 1, 3.0)), 3.0).holder, decode_record(b"nonsense", 3.0).holder
    ('one', '?')
    """
    try:
        record = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Record("?", 0, lease_s, why="a record that cannot be read")
    if not (0 <= record.lease_s <= _MOST_S and 0 <= record.rest_s <= _MOST_S):
        return Record("?", 0, lease_s, why="a record with a lease out of bounds")
    return record


class Lease:
    """One who would lead. Times are monotonic seconds of its own clock, given by the caller.

    Parameters
    ----------
    me : str
        A name that no other has, nor an earlier life of the same process.
    lease_s : float
    skew : float
        The largest difference in rate between two clocks, as a fraction.

    Attributes
    ----------
    term : Term or None
    wants : bool
        Whether to take the lease when it is free.

    Examples
    --------
    >>> lease = Lease("one", 3.0)
    >>> lease.wants = True
    >>> lease.next(0.0); lease.seen(None, 0, 0.1); lease.next(0.1)
    Read()
    Write(record=Record(holder='one', term=1, lease_s=3.0, rest_s=0.0, why=''), last=0)
    >>> lease.wrote(41, asked_at=0.1); lease.term.epoch, lease.is_leader(3.0), lease.is_leader(3.1)
    (41, True, False)
    """

    def __init__(self, me: str, lease_s: float, skew: float = 0.1) -> None:
        self._me = me
        self._lease_s = lease_s
        self._skew = skew
        self._n_terms = 0
        self._read_at = 0.0
        self._paused_until = 0.0
        self._seen: tuple[Record | None, int, float] | None = None
        self.term: Term | None = None
        self.wants = False

    def is_leader(self, now: float) -> bool:
        """Whether to speak as the leader at this instant."""
        return self.term is not None and now < self.term.until

    @property
    def record(self) -> Record | None:
        """What the store held when it was last seen."""
        return self._seen[0] if self._seen else None

    def next(self, now: float) -> Action:
        """What to do now."""
        term = self.term
        if term is not None:
            if now >= term.until:
                self.term = None
            elif term.is_doubtful and now >= self._read_at:
                return Read()
            elif now >= term.renew_at and not term.is_doubtful:
                return Write(Record(self._me, term.number, self._lease_s), term.revision)
            else:
                return Wait(min(term.until, self._read_at if term.is_doubtful else term.renew_at))
        if not self.wants:
            return Wait(None)
        if now < self._paused_until:
            return Wait(self._paused_until)
        if self._seen is None or now >= self._read_at:
            return Read() if now >= self._read_at else Wait(self._read_at)
        if now >= (free_at := self._free_at()):
            self._n_terms += 1
            return Write(Record(self._me, self._n_terms, self._lease_s), self._seen[1])
        return Wait(min(free_at, self._read_at))

    def _free_at(self) -> float:
        assert self._seen is not None
        record, _, at = self._seen
        # What bears our name and is no term of ours is a write that we gave up on.
        if record is None or record.holder == self._me:
            return at
        return at + (record.lease_s * (1 + self._skew) if record.holder else record.rest_s)

    def seen(self, record: Record | None, revision: int, now: float) -> None:
        """The store answered a `Read`: None and 0 when it has no record."""
        self._read_at = now + self._lease_s / 4
        if (term := self.term) is not None:
            if record is None or (record.holder, record.term) != (self._me, term.number):
                self.term = None
            else:
                # Whether or not a doubtful renewal was done: what counts is when one was last known to be.
                term.revision, term.is_doubtful = revision, False
        if self._seen is None or self._seen[1] != revision:
            self._seen = record, revision, now

    def wrote(self, revision: int, asked_at: float) -> None:
        """A `Write` was done; `asked_at` is from before it was sent."""
        until, renew_at = asked_at + self._lease_s, asked_at + self._lease_s / 3
        if self.term is None:
            self.term = Term(revision, self._n_terms, revision, until, renew_at)
        else:
            self.term.revision, self.term.until, self.term.renew_at = revision, until, renew_at
        self._seen = None
        self._read_at = 0.0

    def refused(self, now: float) -> None:
        """A `Write` was not done: the revision was another. Whoever led does no more."""
        self.term = None
        self._seen = None
        self._read_at = now

    def failed(self, now: float) -> None:
        """The store did not answer: nobody knows what was done."""
        self._read_at = now + self._lease_s / 12
        self._seen = None
        if self.term is not None:
            self.term.is_doubtful = True

    def pause(self, until: float) -> None:
        """Leave it to others up to a time."""
        self._paused_until = until

    def hint(self, at: float) -> None:
        """The record is about to change: read it at this time, if no sooner."""
        self._read_at = min(self._read_at, at)

    def release(self, rest_s: float = 0.0, why: str = "") -> Write | None:
        """Lead no more from here on; gives back what tells the others, if there is anything to tell."""
        term, self.term = self.term, None
        self._seen = None
        self._read_at = 0.0
        if term is None:
            return None
        return Write(Record("", term.number, 0.0, min(rest_s, _MOST_S), why[:200]), term.revision)
