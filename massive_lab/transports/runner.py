"""One background thread that owns the event loop of all sockets.

Scripts, notebooks (whose own loop is busy with the cell) and several threads at once can all use it, because nobody
calls ``asyncio.run`` and nobody blocks it. The thread starts on first use, is a daemon, and is closed at exit.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import logging
import math
import os
import threading
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any, Self, TypeVar

from massive_lab.clock import SystemClock
from massive_lab.errors import ClosedError, InvalidRequest, Timeout
from massive_lab.telemetry import CALLER
from massive_lab.transports.callers import user_code

__all__ = ["Runner", "Submission"]

T = TypeVar("T")
_log = logging.getLogger("massive_lab.runner")
_CANCEL_GRACE_S = 10.0
_LOOK_UP_S = 0.25


class Submission:
    """A coroutine running on the loop thread."""

    __slots__ = ("_gate", "_loop", "_task", "finished", "future")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None
        self.future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self.finished = threading.Event()
        # What a thread waits on that Ctrl-C may interrupt: a lock of its own, taken in one step. A waiter interrupted inside an
        # event or a future may keep the lock of that, and the loop thread would stop on it for ever.
        self._gate = threading.Lock()
        self._gate.acquire()

    def _finish(self) -> None:
        if not self.finished.is_set():
            self.finished.set()
            self._gate.release()

    def wait(self, timeout: float) -> bool:
        """Whether it has ended, within so many seconds; for one thread."""
        return self.finished.is_set() or self._gate.acquire(timeout=timeout)

    def _start(self, coro: Coroutine[Any, Any, Any]) -> None:
        if self.future.cancelled():
            coro.close()
            self._finish()
            return
        self._task = self._loop.create_task(coro)
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self.future.cancel()
        error = None if task.cancelled() else task.exception()
        # One step that both asks and locks: a waiter on another thread may cancel the future at any moment.
        if self.future.set_running_or_notify_cancel():
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(task.result())
        elif error is not None:
            _log.error("a cancelled call ended with an error", exc_info=error)
        self._finish()

    def cancel(self) -> None:
        """Ask the coroutine to stop; `finished` is set once it has."""

        def on_loop() -> None:
            if self._task is not None:
                self._task.cancel()
            elif self.future.cancel():
                # Its start was never queued, for it would have stood before this.
                self._finish()

        # A closed loop has cancelled everything already.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(on_loop)

    def done(self) -> bool:
        return self.finished.is_set()


class Runner:
    """A loop thread and the ways into it.

    `Runner.shared` is what the library uses; a private runner is for tests.

    Examples
    --------
    >>> import asyncio
    >>> with Runner() as runner:
    ...     runner.call(asyncio.sleep(0, result="done"))
    'done'
    """

    _shared: Runner | None = None
    _shared_lock = threading.RLock()

    def __init__(self, name: str = "massive_lab-io") -> None:
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._closed = False
        # Reentrant: the garbage collector may strike while it is held, and end what nobody refers to by a `submit`.
        self._closing = threading.RLock()
        self._n_users = 0
        started = threading.Event()
        self._thread = threading.Thread(target=self._main, args=(started,), name=name, daemon=True)
        self._thread.start()
        started.wait()

    def _main(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(started.set)
        try:
            self._loop.run_forever()
        finally:
            with self._closing:
                # Also when the loop was ended from inside, by a task that raised SystemExit.
                self._closed = True
            # Until none is left: cancelled tasks may start others on their way out.
            while tasks := asyncio.all_tasks(self._loop):
                for task in tasks:
                    task.cancel()
                self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    @classmethod
    def shared(cls) -> Runner:
        """The process's runner; made on first use, and anew in a forked child."""
        with cls._shared_lock:
            shared = cls._shared
            if shared is None or shared._closed or shared._pid != os.getpid():
                cls._shared = shared = cls()
                atexit.register(shared.close)
            return shared

    @classmethod
    def acquire(cls) -> Runner:
        """The shared runner, kept alive until as many `release` calls have come."""
        with cls._shared_lock:
            runner = cls.shared()
            runner._n_users += 1
            return runner

    def release(self) -> None:
        """One user less; the last one closes the runner, and with it the thread."""
        with self._shared_lock:
            self._n_users -= 1
            last = self._n_users == 0
            if last and Runner._shared is self:
                # Given up before it is closed, so that nobody acquires it in between.
                Runner._shared = None
        if last:
            self.close()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    @property
    def in_loop_thread(self) -> bool:
        return threading.current_thread() is self._thread

    def submit(self, coro: Coroutine[Any, Any, T]) -> Submission:
        """Start a coroutine on the loop from any thread."""
        submission = Submission(self._loop)
        self._submit(submission, coro)
        return submission

    def _submit(self, submission: Submission, coro: Coroutine[Any, Any, Any]) -> None:
        if self._pid == os.getpid():
            context = copy_context()
            if not self.in_loop_thread:
                context.run(CALLER.set, user_code())
            # Under the lock, so that what is accepted stands in the loop's queue before the order to stop.
            with self._closing:
                if not self._closed:
                    context.run(self._loop.call_soon_threadsafe, submission._start, coro)
                    return
        coro.close()
        submission._finish()
        raise ClosedError("The loop thread is closed.", hint="Connect again.")

    def call(self, coro: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine on the loop and wait for it; Ctrl-C or the timeout cancel it first.

        Raises
        ------
        Timeout
            After `timeout` seconds.
        InvalidRequest
            When called from the loop thread itself, where waiting would never end.
        """
        if self.in_loop_thread:
            coro.close()
            raise InvalidRequest(
                "A blocking call was made from the library's own loop thread.",
                hint="Use the async client inside callbacks, or hand the work to another thread.",
            )
        submission = Submission(self._loop)
        try:
            # Inside the block: Ctrl-C may come when the work has begun and before we wait for it.
            self._submit(submission, coro)
            if not _wait(submission, timeout):
                raise Timeout(f"No result within {timeout:g} s.")
            result: T = submission.future.result()
            return result
        except concurrent.futures.CancelledError:
            raise ClosedError("The call was cancelled because its client was closed.") from None
        except BaseException:
            if not submission.finished.is_set():
                self._abandon(submission)
                if submission._task is None:
                    coro.close()
            raise

    def _abandon(self, submission: Submission) -> None:
        submission.cancel()
        if not submission.wait(_CANCEL_GRACE_S):
            _log.error("a cancelled call did not stop within %g s", _CANCEL_GRACE_S)

    async def acall(self, coro: Coroutine[Any, Any, T]) -> T:
        """Await a coroutine that runs on this loop, from any loop; cancelling the wait cancels it.

        Raises
        ------
        ClosedError
            When the runner is, or was closed meanwhile.
        """
        if asyncio.get_running_loop() is self._loop:
            return await coro
        submission = self.submit(coro)
        try:
            result: T = await asyncio.wrap_future(submission.future)
            return result
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                # Nobody cancelled the caller: the coroutine was, by `close`.
                raise ClosedError("The call was cancelled because its client was closed.") from None
            submission.cancel()
            raise

    def spawn(self, coro: Coroutine[Any, Any, Any], *, name: str | None = None) -> Submission:
        """Start background work; a failure nobody waits for is logged instead of lost."""
        submission = self.submit(coro)

        def report(future: concurrent.futures.Future[Any]) -> None:
            if not future.cancelled() and (error := future.exception()) is not None:
                _log.error("background work %s failed", name or coro, exc_info=error)

        submission.future.add_done_callback(report)
        return submission

    def close(self) -> None:
        """Cancel what runs, close the loop and end the thread. Idempotent."""
        if self._pid != os.getpid():
            return
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._loop.call_soon_threadsafe(self._loop.stop)
        atexit.unregister(self.close)
        if not self.in_loop_thread:
            self._thread.join(_CANCEL_GRACE_S)
            if self._thread.is_alive():
                _log.error("the loop thread did not end within %g s", _CANCEL_GRACE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _wait(submission: Submission, timeout: float | None) -> bool:
    """Whether a call has ended in time.

    The wait is cut into pieces: a signal that comes just before a thread lies down does not wake it, and on some systems
    none ever does; so Ctrl-C is heard when the thread next looks up.
    """
    clock = SystemClock()
    deadline = math.inf if timeout is None else clock.monotonic() + timeout
    while not submission.finished.is_set():
        left = deadline - clock.monotonic()
        if left <= 0:
            return False
        submission.wait(min(left, _LOOK_UP_S))
    return True


def _after_fork() -> None:
    # The thread that held the lock in the parent does not exist in the child.
    Runner._shared_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
