from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.audit.stage import StageClock
from massive_lab.clock import Clock, ManualClock, SystemClock, first_ns


async def until_asleep(clock: ManualClock, n: int) -> None:
    async with asyncio.timeout(20):
        while clock.n_sleeping != n:  # noqa: ASYNC110  a clock tells nobody who sleeps on it
            await asyncio.sleep(0)


def test_both_are_clocks() -> None:
    assert isinstance(SystemClock(), Clock)
    assert isinstance(ManualClock(), Clock)


def test_a_manual_clock_stands_still_and_moves_by_exact_nanoseconds() -> None:
    clock = ManualClock(start_ns=1_700_000_000_000_000_007)
    assert clock.now_ns() == 1_700_000_000_000_000_007
    for _ in range(10):
        clock.advance(0.1)
    assert clock.now_ns() == 1_700_000_001_000_000_007
    assert clock.monotonic() == 1.0


def test_time_does_not_go_back() -> None:
    clock = ManualClock()
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1e-9)
    assert clock.now_ns() == 0


@pytest.mark.asyncio
async def test_sleepers_wake_in_the_order_of_their_deadlines_and_equals_in_that_of_their_coming() -> None:
    clock, woken = ManualClock(), []

    async def sleeper(name: str, delay_s: float) -> None:
        await clock.sleep(delay_s)
        woken.append(name)

    delays = [("c", 3.0), ("a1", 1.0), ("b", 2.0), ("a2", 1.0), ("d", 4.0)]
    tasks = [asyncio.create_task(sleeper(*each)) for each in delays]
    await until_asleep(clock, 5)
    clock.advance(3.0)
    await asyncio.wait_for(asyncio.gather(*tasks[:4]), 20)
    assert woken == ["a1", "a2", "b", "c"]
    assert clock.n_sleeping == 1
    clock.advance(1.0)
    await tasks[4]


@pytest.mark.asyncio
async def test_a_sleeper_wakes_at_its_deadline_and_not_before() -> None:
    clock = ManualClock()
    clock.advance(10.0)
    task = asyncio.create_task(clock.sleep(2.0))
    await until_asleep(clock, 1)
    assert clock.next_wake_s() == 2.0
    clock.advance(1.999_999_999)
    assert clock.n_sleeping == 1
    assert clock.next_wake_s() == 1e-9
    clock.advance(1e-9)
    await asyncio.wait_for(task, 20)
    assert clock.n_sleeping == 0
    assert clock.next_wake_s() is None


@pytest.mark.parametrize("delay_s", [0, -1.0, 1e-12, float("-inf")])
@pytest.mark.asyncio
async def test_no_delay_needs_no_advance_but_lets_others_run(delay_s: float) -> None:
    clock = ManualClock() if delay_s != float("-inf") else SystemClock()
    others: list[int] = []
    asyncio.get_running_loop().call_soon(others.append, 1)
    await asyncio.wait_for(clock.sleep(delay_s), 20)
    assert others == [1]


@pytest.mark.asyncio
async def test_cancelled_sleepers_are_forgotten() -> None:
    clock = ManualClock()
    tasks = [asyncio.create_task(clock.sleep(delay_s)) for delay_s in (1.0, 2.0)]
    await until_asleep(clock, 2)
    tasks[0].cancel()
    await asyncio.wait([tasks[0]])
    assert tasks[0].cancelled()
    assert clock.n_sleeping == 1
    assert clock.next_wake_s() == 2.0
    clock.advance(2.0)
    await tasks[1]


@pytest.mark.asyncio
async def test_a_sleeper_cancelled_after_it_was_woken_stays_cancelled() -> None:
    clock, told = ManualClock(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    task = asyncio.create_task(clock.sleep(1.0))
    await until_asleep(clock, 1)
    task.cancel()
    clock.advance(1.0)  # the wake-up is queued behind the cancellation
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert task.cancelled()
    assert told == []


def test_sleepers_on_several_loops_wake_from_another_thread_and_a_closed_loop_harms_nobody() -> None:
    clock = ManualClock()
    woken: list[str] = []

    def live(name: str, delay_s: float) -> None:
        async def main() -> None:
            await clock.sleep(delay_s)
            woken.append(name)

        asyncio.run(main())

    gone = asyncio.new_event_loop()
    left_behind = clock.sleep(0.5)
    task = gone.create_task(left_behind)
    gone.call_soon(gone.stop)
    gone.run_forever()
    assert clock.n_sleeping == 1
    # The loop ends with its sleeper still in the clock's books.
    task.cancel()
    gone.run_until_complete(asyncio.wait([task]))
    pending = gone.create_future()
    clock._sleepers.append((500_000_000, -1, gone, pending))
    gone.close()

    threads = [threading.Thread(target=live, args=each, daemon=True) for each in (("a", 1.0), ("b", 1.0))]
    for thread in threads:
        thread.start()
    waiting = threading.Event()
    while clock.n_sleeping < 3:
        waiting.wait(0.001)
    clock.advance(1.0)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert sorted(woken) == ["a", "b"]


@pytest.mark.asyncio
async def test_the_system_clock_is_the_machines() -> None:
    clock = SystemClock()
    before, now, after = clock.monotonic(), clock.now_ns(), clock.monotonic()
    assert before <= after
    assert now > 1_700_000_000 * 10**9
    await clock.sleep(-1)
    task = asyncio.create_task(clock.sleep(3600))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("clock", [ManualClock(), StageClock()], ids=["manual", "stage"])
@pytest.mark.asyncio
async def test_a_deadline_is_kept_however_late_the_sleeper_lies_down(clock: ManualClock | StageClock) -> None:
    if isinstance(clock, StageClock):
        clock.stop()
    sleep = clock.sleep_until(clock.monotonic() + 2.0)  # a coroutine that has not begun to run
    clock.advance(2.0)
    task = asyncio.create_task(sleep)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert task.done(), "time passed between the decision to wait and the wait itself"


@given(ns=st.integers(0, 10**16))
def test_the_first_nanosecond_of_a_deadline_is_not_before_it(ns: int) -> None:
    at_s = ns / 1e9 + 0.05
    assert first_ns(at_s) / 1e9 >= at_s
    assert abs(first_ns(at_s) - (ns + 50_000_000)) <= 4
