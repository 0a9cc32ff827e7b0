"""A recorded run, made of telemetry events, and the document built from it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from massive_lab import telemetry as t
from massive_lab.audit import sections
from massive_lab.audit.load import compare, predict
from massive_lab.audit.reconcile import Line, Served, reconcile
from massive_lab.audit.recorder import Recording
from massive_lab.audit.rules import RULES, TIMED

WATCHLIST = ("SPY", "AAPL", "I:SPX", "O:SPY190118C00250000")
PLAN = predict(WATCHLIST)


def _streaming(recording: Recording) -> None:
    for cluster, topic, readers, n in (
        ("stocks", "T.SPY", 4, 812), ("stocks", "Q.SPY", 2, 1944), ("stocks", "AM.SPY", 2, 1), ("stocks", "T.AAPL", 2, 640),
        ("stocks", "Q.AAPL", 2, 1510), ("stocks", "AM.AAPL", 2, 1), ("indices", "V.I:SPX", 3, 20), ("indices", "AM.I:SPX", 2, 1),
        ("options", "T.O:SPY190118C00250000", 1, 12), ("options", "Q.O:SPY190118C00250000", 1, 401),
        ("options", "AM.O:SPY190118C00250000", 1, 1),
    ):  # fmt: skip
        for k in range(readers):
            recording.apply(t.ReaderOpened(1.0, cluster, topic, f"r{k}", "cell:3"))
        recording.apply(t.TopicOpened(1.0, cluster, topic))
        recording.apply(t.WireSent(1.1, cluster, "subscribe", (topic,)))
        recording.apply(t.TopicConfirmed(1.2, cluster, topic))
        recording.apply(t.FrameReceived(2.0, cluster, n, n * 90, ((topic, n),)))


def _drill(recording: Recording, cluster: str, polls: int) -> None:
    recording.apply(t.FeedStateChanged(30.0, cluster, "live", "backoff", "connection lost"))
    recording.apply(t.FallbackStarted(30.05, cluster, 0.05, 6))
    for k in range(polls):
        recording.apply(
            t.RequestDone(30.1 + k, "snapshot", f"poll:{cluster}", 200, "ok", 2_000, 0.004, 1), phase="fallback"
        )
        recording.apply(t.PollTick(30.1 + k, cluster, "snapshot", 2, 1))
    recording.apply(t.FeedStateChanged(60.0, cluster, "backoff", "connecting", "attempt 5"))
    recording.apply(t.FeedStateChanged(60.2, cluster, "connecting", "live", "authenticated"))
    recording.apply(t.Reconnected(60.2, cluster, 30.2, 5, 6))
    recording.apply(t.FallbackStopped(60.2, cluster, polls))
    recording.apply(t.GapDetected(60.2, cluster, ("T.SPY",), 0, 30_200_000_000))
    for (name, topic), tally in list(recording.topics.items()):
        if name == cluster and tally.opened:
            recording.apply(t.WireSent(60.2, cluster, "subscribe", (topic,)))


@pytest.fixture
def recording() -> Recording:
    recording = Recording()
    for endpoint, n, size, ms in (("aggs_range", 9, 21_000, 18), ("chain", 12, 64_000, 44), ("contracts", 3, 30_000, 21),
                                  ("indicator_ema", 1, 9_000, 9), ("market_status", 1, 400, 3)):  # fmt: skip
        for k in range(n):
            recording.apply(
                t.RequestDone(0.1, endpoint, "load", 200, "ok", size, ms * (1 + k / 4) / 1000, 1), phase="load"
            )
    recording.apply(t.CacheHit(0.2, "indicator_ema", "server_indicator"))
    recording.apply(t.LoadDone(0.3, "bars", ("SPY",), 1_500, 9, 0.2, "ok"))
    recording.apply(t.LoadDone(0.3, "chain", ("SPY",), 2_904, 12, 0.5, "ok"))
    _streaming(recording)
    return recording


def served_by(recording: Recording) -> Served:
    """The counts of a server that saw the same run."""
    rest = {
        name: {"requests": x.attempts, "body_bytes": x.bytes, "status": {str(k): v for k, v in x.statuses.items()}}
        for name, x in recording.endpoints.items()
    }
    clusters = {cluster for cluster, _ in recording.topics}
    return Served.read(
        {
            "rest": {"endpoints": rest},
            "ws": {
                c: {
                    "opened": 0,
                    "subscribe_params": sum(x.subscribes for (k, _), x in recording.topics.items() if k == c),
                    "unsubscribe_params": 0,
                    "frames": recording.frames[c],
                    "sent_bytes": recording.bytes[c],
                    "topics": {topic: x.events for (k, topic), x in recording.topics.items() if k == c},
                }
                for c in clusters
            },
        }
    )


def _waves(n: int, level: float, swing: float, lag: float = 0.0) -> list[float | None]:
    return [round(level + swing * math.sin((i - lag) / 9) + swing * 0.3 * math.sin(i / 2.3), 2) for i in range(n)]


@pytest.fixture
def draft(recording: Recording) -> sections.Draft:
    draft = sections.Draft("sandbox", True, 7, WATCHLIST, 20.0)
    draft.subscriptions = sections.subscriptions_section(
        recording,
        duration_s=20.0,
        series={"stocks": [240 + 20 * (i % 5) for i in range(20)], "options": [20] * 20, "indices": [1] * 20},
    )
    for cluster, polls in (("stocks", 7), ("options", 15), ("indices", 6)):
        _drill(recording, cluster, polls)
    draft.rest = sections.rest_section(recording)
    rows = compare(
        recording.calls,
        {("load", name): x.attempts for name, x in recording.endpoints.items() if name != "snapshot"}
        | {("fallback", "snapshot"): 28},
        windows={"fallback": 28.0},
        naive={("fallback", "snapshot"): 4 * 28 / 3},
    )
    draft.polling = sections.polling_section(rows, PLAN, polls_while_live=0)
    draft.fallback = sections.fallback_section(
        recording, dropped=("stocks", "options", "indices"), origin_s=30.0, until_s=65.0
    )
    draft.coverage = {
        "chain": {
            "underlying": "SPY", "contracts": 2_904, "listed": 2_904, "not_listed": 0, "missing": 0,
            "expirations": 18, "with_quote": 2_881, "with_trade": 2_100,
            "with_greeks": 2_790, "with_iv": 2_790, "with_open_interest": 2_904,
            "smile": {"expiration": "2019-01-18", "strikes": [float(x) for x in range(220, 281, 5)],
                      "call": [30 - i * 1.1 for i in range(13)], "put": [31 - i * 1.1 for i in range(13)]},
        },
        "indices": [
            {"symbol": "I:SPX", "name": "S&P 500", "value": 2549.11, "market_status": "open", "timeframe": "REAL-TIME",
             "error": None},
        ],
    }  # fmt: skip
    labels = [f"2018-{1 + i // 21:02d}-{1 + i % 21:02d}" for i in range(126)]
    draft.indicators = {
        "columns": [{"column": "ema_20", "rows": 126, "warmup": 19, "last": 255.1}],
        "compared": [{"indicator": "ema_20", "n": 107, "difference": 2e-16, "agrees": True}],
        "chart": {
            "symbol": "SPY", "labels": labels, "close": _waves(126, 270, 12),
            "ema_20": [None] * 19 + _waves(126, 270, 9, 6)[19:], "rsi_14": [None] * 14 + _waves(126, 50, 20)[14:],
        },
    }  # fmt: skip
    draft.regime = {
        "last": "risk_off", "date": "2018-12-18", "days": 700, "labelled": 500, "score": -3,
        "notes": ["One index stands in for another."],
        "rules_version": "1", "flips_per_year": 2.4,
        "reasons": ["SPX closes below its 200-day average.", "VIX stands at 25.6: elevated."],
        "by_regime": [{"regime": "risk_on", "days": 400, "share": 0.8}, {"regime": "risk_off", "days": 100, "share": 0.2}],
        "chart": {
            "labels": labels, "price_title": "S&P 500",
            "price_name": "SPX", "price": _waves(126, 2700, 150), "vix": _waves(126, 18, 6),
            "defensive": [i > 90 for i in range(126)], "caption": "S&P 500 and VIX; days of a defensive regime on a grey ground.",
        },
    }  # fmt: skip
    draft.cleanup = {
        "left_over": [],
        "held": [
            {"moment": "before", "threads": 3, "tasks": 0, "sockets": 0},
            {"moment": "after", "threads": 3, "tasks": 0, "sockets": 0},
        ],
    }
    draft.environment = {
        "facts": {
            "massive_lab": "0.1.0", "python": "3.11.2", "implementation": "CPython", "system": "Linux x86_64", "cpus": 2,
            "packages": {"polars": "2.1.0"}, "variables": {"MASSIVE_API_KEY": "not set"},
        },
        "findings": [{"what": "Python", "verdict": "pass", "found": "CPython 3.11.2", "mend": ""}],
    }  # fmt: skip
    lines = reconcile(recording, served_by(recording))
    draft.reconciliation = sections.reconciliation_section(lines)
    draft.timings = {
        "rest": sections.rest_timings(recording),
        "sizes": sections.sizes(recording, lines),
        "memory_growth_bytes": 2_000_000,
        "held": [{"moment": "before", "threads": 3, "tasks": 0, "sockets": 0, "memory_bytes": 180_000_000}],
        "run": {"started": "2026-01-01T00:00:00+00:00", "elapsed_s": 31.0},
    }
    return draft


@pytest.fixture
def document(draft: sections.Draft) -> dict[str, Any]:
    return sections.build(draft, RULES, TIMED)


@pytest.fixture
def bad_line() -> Line:
    return Line("REST requests", "chain", 3, 4)
