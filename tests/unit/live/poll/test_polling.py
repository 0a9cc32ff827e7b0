"""The fallback at work on a hub: what it shows, whom it asks for and when, and what it shares with its neighbours."""

from __future__ import annotations

import asyncio

import polars as pl
import pytest

from massive_lab import telemetry as t
from massive_lab.clock import ManualClock
from massive_lab.config import Secret, Settings
from massive_lab.errors import ConnectionLost, MassiveLabError
from massive_lab.live import registry
from massive_lab.live.policy import Policy
from massive_lab.live.poll.budget import Budget
from massive_lab.live.poll.polling import PollWorker
from massive_lab.live.poll.schedule import Schedule

pytestmark = pytest.mark.asyncio
NS = 1_750_000_000 * 10**9


def traded(price: float, at_ns: int = NS) -> dict[str, object]:
    return {"trade_price": price, "trade_size": 1.0, "ts_trade": at_ns, "last_price": price, "market_status": "open"}


def shown(bench) -> dict[str, object]:
    status = bench.hub.status()
    return {name: status[name] for name in ("state", "serving", "poll_interval_s", "poll_symbols", "poll_note")}


async def test_with_socket_and_rest_both_dead_the_feed_is_down_and_says_so(make_bench, upstream, rest, tools):
    bench = make_bench(rest, backoff_base_s=500.0, backoff_cap_s=500.0)
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()])
    await bench.live("T.AAPL")
    assert shown(bench) == {
        "state": "live", "serving": "stream", "poll_interval_s": None, "poll_symbols": None, "poll_note": None
    }  # fmt: skip
    rest.error = ConnectionLost("no route")
    upstream.connections[-1].transport.abort()
    await bench.until(lambda: bench.hub.state == "down", step_s=0.01)
    assert shown(bench)["serving"] == "none"
    assert len(rest.calls) >= 1
    rest.error = None
    rest.rows["AAPL"] = traded(5.0)
    await bench.until(lambda: bench.hub.state == "polling", step_s=0.1)
    assert shown(bench) == {
        "state": "polling", "serving": "poll", "poll_interval_s": 4.0, "poll_symbols": 1, "poll_note": None
    }  # fmt: skip
    rest.error = ConnectionLost("no route")
    await bench.until(lambda: bench.hub.state == "down", step_s=0.1)
    # The socket alone is enough to be live again.
    await bench.until(lambda: bench.hub.state == "live", step_s=5.0)
    assert shown(bench)["serving"] == "stream"
    changes = [(event.previous, event.state, event.reason) for event in bench.told(t.FeedStateChanged)]
    down = [(state, reason) for _, state, reason in changes if state in ("down", "polling")]
    assert down == [("polling", "REST stands in"), ("down", "no route"), ("polling", "REST answers"), ("down", "no route")]


async def test_a_loss_is_polled_within_100_ms_and_each_poll_is_announced_before_it_is_made(
    make_bench, upstream, rest, tools
):
    bench = make_bench(rest, backoff_base_s=500.0, backoff_cap_s=500.0)
    bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()])
    await bench.live("T.AAPL")
    upstream.connections[-1].transport.abort()
    await bench.until(lambda: bench.hub.state != "live")
    await bench.until(lambda: rest.calls, step_s=0.01)
    (started,) = bench.told(t.FallbackStarted)
    assert started.since_loss_s <= 0.1
    prices = iter(range(1, 99))
    for n in range(2, 8):
        rest.rows["AAPL"] = traded(100.0 + next(prices) / 50)
        await bench.until(lambda n=n: len(bench.told(t.PollPlanned)) == n - 1)
        plan = bench.told(t.PollPlanned)[-1]
        assert plan.n_symbols == 1
        left_s = plan.due_at_s - bench.clock.monotonic()
        bench.clock.advance(left_s - 0.001)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(rest.calls) == n - 1
        bench.clock.advance(0.001)
        await bench.until(lambda n=n: len(bench.told(t.PollTick)) == n)
    assert len(bench.told(t.PollPaced)) == 1


async def test_a_symbol_opened_while_polling_is_asked_for_at_once_and_a_closed_one_no_longer(
    make_bench, upstream, rest, tools
):
    bench = make_bench(rest, linger_s=0.0)
    upstream.refuse_upgrade = 503
    rest.rows = {"AAPL": {"market_status": "closed"}, "SPY": {"market_status": "closed"}}
    first = bench.hub.open(bench.topic("T.AAPL"), [tools.Inbox()])
    await bench.until(lambda: rest.calls, step_s=0.05)
    await bench.until(lambda: bench.told(t.PollPlanned))
    assert bench.told(t.PollPlanned)[-1].due_at_s >= 12.0
    bench.clock.advance(3.0)
    bench.hub.open(bench.topic("Q.SPY"), [tools.Inbox()])
    await bench.until(lambda: len(rest.calls) == 2)
    assert "SPY" in rest.calls[1][1]
    bench.hub.close_reader(first)
    await bench.until(lambda: len(rest.calls) == 3, step_s=0.5)
    assert rest.calls[2][1] == ["SPY"]


async def test_status_says_how_degraded_polling_is(upstream, make_bench, rest, tools):
    bench = make_bench(rest, poll_batch=2, poll_thrift=10)
    upstream.refuse_upgrade = 503
    for name in "ABCDE":
        bench.hub.open(bench.topic(f"T.{name}"), [tools.Inbox()])
    await bench.until(lambda: len(rest.calls) == 3, step_s=0.1)
    assert [symbols for _, symbols in rest.calls] == [["A", "B"], ["C", "D"], ["E", "A"]], "the last has room for one more"
    assert shown(bench)["poll_note"] == "degraded: each symbol every 6 s instead of 4 s"
    assert (shown(bench)["poll_symbols"], shown(bench)["poll_interval_s"]) == (5, 6.0)
    (paced,) = bench.told(t.PollPaced)
    assert (paced.n_symbols, paced.calls_per_round, paced.interval_s, paced.wanted_s) == (5, 3, 6.0, 4.0)


async def test_the_hubs_of_one_client_share_a_budget_and_another_key_has_its_own(upstream):
    clock = ManualClock()
    leases = []
    for key, cluster, per_minute in (("k", "stocks", None), ("k", "options", 5), ("other", "stocks", None)):
        settings = Settings(Secret(key), ws_url=upstream.url, calls_per_minute=per_minute)
        leases.append(await registry.acquire(settings, cluster, clock=clock, telemetry=t.Telemetry()))
    budgets = [lease.hub.fallback.budget for lease in leases]
    assert budgets[0] is budgets[1]
    assert budgets[2] is not budgets[0]
    assert [budget.limit for budget in budgets] == [4, 4, 40]
    for lease in leases:
        await lease.release()


class Owner:
    """What a worker asks and tells, without a hub."""

    def __init__(self, cluster: str, clock: ManualClock, symbols: list[str], delay_s: float = 0.0) -> None:
        self.cluster = cluster
        self.clock = clock
        self.wanted = {symbol: {"trades"} for symbol in symbols}
        self.delay_s = delay_s
        self.at: list[float] = []
        self.is_lent = True

    def poller(self):
        return self if self.is_lent else None

    async def poll(self, cluster, symbols):
        self.at.append(self.clock.monotonic())
        await self.clock.sleep(self.delay_s)
        price = 100.0 * (1 + Policy().poll_move[self.cluster] * (len(self.at) % 2))
        return pl.DataFrame({"symbol": symbols, "last_price": price, "market_status": "open"})

    def poll_wanted(self):
        return self.wanted

    def polling_begins(self) -> None: ...
    def poll_planned(self, call) -> None: ...
    def polled(self, n_symbols, events) -> None: ...

    def poll_failed(self, error: MassiveLabError) -> None:
        raise error


async def working(owners: list[Owner], budget: Budget, seconds: float) -> None:
    clock = owners[0].clock
    tasks = []
    for owner in owners:
        budget.join(owner.cluster, len(owner.wanted))
        worker = PollWorker(owner, clock, Schedule(owner.cluster, Policy(), budget), budget)
        tasks.append(asyncio.create_task(worker.run()))
    for _ in range(10):
        await asyncio.sleep(0)
    until = clock.monotonic() + seconds
    while clock.monotonic() < until:
        clock.advance(min(clock.next_wake_s() or 0.0, until - clock.monotonic()) + 1e-9)
        for _ in range(12):
            await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
async def test_workers_make_the_calls_that_the_schedule_predicts_whoever_starts_first(order):
    clock, budget = ManualClock(), Budget(Policy())
    owners = [Owner("stocks", clock, ["A"]), Owner("options", clock, ["O:A", "O:B"]), Owner("indices", clock, ["I:A"])]
    await working([owners[i] for i in order], budget, 120.0)
    assert [len(owner.at) for owner in owners] == [22, 42, 16]
    assert budget.quotas == {}


async def test_an_answer_that_takes_its_time_does_not_shift_the_rhythm():
    clock = ManualClock()
    owner = Owner("stocks", clock, ["A"], delay_s=1.0)
    await working([owner], Budget(Policy()), 30.0)
    assert [round(at, 6) for at in owner.at] == [0, 4, 8, 12, 16, 20, 24, 28]


async def test_without_anybody_to_poll_for_it_the_worker_waits_and_goes_on_when_there_is(tools):
    clock = ManualClock()
    owner = Owner("stocks", clock, ["A"])
    owner.is_lent = False
    work = asyncio.create_task(working([owner], Budget(Policy()), 3_600.0))
    await tools.until(lambda: clock.monotonic() >= 30.0)
    at = clock.monotonic()
    assert owner.at == []
    owner.is_lent = True
    await work
    assert owner.at
    assert owner.at[0] - at < 4.1
