"""``massive-lab plan``: what a watchlist will cost."""

from __future__ import annotations

import argparse
import json

from massive_lab.audit.load import LoadPlan, predict
from massive_lab.cli.words import split_symbols, table
from massive_lab.schema.plans import plan as plan_of

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Predict, print, and say whether the plan of the key allows it."""
    tier = plan_of(options.plan)
    load = predict(split_symbols(options.watchlist), calls_per_minute=tier.calls_per_minute)
    limit = tier.calls_per_minute or load.limit_per_minute
    fits = load.worst_per_minute <= limit and (tier.websocket or not load.clusters)
    if options.json:
        print(json.dumps(_document(load, options.plan, limit, fits=fits), indent=1))
        return 0
    rows = [
        (c.cluster, c.n_symbols, len(c.topics), round(c.interval_s, 2), f"{c.fallback_per_minute:g}", f"{c.naive_per_minute:g}")
        for c in load.clusters
    ]
    print(table(("cluster", "symbols", "topics", "poll each s", "calls/min, socket down", "naive calls/min"), rows))
    print(f"{load.sockets} sockets, {load.n_topics} topics; 0 calls a minute while the sockets deliver.")
    print(f"All sockets down: {load.worst_per_minute:g} calls a minute of {limit:,}; naive: {load.naive_per_minute:g}.")
    if not tier.websocket:
        print(f"The plan {options.plan} has no WebSocket: everything would be polled, all the time.")
    elif not fits:
        print(f"The plan {options.plan} does not allow that: shorten the watchlist.")
    return 0


def _document(load: LoadPlan, name: str, limit: int, *, fits: bool) -> dict[str, object]:
    return {
        "plan": name,
        "sockets": load.sockets,
        "topics": [topic for c in load.clusters for topic in c.topics],
        "calls_per_minute": {c.cluster: c.fallback_per_minute for c in load.clusters},
        "worst_per_minute": load.worst_per_minute,
        "naive_per_minute": load.naive_per_minute,
        "limit_per_minute": limit,
        "fits": fits,
    }
