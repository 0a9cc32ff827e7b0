"""What the report shows of calls, subscriptions, polling and fallback: a sentence, a picture, the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

from massive_lab.audit import charts
from massive_lab.audit.html import (
    Column,
    all_checks,
    bytes_,
    figure,
    finding,
    mark,
    number,
    paragraph,
    rate,
    seconds,
    table,
)

__all__ = ["checks", "fallback", "polling", "reconciliation", "rest", "subscriptions"]

Document = Mapping[str, Any]


def checks(document: Document) -> str:
    """Every rule with its verdict, its points and the place of its evidence."""
    rows = [
        {
            **check,
            "points": f"{number(check['points'], 2)} / {number(check['worth'], 2)}" if check["worth"] else "",
            "title": check["title"] + (" (critical)" if check["critical"] else ""),
        }
        for check in all_checks(document)
    ]
    columns = [
        Column("title", "Check", right=False),
        Column("verdict", "Verdict", mark, right=False),
        Column("points", "Points"),
        Column("finding", "Finding", right=False),
        Column("evidence", "Evidence in audit.json", _evidence, right=False),
    ]
    return paragraph(
        "Ten points, shared out by fixed weights. A point is earned only by a measured fact, named in the last column. "
        "A critical check that fails fails the audit. "
        "What depends on how busy the machine was is judged too, and gives no points."
    ) + table("Checks", columns, rows)


def _evidence(pointers: Sequence[str]) -> str:
    return "<br>".join(f"<code>{escape(pointer).replace('/', '/<wbr>')}</code>" for pointer in pointers)


def rest(document: Document) -> str:
    """Calls, bytes and errors for each endpoint; latency beside them."""
    section, timings = document["sections"]["rest"], document["timings"].get("rest") or {"endpoints": []}
    latency = {row["endpoint"]: row for row in timings["endpoints"]}
    size = {row["endpoint"]: row for row in (document["timings"].get("sizes") or {"endpoints": []})["endpoints"]}
    rows = [
        {**row, **latency.get(row["endpoint"], {}), **size.get(row["endpoint"], {})} for row in section["endpoints"]
    ]
    columns = [
        Column("endpoint", "Endpoint", right=False),
        Column("calls", "Calls", number),
        Column("errors", "Errors", number),
        Column("retries", "Retries", number),
        Column("coalesced", "Shared", number),
        Column("cache_hits", "Cached", number),
        Column("bytes", "Bytes", bytes_),
        Column("p50_ms", "p50 ms", lambda v: number(v, 1)),
        Column("p95_ms", "p95 ms", lambda v: number(v, 1)),
    ]
    loads = [
        Column("loader", "Load", right=False),
        Column("calls", "Calls", number),
        Column("rows", "Rows", number),
        Column("pages", "Pages", number),
        Column("failed", "Failed", number),
    ]
    picture = (
        figure(
            charts.dots(
                "Latency of each endpoint, median and 95th percentile",
                [
                    charts.Dots(row["endpoint"], row["p50_ms"], row["p95_ms"], f"{row['p95_ms']:,.0f} ms")
                    for row in sorted(timings["endpoints"], key=lambda row: -row["p95_ms"])
                ],
                unit="ms",
            ),
            "Latency of each endpoint while loading: the filled dot is the median, the ring the 95th percentile. Polls are "
            "counted on a clock that stands still, so they have none.",
        )
        if latency
        else ""
    )
    return (
        finding(document, "rest.errors") + finding(document, "rest.loads") + finding(document, "rest.latency")
        + picture + table("Endpoints", columns, rows) + table("Loads", loads, section["loaders"])
    )  # fmt: skip


def subscriptions(document: Document) -> str:
    """Who asked for what, what went upstream, what came back."""
    section = document["sections"]["subscriptions"]
    often = sorted((row for row in section["topics"] if row["readers"] > 1), key=lambda row: -row["readers"])[:8]
    shared = (
        figure(
            charts.bars(
                "Readers of the topics that were asked for most often",
                [
                    charts.Bar(row["topic"], row["readers"], f"{row['readers']} asked, {row['subscribes']} sent")
                    for row in often
                ],
            ),
            "The topics that most readers asked for, and how often each was subscribed to upstream.",
        )
        if often
        else ""
    )
    columns = [
        Column("topic", "Topic", right=False),
        Column("cluster", "Socket", right=False),
        Column("readers", "Readers", number),
        Column("subscribes", "Sent upstream", number),
        Column("duplicates_sent", "Sent twice", number),
        Column("messages", "Messages", number),
        Column("messages_per_second", "A second", lambda v: number(v, 2)),
        Column("dropped", "Dropped", number),
    ]
    return (
        finding(document, "subscriptions.shared") + finding(document, "subscriptions.confirmed")
        + finding(document, "subscriptions.whole") + _rates(section) + shared + table("Topics", columns, section["topics"])
        + _frames(section)
    )  # fmt: skip


def _rates(section: Document) -> str:
    series = [row for row in section["clusters"] if any(row["per_second"])]
    if not series:
        return ""
    n = max(len(row["per_second"]) for row in series)
    chart = charts.lines(
        "Messages a second on each socket",
        [charts.Line(row["cluster"], row["per_second"], "abc"[i % 3]) for i, row in enumerate(series)],
        labels=[f"{i + 1} s" for i in range(n)],
        height=150,
        zero=True,
    )
    return figure(chart, "Messages in each second of the feed's clock, by socket.")


def _frames(section: Document) -> str:
    duration_s = section["totals"]["duration_s"]
    rows = [
        {
            **row,
            "bytes_per_second": row["bytes"] / duration_s,
            "per_frame": row["messages"] / row["frames"] if row["frames"] else None,
        }
        for row in section["clusters"]
    ]
    columns = [
        Column("cluster", "Socket", right=False),
        Column("topics", "Topics", number),
        Column("messages", "Messages", number),
        Column("frames", "Frames", number),
        Column("per_frame", "Messages a frame", lambda v: number(v, 1)),
        Column("bytes", "Bytes", bytes_),
        Column("bytes_per_second", "Bytes a second", bytes_),
    ]
    return table("Sockets", columns, rows)


def polling(document: Document) -> str:
    """Calls a minute: measured, predicted, naive, and the limit."""
    section = document["sections"]["polling"]
    totals = section["totals"]
    picture = charts.bars(
        "Calls a minute with every socket down",
        [
            charts.Bar("measured", totals["worst_per_minute"], f"{totals['worst_per_minute']:,.4g} a minute"),
            charts.Bar(
                "predicted",
                totals["predicted_per_minute"],
                f"{totals['predicted_per_minute']:,.4g} a minute",
                "a",
                hollow=True,
            ),
            charts.Bar(
                "naive, each 3 s", totals["naive_per_minute"], f"{totals['naive_per_minute']:,.4g} a minute", "b"
            ),
        ],
        limit=totals["limit_per_minute"],
        limit_label=f"limit {totals['limit_per_minute']:,}",
    )
    plan = [
        Column("cluster", "Cluster", right=False),
        Column("symbols", "Symbols", number),
        Column("topics", "Topics", number),
        Column("interval_s", "Poll each, s", lambda v: number(v, 1)),
        Column("calls_per_poll", "Calls a poll", number),
        Column("fallback_per_minute", "Calls a minute", rate),
        Column("naive_per_minute", "Naive", rate),
    ]
    rows = [
        Column("phase", "Phase", right=False),
        Column("endpoint", "Endpoint", right=False),
        Column("calls", "Calls", number),
        Column("predicted", "Predicted", lambda v: number(v, 0 if v == int(v) else 1)),
        Column("window_s", "Window, s", _once),
        Column("per_minute", "A minute", _rate_or_blank),
        Column("predicted_per_minute", "Predicted a minute", _rate_or_blank),
        Column("naive_per_minute", "Naive a minute", _rate_or_blank),
    ]
    return (
        finding(document, "polling.limit") + finding(document, "polling.predicted") + finding(document, "polling.quiet")
        + figure(picture, "REST calls a minute while polling replaces the sockets, against polling every symbol by itself.")
        + table("The plan for this watchlist, should every socket be down", plan, section["plan"])
        + table("Measured against predicted, by phase and endpoint", rows, section["rows"])
    )  # fmt: skip


def _rate_or_blank(value: float | None) -> str:
    return "" if value is None else rate(value)


def _once(value: float | None) -> str:
    return '<span class="none">once</span>' if value is None else rate(value)


def fallback(document: Document) -> str:
    """Loss, first poll, return; on the clock of the feed."""
    section = document["sections"]["fallback"]
    columns = [
        Column("cluster", "Socket", right=False),
        Column("since_loss_s", "Loss to first poll", seconds),
        Column("topics", "Topics served", number),
        Column("polls", "Polls", number),
        Column("polled_symbols", "Symbols polled", number),
        Column("outage_s", "Outage", seconds),
        Column("attempts", "Attempts", number),
        Column("gaps", "Gaps told", number),
        Column("recovered", "Came back", lambda v: mark("pass" if v else "fail"), right=False),
    ]
    moments = [
        {"cluster": row["cluster"], **moment} for row in section["clusters"] for moment in row["timeline"]
    ]  # fmt: skip
    states = [
        Column("cluster", "Socket", right=False),
        Column("at_s", "At, s", lambda v: number(v, 2)),
        Column("state", "State", right=False),
        Column("reason", "Reason", right=False),
    ]
    lanes = [_lane(row) for row in section["clusters"]]
    picture = (
        figure(
            charts.lanes("What each socket did during the drill", lanes),
            "Seconds on the feed's clock since the sockets were dropped. Hollow: the socket is down; each tick is a poll that "
            "stands in for it. Filled: live again.",
        )
        if any(lane.spans for lane in lanes)
        else ""
    )
    return (
        finding(document, "fallback.time") + finding(document, "fallback.recovery") + finding(document, "fallback.gaps")
        + picture + table("Each dropped socket", columns, section["clusters"])
        + f"<details><summary>All changes of state</summary>{table('Changes of state', states, moments)}</details>"
    )  # fmt: skip


def _lane(row: Document) -> charts.Lane:
    moments = row["timeline"]
    spans = []
    for this, after in zip(moments, [*(m["at_s"] for m in moments[1:]), row["until_s"]], strict=True):
        live = this["state"] == "live"
        spans.append(
            charts.Span(this["at_s"], max(after, this["at_s"]), "a" if live else "b", this["state"], hollow=not live)
        )
    return charts.Lane(row["cluster"], _joined(spans), tuple(row["polled_at_s"]))


def _joined(spans: Sequence[charts.Span]) -> tuple[charts.Span, ...]:
    """Neighbours of one colour become one: an outage is one stretch, however many attempts it took."""
    out: list[charts.Span] = []
    for span in spans:
        if out and out[-1].series == span.series:
            label = out[-1].label if span.label in out[-1].label.split(", ") else f"{out[-1].label}, {span.label}"
            out[-1] = replace(out[-1], end=span.end, label=label)
        else:
            out.append(span)
    return tuple(out)


def reconciliation(document: Document) -> str:
    """Our counts beside the server's."""
    section = document["sections"]["reconciliation"]
    columns = [
        Column("what", "Count", right=False),
        Column("key", "Of", right=False),
        Column("ours", "Ours", number),
        Column("served", "Served", number),
        Column("equal", "Equal", lambda v: mark("pass" if v else "fail"), right=False),
    ]
    sizes = (document["timings"].get("sizes") or {"lines": []})["lines"]
    numbers = {(line["what"], line["key"]): line for line in sizes}
    lines = [{**line, **numbers.get((line["what"], line["key"]), {})} for line in section["lines"]]
    different = [line for line in lines if not line["equal"]]
    shown = table("Lines that differ", columns, different) if different else ""
    every = table("All lines", columns, lines)
    return (
        finding(document, "reconciliation.counts")
        + paragraph(
            "The server keeps its own count of what it served. Each line of ours is set beside it; "
            "a single difference fails the audit."
        )
        + shown
        + f"<details><summary>All {section['n_compared']:,} lines</summary>{every}</details>"
    )
