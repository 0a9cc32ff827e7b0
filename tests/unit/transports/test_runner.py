"""The loop thread, used as scripts, notebooks, threads and forked children use it."""

from __future__ import annotations

import _thread
import asyncio
import concurrent.futures
import gc
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from massive_lab.errors import ClosedError, InvalidRequest, Timeout
from massive_lab.transports import runner as module
from massive_lab.transports.runner import Runner


@pytest.fixture
def runner() -> Iterator[Runner]:
    with Runner("test-io") as one:
        yield one
    assert not one._thread.is_alive()
    assert one.loop.is_closed()


@pytest.fixture(autouse=True)
def _nothing_is_swept_under_the_carpet() -> Iterator[None]:
    """A coroutine never awaited or a task destroyed while pending is told by the collector: now, in this test."""
    yield
    gc.collect()


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns as often as the interpreter allows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Stuck:
    """A coroutine that waits for ever, and tells when it began and how it ended."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.ended_by: BaseException | None = None
        self.ended = threading.Event()

    async def __call__(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            self.ended_by = error
            raise
        finally:
            self.ended.set()


async def value(result: object) -> object:
    await asyncio.sleep(0)
    return result


async def fail(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


def in_thread(work: Callable[[], Any]) -> Any:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(30)


# calling


def test_a_call_gives_the_result_and_the_error_itself(runner: Runner) -> None:
    assert runner.call(value(7)) == 7
    error = LookupError("x")
    with pytest.raises(LookupError) as caught:
        runner.call(fail(error))
    assert caught.value is error


def test_many_threads_call_at_once(runner: Runner) -> None:
    n = 16
    barrier = threading.Barrier(n)

    def work(k: int) -> list[object]:
        barrier.wait()
        return [runner.call(value((k, i))) for i in range(50)]

    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        got = list(pool.map(work, range(n)))
    assert got == [[(k, i) for i in range(50)] for k in range(n)]


def test_a_call_works_where_another_loop_is_busy_with_the_cell(runner: Runner) -> None:
    async def cell() -> object:
        return runner.call(value("from a notebook"))

    assert asyncio.run(cell()) == "from a notebook"


def test_a_call_from_the_loop_thread_is_refused_and_leaves_no_coroutine_behind(runner: Runner) -> None:
    async def inside() -> None:
        assert runner.in_loop_thread
        runner.call(value(1))

    with pytest.raises(InvalidRequest, match="own loop thread"):
        runner.call(inside())
    assert not runner.in_loop_thread


def test_a_timeout_cancels_and_does_not_return_before_the_end(runner: Runner) -> None:
    stuck = Stuck()
    with pytest.raises(Timeout, match=r"within 0\.01 s"):
        runner.call(stuck(), timeout=0.01)
    assert stuck.ended.is_set()
    assert isinstance(stuck.ended_by, asyncio.CancelledError)
    assert runner.call(value(1)) == 1


def test_the_coroutines_own_timeout_error_is_not_ours(runner: Runner) -> None:
    error = TimeoutError("its own")
    with pytest.raises(TimeoutError, match="its own") as caught:
        runner.call(fail(error), timeout=30)
    assert caught.value is error
    with pytest.raises(Timeout, match="its own"):
        runner.call(fail(Timeout("its own")))


def test_what_will_not_stop_is_told(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_CANCEL_GRACE_S", 0.05)
    release = threading.Event()
    ended = threading.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                continue
        ended.set()

    with pytest.raises(Timeout):
        runner.call(stubborn(), timeout=0.01)
    assert "did not stop within 0.05 s" in caplog.text
    release.set()
    assert ended.wait(20)


def test_ctrl_c_cancels_the_call_at_whatever_moment_it_comes(runner: Runner, switching: None) -> None:
    for _ in range(50):
        stuck = Stuck()

        def press(stuck: Stuck = stuck) -> None:
            stuck.began.wait(20)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        presser = threading.Thread(target=press)
        presser.start()
        with pytest.raises(KeyboardInterrupt):
            runner.call(stuck(), timeout=60)
        assert isinstance(stuck.ended_by, asyncio.CancelledError)
        presser.join()
    assert runner.call(value("the next cell")) == "the next cell"


def test_an_interrupt_that_wakes_nobody_is_heard_long_before_the_work_is_done(runner: Runner) -> None:
    finished = threading.Event()

    async def work() -> None:
        _thread.interrupt_main()  # marks the main thread, and leaves it asleep
        await asyncio.sleep(10)
        finished.set()

    with pytest.raises(KeyboardInterrupt):
        runner.call(work())
    assert not finished.is_set()


def test_ctrl_c_before_the_work_was_handed_over(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    coro = value(1)
    with monkeypatch.context() as patch:
        patch.setattr(runner.loop, "call_soon_threadsafe", _once(pressed, runner.loop.call_soon_threadsafe))
        with pytest.raises(KeyboardInterrupt):
            runner.call(coro)
    assert coro.cr_frame is None  # type: ignore[attr-defined]
    assert runner.call(value(2)) == 2


def _once(first: Callable[..., Any], then: Callable[..., Any]) -> Callable[..., Any]:
    waiting = [first]

    def called(*arguments: Any) -> Any:
        return (waiting.pop() if waiting else then)(*arguments)

    return called


# from another loop


def test_acall_from_another_loop(runner: Runner) -> None:
    async def main() -> list[object]:
        return await asyncio.gather(*(runner.acall(value(n)) for n in range(20)))

    assert asyncio.run(main()) == list(range(20))

    async def failing() -> None:
        await runner.acall(fail(LookupError("x")))

    with pytest.raises(LookupError):
        asyncio.run(failing())


def test_acall_on_the_loop_itself_is_a_plain_await(runner: Runner) -> None:
    async def inside() -> object:
        return await runner.acall(value(1))

    assert runner.call(inside()) == 1


def test_cancelling_an_acall_cancels_the_work(runner: Runner) -> None:
    stuck = Stuck()

    async def main() -> None:
        task = asyncio.create_task(runner.acall(stuck()))
        await asyncio.to_thread(stuck.began.wait, 20)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert stuck.ended.wait(20)
    assert isinstance(stuck.ended_by, asyncio.CancelledError)


def test_an_acall_cancelled_before_the_work_began_never_begins_it(runner: Runner) -> None:
    gate, blocked, began = threading.Event(), threading.Event(), threading.Event()

    async def block() -> None:
        blocked.set()
        gate.wait(20)

    async def work() -> None:
        began.set()

    async def main() -> None:
        runner.submit(block())
        await asyncio.to_thread(blocked.wait, 20)
        task = asyncio.create_task(runner.acall(work()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    gate.set()
    runner.call(value(None))
    assert not began.is_set()


def test_a_timeout_around_an_acall_is_the_callers_own(runner: Runner) -> None:
    stuck = Stuck()

    async def main() -> None:
        async with asyncio.timeout(0.01):
            await runner.acall(stuck())

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert stuck.ended.wait(20)


def test_a_cancelled_acall_that_ends_in_an_error_is_logged(runner: Runner, caplog: pytest.LogCaptureFixture) -> None:
    began, ended = threading.Event(), threading.Event()

    async def spiteful() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
            raise LookupError("on the way out")

    async def main() -> None:
        task = asyncio.create_task(runner.acall(spiteful()))
        await asyncio.to_thread(began.wait, 20)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert ended.wait(20)
    runner.call(value(None))
    assert "a cancelled call ended with an error" in caplog.text
    assert "on the way out" in caplog.text


def test_a_future_cancelled_while_its_task_ends_loses_no_callback(runner: Runner, switching: None) -> None:
    """The two threads meet at every point of the handover."""
    told: list[Any] = []
    runner.loop.call_soon_threadsafe(runner.loop.set_exception_handler, lambda _, context: told.append(context))
    for _ in range(500):
        submission = runner.submit(value(1))
        submission.future.cancel()
        assert submission.finished.wait(20)
    assert told == []


# background work


def test_background_work_that_fails_is_logged(runner: Runner, caplog: pytest.LogCaptureFixture) -> None:
    submission = runner.spawn(fail(LookupError("lost")), name="the poll")
    assert submission.finished.wait(20)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "background work the poll failed")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


def test_background_work_that_ends_or_is_cancelled_is_not(runner: Runner, caplog: pytest.LogCaptureFixture) -> None:
    stuck = Stuck()
    assert runner.spawn(value(1)).finished.wait(20)
    submission = runner.spawn(stuck())
    assert stuck.began.wait(20)
    assert not submission.done()
    submission.cancel()
    assert submission.finished.wait(20)
    assert submission.done()
    submission.cancel()  # again: nothing
    assert isinstance(stuck.ended_by, asyncio.CancelledError)
    assert caplog.records == []


# the end


def test_closing_cancels_what_runs_and_ends_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    runner = Runner("test-io")
    stuck = [Stuck() for _ in range(5)]
    for each in stuck:
        runner.spawn(each())
    assert all(each.began.wait(20) for each in stuck)
    runner.close()
    assert all(isinstance(each.ended_by, asyncio.CancelledError) for each in stuck)
    assert not runner._thread.is_alive()
    assert "test-io" not in {thread.name for thread in threading.enumerate()}
    runner.close()
    assert caplog.records == []


def test_who_waits_when_it_closes_is_told_so() -> None:
    runner = Runner("test-io")
    sync, aio = Stuck(), Stuck()

    async def main() -> None:
        await runner.acall(aio())

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(runner.call, sync()), pool.submit(asyncio.run, main())]
        assert sync.began.wait(20)
        assert aio.began.wait(20)
        runner.close()
        for each in waiting:
            with pytest.raises(ClosedError, match="closed"):
                each.result(20)


@pytest.mark.parametrize("way", ["call", "submit", "spawn", "acall"])
def test_after_closing_nothing_is_taken_and_no_coroutine_is_left_unawaited(way: str) -> None:
    runner = Runner("test-io")
    runner.close()
    coro: Coroutine[Any, Any, object] = value(1)
    ways: dict[str, Callable[..., object]] = {"acall": lambda work: asyncio.run(_await(runner.acall(work)))}
    with pytest.raises(ClosedError):
        ways.get(way, getattr(runner, way))(coro)
    assert coro.cr_frame is None  # type: ignore[attr-defined]


async def _await(awaitable: Any) -> Any:
    return await awaitable


def test_what_is_submitted_while_it_closes_is_either_refused_or_ended(switching: None) -> None:
    def work(runner: Runner, start: threading.Barrier) -> None:
        start.wait()
        taken = []
        while True:
            try:
                taken.append(runner.submit(asyncio.sleep(0)))
            except ClosedError:
                break
        # Whatever was accepted ends: with an answer, or with the news that it was closed.
        for submission in taken:
            assert submission.finished.wait(20)
            assert submission.future.done()

    for _ in range(40):
        runner, start = Runner("test-io"), threading.Barrier(4)
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            jobs = [pool.submit(work, runner, start) for _ in range(3)]
            start.wait()
            runner.close()
            for job in jobs:
                job.result(60)
        assert not runner._thread.is_alive()


def test_tasks_that_start_others_while_they_are_cancelled_are_ended_too() -> None:
    runner = Runner("test-io")
    began = threading.Event()
    heirs: list[asyncio.Task[Any]] = []

    async def parent() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            heirs.append(asyncio.get_running_loop().create_task(asyncio.sleep(3600)))

    runner.spawn(parent())
    assert began.wait(20)
    runner.close()
    assert [heir.cancelled() for heir in heirs] == [True]


def test_closing_from_the_loop_thread_does_not_wait_for_itself() -> None:
    runner = Runner("test-io")

    async def inside() -> None:
        runner.close()

    runner.spawn(inside())
    runner._thread.join(20)
    assert not runner._thread.is_alive()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_task_that_ends_the_loop_from_inside_leaves_a_closed_runner() -> None:
    runner = Runner("test-io")
    with pytest.raises(SystemExit):
        runner.call(fail(SystemExit(3)))
    runner._thread.join(20)
    with pytest.raises(ClosedError):
        runner.call(value(1))


# sharing


def test_all_users_share_one_thread_and_the_last_ends_it() -> None:
    first, second = Runner.acquire(), Runner.acquire()
    assert first is second is Runner.shared()
    first.release()
    assert first.call(value(1)) == 1
    second.release()
    assert not first._thread.is_alive()
    third = Runner.acquire()
    assert third is not first
    assert third.call(value(2)) == 2
    third.release()


def test_who_comes_while_the_last_leaves_gets_a_runner_that_runs(switching: None) -> None:
    n, rounds = 6, 40
    start = threading.Barrier(n)

    def work() -> int:
        start.wait()
        done = 0
        for _ in range(rounds):
            one = Runner.acquire()
            try:
                done += one.call(value(1)) == 1
            finally:
                one.release()
        return done

    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        jobs = [pool.submit(work) for _ in range(n)]
        assert [job.result(60) for job in jobs] == [rounds] * n
    assert "massive_lab-io" not in {thread.name for thread in threading.enumerate()}


def test_a_runner_that_is_about_to_close_is_given_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[Runner] = []
    close = Runner.close

    def slowly(self: Runner) -> None:
        got.append(Runner.acquire())
        close(self)

    first = Runner.acquire()
    with monkeypatch.context() as patch:
        patch.setattr(Runner, "close", slowly)
        first.release()
    assert got[0] is not first
    assert got[0].call(value(1)) == 1
    got[0].release()


def run(script: str) -> subprocess.CompletedProcess[str]:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(module.__file__))))  # noqa: PTH100, PTH120
    head = f"import sys; sys.path.insert(0, {root!r})\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", head + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done


def test_a_program_that_never_closes_it_ends_cleanly() -> None:
    done = run("""
        import asyncio
        from massive_lab.transports.runner import Runner
        runner = Runner.shared()
        async def stuck():
            try:
                await asyncio.Event().wait()
            finally:
                print("ended")
        runner.spawn(stuck())
        print(runner.call(asyncio.sleep(0, result="answer")))
    """)
    assert done.stdout == "answer\nended\n"


def test_a_program_that_used_the_loops_threads_ends_cleanly() -> None:
    run("""
        import asyncio
        from massive_lab.transports.runner import Runner
        Runner.shared().call(asyncio.to_thread(print, "x"))
    """)


def test_a_program_that_is_interrupted_ends_cleanly() -> None:
    done = run("""
        import asyncio, signal, threading
        from massive_lab.transports.runner import Runner
        began = threading.Event()
        main = threading.main_thread().ident
        async def stuck():
            began.set()
            await asyncio.Event().wait()
        threading.Thread(target=lambda: (began.wait(), signal.pthread_kill(main, signal.SIGINT))).start()
        try:
            Runner.shared().call(stuck(), timeout=30)
        except KeyboardInterrupt:
            print("interrupted")
    """)
    assert done.stdout == "interrupted\n"


def test_a_forked_child_gets_a_runner_of_its_own_and_leaves_the_parents_alone() -> None:
    done = run("""
        import asyncio, os, sys, threading, warnings
        from massive_lab.errors import ClosedError
        from massive_lab.transports.runner import Runner
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of any fork with threads
        parents = Runner.acquire()
        parents.call(asyncio.sleep(0))
        # Another thread holds the locks at the moment of the fork.
        held, let_go = threading.Event(), threading.Event()
        def hold():
            with Runner._shared_lock, parents._closing:
                held.set()
                let_go.wait(30)
        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        pid = os.fork()
        if pid == 0:
            coro = asyncio.sleep(0)
            try:
                parents.submit(coro)
            except ClosedError:
                print("refused", flush=True)
            parents.close()
            own = Runner.shared()
            assert own is not parents
            print(own.call(asyncio.sleep(0, result="child")), flush=True)
            own.close()
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        let_go.set()
        holder.join()
        print(os.waitstatus_to_exitcode(status), parents.call(asyncio.sleep(0, result="parent")))
        assert Runner.shared() is parents
        parents.release()
    """)
    assert done.stdout == "refused\nchild\n0 parent\n"
