"""A clock for drills: it runs like the system's until it is stopped, and is then moved by hand.

The audit runs its loads on running time, so that latencies are real, and its streaming on time moved by hand in step with
the sandbox's, so that counts and delays are the same in every run.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from massive_lab.clock import first_ns

__all__ = ["StageClock"]

_NS = 1_000_000_000
_ROUND_NS = 1_024 * _NS


class StageClock:
    """The system clock with a brake. Satisfies `massive_lab.clock.Clock`.

    Parameters
    ----------
    monotonic_ns, now_ns : callable
        Real time in nanoseconds; a test hands in its own.

    Examples
    --------
    >>> clock = StageClock()
    >>> clock.stop()
    >>> clock.advance(2.5)
    >>> clock.monotonic()
    1026.5
    """

    def __init__(
        self,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._real_ns = monotonic_ns
        self._lock = threading.Lock()
        self._base_ns = 0
        self._since_ns = monotonic_ns()
        self._utc_ns = now_ns()
        self._stopped = False
        self._sleepers: set[_Sleeper] = set()

    @property
    def stopped(self) -> bool:
        """Whether time stands still unless moved."""
        return self._stopped

    @property
    def n_sleeping(self) -> int:
        """Tasks that wait for this clock."""
        with self._lock:
            return len(self._sleepers)

    def sleepers(self) -> list[str]:
        """Names of the tasks that wait for this clock, sorted: who sleeps is not in the middle of something."""
        with self._lock:
            return sorted(sleeper.task for sleeper in self._sleepers)

    def elapsed_ns(self) -> int:
        """Nanoseconds of this clock since it was made."""
        return self._base_ns if self._stopped else self._base_ns + self._real_ns() - self._since_ns

    def now_ns(self) -> int:
        """UTC nanoseconds: the system's when this clock was made, and what it has run since."""
        return self._utc_ns + self.elapsed_ns()

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return self.elapsed_ns() / _NS

    def stop(self, now_ns: int | None = None) -> None:
        """Move on to the next multiple of 1,024 seconds, and stand still from then on.

        The round number makes sums of times, which are doubles, the same in every run. With `now_ns` the clock tells that UTC
        time, so that a sandbox and its client agree on the date.
        """
        with self._lock:
            if not self._stopped:
                self._base_ns, self._stopped = -(-self.elapsed_ns() // _ROUND_NS) * _ROUND_NS, True
            if now_ns is not None:
                self._utc_ns = now_ns - self._base_ns
        self._wake_all()

    def run(self) -> None:
        """Run like the system's clock again."""
        with self._lock:
            if self._stopped:
                self._since_ns, self._stopped = self._real_ns(), False
        self._wake_all()

    def advance(self, delta_s: float) -> None:
        """Move a stopped clock forward. Whoever is due is no longer counted in `n_sleeping` when this returns.

        Raises
        ------
        ValueError
            When the clock runs, or `delta_s` is negative.
        """
        if not self._stopped or delta_s < 0:
            raise ValueError(f"only a stopped clock is moved, and only forward: advance({delta_s})")
        with self._lock:
            self._base_ns += round(delta_s * _NS)
            due = [sleeper for sleeper in self._sleepers if sleeper.due_ns <= self._base_ns]
            self._sleepers.difference_update(due)
        for sleeper in sorted(due, key=lambda sleeper: sleeper.due_ns):
            sleeper.wake()

    def next_wake_s(self) -> float | None:
        """Seconds until the next sleeper is due, or None when nobody sleeps."""
        with self._lock:
            due = min((sleeper.due_ns for sleeper in self._sleepers), default=None)
            return None if due is None else (due - self.elapsed_ns()) / _NS

    async def sleep(self, delay_s: float) -> None:
        """Return once `delay_s` seconds of this clock have passed, whether they ran or were moved."""
        # At least a nanosecond: who is early by a rounding error must wait for the next move, not ask again at once.
        await self._sleep_to(self.elapsed_ns() + (max(1, round(delay_s * _NS)) if delay_s > 0 else 0))

    async def sleep_until(self, at_s: float) -> None:
        """Return once `monotonic` is `at_s` or later."""
        await self._sleep_to(first_ns(at_s))

    async def _sleep_to(self, due_ns: int) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        name = task.get_name() if task else ""
        while True:
            sleeper = _Sleeper(due_ns, name, loop, loop.create_future())
            with self._lock:
                left_ns = due_ns - self.elapsed_ns()
                timeout = None if self._stopped else left_ns / _NS
                if left_ns > 0:
                    self._sleepers.add(sleeper)
            if left_ns <= 0:
                await asyncio.sleep(0)
                return
            try:
                await asyncio.wait((sleeper.moved,), timeout=timeout)
            finally:
                with self._lock:
                    self._sleepers.discard(sleeper)

    def _wake_all(self) -> None:
        with self._lock:
            sleepers = list(self._sleepers)
        for sleeper in sleepers:
            sleeper.wake()


@dataclass(frozen=True, slots=True, eq=False)
class _Sleeper:
    due_ns: int
    task: str
    loop: asyncio.AbstractEventLoop
    moved: asyncio.Future[None]

    def wake(self) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(_set, self.moved)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
