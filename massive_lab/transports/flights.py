"""One piece of work for all who ask for it at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

__all__ = ["Flights"]

T = TypeVar("T")


class _Flight(Generic[T]):
    __slots__ = ("n_waiting", "task")

    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.n_waiting = 0


class Flights(Generic[T]):
    """Work in flight by key. All methods run on one event loop.

    Who comes while a key is in flight shares its result or its error. Who leaves does not disturb the others; when the
    last one leaves, the work is cancelled and has ended before the last one goes.

    Examples
    --------
    >>> async def twice():
    ...     flights, made = Flights(), []
    ...
    ...     async def work():
    ...         made.append(1)
    ...         await asyncio.sleep(0)
    ...         return "result"
    ...
    ...     return await asyncio.gather(flights.join("key", work), flights.join("key", work)), len(made)
    >>> asyncio.run(twice())
    (['result', 'result'], 1)
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def is_shared(self, key: Hashable) -> bool:
        """Whether joining `key` now would start nothing."""
        flight = self._flights.get(key)
        return flight is not None and not flight.task.done()

    async def join(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of the work under `key`, which is started unless it is in flight."""
        flight = self._flights.get(key)
        if flight is None or flight.task.done():
            flight = self._flights[key] = _Flight(asyncio.create_task(make()))
            flight.task.add_done_callback(lambda _, flight=flight: self._land(key, flight))  # type: ignore[misc]
        flight.n_waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.n_waiting -= 1
            if flight.n_waiting == 0 and not flight.task.done():
                # The last one who wanted it has gone: abort, and do not leave before it has ended.
                self._land(key, flight)
                flight.task.cancel()
                await asyncio.wait([flight.task])

    async def cancel(self) -> None:
        """Cancel everything in flight and wait until it has ended; who waits for it sees a `CancelledError`."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _land(self, key: Hashable, flight: _Flight[T]) -> None:
        # Unless the same work has taken off anew since.
        if self._flights.get(key) is flight:
            del self._flights[key]
