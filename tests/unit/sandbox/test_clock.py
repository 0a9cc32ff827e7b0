from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.errors import InvalidRequest
from massive_lab.sandbox.clock import DEFAULT_START, VirtualClock, parse_moment
from massive_lab.schema.session import phase_at

SECOND = 1_000_000_000


class Real:
    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


def test_the_default_start_is_in_a_regular_session():
    assert phase_at(parse_moment(DEFAULT_START)) == "regular"


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2018-12-19T10:30:00", 1_545_233_400 * SECOND),
        ("2018-12-19T10:30:00.000250", 1_545_233_400 * SECOND + 250_000),
        ("2018-12-19T15:30:00+00:00", 1_545_233_400 * SECOND),
        ("2018-07-19", 1_531_972_800 * SECOND),
    ],
)
def test_moments(text: str, ns: int):
    assert parse_moment(text) == ns


def test_a_moment_that_is_none():
    with pytest.raises(InvalidRequest, match="yesterday"):
        parse_moment("yesterday")


def test_pace():
    real = Real()
    clock = VirtualClock(0, speed=10, monotonic_ns=real)
    real.ns = SECOND
    assert clock.now_ns() == 10 * SECOND
    clock.set_speed(2)
    real.ns = 2 * SECOND
    assert clock.now_ns() == 12 * SECOND
    clock.pause()
    real.ns = 9 * SECOND
    assert clock.now_ns() == 12 * SECOND
    clock.jump_to(20 * SECOND)
    clock.resume()
    real.ns = 10 * SECOND
    assert clock.now_ns() == 22 * SECOND


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf")])
def test_a_speed_is_positive(speed: float):
    with pytest.raises(InvalidRequest):
        VirtualClock(0, speed=speed)
    with pytest.raises(InvalidRequest):
        VirtualClock(0).set_speed(speed)


def test_time_does_not_go_back():
    clock = VirtualClock(5, paused=True)
    with pytest.raises(InvalidRequest):
        clock.jump_to(4)


moves = st.one_of(
    st.tuples(st.just("real"), st.integers(0, 10 * SECOND)),
    st.tuples(st.just("jump"), st.integers(0, 10 * SECOND)),
    st.tuples(st.just("speed"), st.sampled_from([0.5, 1, 60, 1000])),
    st.tuples(st.sampled_from(["pause", "resume"]), st.just(0)),
)


@given(st.lists(moves))
def test_no_sequence_of_moves_takes_time_back(sequence):
    real = Real()
    clock = VirtualClock(0, monotonic_ns=real)
    before = 0
    for verb, value in sequence:
        if verb == "real":
            real.ns += value
        elif verb == "jump":
            clock.jump_to(clock.now_ns() + value)
        elif verb == "speed":
            clock.set_speed(value)
        else:
            getattr(clock, verb)()
        assert clock.now_ns() >= before
        before = clock.now_ns()


@pytest.mark.asyncio
async def test_sleepers_wake_when_time_jumps_past_them_and_not_before():
    clock = VirtualClock(0, paused=True)
    woken: list[int] = []

    async def sleeper(at: int) -> None:
        await clock.sleep_until(at)
        woken.append(at)

    tasks = [asyncio.create_task(sleeper(at)) for at in (10, 30)]
    await asyncio.sleep(0)
    clock.jump_to(9)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert woken == []
    clock.jump_to(10)
    async with asyncio.timeout(5):
        await tasks[0]
    assert woken == [10]
    clock.set_speed(1_000_000)
    clock.resume()
    async with asyncio.timeout(5):
        await tasks[1]
