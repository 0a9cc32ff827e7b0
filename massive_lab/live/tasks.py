"""The background tasks of a hub: named, started once, never failing in silence, ended together."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from massive_lab.transports.http import Ear, ear

__all__ = ["Tasks"]

_log = logging.getLogger("massive_lab.live")


class Tasks:
    """Tasks of one owner on the running loop.

    Parameters
    ----------
    prefix : str
        Put before every task's name.
    failed : callable
        Told the name and the error of a task that ended with one; it is logged as well.
    ear_of : callable, optional
        Given a name, who hears the requests of that task.
    """

    def __init__(
        self, prefix: str, failed: Callable[[str, BaseException], None], ear_of: Callable[[str], Ear] | None = None
    ) -> None:
        self._prefix = prefix
        self._failed = failed
        self._ear_of = ear_of
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, work: Callable[[], Coroutine[Any, Any, None]], *, once: bool = True) -> asyncio.Task[None]:
        """Start work under a name. With `once` a name runs one at a time, however often it is asked for."""
        if once and (known := self._tasks.get(name)) is not None and not known.done():
            return known
        context = contextvars.copy_context()
        context.run(ear.set, self._ear_of(name) if self._ear_of else None)
        task = asyncio.get_running_loop().create_task(work(), name=f"{self._prefix} {name}", context=context)
        key = name if once else f"{name} {id(task)}"
        self._tasks[key] = task

        def ended(task: asyncio.Task[None]) -> None:
            if not once:
                self._tasks.pop(key, None)
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("%s ended with an error", task.get_name(), exc_info=error)
                self._failed(name, error)

        task.add_done_callback(ended)
        return task

    async def stop(self, name: str) -> None:
        """Cancel one and wait until it has ended; nothing when it does not run."""
        if (task := self._tasks.pop(name, None)) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def aclose(self) -> None:
        """Cancel all and wait until they have ended."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
