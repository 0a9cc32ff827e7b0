"""The frames that show the live system: their columns, fixed also when they are empty."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import polars as pl

from massive_lab.live.duplicates import Warned
from massive_lab.live.refs import Book
from massive_lab.live.routes import Routes
from massive_lab.live.stitch.span import Span
from massive_lab.live.topics import Topic
from massive_lab.live.watch import Outage

if TYPE_CHECKING:
    from massive_lab.live.hub import Hub

__all__ = [
    "GAP_COLUMNS",
    "OUTAGE_COLUMNS",
    "STATUS_COLUMNS",
    "TOPIC_COLUMNS",
    "WARNING_COLUMNS",
    "gap_frame",
    "outage_frame",
    "status_row",
    "topic_frame",
    "warning_frame",
]

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
    "callers": pl.List(pl.String()),
}
STATUS_COLUMNS = {
    "cluster": pl.String(),
    "state": pl.String(),
    "since": _TS,
    **dict.fromkeys(
        ("topics", "readers", "frames", "events", "bytes", "quarantined", "unknown", "reconnects", "polls", "sent"),
        pl.Int64(),
    ),
    "serving": pl.String(),
    "poll_interval_s": pl.Float64(),
    "poll_symbols": pl.Int64(),
    "poll_note": pl.String(),
    "last_error": pl.String(),
    "last_cause": pl.String(),
    "down_since": _TS,
    "outage_total_s": pl.Float64(),
    "warnings": pl.Int64(),
}
OUTAGE_COLUMNS = {
    "cluster": pl.String(),
    "start": _TS,
    "end": _TS,
    "seconds": pl.Float64(),
    "cause": pl.String(),
    "attempts": pl.Int64(),
}
WARNING_COLUMNS = {
    "since": _TS,
    "cluster": pl.String(),
    "topic": pl.String(),
    "kind": pl.String(),
    "text": pl.String(),
    "callers": pl.List(pl.String()),
}
GAP_COLUMNS = {
    "cluster": pl.String(),
    "topic": pl.String(),
    "start": _TS,
    "end": _TS,
    "cause": pl.String(),
    "state": pl.String(),
    "events": pl.Int64(),
    "reason": pl.String(),
}


def gap_frame(gaps: Iterable[Span]) -> pl.DataFrame:
    """One row per outage and topic, in the order they began.

    Returns
    -------
    polars.DataFrame
        ``cluster topic start end cause state events reason``. The stream did not bring the topic in ``(start, end)``, UTC by
        the local clock; ``end`` is null while the socket is down, then the return of the socket until the server has
        confirmed the topic again, and that moment from then on. ``state`` is ``open``, ``filling``, ``filled``, ``partial`` or
        ``unfilled``; ``events`` counts those delivered from the history of REST; ``reason`` says why a gap is not filled, and
        is null otherwise.
    """
    rows = [
        (
            gap.topic.cluster, gap.topic.wire, gap.start_ns, gap.end_ns, gap.cause, gap.state, gap.n_events,
            gap.reason or None,
        )
        for gap in gaps
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=GAP_COLUMNS, orient="row")


def outage_frame(outages: Iterable[Outage]) -> pl.DataFrame:
    """One row per outage: ``cluster start end seconds cause attempts``.

    ``end`` is null while it lasts; ``attempts`` are the connections it took. Times are UTC ns.
    """
    rows = [(o.cluster, o.start_ns, o.end_ns, o.seconds, o.cause, o.attempts) for o in outages]
    return pl.DataFrame(rows, schema=OUTAGE_COLUMNS, orient="row")


def warning_frame(warned: Iterable[Warned]) -> pl.DataFrame:
    """One row per warning, oldest first: ``since cluster topic kind text callers``; ``since`` is UTC ns."""
    rows = [(w.since_ns, w.cluster or None, w.topic, w.kind, w.text, list(w.callers)) for w in warned]
    return pl.DataFrame(rows, schema=WARNING_COLUMNS, orient="row").sort("since", maintain_order=True)


def status_row(hub: Hub) -> dict[str, Any]:
    """What ``live.status()`` says of a hub, but for its state and its sizes."""
    last = hub.final_error or (hub.errors[-1] if hub.errors else None)
    outages = hub.watch.outages
    return {
        "cluster": hub.cluster,
        **hub.counts,
        "last_error": str(last) if last else None,
        "last_cause": outages.last_cause,
        "down_since": outages.down_since_ns,
        "outage_total_s": outages.total_s(hub.now()),
        "warnings": len(hub.watch.warned),
    }


def topic_frame(
    cluster: str, book: Book, routes: Routes, callers: Callable[[Topic], list[str | None]]
) -> pl.DataFrame:
    """One row per wanted topic, in the order they were asked for.

    Returns
    -------
    polars.DataFrame
        ``cluster topic readers state since messages bytes last_event duplicates_avoided callers``. ``since`` and
        ``last_event`` are UTC ns; ``last_event`` is the event's own time, null before the first; ``bytes`` is the topic's
        share of its frames; ``duplicates_avoided`` counts openings that needed nothing from the server; ``callers`` has
        one entry for each reader, in the order they came: ``file:line``, or cell and line, null where it cannot be told.
    """
    rows = []
    for topic in book.wanted:
        tally = routes.tally(topic)
        assert tally is not None, "the hub opens and closes both together"
        last = tally.last.ts_event if tally.last else None
        rows.append((
            cluster, topic.wire, len(book.readers(topic)), book.state(topic), tally.since_ns,
            tally.n_messages, round(tally.n_bytes), last, book.avoided(topic),
            callers(topic),
        ))  # fmt: skip
    return pl.DataFrame(rows, schema=TOPIC_COLUMNS, orient="row")
