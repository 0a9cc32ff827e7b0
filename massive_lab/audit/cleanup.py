"""What a process holds: threads, tasks, sockets, memory; read before and after, to see whether a run leaves anything.

Sockets and memory come from ``/proc`` and are None, which means not measured, where there is none.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Held", "held", "left_over"]

_PROC = Path("/proc/self")
_ESTABLISHED = {"01", "04", "05", "08"}
"""Established, both FIN-WAIT states and CLOSE-WAIT: what is still ours to close. TIME-WAIT belongs to the kernel."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the process holds at one moment.

    Attributes
    ----------
    threads : tuple of str
        Names, sorted.
    tasks : int or None
        Unfinished asyncio tasks of the library's loop; None when that cannot be seen.
    sockets : int or None
        Open TCP connections to the given ports.
    memory_bytes : int or None
        Resident memory.
    """

    threads: tuple[str, ...]
    tasks: int | None
    sockets: int | None
    memory_bytes: int | None


def held(*, ports: Collection[int] = (), tasks: Callable[[], int] | None = None) -> Held:
    """Read what the process holds now, after a garbage collection.

    Parameters
    ----------
    ports : collection of int
        Remote ports whose connections count; those of a notebook kernel to its front end do not.
    tasks : callable, optional
        Tells the number of unfinished tasks.

    Examples
    --------
    >>> "MainThread" in held().threads
    True
    """
    gc.collect()
    names = sorted(thread.name for thread in threading.enumerate() if thread.is_alive())
    return Held(tuple(names), tasks() if tasks else None, _sockets(ports), _memory())


def left_over(before: Held, after: Held) -> list[str]:
    """Name, in words, what is there after and was not before; memory apart, which never returns exactly.

    Examples
    --------
    >>> left_over(Held(("a",), 0, 0, 1), Held(("a", "b"), 0, 2, 9))
    ['thread b', '2 sockets']
    """
    lost = [f"thread {name}" for name in (Counter(after.threads) - Counter(before.threads)).elements()]
    for word, then, now in (("task", before.tasks, after.tasks), ("socket", before.sockets, after.sockets)):
        if then is not None and now is not None and now > then:
            lost.append(f"{now - then} {word}{'s' if now - then > 1 else ''}")
    return lost


def _sockets(ports: Collection[int]) -> int | None:
    tables = [path for path in (_PROC / "net/tcp", _PROC / "net/tcp6") if path.exists()]
    if not tables:
        return None
    mine = set()
    for entry in (_PROC / "fd").iterdir():
        try:
            mine.add(str(entry.readlink()))
        except FileNotFoundError:
            continue  # closed since the folder was listed
    wanted = set(ports)
    n = 0
    for table in tables:
        for row in table.read_text(encoding="ascii").splitlines()[1:]:
            fields = row.split()
            remote, state, inode = int(fields[2].rpartition(":")[2], 16), fields[3], fields[9]
            n += remote in wanted and state in _ESTABLISHED and f"socket:[{inode}]" in mine
    return n


def _memory() -> int | None:
    if sys.platform != "linux":
        return None
    for row in (_PROC / "status").read_text(encoding="ascii").splitlines():
        if row.startswith("VmRSS:"):
            return int(row.split()[1]) * 1024
    return None
