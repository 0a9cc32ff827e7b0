"""How many calls a watchlist costs: predicted, measured, and what a naive client would spend.

All rates are calls per minute. A naive client polls every symbol by itself each 3 s; the yardstick is the budget of one
gateway boundary, 1,200 calls a minute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from massive_lab.errors import InvalidRequest
from massive_lab.live.policy import Policy
from massive_lab.live.poll.budget import Budget
from massive_lab.live.poll.schedule import Schedule
from massive_lab.live.topics import CLUSTERS, DEFAULT_CHANNELS
from massive_lab.schema.plans import MAX_SNAPSHOT_TICKERS, PROXY_CALLS_PER_MINUTE
from massive_lab.schema.symbols import Symbol, parse_many
from massive_lab.typing import Cluster

__all__ = [
    "NAIVE_INTERVAL_S",
    "POLL_INTERVAL_S",
    "ClusterLoad",
    "LoadPlan",
    "LoadRow",
    "compare",
    "predict",
]

NAIVE_INTERVAL_S = 3.0
POLL_INTERVAL_S: Mapping[str, float] = Policy().poll_s
"""Seconds between two fallback polls of a symbol in an open market, where the budget allows it."""


@dataclass(frozen=True, slots=True)
class ClusterLoad:
    """What one cluster costs. Rates are calls per minute while its socket is down."""

    cluster: Cluster
    n_symbols: int
    topics: tuple[str, ...]
    interval_s: float
    """Seconds between two polls of a symbol when every socket is down: its own interval, or longer for want of calls."""
    batches: int
    """Calls in which each symbol is polled once: one for each 250 symbols."""

    @property
    def fallback_per_minute(self) -> float:
        """Predicted fallback calls per minute."""
        return self.batches * 60 / self.interval_s

    @property
    def naive_per_minute(self) -> float:
        """Calls per minute of a client that polls each symbol by itself."""
        return self.n_symbols * 60 / NAIVE_INTERVAL_S


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """The prediction for a watchlist, one row for each cluster it touches."""

    clusters: tuple[ClusterLoad, ...]
    limit_per_minute: int = PROXY_CALLS_PER_MINUTE

    @property
    def sockets(self) -> int:
        """WebSocket connections: one for each cluster."""
        return len(self.clusters)

    @property
    def n_topics(self) -> int:
        """Upstream subscriptions, however many readers there are."""
        return sum(len(load.topics) for load in self.clusters)

    @property
    def worst_per_minute(self) -> float:
        """Calls per minute with every socket down."""
        return sum(load.fallback_per_minute for load in self.clusters)

    @property
    def naive_per_minute(self) -> float:
        """The same of a naive client."""
        return sum(load.naive_per_minute for load in self.clusters)

    def of(self, cluster: str) -> ClusterLoad | None:
        """The row of a cluster, or None when the watchlist does not touch it."""
        return next((load for load in self.clusters if load.cluster == cluster), None)


def predict(
    watchlist: Sequence[str],
    *,
    channels: Mapping[Cluster, Sequence[str]] | None = None,
    interval_s: Mapping[str, float] | None = None,
    batch: int = MAX_SNAPSHOT_TICKERS,
    calls_per_minute: int | None = None,
) -> LoadPlan:
    """Predict topics, sockets and fallback calls of a watchlist, before anything runs.

    The rates are those of the schedule itself with every socket down, the markets open and prices moving as usual.

    Parameters
    ----------
    watchlist : sequence of str
        Symbols of any class; repeats cost nothing.
    channels : mapping, optional
        Channels per cluster instead of the live session's own.
    interval_s : mapping, optional
        Seconds between two polls per cluster instead of `POLL_INTERVAL_S`.
    batch : int
        Symbols per poll.
    calls_per_minute : int, optional
        Of the plan, of which polling uses a share; left out, the plan has no limit.

    Returns
    -------
    LoadPlan

    Raises
    ------
    InvalidRequest
        When the watchlist is empty, or an interval or the batch is not positive.
    UnknownSymbol
        For malformed symbols.

    Examples
    --------
    >>> plan = predict(["SPY", "AAPL", "I:SPX"])
    >>> plan.n_topics, plan.sockets, plan.worst_per_minute, plan.naive_per_minute
    (8, 2, 27.0, 60.0)
    """
    intervals = {**POLL_INTERVAL_S, **(interval_s or {})}
    asked = {**DEFAULT_CHANNELS, **(channels or {})}
    if batch < 1 or min(intervals.values()) <= 0:
        raise InvalidRequest(f"A batch of {batch} and intervals of {intervals} s cannot be polled.")
    symbols = parse_many(list(watchlist))
    groups: dict[Cluster, list[Symbol]] = {
        cluster: members
        for cluster in CLUSTERS
        if (members := [symbol for symbol in symbols if symbol.asset_class == cluster])
    }
    policy = Policy(poll_s=intervals, poll_batch=batch)
    budget = Budget(policy, calls_per_minute)
    for cluster, members in groups.items():
        budget.join(cluster, len(members))
    return LoadPlan(tuple(_cluster_load(c, members, asked[c], Schedule(c, policy, budget)) for c, members in groups.items()))


def _cluster_load(
    cluster: Cluster, members: list[Symbol], channels: Sequence[str], schedule: Schedule
) -> ClusterLoad:
    topics = tuple(f"{channel}.{symbol}" for symbol in members for channel in channels)
    schedule.want((symbol.text for symbol in members), 0.0)
    pace = schedule.pace
    return ClusterLoad(cluster, len(members), topics, pace.interval_s, pace.calls_per_round)


@dataclass(frozen=True, slots=True)
class LoadRow:
    """Calls of one endpoint in one phase. `window_s` is None for work that is done once and has no rate."""

    phase: str
    endpoint: str
    calls: int
    predicted: float
    """Calls predicted for the window, or for the work."""
    window_s: float | None = None
    naive: float | None = None
    """Calls of a naive client in the window."""

    def per_minute(self, calls: float | None) -> float | None:
        """A number of calls in this window as a rate; None when there is no window."""
        return None if calls is None or not self.window_s else calls * 60 / self.window_s

    @property
    def deviation(self) -> float:
        """Measured against predicted, as a fraction of the prediction; 0 when both are 0."""
        if not self.predicted:
            return 0.0 if not self.calls else math.inf
        return (self.calls - self.predicted) / self.predicted


def compare(
    calls: Mapping[tuple[str, str], int],
    predicted: Mapping[tuple[str, str], float],
    *,
    windows: Mapping[str, float] | None = None,
    naive: Mapping[tuple[str, str], float] | None = None,
) -> list[LoadRow]:
    """Set measured calls beside predicted ones, by (phase, endpoint).

    A call that nobody predicted, and a prediction that nobody called, are rows too.

    Examples
    --------
    >>> rows = compare({("fallback", "snapshot"): 15}, {("fallback", "snapshot"): 15.0}, windows={"fallback": 60.0})
    >>> rows[0].deviation, rows[0].per_minute(rows[0].calls)
    (0.0, 15.0)
    """
    windows, naive = windows or {}, naive or {}
    order: dict[str, int] = {}
    for phase, _ in (*predicted, *calls):
        order.setdefault(phase, len(order))
    keys = sorted({*calls, *predicted}, key=lambda key: (order[key[0]], key[1]))
    return [
        LoadRow(phase, endpoint, calls.get((phase, endpoint), 0), predicted.get((phase, endpoint), 0.0),
                windows.get(phase), naive.get((phase, endpoint)))
        for phase, endpoint in keys
    ]  # fmt: skip
