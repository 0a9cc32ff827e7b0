from __future__ import annotations

import asyncio
import threading

import pytest

from massive_lab.audit.stage import StageClock
from massive_lab.clock import Clock


async def _until(condition) -> None:
    while not condition():  # noqa: ASYNC110  the condition is another task's state
        await asyncio.sleep(0)


def test_it_is_a_clock() -> None:
    assert isinstance(StageClock(), Clock)


def test_it_runs_stops_at_a_round_number_moves_and_runs_on() -> None:
    real = [0]
    clock = StageClock(monotonic_ns=lambda: real[0], now_ns=lambda: 10**18)
    real[0] += 3_000_000_000
    assert (clock.monotonic(), clock.now_ns()) == (3.0, 10**18 + 3_000_000_000)
    clock.stop()
    real[0] += 60_000_000_000
    assert clock.monotonic() == 1024.0
    clock.stop()
    assert clock.monotonic() == 1024.0
    clock.advance(0.5)
    clock.run()
    real[0] += 1_000_000_000
    assert clock.monotonic() == 1025.5


def test_it_tells_the_date_it_is_given() -> None:
    clock = StageClock()
    clock.stop(now_ns=5 * 10**17)
    clock.advance(1.0)
    assert clock.now_ns() == 5 * 10**17 + 10**9


@pytest.mark.asyncio
async def test_who_is_early_by_a_rounding_error_waits_for_the_next_move() -> None:
    clock = StageClock()
    clock.stop()
    task = asyncio.create_task(clock.sleep(1e-15))
    await _until(lambda: clock.n_sleeping == 1)
    assert clock.sleepers() == [task.get_name()]
    clock.advance(1e-9)
    await task


def test_only_a_stopped_clock_is_moved_and_only_forward() -> None:
    clock = StageClock()
    with pytest.raises(ValueError, match="stopped"):
        clock.advance(1)
    clock.stop()
    with pytest.raises(ValueError, match="forward"):
        clock.advance(-1)


@pytest.mark.asyncio
async def test_sleepers_wake_exactly_when_due_and_are_counted_until_then() -> None:
    clock, woken = StageClock(), []
    clock.stop()

    async def sleep(delay_s: float) -> None:
        await clock.sleep(delay_s)
        woken.append(delay_s)

    tasks = [asyncio.create_task(sleep(delay_s)) for delay_s in (2.0, 1.0)]
    await _until(lambda: clock.n_sleeping == 2)
    assert clock.next_wake_s() == 1.0
    clock.advance(1.0)
    assert clock.n_sleeping == 1  # at once, before the sleeper has run
    await tasks[1]
    assert woken == [1.0]
    clock.advance(1.0)
    await tasks[0]
    assert woken == [1.0, 2.0]
    assert clock.next_wake_s() is None


@pytest.mark.asyncio
async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = StageClock()
    clock.stop()
    task = asyncio.create_task(clock.sleep(5))
    await _until(lambda: clock.n_sleeping == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.n_sleeping == 0


@pytest.mark.asyncio
async def test_a_sleeper_of_running_time_waits_on_when_the_clock_is_stopped_and_moved() -> None:
    clock = StageClock()
    task = asyncio.create_task(clock.sleep(3_600))
    await _until(lambda: clock.n_sleeping == 1)
    clock.stop()
    await _until(lambda: clock.n_sleeping == 1)
    mover = threading.Thread(target=clock.advance, args=(3_600,))
    mover.start()
    await task
    mover.join()
    assert clock.monotonic() >= 3_600


@pytest.mark.asyncio
async def test_a_sleeper_of_stopped_time_ends_by_itself_once_the_clock_runs() -> None:
    clock = StageClock()
    clock.stop()
    task = asyncio.create_task(clock.sleep(0.001))
    await _until(lambda: clock.n_sleeping == 1)
    clock.run()
    await task
