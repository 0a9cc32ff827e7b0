"""Polling, simulated: clusters on one budget, minutes and whole weeks, without a second of waiting."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.live.policy import Policy
from massive_lab.live.poll.budget import Budget
from massive_lab.live.poll.schedule import Schedule, Seen
from massive_lab.schema.session import new_york_ns, phase_at, session

POLICY = Policy()
CLASSES = ("stocks", "options", "indices")
Answers = Callable[[str, Sequence[str], float], Mapping[str, Seen]]


@dataclass
class Market:
    """Prices that wander: `swing` times the usual move within the interval of their class."""

    swing: float = 1.0
    seed: int = 7
    status: Callable[[str, float], str] = lambda cluster, at: "open"
    still: frozenset[str] = frozenset()
    _prices: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def __call__(self, cluster: str, symbols: Sequence[str], at: float) -> dict[str, Seen]:
        status = self.status(cluster, at)
        return {symbol: Seen(self._price(cluster, symbol, at, status), status) for symbol in symbols}

    def _price(self, cluster: str, symbol: str, at: float, status: str) -> float:
        price, then = self._prices.get(symbol, (100.0, at))
        if status != "closed" and symbol not in self.still:
            # The mean of |N(0, 1)| is 0.8.
            usual = POLICY.poll_move[cluster] / 0.8 * math.sqrt((at - then) / POLICY.poll_s[cluster])
            price *= 1 + self.swing * usual * self._random.gauss(0.0, 1.0)
        self._prices[symbol] = price, at
        return price


@dataclass
class Rehearsal:
    """Schedules of some clusters on one budget; `run` goes from call to call."""

    symbols: Mapping[str, Sequence[str]]
    calls_per_minute: int | None = None
    start_s: float = 1_000.0

    def __post_init__(self) -> None:
        self.budget = Budget(POLICY, self.calls_per_minute)
        self.now = self.start_s
        self.schedules = {}
        for cluster, symbols in self.symbols.items():
            self.budget.join(cluster, len(symbols))
            self.schedules[cluster] = schedule = Schedule(cluster, POLICY, self.budget)
            schedule.want(symbols, self.start_s)

    def run(self, seconds: float, answers: Answers) -> Iterator[tuple[float, str, list[str]]]:
        """Calls in the next `seconds`: when, of which cluster, for whom."""
        until = self.now + seconds
        plans = {cluster: schedule.next() for cluster, schedule in self.schedules.items()}
        while True:
            free = self.budget.free_at(self.now)
            at, cluster = min((max(plan.at_s, free, self.now), c) for c, plan in plans.items() if plan)
            if at >= until:
                self.now = until
                return
            self.now = at
            self.budget.spend(at)
            schedule = self.schedules[cluster]
            batch = schedule.take(at)
            schedule.answered(answers(cluster, batch, at))
            plans[cluster] = schedule.next()
            yield at, cluster, batch


def worst(times: Sequence[float], window: float = 60.0) -> int:
    """Most calls in any half-open window."""
    first, most = 0, 0
    for i, at in enumerate(times):
        while times[first] <= at - window + 1e-6:
            first += 1
        most = max(most, i - first + 1)
    return most


def names(cluster: str, n: int) -> list[str]:
    return [f"{cluster}-{i}" for i in range(n)]


_COUNTS = st.dictionaries(st.sampled_from(CLASSES), st.integers(1, 400), min_size=1)


@given(_COUNTS, st.one_of(st.none(), st.integers(1, 600)), st.floats(0.0, 8.0), st.integers(0, 99))
def test_calls_stay_within_the_budget_and_nobody_starves(
    counts: dict[str, int], calls_per_minute: int | None, swing: float, seed: int
) -> None:
    rehearsal = Rehearsal({c: names(c, n) for c, n in counts.items()}, calls_per_minute)
    budget = rehearsal.budget
    market = Market(swing, seed, lambda cluster, at: "closed" if cluster == "options" and int(at / 60) % 2 else "open")
    minutes = 2 if budget.limit > 20 else 20
    calls = list(rehearsal.run(minutes * 60.0, market))
    times = [at for at, *_ in calls]
    assert worst(times, budget.period_s) <= budget.limit
    assert budget.limit <= max(1.0, 0.8 * (calls_per_minute or 1_200))
    assert all(0 < len(batch) == len(set(batch)) <= 250 for *_, batch in calls)
    asked: dict[str, float] = dict.fromkeys((s for symbols in rehearsal.symbols.values() for s in symbols), 1_000.0)
    longest: Counter[str] = Counter()
    for at, cluster, batch in calls:
        for symbol in batch:
            longest[cluster] = max(longest[cluster], at - asked[symbol])
            asked[symbol] = at
    # A cluster whose share is below one call a minute also waits for slots that others have used.
    slack = budget.period_s if len(counts) > budget.limit else 1e-6
    for cluster, schedule in rehearsal.schedules.items():
        assert longest[cluster] <= schedule.bound_s + slack
        assert all(rehearsal.now - asked[s] <= schedule.bound_s + slack for s in rehearsal.symbols[cluster])


@given(
    st.lists(st.tuples(st.sampled_from(CLASSES), st.integers(1, 9_000)), min_size=1, max_size=12), st.integers(1, 2_000)
)
def test_quotas_are_whole_within_the_limit_and_do_not_depend_on_who_came_first(
    joins: list[tuple[str, int]], calls_per_minute: int
) -> None:
    last = dict(joins)
    budgets = [Budget(POLICY, calls_per_minute) for _ in range(2)]
    for cluster, n in joins:
        budgets[0].join(cluster, n)
    for cluster, n in sorted(last.items()):
        budgets[1].join(cluster, n)
    quotas, limit = budgets[0].quotas, budgets[0].limit
    assert quotas == budgets[1].quotas
    assert sum(quotas.values()) == pytest.approx(limit)
    if len(quotas) <= limit:
        assert all(quota == int(quota) >= 1 for quota in quotas.values())
    for cluster in last:
        budgets[0].leave(cluster)
    assert budgets[0].quotas == {}


def test_clusters_that_come_and_go_stay_within_the_budget_together() -> None:
    rng = random.Random(3)
    budget = Budget(POLICY, 5)
    spent: list[float] = []
    now = 0.0
    for _ in range(300):
        cluster = rng.choice(CLASSES)
        budget.join(cluster, rng.randint(1, 3_000))
        schedule = Schedule(cluster, POLICY, budget)
        schedule.want(["X"], now)
        for _ in range(rng.randint(1, 3)):
            plan = schedule.next()
            assert plan is not None
            now = max(budget.free_at(now), plan.at_s, now)
            budget.spend(now)
            spent.append(now)
            schedule.take(now)
        budget.leave(cluster)
        now += rng.random() * 5
    assert worst(spent) == budget.limit == 4


@pytest.mark.parametrize("swing", [0.2, 1.0, 10.0])
def test_ten_symbols_of_any_mix_make_at_most_forty_calls_a_minute(swing: float) -> None:
    for stocks in range(11):
        for options in range(11 - stocks):
            counts = {"stocks": stocks, "options": options, "indices": 10 - stocks - options}
            rehearsal = Rehearsal({c: names(c, n) for c, n in counts.items() if n})
            times = [at for at, *_ in rehearsal.run(180.0, Market(swing))]
            naive = 10 * 60 / 3
            assert worst(times) <= 40 == naive / 5, counts


@pytest.mark.parametrize("swing", [0.0, 1.0, 10.0])
def test_ten_stocks_make_at_most_twenty_calls_a_minute(swing: float) -> None:
    times = [at for at, *_ in Rehearsal({"stocks": names("stocks", 10)}).run(600.0, Market(swing))]
    assert worst(times) <= 20


@pytest.mark.parametrize("cluster", CLASSES)
@pytest.mark.parametrize("swing", [1.0, 10.0])
def test_250_symbols_cost_a_hundredth_of_polling_each(cluster: str, swing: float) -> None:
    times = [at for at, *_ in Rehearsal({cluster: names(cluster, 250)}).run(600.0, Market(swing))]
    each_at_our_pace = 250 * 600 / POLICY.poll_s[cluster]
    each_each_3_s = 250 * 600 / 3.0
    assert len(times) <= min(each_at_our_pace, each_each_3_s) / 100


@pytest.mark.parametrize(
    ("counts", "calls_per_minute", "limit"),
    [
        ({"options": 10_000}, None, 1_200),
        ({"stocks": 10_000}, None, 1_200),
        ({"stocks": 4_000, "options": 4_000, "indices": 2_000}, None, 1_200),
        ({"stocks": 10_000}, 5, 5),
        ({"stocks": 9_000, "options": 900, "indices": 100}, 5, 5),
    ],
    ids=str,
)
def test_ten_thousand_symbols_are_served_in_turn_within_the_plan(
    counts: dict[str, int], calls_per_minute: int | None, limit: int
) -> None:
    rehearsal = Rehearsal({c: names(c, n) for c, n in counts.items()}, calls_per_minute)
    minutes = 1.25 if calls_per_minute is None else 3 * 60
    turns = {c: Counter(dict.fromkeys(symbols, 0)) for c, symbols in rehearsal.symbols.items()}
    times = []
    for at, cluster, batch in rehearsal.run(minutes * 60.0, Market()):
        times.append(at)
        turns[cluster].update(batch)
    assert worst(times) < limit
    for cluster, counter in turns.items():
        pace = rehearsal.schedules[cluster].pace
        if pace.is_degraded:
            assert min(counter.values()) >= math.floor(minutes * 60 / rehearsal.schedules[cluster].bound_s) - 1
            if pace.interval_s > POLICY.poll_closed_s:
                assert max(counter.values()) - min(counter.values()) <= 1, "in a round everybody has one turn"
            assert (
                pace.note
                == f"degraded: each symbol every {pace.interval_s:.3g} s instead of {POLICY.poll_s[cluster]:g} s"
            )


@pytest.mark.parametrize(
    ("counts", "swing", "calls_per_minute"),
    [
        ({"stocks": 10}, 1.0, None), ({"options": 250}, 1.0, None), ({"indices": 3}, 10.0, None),
        ({"stocks": 10}, 0.1, None), ({"stocks": 4, "options": 3, "indices": 3}, 1.0, None),
        ({"stocks": 600}, 1.0, None), ({"stocks": 2_000, "options": 9_000}, 1.0, None), ({"stocks": 2_000}, 1.0, 60),
    ],
    ids=str,
)  # fmt: skip
def test_prediction_and_measurement_agree_within_two_percent(
    counts: dict[str, int], swing: float, calls_per_minute: int | None
) -> None:
    rehearsal = Rehearsal({c: names(c, n) for c, n in counts.items()}, calls_per_minute)
    market = Market(swing)
    n_symbols = sum(counts.values())
    for _ in rehearsal.run(120.0 if n_symbols < 10_000 else 30.0, market):
        pass
    seconds = 1_200.0 if n_symbols < 1_000 else 300.0 if n_symbols < 10_000 else 60.0
    predicted = {c: schedule.predict(rehearsal.now, seconds) for c, schedule in rehearsal.schedules.items()}
    measured = Counter(cluster for _, cluster, _ in rehearsal.run(seconds, market))
    for cluster, n in predicted.items():
        assert measured[cluster] == pytest.approx(n, rel=0.02), cluster


@pytest.mark.parametrize(
    "counts",
    [{"stocks": 10}, {"options": 300}, {"stocks": 600}, {"indices": 900}, {"stocks": 4, "options": 3, "indices": 3}],
    ids=str,
)
def test_the_pace_that_is_told_beforehand_is_the_one_that_is_kept(counts: dict[str, int]) -> None:
    rehearsal = Rehearsal({c: names(c, n) for c, n in counts.items()})
    told = {c: schedule.pace.per_minute for c, schedule in rehearsal.schedules.items()}
    market = Market()
    list(rehearsal.run(60.0, market))
    measured = Counter(cluster for _, cluster, _ in rehearsal.run(600.0, market))
    for cluster, per_minute in told.items():
        assert measured[cluster] == pytest.approx(10 * per_minute, rel=0.02)


# ---- weeks


@dataclass(frozen=True)
class Calendar:
    """Phases of New York days from `first` on; time 0 is its midnight."""

    first: dt.date
    days: int

    @property
    def start_ns(self) -> int:
        return new_york_ns(self.first)

    @property
    def seconds(self) -> float:
        return (new_york_ns(self.first + dt.timedelta(days=self.days)) - self.start_ns) / 1e9

    def phases(self) -> list[tuple[float, str]]:
        """Beginning and name of each phase."""
        edges = {0.0}
        for i in range(self.days):
            if day := session(self.first + dt.timedelta(days=i)):
                edges |= {(ns - self.start_ns) / 1e9 for ns in (day.early_ns, day.open_ns, day.close_ns, day.late_ns)}
        return [(edge, phase_at(self.start_ns + int(edge * 1e9))) for edge in sorted(edges)]

    def status(self) -> Callable[[str, float], str]:
        phases = self.phases()
        edges = [edge for edge, _ in phases]

        def status(cluster: str, at: float) -> str:
            phase = phases[bisect_right(edges, at) - 1][1]
            if phase == "regular":
                return "open"
            return f"{phase}_trading" if cluster == "stocks" and phase != "closed" else "closed"

        return status


THANKSGIVING = Calendar(dt.date(2025, 11, 24), 7)
SPRING_FORWARD = Calendar(dt.date(2025, 3, 4), 7)


def test_a_week_with_a_holiday_and_a_half_day() -> None:
    status = THANKSGIVING.status()
    rehearsal = Rehearsal({"stocks": ["A", "B"], "options": ["O:A"], "indices": ["I:A"]}, start_s=0.0)
    market = Market(status=status, still=frozenset({"B"}))
    times: list[float] = []
    measured: Counter[tuple[int, str]] = Counter()
    predicted: Counter[tuple[int, str]] = Counter()
    asked: dict[str, float] = {}
    longest: Counter[str] = Counter()
    phases = [*THANKSGIVING.phases(), (THANKSGIVING.seconds, "over")]
    assert [name for _, name in phases].count("regular") == 4
    for i, ((edge, _), (end, _)) in enumerate(itertools.pairwise(phases)):
        # Five minutes on, whoever was asleep has found out in which phase we are.
        for part, seconds in (("settling", 300.0), ("settled", end - edge - 300.0)):
            for cluster, schedule in rehearsal.schedules.items():
                if part == "settled":
                    predicted[i, cluster] = schedule.predict(rehearsal.now, seconds)
            for at, cluster, batch in rehearsal.run(seconds, market):
                times.append(at)
                measured[i, cluster] += part == "settled"
                for symbol in batch:
                    longest[cluster] = max(longest[cluster], at - asked.get(symbol, 0.0))
                    asked[symbol] = at
    assert worst(times) <= rehearsal.budget.limit == 40
    for cluster, schedule in rehearsal.schedules.items():
        assert longest[cluster] <= schedule.bound_s
    for key, n in predicted.items():
        assert measured[key] == pytest.approx(n, rel=0.02, abs=2), (phases[key[0]], key)
    assert sum(measured.values()) == pytest.approx(sum(predicted.values()), rel=0.02)


def test_a_week_in_which_the_clocks_change_is_predicted_from_the_calendar_alone() -> None:
    status = SPRING_FORWARD.status()
    rehearsal = Rehearsal({"stocks": names("stocks", 3)}, start_s=0.0)
    schedule = rehearsal.schedules["stocks"]
    steady = Market(seed=1, status=status)
    predicted = schedule.predict(0.0, SPRING_FORWARD.seconds, lambda symbols, at: steady("stocks", symbols, at))
    times = [at for at, *_ in rehearsal.run(SPRING_FORWARD.seconds, Market(seed=2, status=status))]
    assert len(times) == pytest.approx(predicted, rel=0.02)
    assert worst(times) <= 20
    # Monday's first print is at 04:00 in New York, an hour earlier in UTC than on Friday.
    opened = [edge for edge, name in SPRING_FORWARD.phases() if name == "early"]
    assert opened[-1] - opened[-2] == 3 * 86_400 - 3_600
    for edge in opened:
        first_two = [at for at in times if edge <= at][:2]
        assert first_two[0] - edge <= 12.0
        assert first_two[1] - first_two[0] <= 5.0, "awake from the first answer that says so"
