"""When which symbols of a cluster are polled: a pure plan, on the caller's clock.

Every symbol has an interval and, from the call that last asked for it, a time at which it is due again::

    price moves as usual        poll_s of its class
    moves much more, or less    poll_fastest, poll_calm times that
    does not change             stretched by poll_unchanged with each answer, up to poll_slowest times that
    market closed               poll_closed_s

A call takes the due symbols, those first that have waited longest, and has room for `poll_batch`: it is filled with symbols
that are nearly due, because a call costs the same whatever it holds. So neighbours fall into step, and a cluster of one batch
never makes two calls within its fastest interval. Calls are at least as far apart as the `Budget` says. With more symbols
than that can serve everybody's turn comes in the order of waiting: each symbol is asked for once in a round, however long a
round takes, and `Pace` says how long that is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from massive_lab.live.policy import Policy
from massive_lab.live.poll.budget import Budget

__all__ = ["Call", "Pace", "Schedule", "Seen"]

_WILDER = 14
_KNOWN = 5
"""Moves before the estimate of volatility counts."""
_SHOWN = 1.01
"""A pace that is slower than wanted by less than this is told as wanted."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What an answer said of a symbol."""

    price: float | None = None
    market: str | None = None
    """Only ``closed`` means something; before the first answer a market counts as open."""


@dataclass(frozen=True, slots=True)
class Call:
    """The next call of a cluster, as far as is known now."""

    at_s: float
    n_symbols: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a symbol's turn comes, in an open market.

    Examples
    --------
    >>> Pace(10_000, 40, 33.3, 4.0).note
    'degraded: each symbol every 33.3 s instead of 4 s'
    """

    n_symbols: int
    calls_per_round: int
    interval_s: float
    wanted_s: float
    """The interval of the class, which the budget may not allow."""

    @property
    def per_minute(self) -> float:
        """Calls a minute."""
        return self.calls_per_round * 60 / self.interval_s

    @property
    def is_degraded(self) -> bool:
        return self.interval_s > self.wanted_s * _SHOWN

    @property
    def note(self) -> str | None:
        """What to tell a user; None when everybody is served as wanted."""
        if not self.is_degraded:
            return None
        return f"degraded: each symbol every {self.interval_s:.3g} s instead of {self.wanted_s:g} s"


@dataclass(slots=True)
class _Symbol:
    due_s: float
    interval_s: float
    asked_s: float | None = None
    heard_s: float | None = None
    """When the call was made that last brought a price."""
    price: float | None = None
    is_closed: bool = False
    n_unchanged: int = 0
    n_moves: int = 0
    move: float = 0.0
    """Wilder's average of the moves between polls, as a fraction of the price, each scaled to the interval of the class."""


class Schedule:
    """The polling of one cluster. All times are monotonic seconds given by the caller.

    The caller tells what is wanted (`want`), waits until `next`, takes a call (`take`), and tells how it ended (`answered`,
    `failed`). The cluster must be a member of the budget meanwhile.

    Attributes
    ----------
    base_s : float
        The interval of the class in an open market, prices moving as usual.

    Examples
    --------
    >>> budget = Budget(Policy())
    >>> budget.join("stocks", 2)
    >>> schedule = Schedule("stocks", Policy(), budget)
    >>> schedule.want(["AAPL", "SPY"], 100.0)
    >>> schedule.take(100.0)
    ['AAPL', 'SPY']
    >>> schedule.answered({"AAPL": Seen(227.5, "open"), "SPY": Seen(600.0, "open")})
    >>> schedule.next(), schedule.predict(100.2, 60.0)
    (Call(at_s=104.0, n_symbols=2), 15)
    """

    def __init__(self, cluster: str, policy: Policy, budget: Budget) -> None:
        self._cluster = cluster
        self._policy = policy
        self._budget = budget
        self.base_s = policy.poll_s[cluster]
        # In the order in which they were last asked for, those never asked first.
        self._symbols: dict[str, _Symbol] = {}
        self._call_s = -math.inf
        self._batch: list[str] = []
        self._hold_s = -math.inf
        self._n_failures = 0

    def want(self, symbols: Iterable[str], now_s: float) -> None:
        """Poll these from now on: new ones are due at once, what is left out is forgotten."""
        asked = dict.fromkeys(symbols)
        new = {symbol: _Symbol(now_s, self.base_s) for symbol in asked if symbol not in self._symbols}
        self._symbols = new | {symbol: x for symbol, x in self._symbols.items() if symbol in asked}

    def next(self) -> Call | None:
        """When the next call is due, and how many symbols it will hold; None when nothing is wanted."""
        if not self._symbols:
            return None
        due_s = min(x.due_s for x in self._symbols.values())
        at_s = max(due_s, self._call_s + self._budget.spacing_s(self._cluster), self._hold_s)
        near_s = at_s + self._near_s
        n_symbols = sum(x.due_s <= near_s for x in self._symbols.values())
        return Call(at_s, min(n_symbols, self._policy.poll_batch))

    def take(self, now_s: float) -> list[str]:
        """The symbols of a call that is made now: the due ones by their waiting, then those that are nearly due."""
        size = self._policy.poll_batch
        batch: list[str] = []
        for symbol, x in self._symbols.items():
            if x.due_s <= now_s:
                batch.append(symbol)
                if len(batch) == size:
                    break
        else:
            near_s = now_s + self._near_s
            near = [(x.due_s, symbol) for symbol, x in self._symbols.items() if now_s < x.due_s <= near_s]
            batch += [symbol for _, symbol in sorted(near, key=lambda pair: pair[0])[: size - len(batch)]]
        for symbol in batch:
            x = self._symbols[symbol] = self._symbols.pop(symbol)
            x.asked_s, x.due_s = now_s, now_s + x.interval_s
        self._call_s, self._batch = now_s, batch
        return batch

    def answered(self, seen: Mapping[str, Seen]) -> None:
        """The call was answered. A symbol that the answer leaves out has not changed."""
        self._n_failures = 0
        for symbol in self._batch:
            # It may have been given up, or given up and asked for anew, while the call was under way.
            if (x := self._symbols.get(symbol)) is not None and x.asked_s is not None:
                self._learn(x, seen.get(symbol, Seen()))
                x.due_s = x.asked_s + x.interval_s
        self._batch = []

    def failed(self, retry_after_s: float | None = None) -> None:
        """The call failed: calls are spaced out, doubling, and not before the server said. Others are asked for first."""
        self._n_failures += 1
        asked = [self._symbols[symbol].interval_s for symbol in self._batch if symbol in self._symbols]
        pace_s = max(min(asked, default=self.base_s), self._budget.spacing_s(self._cluster))
        # A slow schedule is never sped up by failing.
        wait_s = max(pace_s, min(self._policy.poll_error_cap_s, pace_s * 2.0 ** min(self._n_failures, 16)))
        self._hold_s = self._call_s + max(wait_s, retry_after_s or 0.0)
        self._batch = []

    @property
    def pace(self) -> Pace:
        """How often each symbol's turn comes in an open market, prices moving as usual."""
        return Pace(len(self._symbols), self._n_batches, max(self.base_s, self._round_s), self.base_s)

    @property
    def interval_s(self) -> float | None:
        """How often the symbol that is asked for most often is asked for now; None when nothing is wanted."""
        return max(self._round_s, min(x.interval_s for x in self._symbols.values())) if self._symbols else None

    @property
    def bound_s(self) -> float:
        """No symbol waits longer than this from one call that asks for it to the next, while no call fails.

        The longest interval, then a turn for everybody who has waited longer, and a spacing for the call that was just made.
        A call that finds the slots of the minute used up by a cluster that has left waits for up to the budget's period more.
        """
        longest_s = max(self._policy.poll_closed_s, self.base_s)
        return longest_s + self._round_s + self._budget.spacing_s(self._cluster)

    def predict(
        self,
        now_s: float,
        window_s: float,
        answers: Callable[[Sequence[str], float], Mapping[str, Seen]] | None = None,
    ) -> int:
        """Calls that will be made in ``[now_s, now_s + window_s)``.

        Parameters
        ----------
        now_s, window_s : float
        answers : callable, optional
            What a call for some symbols at some time will say. Left out, every symbol goes on as it was last seen: its
            market as it is, its price moving as much as it did.
        """
        twin = Schedule(self._cluster, self._policy, self._budget)
        twin._symbols = {symbol: replace(x) for symbol, x in self._symbols.items()}
        twin._call_s, twin._hold_s, twin._n_failures = self._call_s, self._hold_s, self._n_failures
        n_calls = 0
        while (call := twin.next()) is not None and (at_s := max(call.at_s, now_s)) < now_s + window_s:
            batch = twin.take(at_s)
            if answers is not None:
                twin.answered(answers(batch, at_s))
            n_calls += 1
        return n_calls

    @property
    def _n_batches(self) -> int:
        return math.ceil(len(self._symbols) / self._policy.poll_batch)

    @property
    def _round_s(self) -> float:
        """The least time in which everybody can be asked for once."""
        return self._n_batches * self._budget.spacing_s(self._cluster)

    @property
    def _near_s(self) -> float:
        """What is due within this may as well be asked for now. Calls with room to spare are at least as far apart."""
        shortest_s = min((x.interval_s for x in self._symbols.values()), default=0.0)
        return self._policy.poll_fastest * max(self.base_s, shortest_s)

    def _learn(self, x: _Symbol, seen: Seen) -> None:
        if seen.market is not None:
            x.is_closed = seen.market == "closed"
        longest_s = max(self.base_s, self._policy.poll_closed_s)
        if x.is_closed:
            # That nothing moves says nothing of the market to come.
            x.n_unchanged, x.interval_s = 0, longest_s
        else:
            x.n_unchanged = x.n_unchanged + 1 if seen.price is None or seen.price == x.price else 0
            if seen.price is not None:
                self._move(x, seen.price)
            x.interval_s = min(self.base_s * self._factor(x), longest_s)
        if seen.price is not None:
            x.price, x.heard_s = seen.price, x.asked_s

    def _move(self, x: _Symbol, price: float) -> None:
        if x.price and x.heard_s is not None and x.asked_s is not None and x.asked_s > x.heard_s:
            # A price that wanders moves by the root of the time it had.
            move = abs(price / x.price - 1) * math.sqrt(self.base_s / (x.asked_s - x.heard_s))
            x.n_moves = min(x.n_moves + 1, _WILDER)
            x.move += (move - x.move) / x.n_moves

    def _factor(self, x: _Symbol) -> float:
        policy = self._policy
        if x.n_unchanged:
            return min(policy.poll_slowest, policy.poll_unchanged ** min(x.n_unchanged, 64))
        if x.n_moves < _KNOWN:
            return 1.0
        usual = policy.poll_move[self._cluster]
        if x.move >= 2 * usual:
            return policy.poll_fastest
        return policy.poll_calm if x.move <= usual / 2 else 1.0
