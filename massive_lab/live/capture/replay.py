"""A recorded session again: the same code, the same bytes, the same times, as fast as it goes."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import polars as pl

from massive_lab import telemetry as t
from massive_lab.decode.stream import Event
from massive_lab.errors import InvalidRequest
from massive_lab.frames.build import to_schema
from massive_lab.live.capture.output import Output
from massive_lab.live.capture.player import Player
from massive_lab.live.capture.reader import Capture, Summary
from massive_lab.live.read.columns import TABLES
from massive_lab.live.topics import Kind, kind_of

__all__ = ["Replay"]

T = TypeVar("T")


class Replay:
    """A capture, verified, and what comes out when it is played. Made by ``massive_lab.replay(path)``.

    Whatever is asked first plays the capture to its end, once; `run` plays it again. A capture that was cut short by a crash
    is played up to the cut.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    CaptureError
        When there is no such file, or it cannot be read.
    CaptureDamaged
        When a byte of it is not what was written: names the block, where it begins, and what failed.

    Attributes
    ----------
    summary : Summary
        What the capture holds, and whether it is complete.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._capture = Capture(path)
        self.summary: Summary = self._capture.verify()
        self._output: Output | None = None

    # ---- playing

    def run(self, speed: float | None = None) -> Replay:
        """Play it to the end.

        Parameters
        ----------
        speed : float, optional
            Recorded seconds in one second: 1 takes as long as the session did; None does not wait at all. What comes out is
            the same at every speed.

        Returns
        -------
        Replay
            This one.

        Raises
        ------
        InvalidRequest
            When `speed` is not a number above 0.
        """
        check_speed(speed)
        output = Output()
        _without_a_loop(Player(self._capture, output, speed=speed).run)
        self._output = output
        return self

    @property
    def events(self) -> Iterator[Event]:
        """Every event in the order in which it was delivered, from the beginning; the session is played as they are taken."""
        output = Output(keeps_events=True)
        turns = Player(self._capture, output).turns(stop_for_events=True)
        try:
            while _without_a_loop(lambda: next(turns, turns)) is not turns:
                while output.events:
                    yield output.events.popleft()
            yield from output.events
        finally:
            _without_a_loop(turns.close)

    # ---- what came out

    def _played(self) -> Output:
        if self._output is None:
            self.run()
        assert self._output is not None
        return self._output

    def frame(self, kind: Kind, symbol: str | None = None, *, channel: str | None = None) -> pl.DataFrame:
        """A table as it stood at the end.

        Parameters
        ----------
        kind : {"trades", "quotes", "bars", "values"}
        symbol : str, optional
            Only this one.
        channel : {"A", "AM"}, optional
            Bars of a second or of a minute; default: of a minute where there were any.

        Returns
        -------
        polars.DataFrame
            The ``live_`` table of that kind, as ``live.trades().frame()`` and its sisters give it; empty where nothing of
            the kind was subscribed.

        Raises
        ------
        InvalidRequest
            When there is no such kind or channel.
        """
        if kind not in TABLES or (channel is not None and channel not in ("A", "AM")):
            raise InvalidRequest(
                f"There is no table {kind!r}" + (f" of channel {channel!r}." if channel else "."),
                hint=f"Use one of {', '.join(TABLES)}; bars have the channels A and AM.",
            )
        tables = self._played().tables
        for name in (channel,) if channel else ("T", "Q", "V", "AM", "A"):
            if name in tables and kind_of(name) == kind:
                return tables[name].frame(symbol)
        return to_schema(TABLES[kind]).to_frame()

    @property
    def status(self) -> pl.DataFrame:
        """One row per cluster as it stood at the end, as ``lab.live.status()``."""
        return self._played().status

    @property
    def gaps(self) -> pl.DataFrame:
        """As ``lab.live.gaps()``."""
        return self._played().gaps

    @property
    def telemetry(self) -> list[t.Event]:
        """What the session told, in order, but for the frames, which are counted in `status`."""
        return list(self._played().told)

    @property
    def n_events(self) -> int:
        """Events delivered."""
        return self._played().n_events

    @property
    def sha256(self) -> str:
        """Over everything that came out: every event with all its fields, all telemetry, every gap, in order."""
        return self._played().sha256

    @property
    def is_sandbox(self) -> bool:
        """Whether the data are synthetic."""
        return self.summary.is_sandbox

    @property
    def is_complete(self) -> bool:
        """Whether the capture was ended as it should be, and nothing in it is missing."""
        return self.summary.is_complete and not self.summary.n_lost

    def __repr__(self) -> str:
        return f"<{'SANDBOX ' if self.is_sandbox else ''}Replay {self._capture.path.name}: {self.summary.said}>"


def check_speed(speed: object) -> None:
    """Refuse what is no speed."""
    if speed is not None and not (isinstance(speed, int | float) and 0 < speed < math.inf):
        raise InvalidRequest(f"speed is {speed!r}.", hint="Give recorded seconds a second, above 0, or None.")


def _without_a_loop(work: Callable[[], T]) -> T:
    """Run this here, or, where an event loop is running already (a notebook's cell), in a thread meanwhile."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001  raised again where it was asked for
            errors.append(error)

    thread = threading.Thread(target=run, name="massive_lab-replay", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
