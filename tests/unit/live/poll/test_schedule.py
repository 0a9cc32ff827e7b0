"""One schedule, and the budget it shares with others, case by case."""

from __future__ import annotations

import itertools
import math

import polars as pl
import pytest

from massive_lab.live.policy import Policy
from massive_lab.live.poll.budget import Budget
from massive_lab.live.poll.polling import snapshot_seen
from massive_lab.live.poll.schedule import Call, Pace, Schedule, Seen

POLICY = Policy()


def schedule_of(cluster: str, *symbols: str, budget: Budget | None = None, now: float = 0.0) -> Schedule:
    budget = budget or Budget(POLICY)
    budget.join(cluster, max(1, len(symbols)))
    schedule = Schedule(cluster, POLICY, budget)
    schedule.want(symbols, now)
    return schedule


def rounds(schedule: Schedule, answers: list[dict[str, Seen]]) -> list[float]:
    """When the calls go out that bring these answers, and the one after them."""
    at = []
    for answer in answers:
        plan = schedule.next()
        assert plan is not None
        at.append(plan.at_s)
        schedule.take(plan.at_s)
        schedule.answered(answer)
    plan = schedule.next()
    assert plan is not None
    return [*at, plan.at_s]


def gaps(at: list[float]) -> list[float]:
    return [round(b - a, 9) for a, b in itertools.pairwise(at)]


@pytest.mark.parametrize(("cluster", "seconds"), [("stocks", 4.0), ("options", 2.0), ("indices", 5.0)])
def test_each_class_has_its_interval(cluster: str, seconds: float) -> None:
    answers = [{"X": Seen(100.0 * (1 + i * POLICY.poll_move[cluster]), "open")} for i in range(20)]
    assert set(gaps(rounds(schedule_of(cluster, "X"), answers))) == {seconds}


def test_a_closed_market_is_asked_each_12_s_and_wakes_with_the_answer_that_says_open() -> None:
    answers = [{"X": Seen(1.0, "closed")}] * 3 + [{"X": Seen(1.1, "open")}, {"X": Seen(1.1002, "open")}]
    assert gaps(rounds(schedule_of("options", "X"), answers)) == [12.0, 12.0, 12.0, 2.0, 2.0]


def test_a_price_that_stands_still_is_asked_for_less_and_at_once_again_when_it_moves() -> None:
    answers = [{"X": Seen(100.0)}] * 6 + [{"X": Seen(100.5)}]
    assert gaps(rounds(schedule_of("stocks", "X"), answers)) == [4.0, 5.0, 6.25, 7.8125, 8.0, 8.0, 3.0]


def test_a_symbol_that_the_answer_leaves_out_counts_as_standing_still() -> None:
    assert gaps(rounds(schedule_of("stocks", "X"), [{}, {}])) == [5.0, 6.25]


@pytest.mark.parametrize(("swing", "seconds"), [(0.3, 6.0), (1.0, 4.0), (4.0, 3.0)])
def test_volatility_of_the_polled_prices_sets_the_interval(swing: float, seconds: float) -> None:
    price, answers = 100.0, []
    for i in range(30):
        price *= 1 + swing * POLICY.poll_move["stocks"] * (-1) ** i
        answers.append({"X": Seen(price, "open")})
    found = gaps(rounds(schedule_of("stocks", "X"), answers))
    assert set(found[:5]) == {4.0}, "too little is known yet"
    assert found[-1] == seconds


def test_a_call_is_filled_with_what_is_nearly_due_so_that_symbols_fall_into_step() -> None:
    schedule = schedule_of("stocks", "A")
    schedule.take(0.0)
    schedule.answered({"A": Seen(1.0)})
    schedule.want(["A", "B"], 2.5)
    assert schedule.next() == Call(2.5, 2)
    assert schedule.take(2.5) == ["B", "A"]
    schedule.answered({})
    assert [len(schedule.take(at)) for at in (7.5, 11.5)] == [2, 2]


def test_a_full_call_takes_those_who_have_waited_longest() -> None:
    names = [f"S{i}" for i in range(600)]
    schedule = schedule_of("stocks", *names)
    taken = []
    while len(taken) < 600:
        plan = schedule.next()
        assert plan is not None
        taken += schedule.take(plan.at_s)
        schedule.answered({})
    assert taken[:600] == names
    # 40 calls a minute for each 250 symbols begun: the three calls are half a second apart.
    assert schedule.pace == Pace(600, 3, 4.0, 4.0)
    assert plan.at_s == 1.0


def test_what_is_no_longer_wanted_is_not_asked_for_and_what_is_new_comes_first() -> None:
    schedule = schedule_of("stocks", "A", "B")
    schedule.take(0.0)
    schedule.want(["B", "C"], 1.0)
    schedule.answered({"A": Seen(1.0), "B": Seen(1.0)})
    assert schedule.take(1.5) == ["C", "B"]
    schedule.want([], 2.0)
    assert (schedule.next(), schedule.interval_s) == (None, None)
    schedule_of("stocks", budget=(budget := Budget(POLICY)))
    budget.leave("stocks")
    assert Schedule("stocks", POLICY, budget).pace == Pace(0, 0, 4.0, 4.0), "whoever polls for nobody can still be asked"


def test_failing_calls_are_spaced_out_and_the_first_answer_ends_that() -> None:
    schedule = schedule_of("options", "X")
    holds = []
    at = 0.0
    for _ in range(7):
        schedule.take(at)
        schedule.failed()
        plan = schedule.next()
        assert plan is not None
        holds.append(plan.at_s - at)
        at = plan.at_s
    assert holds == [4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    schedule.take(at)
    schedule.answered({"X": Seen(1.0)})
    assert schedule.next() == Call(at + 2.0, 1)


@pytest.mark.parametrize(("retry_after_s", "wait_s"), [(40.0, 40.0), (1.0, 8.0), (None, 8.0)])
def test_retry_after_is_kept_and_never_speeds_anything_up(retry_after_s: float | None, wait_s: float) -> None:
    schedule = schedule_of("stocks", "X")
    schedule.take(0.0)
    schedule.failed(retry_after_s)
    plan = schedule.next()
    assert plan is not None
    assert plan.at_s == wait_s


def test_a_schedule_slower_than_the_cap_is_not_sped_up_by_failing() -> None:
    budget = Budget(POLICY, 1)
    schedule = schedule_of("stocks", "X", budget=budget)
    assert budget.spacing_s("stocks") == 75.0
    schedule.take(0.0)
    schedule.failed()
    plan = schedule.next()
    assert plan is not None
    assert plan.at_s == 75.0


def test_a_prediction_changes_nothing() -> None:
    schedule = schedule_of("stocks", "A", "B")
    schedule.take(0.0)
    schedule.answered({"A": Seen(1.0), "B": Seen(1.0, "closed")})
    before = schedule.next()
    assert schedule.predict(0.5, 60.0) == 15
    assert schedule.predict(0.5, 60.0, lambda symbols, at: {s: Seen(1.0, "closed") for s in symbols}) == 6
    assert schedule.next() == before
    assert schedule.predict(0.5, 0.0) == 0


def test_basic_plans_leave_a_call_to_loaders_and_three_clusters_share_the_rest() -> None:
    budget = Budget(POLICY, 5)
    for cluster in ("stocks", "options", "indices"):
        budget.join(cluster, 3)
    assert budget.quotas == {"stocks": 1, "options": 2, "indices": 1}
    budget.leave("options")
    assert budget.quotas == {"stocks": 2, "indices": 2}


def test_fewer_calls_than_clusters_are_shared_by_taking_turns() -> None:
    budget = Budget(POLICY, 2)
    for cluster in ("stocks", "options", "indices"):
        budget.join(cluster, 3)
    assert budget.limit == 1
    assert budget.spacing_s("stocks") == pytest.approx(180.0)


def test_those_who_must_make_do_with_less_are_told_and_nobody_else() -> None:
    told = []
    budget = Budget(POLICY)
    budget.join("stocks", 3, lambda: told.append("stocks"))
    budget.join("options", 3, lambda: told.append("options"))
    assert told == ["stocks"]
    budget.join("options", 900, lambda: told.append("options"))
    assert told == ["stocks"], "more symbols bring more calls: stocks have what they had"
    budget.leave("stocks")
    assert told == ["stocks"]


def test_who_was_followed_by_another_of_his_cluster_does_not_leave_for_him() -> None:
    budget = Budget(POLICY)
    old, new = list[int]().clear, list[int]([1]).clear
    budget.join("stocks", 3, old)
    budget.join("stocks", 3, new)
    budget.leave("stocks", old)
    assert budget.quotas == {"stocks": 40}


def test_the_smaller_plan_of_one_key_holds() -> None:
    budget = Budget(POLICY)
    budget.join("stocks", 10_000)
    assert budget.limit == 960
    budget.tighten(5)
    budget.tighten(None)
    budget.tighten(600)
    assert (budget.limit, budget.quotas) == (4, {"stocks": 4})


def test_a_slot_is_free_a_period_after_it_was_used() -> None:
    budget = Budget(POLICY, 3)
    budget.join("stocks", 1)
    assert budget.limit == 2
    for now in (0.0, 10.0):
        assert budget.free_at(now) == now
        budget.spend(now)
    assert (budget.free_at(10.0), budget.free_at(65.0)) == (60.0, 65.0)


def test_a_snapshot_tells_the_schedule_a_price_and_the_market() -> None:
    frame = pl.DataFrame(
        {
            "symbol": ["A", "B", "C", "D"],
            "last_price": [1.0, None, None, None],
            "trade_price": [2.0, 2.0, None, None],
            "bid_price": [3.0, 3.0, 3.0, 3.0],
            "ask_price": [4.0, 4.0, 4.0, None],
            "market_status": ["open", "closed", None, "open"],
        }
    )
    assert snapshot_seen(frame) == {
        "A": Seen(1.0, "open"), "B": Seen(2.0, "closed"), "C": Seen(3.5, None), "D": Seen(None, "open")
    }  # fmt: skip
    assert snapshot_seen(pl.DataFrame()) == {}


def test_a_pace_says_that_it_is_degraded_and_how_much() -> None:
    budget = Budget(POLICY, 600)
    schedule = schedule_of("stocks", *(f"S{i}" for i in range(10_000)), budget=budget)
    pace = schedule.pace
    assert (budget.limit, pace.calls_per_round, pace.is_degraded) == (480, 40, True)
    assert pace.note == "degraded: each symbol every 5 s instead of 4 s"
    assert math.isclose(pace.per_minute, 480.0)
    assert schedule_of("stocks", "X").pace.note is None
