"""The audit document: plain data, built from a recording. What differs from run to run stands under ``timings`` alone.

Everything here is pure. ``docs/audit-schema.json`` describes the document; ``docs/audit.md`` explains it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from massive_lab._version import __version__
from massive_lab.audit.load import LoadPlan, LoadRow
from massive_lab.audit.reconcile import Line
from massive_lab.audit.recorder import Recording, TopicTally
from massive_lab.audit.score import Rule, Score, judge

__all__ = [
    "SCHEMA",
    "Draft",
    "build",
    "fallback_section",
    "polling_section",
    "quantile",
    "reconciliation_section",
    "rest_section",
    "rest_timings",
    "sizes",
    "subscriptions_section",
]

SCHEMA = "massive-lab/audit/1"
SIZES = "REST bytes"

Section = dict[str, Any]


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least the share `q` of the values do not exceed.

    Examples
    --------
    >>> quantile([5.0, 1.0, 3.0], 0.5), quantile([5.0, 1.0, 3.0], 0.95)
    (3.0, 5.0)
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def rest_section(recording: Recording) -> Section:
    """Calls and outcomes for each endpoint; loads for each loader."""
    endpoints = [
        {
            "endpoint": name,
            "calls": tally.attempts,
            "ok": tally.ok,
            "errors": tally.errors,
            "retries": tally.retries,
            "coalesced": tally.coalesced,
            "cache_hits": tally.cache_hits,
            "statuses": {str(status): n for status, n in sorted(tally.statuses.items())},
        }
        for name, tally in sorted(recording.endpoints.items())
    ]
    keys = ("calls", "ok", "errors", "retries", "coalesced", "cache_hits")
    return {
        "totals": {key: sum(int(str(row[key])) for row in endpoints) for key in keys},
        "endpoints": endpoints,
        "loaders": [
            {"loader": name, "calls": tally.calls, "rows": tally.rows, "pages": tally.pages, "failed": tally.failed}
            for name, tally in sorted(recording.loaders.items())
        ],
    }


def rest_timings(recording: Recording) -> Section | None:
    """Latency in milliseconds for each endpoint and overall; None when nothing was answered."""
    timed = {name: tally.elapsed_s for name, tally in sorted(recording.endpoints.items()) if tally.elapsed_s}
    if not timed:
        return None
    return {
        "overall": _latency([value for values in timed.values() for value in values]),
        "endpoints": [{"endpoint": name, **_latency(values)} for name, values in timed.items()],
    }


def sizes(recording: Recording, lines: Sequence[Line] | None) -> Section:
    """Bytes of REST bodies on the wire.

    They stand among the timings because a page names the address of the next one, and the port of a sandbox, which is
    another in each run, is then compressed with it.
    """
    return {
        "endpoints": [{"endpoint": name, "bytes": tally.bytes} for name, tally in sorted(recording.endpoints.items())],
        "total": sum(tally.bytes for tally in recording.endpoints.values()),
        "lines": [asdict(line) for line in lines or () if line.what == SIZES],
    }


def _latency(elapsed_s: Sequence[float]) -> dict[str, float | int]:
    return {
        "n": len(elapsed_s),
        "p50_ms": round(quantile(elapsed_s, 0.5) * 1000, 2),
        "p95_ms": round(quantile(elapsed_s, 0.95) * 1000, 2),
        "max_ms": round(max(elapsed_s) * 1000, 2),
    }


def subscriptions_section(
    recording: Recording, *, duration_s: float, series: Mapping[str, Sequence[int]] | None = None
) -> Section:
    """Topics, readers and messages.

    Parameters
    ----------
    recording : Recording
        Taken when streaming ended and before any fault.
    duration_s : float
        Length of the streaming on the clock of the feed.
    series : mapping, optional
        Events per second of that clock, by cluster.
    """
    sessions = {cluster: 1 for cluster, _ in recording.topics}
    for event in recording.reconnects:
        sessions[event.cluster] = sessions.get(event.cluster, 1) + 1
    topics = [
        _topic_row(key, tally, duration_s, sessions[key[0]])
        for key, tally in sorted(recording.topics.items(), key=lambda item: _place(item[0]))
    ]
    readers = sum(row["readers"] for row in topics)
    messages = sum(row["messages"] for row in topics)
    return {
        "totals": {
            "topics": len(topics),
            "readers": readers,
            "upstream": sum(tally.opened for tally in recording.topics.values()),
            "subscribes_sent": sum(row["subscribes"] for row in topics),
            "confirmed": sum(tally.confirmed > 0 for tally in recording.topics.values()),
            "denied": sum(tally.denied for tally in recording.topics.values()),
            "duplicates_asked": sum(max(0, row["readers"] - 1) for row in topics),
            "duplicates_sent": sum(row["duplicates_sent"] for row in topics),
            "messages": messages,
            "messages_per_second": round(messages / duration_s, 3) if duration_s else 0.0,
            "bytes_per_second": round(sum(recording.bytes.values()) / duration_s, 1) if duration_s else 0.0,
            "dropped": sum(row["dropped"] for row in topics),
            "quarantined": sum(recording.quarantined.values()),
            "duration_s": duration_s,
        },
        "clusters": [
            {
                "cluster": cluster,
                "topics": sum(row["cluster"] == cluster for row in topics),
                "readers": sum(row["readers"] for row in topics if row["cluster"] == cluster),
                "messages": sum(row["messages"] for row in topics if row["cluster"] == cluster),
                "frames": recording.frames[cluster],
                "bytes": recording.bytes[cluster],
                "per_second": list((series or {}).get(cluster, ())),
            }
            for cluster in sorted(sessions, key=lambda name: _ORDER.get(name, 3))
        ],
        "topics": topics,
    }


def _topic_row(key: tuple[str, str], tally: TopicTally, duration_s: float, sessions: int) -> Section:
    return {
        "cluster": key[0],
        "topic": key[1],
        "readers": tally.readers,
        "peak_readers": tally.peak_readers,
        "subscribes": tally.subscribes,
        "duplicates_sent": max(0, tally.subscribes - sessions * (tally.opened > 0)),
        "messages": tally.events,
        "messages_per_second": round(tally.events / duration_s, 3) if duration_s else 0.0,
        "dropped": tally.dropped,
    }


def polling_section(rows: Sequence[LoadRow], plan: LoadPlan, *, polls_while_live: int | None) -> Section:
    """Calls by phase and endpoint: measured, predicted, naive; and the sums that are set against the limit."""
    table = [
        {
            "phase": row.phase,
            "endpoint": row.endpoint,
            "window_s": row.window_s,
            "calls": row.calls,
            "predicted": row.predicted,
            "per_minute": _rounded(row.per_minute(row.calls)),
            "predicted_per_minute": _rounded(row.per_minute(row.predicted)),
            "naive_per_minute": _rounded(row.per_minute(row.naive)),
        }
        for row in rows
    ]
    measured, predicted = _phase_rates(table, "per_minute"), _phase_rates(table, "predicted_per_minute")
    worst = max(measured, key=lambda phase: measured[phase], default=None)
    return {
        "totals": {
            "worst_per_minute": round(measured[worst], 3) if worst is not None else 0.0,
            "predicted_per_minute": round(predicted[worst] if worst is not None else plan.worst_per_minute, 3),
            "naive_per_minute": round(plan.naive_per_minute, 3),
            "limit_per_minute": plan.limit_per_minute,
        },
        "plan": [
            {
                "cluster": load.cluster,
                "symbols": load.n_symbols,
                "topics": len(load.topics),
                "interval_s": round(load.interval_s, 3),
                "calls_per_poll": load.batches,
                "fallback_per_minute": round(load.fallback_per_minute, 3),
                "naive_per_minute": round(load.naive_per_minute, 3),
            }
            for load in plan.clusters
        ],
        "rows": table,
        "polls_while_live": polls_while_live,
    }


def _phase_rates(table: Sequence[Mapping[str, Any]], column: str) -> dict[str, float]:
    rates: dict[str, float] = {}
    for row in table:
        if row[column] is not None:
            rates[row["phase"]] = rates.get(row["phase"], 0.0) + row[column]
    return rates


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def fallback_section(recording: Recording, *, dropped: Sequence[str], origin_s: float, until_s: float) -> Section:
    """How each dropped socket was replaced and came back.

    Parameters
    ----------
    recording : Recording
    dropped : sequence of str
        Clusters whose sockets were dropped.
    origin_s : float
        Monotonic time of the recorded clock that the timeline counts from.
    until_s : float
        The same clock, when the drill ended.
    """
    clusters = []
    for cluster in dropped:
        started = [event for event in recording.fallbacks if event.cluster == cluster]
        stopped = [event for event in recording.fallbacks_over if event.cluster == cluster]
        back = [event for event in recording.reconnects if event.cluster == cluster]
        topics = [tally for (name, _), tally in recording.topics.items() if name == cluster and tally.opened]
        clusters.append(
            {
                "cluster": cluster,
                "since_loss_s": round(started[0].since_loss_s, 6) if started else None,
                "topics": started[0].n_topics if started else 0,
                "polls": recording.polls_of(cluster),
                "polled_symbols": sum(n for (name, _), n in recording.polled_symbols.items() if name == cluster),
                "outage_s": round(back[0].outage_s, 6) if back else None,
                "attempts": back[0].attempt if back else None,
                "gaps": sum(gap.cluster == cluster for gap in recording.gaps),
                "recovered": bool(
                    back
                    and stopped
                    and topics
                    and all(t.subscribes == 1 + len(back) for t in topics if t.closed < t.opened)
                ),
                "until_s": round(until_s - origin_s, 6),
                "polled_at_s": [round(at - origin_s, 6) for at in recording.polled_at_s.get(cluster, ())],
                "timeline": [
                    {"at_s": round(change.at_s - origin_s, 6), "state": change.state, "reason": change.reason}
                    for change in recording.states
                    if change.cluster == cluster and change.at_s >= origin_s
                ],
            }
        )
    return {"clusters": clusters}


def reconciliation_section(lines: Sequence[Line]) -> Section:
    """Every comparison with the server's count. The numbers of sizes are left out: see `sizes`."""
    table = [
        {**asdict(line), **({"ours": None, "served": None} if line.what == SIZES else {}), "equal": line.equal}
        for line in lines
    ]
    return {"n_compared": len(table), "n_different": sum(not line.equal for line in lines), "lines": table}


@dataclass(slots=True)
class Draft:
    """What a run has gathered so far. A section that stays None was not measured."""

    target: str
    synthetic: bool
    seed: int | None
    watchlist: tuple[str, ...]
    duration_s: float
    rest: Section | None = None
    subscriptions: Section | None = None
    polling: Section | None = None
    fallback: Section | None = None
    coverage: Section | None = None
    indicators: Section | None = None
    regime: Section | None = None
    cleanup: Section | None = None
    environment: Section | None = None
    reconciliation: Section | None = None
    timings: Section = field(default_factory=dict)


_ORDER = {"stocks": 0, "options": 1, "indices": 2}


def _place(key: tuple[str, str]) -> tuple[int, str, str]:
    """Stocks, options, indices; within each by symbol, then channel."""
    channel, _, symbol = key[1].partition(".")
    return _ORDER.get(key[0], 3), symbol, channel


_SECTIONS = (
    "rest", "subscriptions", "polling", "fallback", "coverage", "indicators", "regime", "cleanup", "environment", "reconciliation"
)  # fmt: skip


def build(draft: Draft, rules: Sequence[Rule], timed: Sequence[Rule] = ()) -> dict[str, Any]:
    """The finished document.

    Parameters
    ----------
    draft : Draft
    rules : sequence of Rule
        What the score stands on; their evidence must not lie under ``timings``.
    timed : sequence of Rule
        Judged too, under ``timings``, without points.
    """
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "massive_lab": __version__,
        "target": draft.target,
        "synthetic": draft.synthetic,
        "seed": draft.seed,
        "watchlist": list(draft.watchlist),
        "duration_s": draft.duration_s,
        "sections": {name: getattr(draft, name) for name in _SECTIONS},
        "timings": draft.timings,
    }
    score = judge(document, rules)
    return {
        **document,
        "verdict": score.verdict,
        "score": {
            "value": score.value,
            "ceiling": score.ceiling,
            "not_measured": score.not_measured,
            "checks": _checks(score),
        },
        "timings": {**draft.timings, "checks": _checks(judge(document, timed))},
    }


def _checks(score: Score) -> list[Section]:
    return [
        {
            "id": check.rule.id,
            "title": check.rule.title,
            "critical": check.rule.critical,
            "verdict": check.verdict,
            "finding": check.finding,
            "points": round(check.points, 3),
            "worth": round(check.worth, 3),
            "evidence": list(check.rule.evidence),
        }
        for check in score.checks
    ]
