"""Work that is done twice: the same topic opened again from one place, polls beside a stream, loads that repeat each other.

Pure: who opens and who loads is told, and so is the time. What is found is reported once.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from massive_lab.clock import Clock
from massive_lab.telemetry import DuplicateWork, Event, LoadDone, Telemetry

if TYPE_CHECKING:
    from massive_lab.live.readers import HubReader

__all__ = ["Duplicate", "LoadWatch", "LoadedTwice", "OpenedTwice", "Warned", "place_of"]

_log = logging.getLogger("massive_lab.live")

# Loaders whose answer is the present: repeating them is right, unless it is streamed as well.
_PRESENT = frozenset({"snapshot", "indices", "last"})
_MOVING = _PRESENT | {"chain", "market_status"}
_OWN = ("poll:", "backfill:")
"""What the live system asks for by itself: again and again while a socket is down, or while the history lags."""
_MOST = 10_000
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Duplicate:
    """One finding."""

    kind: str
    """``same_topic``, ``single_beside_wildcard``, ``poll_beside_stream`` or ``repeated_load``."""
    what: str
    text: str
    callers: tuple[str, ...]
    n: int


@dataclass(frozen=True, slots=True)
class Warned:
    """One row of ``live.warnings()``. `cluster` is empty where none is concerned."""

    since_ns: int
    cluster: str
    topic: str
    kind: str
    text: str
    callers: tuple[str, ...]


def place_of(caller: str) -> str:
    """What counts as one place: the cell of a notebook, the line of a file.

    Examples
    --------
    >>> place_of("In[3]:7"), place_of("run.py:12")
    ('In[3]', 'run.py:12')
    """
    return caller.partition("]")[0] + "]" if caller.startswith("In[") else caller


class OpenedTwice:
    """Finds topics that one place reads twice. A reader that is replaced by the next is not one, so a finding has to last."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._open: dict[tuple[str, str, str], dict[HubReader, None]] = {}
        self._due: dict[tuple[HubReader, HubReader], float] = {}
        self._told: dict[tuple[str, str], None] = {}

    def opened(self, reader: HubReader, now: float) -> None:
        """A reader came. Readers of different kinds (a session's table, an iterator on it) are not duplicates."""
        if reader.caller is None:
            return
        kind = reader.id.partition("#")[0]
        for wire in {reader.topic.wire, f"{reader.topic.channel}.*"}:
            same = self._open.get((kind, wire, place_of(reader.caller)))
            if same:
                self._due[next(iter(same)), reader] = now + self._patience_s
        if reader.topic.is_wildcard:
            self._find_singles(kind, reader, now)
        self._open.setdefault((kind, reader.topic.wire, place_of(reader.caller)), {})[reader] = None

    def _find_singles(self, kind: str, wide: HubReader, now: float) -> None:
        prefix, place = f"{wide.topic.channel}.", place_of(wide.caller or "")
        for (other, wire, where), readers in self._open.items():
            if (other, where) == (kind, place) and wire.startswith(prefix) and wire != wide.topic.wire:
                self._due[next(iter(readers)), wide] = now + self._patience_s

    def closed(self, reader: HubReader) -> None:
        if reader.caller is None:
            return
        key = reader.id.partition("#")[0], reader.topic.wire, place_of(reader.caller)
        if (same := self._open.get(key)) is not None:
            same.pop(reader, None)
            if not same:
                del self._open[key]

    @property
    def deadline(self) -> float | None:
        return next(iter(self._due.values()), None)

    def due(self, now: float) -> list[Duplicate]:
        """Pairs that have lasted."""
        lasting: dict[tuple[str, str], list[tuple[HubReader, HubReader]]] = {}
        for pair in [pair for pair, until in self._due.items() if until <= now]:
            del self._due[pair]
            first, second = pair
            place = place_of(first.caller or "")
            wire = first.topic.wire if second.topic.is_wildcard else second.topic.wire
            if not (first.is_open and second.is_open) or (place, wire) in self._told:
                continue
            _remember(self._told, (place, wire))
            kind = "same_topic" if first.topic == second.topic else "single_beside_wildcard"
            lasting.setdefault((kind, place), []).append(pair)
        # One finding for a cell, however many topics it opened again.
        return [self._finding(kind, pairs) for (kind, _), pairs in lasting.items()]

    def _finding(self, kind: str, pairs: list[tuple[HubReader, HubReader]]) -> Duplicate:
        wires = [(a if b.topic.is_wildcard else b).topic.wire for a, b in pairs]
        what = wires[0] + (f" and {len(wires) - 1} more" if len(wires) > 1 else "")
        callers = _callers(reader.caller for pair in pairs for reader in pair)
        if kind == "single_beside_wildcard":
            text = f"{what}: opened beside the wildcard of the same channel, which brings them too."
            return Duplicate(kind, what, text, callers, 2)
        first = pairs[0][0]
        same = self._open[first.id.partition("#")[0], first.topic.wire, place_of(first.caller or "")]
        text = f"{what}: open {len(same)} times from one place. The server sends it once, but each opening keeps its own tables."
        return Duplicate(kind, what, text, callers, len(same))


class LoadedTwice:
    """Finds loads that another answer would have served: those of the last minute, or a live stream.

    Parameters
    ----------
    window_s : float
    most : int
        Loads of a streamed symbol within the window that are too many.
    streamed : callable
        Gives the symbols that are live and confirmed.

    Examples
    --------
    >>> finder = LoadedTwice(60.0, 3, lambda: {"SPY"})
    >>> done = LoadDone(0.0, "last", ("SPY",), 1, 1, 0.1, "ok", "run.py:3")
    >>> [len(finder.loaded(done, at)) for at in (0.0, 10.0, 20.0, 30.0)]
    [0, 0, 1, 0]
    """

    def __init__(self, window_s: float, most: int, streamed: Callable[[], Collection[str]]) -> None:
        self.streamed = streamed
        self._window_s = window_s
        self._most = most
        self._polls: dict[str, deque[tuple[float, str | None]]] = {}
        self._asked: dict[str, tuple[float, str | None]] = {}
        self._told: dict[tuple[str, str], None] = {}

    def loaded(self, load: LoadDone, now: float) -> list[Duplicate]:
        """A load ended; what it repeats, if anything."""
        if load.outcome != "ok" or load.loader.startswith(_OWN):
            return []
        return [*self._beside_stream(load, now), *self._again(load, now)]

    def _beside_stream(self, load: LoadDone, now: float) -> list[Duplicate]:
        if load.loader not in _PRESENT:
            return []
        found = []
        streamed = self.streamed()
        for symbol in load.symbols:
            if symbol not in streamed:
                self._polls.pop(symbol, None)
                continue
            polls = self._polls.setdefault(symbol, deque(maxlen=self._most))
            polls.append((now, load.caller))
            if len(polls) == self._most and now - polls[0][0] <= self._window_s and self._is_new("poll", symbol):
                text = (
                    f"{symbol} is streamed, and was asked of REST {self._most} times within {self._window_s:g} s: "
                    "read it from the live session."
                )
                found.append(Duplicate("poll_beside_stream", symbol, text, _callers(who for _, who in polls), self._most))
        _trim(self._polls)
        return found

    def _again(self, load: LoadDone, now: float) -> list[Duplicate]:
        before = [self._asked.get(each) for each in load.requests]
        for each in load.requests:
            self._asked.pop(each, None)
            self._asked[each] = now, load.caller
        _trim(self._asked)
        if load.loader in _MOVING or not before or not all(b and now - b[0] <= self._window_s for b in before):
            return []
        what = f"{load.loader} {', '.join(load.symbols[:3])}".strip()
        if not self._is_new(what, " ".join(sorted(load.requests))):
            return []
        text = f"{what}: everything this load asked for was loaded less than {self._window_s:g} s before. Keep the frame."
        return [Duplicate("repeated_load", what, text, _callers([*(b[1] for b in before if b), load.caller]), 2)]

    def _is_new(self, kind: str, what: str) -> bool:
        if (kind, what) in self._told:
            return False
        _remember(self._told, (kind, what))
        return True


class LoadWatch:
    """A telemetry hook of one client that tells what its loads repeat.

    Attributes
    ----------
    finder : LoadedTwice
    warned : deque of Warned
        The last 1,000 findings.
    """

    def __init__(self, telemetry: Telemetry, clock: Clock, *, window_s: float = 60.0, most: int = 3) -> None:
        self.finder = LoadedTwice(window_s, most, tuple)
        self.warned: deque[Warned] = deque(maxlen=1_000)
        self._telemetry = telemetry
        self._clock = clock
        telemetry.add(self)

    def __call__(self, event: Event, /) -> None:
        if type(event) is not LoadDone:
            return
        for found in self.finder.loaded(event, event.at_s):
            self.warned.append(Warned(self._clock.now_ns(), "", found.what, found.kind, found.text, found.callers))
            self._telemetry.emit(DuplicateWork(event.at_s, found.kind, found.what, found.callers, found.n))
            _log.info(found.text)


def _callers(callers: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(caller for caller in callers if caller))


def _remember(told: dict[tuple[str, str], None], key: tuple[str, str]) -> None:
    told[key] = None
    _trim(told)


def _trim(kept: dict[K, V]) -> None:
    while len(kept) > _MOST:
        del kept[next(iter(kept))]
