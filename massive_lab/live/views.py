"""The frames that show the live system: their columns, fixed also when they are empty."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from massive_lab.live.readers import Gap
from massive_lab.live.refs import Book
from massive_lab.live.routes import Routes

__all__ = ["GAP_COLUMNS", "STATUS_COLUMNS", "TOPIC_COLUMNS", "gap_frame", "topic_frame"]

_TS = pl.Datetime("ns", "UTC")
TOPIC_COLUMNS = {
    "cluster": pl.String(),
    "topic": pl.String(),
    "readers": pl.Int64(),
    "state": pl.String(),
    "since": _TS,
    "messages": pl.Int64(),
    "bytes": pl.Int64(),
    "last_event": _TS,
    "duplicates_avoided": pl.Int64(),
}
STATUS_COLUMNS = {
    "cluster": pl.String(),
    "state": pl.String(),
    "since": _TS,
    **dict.fromkeys(
        ("topics", "readers", "frames", "events", "bytes", "quarantined", "unknown", "reconnects", "polls", "sent"),
        pl.Int64(),
    ),
    "last_error": pl.String(),
}
GAP_COLUMNS = {"cluster": pl.String(), "topic": pl.String(), "start": _TS, "end": _TS, "cause": pl.String()}


def gap_frame(gaps: Iterable[Gap]) -> pl.DataFrame:
    """One row per gap and topic: ``cluster topic start end cause``; nothing was received in ``(start, end)``, UTC ns."""
    rows = [(gap.cluster, wire, gap.start_ns, gap.end_ns, gap.cause) for gap in gaps for wire in gap.topics]
    return pl.DataFrame(rows, schema=GAP_COLUMNS, orient="row")


def topic_frame(cluster: str, book: Book, routes: Routes) -> pl.DataFrame:
    """One row per wanted topic, in the order they were asked for.

    Returns
    -------
    polars.DataFrame
        ``cluster topic readers state since messages bytes last_event duplicates_avoided``. ``since`` and ``last_event`` are
        UTC ns; ``last_event`` is the event's own time, null before the first; ``bytes`` is the topic's share of its
        frames; ``duplicates_avoided`` counts openings that needed nothing from the server.
    """
    rows = []
    for topic in book.wanted:
        tally = routes.tally(topic)
        assert tally is not None, "the hub opens and closes both together"
        last = tally.last.ts_event if tally.last else None
        rows.append((
            cluster, topic.wire, len(book.readers(topic)), book.state(topic), tally.since_ns,
            tally.n_messages, round(tally.n_bytes), last, book.avoided(topic),
        ))  # fmt: skip
    return pl.DataFrame(rows, schema=TOPIC_COLUMNS, orient="row")
