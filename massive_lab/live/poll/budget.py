"""How many calls polling may make: a share of the plan, divided among the clusters that poll. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from massive_lab.live.policy import Policy
from massive_lab.schema.plans import PROXY_CALLS_PER_MINUTE

__all__ = ["Budget"]

_MINUTE_S = 60.0
_GRAIN_S = 1e-6
"""Less than this between two instants is rounding."""


def _no_one() -> None:
    """Nobody minds."""


class Budget:
    """The calls that the polling of one client may make, all its clusters together.

    Two limits hold at once. The *plan*: `Policy.poll_share` of its calls a minute, so that loaders keep the rest. And
    *thrift*: `Policy.poll_thrift` calls a minute for each `Policy.poll_batch` symbols begun, so that a short watchlist stays
    cheap whatever its classes. What is allowed is split into whole calls, in proportion to what each cluster would make at
    its own interval: a cluster that spaces its calls by `spacing_s` needs no other care, and the sum over any minute is
    within the limit. `free_at` is the guard for what spacing cannot see: clusters that come and go, and budgets smaller
    than the number of clusters.

    Parameters
    ----------
    policy : Policy
    calls_per_minute : int, optional
        Of the plan; `PROXY_CALLS_PER_MINUTE` for plans without a limit.

    Examples
    --------
    >>> budget = Budget(Policy())
    >>> for cluster in ("stocks", "options", "indices"):
    ...     budget.join(cluster, 4)
    >>> budget.limit, budget.quotas
    (40, {'indices': 8, 'options': 21, 'stocks': 11})
    >>> basic = Budget(Policy(), calls_per_minute=5)
    >>> basic.join("stocks", 10_000)
    >>> basic.limit, basic.spacing_s("stocks")
    (4, 15.0)
    """

    def __init__(self, policy: Policy, calls_per_minute: int | None = None) -> None:
        self._policy = policy
        self._per_minute = calls_per_minute or PROXY_CALLS_PER_MINUTE
        self._members: dict[str, int] = {}
        self._told: dict[str, Callable[[], None]] = {}
        self._spent: deque[float] = deque()
        self.quotas: dict[str, float] = {}
        """Calls in a period, by cluster that polls: whole numbers, unless there are more clusters than calls."""

    def tighten(self, calls_per_minute: int | None) -> None:
        """Another client of the same key has this plan: the smaller one holds."""
        if calls_per_minute is not None and calls_per_minute < self._per_minute:
            self._per_minute = calls_per_minute
            self._divide()

    @property
    def period_s(self) -> float:
        """The window in which `limit` holds: a minute, or longer where the share is less than one call a minute."""
        return _MINUTE_S / min(1.0, self._per_minute * self._policy.poll_share)

    @property
    def limit(self) -> int:
        """Calls in any window of `period_s`."""
        share = max(1, math.floor(self._per_minute * self._policy.poll_share))
        return min(share, self._policy.poll_thrift * max(1, self._batches(sum(self._members.values()))))

    def join(self, cluster: str, n_symbols: int, told: Callable[[], None] = _no_one) -> None:
        """A cluster polls so many symbols from now on. Those who must now make do with less are told."""
        self._members[cluster] = n_symbols
        self._told[cluster] = told
        before = self.quotas
        self._divide()
        for other, quota in before.items():
            if other != cluster and self.quotas[other] < quota:
                self._told[other]()

    def leave(self, cluster: str, told: Callable[[], None] | None = None) -> None:
        """A cluster polls no longer; the others find that they may do more when they next look.

        With `told`, only if nobody has joined for the cluster since.
        """
        if told is not None and self._told.get(cluster) != told:
            return
        self._members.pop(cluster, None)
        self._told.pop(cluster, None)
        self._divide()

    def spacing_s(self, cluster: str) -> float:
        """Seconds between two calls of a cluster; of one that does not poll, as if it were alone."""
        return self.period_s / self.quotas.get(cluster, self.limit)

    def free_at(self, now_s: float) -> float:
        """The first instant from `now_s` on at which the client may make another call."""
        limit = self.limit
        if len(self._spent) < limit:
            return now_s
        at_s = self._spent[-limit] + self.period_s
        return at_s if at_s - now_s > _GRAIN_S else now_s

    def spend(self, now_s: float) -> None:
        """A call is made now."""
        while self._spent and self._spent[0] <= now_s - self.period_s:
            self._spent.popleft()
        self._spent.append(now_s)

    def _batches(self, n_symbols: int) -> int:
        return math.ceil(n_symbols / self._policy.poll_batch)

    def _divide(self) -> None:
        # In order of names: sums of doubles must not depend on who came first.
        members, limit = dict(sorted(self._members.items())), self.limit
        if len(members) > limit:
            self.quotas = dict.fromkeys(members, limit / len(members))
            return
        wishes = {c: max(1, self._batches(n)) / self._policy.poll_s[c] for c, n in members.items()}
        exact = {c: limit * wish / sum(wishes.values()) for c, wish in wishes.items()}
        quotas = {c: max(1, math.floor(x)) for c, x in exact.items()}
        # What rounding leaves goes to those it cost most; what the least share costs is taken from those who have most.
        for c in sorted(members, key=lambda c: (quotas[c] - exact[c], c))[: max(0, limit - sum(quotas.values()))]:
            quotas[c] += 1
        while sum(quotas.values()) > limit:
            quotas[max(quotas, key=lambda c: (quotas[c], c))] -= 1
        self.quotas = dict(quotas)
