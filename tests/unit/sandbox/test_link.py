from __future__ import annotations

import asyncio
import random

import pytest

from massive_lab.sandbox.faults.toxics import BlackHole, End, Latency, LimitData
from massive_lab.sandbox.link import Link

pytestmark = pytest.mark.asyncio


class Ends:
    def __init__(self) -> None:
        self.passed = b""
        self.marks: list[str] = []
        self.ended: list[End] = []
        self.link = Link(asyncio.get_running_loop(), self._sink, self.ended.append)

    def _sink(self, data: bytes) -> None:
        self.passed += data

    def mark(self, name: str) -> None:
        self.link.mark(lambda: self.marks.append(name))


def latency(ms: float):
    return Latency(latency_ms=ms).stage(random.Random(0))


async def test_without_faults_bytes_and_marks_pass_at_once():
    ends = Ends()
    ends.link.write(b"a")
    ends.mark("a")
    assert (ends.passed, ends.marks) == (b"a", ["a"])


async def test_a_mark_comes_true_when_the_bytes_before_it_have_passed():
    ends = Ends()
    ends.link.attach("slow", latency(1))
    ends.link.write(b"a")
    ends.mark("a")
    assert (ends.passed, ends.marks, ends.link.n_queued_bytes) == (b"", [], 1)
    await ends.link.drained()
    assert (ends.passed, ends.marks, ends.link.n_queued_bytes) == (b"a", ["a"], 0)


async def test_a_removed_fault_hands_on_what_it_holds_at_once():
    ends = Ends()
    ends.link.attach("slow", latency(60_000))
    ends.link.write(b"a")
    ends.mark("a")
    ends.link.keep_only(())
    ends.link.write(b"b")
    assert (ends.passed, ends.marks) == (b"ab", ["a"])


async def test_removing_one_fault_leaves_the_end_another_has_set():
    ends = Ends()
    ends.link.attach("slow", latency(60_000))
    ends.link.attach("hole", BlackHole(timeout_ms=60_000).stage(random.Random(0)))
    ends.link.keep_only({"hole"})
    assert ends.ended == []
    ends.link.stop()


async def test_a_hole_that_swallowed_nothing_may_be_removed_and_one_that_did_ends_the_connection():
    for data, ended in ((b"", []), (b"x", [End.RESET])):
        ends = Ends()
        ends.link.attach("hole", BlackHole().stage(random.Random(0)))
        if data:
            ends.link.write(data)
            ends.mark("lost")
        ends.link.keep_only(())
        assert (ends.ended, ends.marks) == (ended, [])


async def test_what_a_limit_drops_is_never_marked_and_ends_in_a_close():
    ends = Ends()
    ends.link.attach("limit", LimitData(limit_bytes=3).stage(random.Random(0)))
    ends.link.write(b"ab")
    ends.mark("ab")
    ends.link.write(b"cd")
    ends.mark("cd")
    await ends.link.drained()
    assert (ends.passed, ends.marks, ends.ended) == (b"abc", ["ab"], [End.CLOSE])


async def test_a_close_waits_for_the_bytes_before_it():
    ends = Ends()
    ends.link.attach("slow", latency(1))
    ends.link.write(b"a")
    closed = asyncio.get_running_loop().create_future()
    ends.link.close_with(lambda: closed.set_result(ends.passed))
    assert not closed.done()
    assert await closed == b"a"


async def test_stopping_wakes_those_who_wait():
    ends = Ends()
    ends.link.attach("slow", latency(60_000))
    ends.link.write(b"a")
    waiting = asyncio.create_task(ends.link.drained())
    await asyncio.sleep(0)
    ends.link.stop()
    async with asyncio.timeout(5):
        await waiting
