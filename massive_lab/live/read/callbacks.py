"""Events handed to a function of the user's, in a thread of its own: slow or broken, it harms nobody else."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import inspect
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import CancelledError
from typing import Any, Protocol, Self, TypeAlias

from massive_lab.clock import SystemClock
from massive_lab.errors import ClosedError, InvalidRequest, Timeout

__all__ = ["Callback", "OnError", "join_all"]

OnError: TypeAlias = Callable[[Exception], object]

_log = logging.getLogger("massive_lab.callbacks")
_CLOSE_S = 10.0
_clock = SystemClock()
_EXIT_S = 1.0


class _Source(Protocol):
    """The reader behind a callback."""

    name: str

    @property
    def label(self) -> str: ...
    @property
    def n_dropped(self) -> int: ...
    @property
    def is_closed(self) -> bool: ...
    def get(self, timeout: float | None = None) -> Any: ...
    async def __anext__(self) -> Any: ...
    def close(self) -> None: ...
    def discard(self) -> None: ...


class Callback:
    """A function that is called with each event of a reader, one after the other. Made by ``live.trades().on(function)``.

    One thread serves it, whatever comes; it is never the loop thread, so the function may block, and may call the client.
    A coroutine function is awaited in an event loop on that thread, one event at a time.

    An exception of the function goes to `on_error`, and the next event follows. Without `on_error`, it is logged, ends the
    callback, and is raised by `close` and `wait`. What ends the reader (`SlowReader`, `SubscriptionFailed`) is treated as
    the last error.

    Attributes
    ----------
    name : str
    n_calls : int
        Calls so far.
    error : Exception or None
        What ended it.
    """

    def __init__(self, source: _Source, function: Callable[[Any], object], on_error: OnError | None = None) -> None:
        for given in (function, on_error):
            if given is not None and not callable(given):
                raise InvalidRequest(f"{given!r} cannot be called.", hint="Give a function of one argument.")
        self.name = source.name
        self.n_calls = 0
        self.error: Exception | None = None
        self._source = source
        self._function = function
        self._on_error = on_error
        self._is_stopping = False
        self._is_told = False
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        # Not waited for by the interpreter, which could otherwise never exit while a function blocks; see `_at_exit`.
        self._thread = threading.Thread(target=self._main, name=f"massive_lab {self.name} callback", daemon=True)

    def start(self) -> None:
        """Begin; called once, by what made it."""
        _running.add(self)
        self._thread.start()

    # ---- the worker's thread

    def _main(self) -> None:
        try:
            self._drive()
        except Exception as error:  # noqa: BLE001  kept, logged, and raised where the user looks
            self.error = error
            _log.error("the callback of %s ended by %s", self.name, type(error).__name__, exc_info=error)
            if self._on_error is not None:
                self._hand_over(error)
        finally:
            with contextlib.suppress(ClosedError):  # the loop thread is gone, and the reader with it
                self._source.close()
            _running.discard(self)

    def _drive(self) -> None:
        while not self._is_stopping:
            try:
                event = self._source.get()
            except ClosedError:
                return
            except Exception as error:  # noqa: BLE001  whatever ended the feed
                self._interrupted(error)
                continue
            try:
                result = self._function(event)
            except Exception as error:  # noqa: BLE001  the user's own
                self._failed(error)
            else:
                if inspect.isawaitable(result):
                    asyncio.run(self._adrive(result))
                    return
            finally:
                self.n_calls += 1

    async def _adrive(self, pending: Awaitable[object]) -> None:
        with self._lock:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            if self._is_stopping:
                self._task.cancel()  # type: ignore[union-attr]
        try:
            await self._settle(pending)
            while True:
                try:
                    event = await anext(self._source)
                except StopAsyncIteration:
                    return
                except Exception as error:  # noqa: BLE001  whatever ended the feed
                    self._interrupted(error)
                    continue
                try:
                    result: object = self._function(event)
                except Exception as error:  # noqa: BLE001  the user's own
                    self._failed(error)
                else:
                    if inspect.isawaitable(result):
                        await self._settle(result)
                finally:
                    self.n_calls += 1
        except asyncio.CancelledError:
            if not self._is_stopping:
                raise
        finally:
            with self._lock:
                self._loop = None

    async def _settle(self, pending: Awaitable[object]) -> None:
        try:
            await pending
        except asyncio.CancelledError as error:
            if self._is_stopping:
                raise
            # Not by us: what the function waited for was cancelled, which is a failure like any other.
            cancelled = CancelledError(f"What the callback of {self.name} waited for was cancelled.")
            cancelled.__cause__ = error
            self._failed(cancelled)
        except Exception as error:  # noqa: BLE001  the user's own
            self._failed(error)

    def _interrupted(self, error: Exception) -> None:
        if self._source.is_closed:
            raise error
        self._failed(error)  # told once, and there may be more events when the feed is back

    def _failed(self, error: Exception) -> None:
        on_error, self._on_error = self._on_error, None
        if on_error is None:
            raise error
        on_error(error)
        self._on_error = on_error  # not after it has failed itself

    def _hand_over(self, error: Exception) -> None:
        assert self._on_error is not None
        try:
            self._on_error(error)
        except Exception:  # noqa: BLE001  nobody is left to tell but the log
            _log.exception("on_error of %s failed", self.name)

    # ---- the user's side

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    @property
    def is_here(self) -> bool:
        """Whether the caller is the function itself."""
        return threading.current_thread() is self._thread

    @property
    def n_dropped(self) -> int:
        """Events lost because the function was slower than they came."""
        return self._source.n_dropped

    def stop(self) -> None:
        """Ask it to end: no further call begins, a coroutine that waits is cancelled. Returns at once; idempotent."""
        with self._lock:
            self._is_stopping = True
            if self._loop is not None and self._task is not None:
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._source.discard()

    def close(self, timeout: float = _CLOSE_S) -> None:
        """End it, and wait for the call that runs. From inside the function: end after this call. Idempotent.

        Raises
        ------
        Timeout
            When the function has not returned within `timeout` seconds.
        Exception
            What had ended it, once.
        """
        self.stop()
        if not self.is_here:
            self.wait(timeout)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it has ended: by `close` here or elsewhere, with its session, or by an error, which is raised once.

        Raises
        ------
        Timeout
            After `timeout` seconds.
        """
        self.join(timeout)
        if self.error is not None and not self._is_told:
            self._is_told = True
            raise self.error

    def join(self, timeout: float | None = None) -> None:
        """As `wait`, without raising what ended it."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise Timeout(
                f"The callback of {self.name} has not ended within {timeout:g} s.", hint="Its function still runs."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except Exception:
            # What went wrong in the block is not hidden by what went wrong in the callback, which is logged.
            if kind is None:
                raise

    def __repr__(self) -> str:
        state = (
            "running" if self.is_running else "ended" if self.error is None else f"ended by {type(self.error).__name__}"
        )
        return f"<{self._source.label}Callback {self.name}: {state}, {self.n_calls} calls, {self.n_dropped} dropped>"


def join_all(callbacks: Iterable[Callback], timeout: float = _CLOSE_S) -> None:
    """Wait for callbacks that were told to stop; one that does not is logged, for no thread can be ended from outside."""
    deadline = _clock.monotonic() + timeout
    for callback in callbacks:
        try:
            callback.join(max(0.0, deadline - _clock.monotonic()))
        except Timeout as error:
            _log.error("%s", error)


_running: set[Callback] = set()


def _at_exit() -> None:
    ending = list(_running)
    for callback in ending:
        callback.stop()
    join_all(ending, _EXIT_S)  # a function that never returns does not hold the interpreter up


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    # Their threads do not come along, and may have held their locks.
    os.register_at_fork(after_in_child=_running.clear)
