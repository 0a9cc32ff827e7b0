"""Faults on bytes: toxiproxy's vocabulary as pure stages.

A stage is fed ``(due, bytes)`` and yields the same later, cut differently, or not at all, and signals to end the
connection. It never sleeps: ``due`` is the loop time at which the bytes may pass, and `massive_lab.sandbox.link` keeps
the appointments. So each toxic can be tested with numbers alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from massive_lab.sandbox.faults.book import Kind, register

__all__ = ["Down", "End", "Item", "Stage", "Toxic"]


class End(Enum):
    """How a stage ends the connection."""

    CLOSE = "close"
    """Flush, then FIN."""
    RESET = "reset"
    """RST."""


Item = tuple[float, bytes | End]


class Stage:
    """One fault on one direction of one connection; the base passes everything on."""

    lost = False
    """Bytes were dropped: the stream cannot be mended by removing the fault."""
    ends = False
    """It outlives the answer that brought it, because it acts when the connection closes."""

    def start(self, _now: float) -> Iterator[Item]:
        """What happens without any bytes."""
        yield from ()

    def feed(self, due: float, data: bytes) -> Iterator[Item]:
        yield due, data

    def closing(self, due: float) -> float:
        """When a close asked for at `due` may happen."""
        return due


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxic(Kind):
    """A kind that makes stages."""

    def stage(self, rng: random.Random) -> Stage:
        """A fresh stage; its random numbers come from `rng`."""
        raise NotImplementedError


@register("latency", "bytes", "down", "up")
@dataclass(frozen=True, slots=True, kw_only=True)
class Latency(Toxic):
    """Every chunk arrives ``latency_ms`` later, give or take up to ``jitter_ms``; the order is kept."""

    latency_ms: float = 100.0
    jitter_ms: float = 0.0

    def stage(self, rng: random.Random) -> Stage:
        return _LatencyStage(self, rng)


class _LatencyStage(Stage):
    def __init__(self, kind: Latency, rng: random.Random) -> None:
        self._kind = kind
        self._rng = rng

    def feed(self, due: float, data: bytes) -> Iterator[Item]:
        jitter = self._rng.uniform(-1, 1) * self._kind.jitter_ms
        yield due + max(0.0, self._kind.latency_ms + jitter) / 1e3, data


@register("bandwidth", "bytes", "down", "up")
@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth(Toxic):
    """At most ``rate_bytes_s`` pass per second."""

    rate_bytes_s: float = 100_000.0

    def check(self) -> str | None:
        return None if self.rate_bytes_s >= 1 else "rate_bytes_s is at least 1"

    def stage(self, rng: random.Random) -> Stage:  # noqa: ARG002  the signature of every toxic
        return _BandwidthStage(self.rate_bytes_s)


class _BandwidthStage(Stage):
    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._piece = max(1, int(rate / 50))
        self._free_at = 0.0

    def feed(self, due: float, data: bytes) -> Iterator[Item]:
        self._free_at = max(self._free_at, due)
        for at in range(0, len(data), self._piece):
            piece = data[at : at + self._piece]
            self._free_at += len(piece) / self._rate
            yield self._free_at, piece


@register("slicer", "bytes", "down", "up")
@dataclass(frozen=True, slots=True, kw_only=True)
class Slicer(Toxic):
    """Bytes pass in pieces of ``size_bytes`` (give or take ``variation_bytes``), ``delay_ms`` apart."""

    size_bytes: int = 64
    variation_bytes: int = 0
    delay_ms: float = 0.0

    def check(self) -> str | None:
        return None if 0 <= self.variation_bytes < self.size_bytes else "0 <= variation_bytes < size_bytes"

    def stage(self, rng: random.Random) -> Stage:
        return _SlicerStage(self, rng)


class _SlicerStage(Stage):
    def __init__(self, kind: Slicer, rng: random.Random) -> None:
        self._kind = kind
        self._rng = rng
        self._next_at = 0.0

    def feed(self, due: float, data: bytes) -> Iterator[Item]:
        kind, at = self._kind, 0
        self._next_at = max(self._next_at, due)
        while at < len(data):
            size = kind.size_bytes + self._rng.randint(-kind.variation_bytes, kind.variation_bytes)
            yield self._next_at, data[at : at + size]
            at += size
            self._next_at += kind.delay_ms / 1e3


@register("limit_data", "bytes", "down", "up")
@dataclass(frozen=True, slots=True, kw_only=True)
class LimitData(Toxic):
    """After ``limit_bytes`` (heads included) the connection is closed."""

    limit_bytes: int = 1_000

    def stage(self, rng: random.Random) -> Stage:  # noqa: ARG002
        return _LimitStage(self.limit_bytes)


class _LimitStage(Stage):
    def __init__(self, limit: int) -> None:
        self._left = limit

    def feed(self, due: float, data: bytes) -> Iterator[Item]:
        if self.lost:
            return
        if data[: self._left]:
            yield due, data[: self._left]
        if len(data) > self._left:
            self.lost = True
            yield due, End.CLOSE
        self._left -= len(data)


@register("timeout", "bytes", "down", "up")
@dataclass(frozen=True, slots=True, kw_only=True)
class BlackHole(Toxic):
    """Nothing passes; after ``timeout_ms`` the connection is closed, with 0 never."""

    timeout_ms: float = 0.0

    def stage(self, rng: random.Random) -> Stage:  # noqa: ARG002
        return _SwallowStage(self.timeout_ms, End.CLOSE if self.timeout_ms else None)


@register("reset_peer", "bytes", "down", "up")
@dataclass(frozen=True, slots=True, kw_only=True)
class ResetPeer(Toxic):
    """Nothing passes; after ``timeout_ms`` the connection is reset (RST)."""

    timeout_ms: float = 0.0

    def stage(self, rng: random.Random) -> Stage:  # noqa: ARG002
        return _SwallowStage(self.timeout_ms, End.RESET)


class _SwallowStage(Stage):
    def __init__(self, timeout_ms: float, end: End | None) -> None:
        self._timeout_s = timeout_ms / 1e3
        self._end = end

    def start(self, now: float) -> Iterator[Item]:
        if self._end is not None:
            yield now + self._timeout_s, self._end

    def feed(self, due: float, data: bytes) -> Iterator[Item]:  # noqa: ARG002
        self.lost = True
        yield from ()


@register("slow_close", "bytes", "down")
@dataclass(frozen=True, slots=True, kw_only=True)
class SlowClose(Toxic):
    """The connection is closed ``delay_ms`` later than it would be; a REST answer under it closes its connection."""

    delay_ms: float = 1_000.0

    def stage(self, rng: random.Random) -> Stage:  # noqa: ARG002
        return _SlowCloseStage(self.delay_ms)


class _SlowCloseStage(Stage):
    ends = True

    def __init__(self, delay_ms: float) -> None:
        self._delay_s = delay_ms / 1e3

    def closing(self, due: float) -> float:
        return due + self._delay_s


@register("down", "bytes")
@dataclass(frozen=True, slots=True, kw_only=True)
class Down(Kind):
    """Connections are refused.

    With scope ``*``, always and without a count, the ports stop listening and open connections are reset: a connect is
    refused. Otherwise a connection is reset as soon as it is known to be in scope.
    """
