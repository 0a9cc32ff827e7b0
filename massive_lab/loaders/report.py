"""What the loads of a client have cost: requests, pages, bytes, cache hits, retries, 429s, seconds."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from massive_lab.telemetry import CacheHit, Event, LoadDone, RequestCoalesced, RequestDone, RetryScheduled

if TYPE_CHECKING:
    import polars as pl

__all__ = ["LoadLedger", "LoadReport"]


@dataclass(frozen=True, slots=True)
class LoadReport:
    """Sums since the client was opened.

    Attributes
    ----------
    requests : int
        REST attempts whose request was sent, retries included.
    pages : int
        Whole answers that loads consumed.
    bytes : int
        Body bytes on the wire, before inflating.
    cache_hits, coalesced : int
        Requests that were answered without sending anything: from the cache, or by an identical one in flight.
    retries, rate_limited : int
        Attempts repeated; answers with status 429.
    failed : int
        Attempts that ended in anything but a success, those that could not be sent included.
    seconds : float
        Time inside loader calls; concurrent calls add up.
    by_endpoint : tuple of (endpoint, requests, bytes)
    """

    requests: int
    pages: int
    bytes: int
    cache_hits: int
    coalesced: int
    retries: int
    rate_limited: int
    failed: int
    seconds: float
    by_endpoint: tuple[tuple[str, int, int], ...] = field(default=())

    def frame(self) -> pl.DataFrame:
        """One row per endpoint: ``endpoint requests bytes``."""
        import polars as pl

        schema = {"endpoint": pl.String, "requests": pl.Int64, "bytes": pl.Int64}
        return pl.DataFrame([list(row) for row in self.by_endpoint], schema=schema, orient="row")

    def _items(self) -> list[tuple[str, str]]:
        counts = ("requests", "pages", "bytes", "cache_hits", "coalesced", "retries", "rate_limited", "failed")
        rows = [(name.replace("_", " "), f"{getattr(self, name):,}") for name in counts]
        return [*rows, ("seconds", f"{self.seconds:.2f}")]

    def __str__(self) -> str:
        return "load report: " + ", ".join(f"{value} {name}" for name, value in self._items())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in self._items())
        return f"<table><caption>Load report</caption>{rows}</table>"


class LoadLedger:
    """A telemetry hook that keeps the sums."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n: Counter[str] = Counter()
        self._seconds = 0.0
        self._by_endpoint: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    def __call__(self, event: Event, /) -> None:
        with self._lock:
            if isinstance(event, RequestDone):
                self._n["requests"] += event.sent
                self._n["bytes"] += event.n_bytes
                self._n["rate_limited"] += event.status == 429
                self._n["failed"] += event.outcome != "ok"
                row = self._by_endpoint[event.endpoint]
                row[0] += event.sent
                row[1] += event.n_bytes
            elif isinstance(event, RetryScheduled):
                self._n["retries"] += 1
            elif isinstance(event, CacheHit):
                self._n["cache_hits"] += 1
            elif isinstance(event, RequestCoalesced):
                self._n["coalesced"] += 1
            elif isinstance(event, LoadDone):
                self._n["pages"] += event.n_pages
                self._seconds += event.elapsed_s

    def report(self) -> LoadReport:
        with self._lock:
            n = self._n
            rows = tuple((name, row[0], row[1]) for name, row in sorted(self._by_endpoint.items()))
            return LoadReport(
                requests=n["requests"],
                pages=n["pages"],
                bytes=n["bytes"],
                cache_hits=n["cache_hits"],
                coalesced=n["coalesced"],
                retries=n["retries"],
                rate_limited=n["rate_limited"],
                failed=n["failed"],
                seconds=self._seconds,
                by_endpoint=rows,
            )
