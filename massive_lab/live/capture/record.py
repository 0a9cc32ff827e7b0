"""Recording: every hub of a client is heard, from now on, into one file."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from massive_lab import telemetry as t
from massive_lab._version import __version__
from massive_lab.config import Secret, Settings
from massive_lab.errors import CaptureError, ClosedError, InvalidRequest, MassiveLabError, TransportError
from massive_lab.live import registry
from massive_lab.live.capture.format import Kind, Record
from massive_lab.live.capture.prologue import prologue
from massive_lab.live.capture.reader import Summary
from massive_lab.live.capture.redact import Redactor
from massive_lab.live.capture.writer import Writer
from massive_lab.live.hub import Hub
from massive_lab.transports.http import Answer, ear
from massive_lab.transports.runner import Runner
from massive_lab.typing import Cluster

__all__ = ["HubTap", "Recording", "told_error"]

_log = logging.getLogger("massive_lab.capture")
# Readings made there may be those of a frame, or of a reader that is opened.
_MAY_BEAR = frozenset({"feed", ""})
_HEADERS = ("retry-after", "x-request-id")


def told_error(error: BaseException) -> dict[str, Any]:
    """What is kept of an error: enough to raise it again."""
    told: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, MassiveLabError):
        told |= {"message": error.message, "hint": error.hint, "request_id": error.request_id}
        told |= {name: getattr(error, name) for name in ("status", "retry_after_s") if hasattr(error, name)}
    return told


class HubTap:
    """Hears one hub and hands over records; see `massive_lab.live.wire.taps.Tap`. All on the loop thread."""

    def __init__(self, hub: Hub, put: Callable[[Record], None], redact: Redactor, gone: Callable[[HubTap], None]) -> None:
        self._hub = hub
        self._cluster = hub.cluster
        self._put = put
        self._redact = redact
        self._gone = gone
        self._key: Secret | None = None
        self._reading: tuple[Cluster, int, int, str] | None = None
        self._asked: set[int] = set()
        self._denied: set[str] = set()
        self._telemetry = t.Telemetry()
        self._telemetry.add(self._hear)

    def attach(self) -> None:
        """Tell where the hub stands, and hear it from here on."""
        self._learn()
        mono_ns, utc_ns = self._now()
        for kind, payload, synthesized in prologue(self._hub, told_error):
            body = payload if isinstance(payload, bytes) else _json(payload)
            self._put(Record(kind, self._cluster, mono_ns, utc_ns, self._redact(body), synthesized))
        self._hub.taps.append(self)
        self._hub.join(self._telemetry)

    def detach(self) -> None:
        """Hear it no more."""
        self._settle()
        self._hub.taps.remove(self)
        self._hub.leave(self._telemetry)

    def _now(self) -> tuple[int, int]:
        return round(self._hub.clock.monotonic() * 1e9), self._hub.clock.unheard_ns()

    def _settle(self) -> None:
        """A reading that no record bears stands for itself."""
        if self._reading is not None:
            cluster, utc_ns, mono_ns, task = self._reading
            self._reading = None
            self._put(Record(Kind.READING, cluster, mono_ns, utc_ns, task.encode()))

    def _tell(self, cluster: Cluster, kind: Kind, payload: bytes) -> None:
        self._settle()
        mono_ns, utc_ns = self._now()
        self._put(Record(kind, cluster, mono_ns, utc_ns, payload))

    def _tell_json(self, cluster: Cluster, kind: Kind, **told: Any) -> None:
        self._tell(cluster, kind, self._redact(_json(told)))

    def _learn(self) -> None:
        # Another key may have been given meanwhile.
        if (key := self._hub.feed.key) is not self._key:
            self._key = key
            self._redact.learn(key, at_any_length=True)

    # ---- what the hub tells

    def opened(self, cluster: Cluster) -> None:
        self._learn()
        self._tell(cluster, Kind.SOCKET_OPENED, b"")

    def received(self, cluster: Cluster, data: bytes) -> None:
        mono_ns, utc_ns = self._now()
        if self._reading is not None:
            # The reading was made for this frame.
            _, utc_ns, mono_ns, _ = self._reading
            self._reading = None
        self._put(Record(Kind.FRAME_IN, cluster, mono_ns, utc_ns, self._redact(data)))

    def sent(self, cluster: Cluster, action: str, wires: tuple[str, ...]) -> None:
        self._tell_json(cluster, Kind.FRAME_OUT, action=action, topics=wires)

    def online(self, cluster: Cluster) -> None:
        self._tell(cluster, Kind.ONLINE, b"")

    def offline(self, cluster: Cluster, error: TransportError) -> None:
        self._tell_json(cluster, Kind.OFFLINE, **told_error(error))

    def closed(self, cluster: Cluster) -> None:
        self._tell(cluster, Kind.HUB_CLOSED, b"")
        self.detach()
        self._gone(self)

    def read(self, cluster: Cluster, utc_ns: int) -> None:
        self._settle()
        task = getattr(ear.get(), "task", "")
        self._reading = cluster, utc_ns, round(self._hub.clock.monotonic() * 1e9), task
        if task not in _MAY_BEAR:
            self._settle()

    def drew(self, cluster: Cluster, number: float) -> None:
        self._tell_json(cluster, Kind.DRAW, number=number)

    def market(self, cluster: Cluster, is_open: bool) -> None:
        self._tell_json(cluster, Kind.MARKET, is_open=is_open)

    def asked(self, cluster: Cluster, number: int, target: str, cause: str) -> None:
        self._asked.add(number)
        self._tell_json(cluster, Kind.ASKED, number=number, target=target, cause=cause)

    def answered(self, cluster: Cluster, number: int, answer: Answer) -> None:
        if number not in self._asked:
            return  # asked before recording began
        self._asked.discard(number)
        self._learn()
        headers = {name: answer.headers[name] for name in _HEADERS if name in answer.headers}
        head = self._redact(_json({"number": number, "status": answer.status, "headers": headers}))
        self._tell(cluster, Kind.ANSWERED, len(head).to_bytes(4, "little") + head + self._redact(answer.body))

    def failed(self, cluster: Cluster, number: int, error: BaseException) -> None:
        if number not in self._asked:
            return
        self._asked.discard(number)
        if isinstance(error, MassiveLabError):
            self._tell_json(cluster, Kind.FAILED, number=number, error=told_error(error))
        else:
            # Cancelled, or a fault of ours: in either case nothing came.
            self._tell_json(cluster, Kind.ABANDONED, number=number)

    def _hear(self, event: t.Event) -> None:
        if isinstance(event, t.ReaderOpened):
            self._denied.discard(event.topic)
            utc_ns = self._reading[1] if self._reading else None
            self._reading = None
            mono_ns, now_ns = self._now()
            told = _json({"id": event.reader, "topic": event.topic, "caller": event.caller})
            self._put(Record(Kind.READER_OPENED, self._cluster, mono_ns, utc_ns or now_ns, self._redact(told)))
        elif isinstance(event, t.SubscriptionDenied):
            self._denied.add(event.topic)
        elif isinstance(event, t.ReaderClosed) and event.topic not in self._denied:
            # Those who were denied are closed by the same denial in the replay.
            self._tell_json(self._cluster, Kind.READER_CLOSED, id=event.reader)


class Recording:
    """A capture that is being written: close it, or leave its ``with`` block. Made by ``lab.live.record``.

    Attributes
    ----------
    path : Path
        Where the capture will be; until it is closed it is written as ``<path>.part``.
    summary : Summary or None
        Of the whole capture, verified, once it is closed.
    """

    def __init__(
        self, path: str | os.PathLike[str], settings: Settings, runner: Runner, *, plan: str | None = None
    ) -> None:
        self.path = _named(path)
        self.summary: Summary | None = None
        self._settings = settings
        self._runner = runner
        secrets = [Secret(value) for value in settings.extra_headers.values() if len(value) >= len("Bearer x")]
        self._redact = Redactor(settings.api_key, *secrets)
        self._taps: list[HubTap] = []
        self._forget: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._is_closed = False
        header = {
            "format": "massive_lab capture",
            "library": __version__,
            "sandbox": settings.sandbox,
            "plan": plan,
            "calls_per_minute": settings.calls_per_minute,
            "seeds": {"backoff": settings.backoff_seed},
        }
        self._writer = Writer(self.path, header)
        try:
            runner.call(self._begin())
        except BaseException:
            self._abort()
            raise

    async def _begin(self) -> None:
        self._forget = registry.watch(self._settings, self._tap)
        for hub in registry.hubs(self._settings):
            self._tap(hub)

    def _tap(self, hub: Hub) -> None:
        tap = HubTap(hub, self._writer.put, self._redact, self._gone)
        tap.attach()
        self._taps.append(tap)

    def _gone(self, tap: HubTap) -> None:
        self._taps.remove(tap)

    async def _end(self) -> None:
        if self._forget is not None:
            self._forget()
        for tap in list(self._taps):
            tap.detach()
        self._taps.clear()
        await asyncio.sleep(0)

    def _abort(self) -> None:
        try:
            with contextlib.suppress(ClosedError):
                self._runner.call(self._end())
        finally:
            left = self._writer.part
            with contextlib.suppress(CaptureError):
                self._writer.finish()
                left = self.path
            left.unlink(missing_ok=True)

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def error(self) -> CaptureError | None:
        """Why writing has stopped; None while all is well."""
        return self._writer.error

    @property
    def n_lost(self) -> int:
        """Records that the disk was too slow for; each hole is told in the capture."""
        return self._writer.n_lost

    def close(self) -> Summary:
        """End the capture, verify it, and give it its name. Idempotent.

        Returns
        -------
        Summary
            Records, bytes, and the SHA-256 of the chain.

        Raises
        ------
        CaptureError
            When the disk failed; ``<path>.part`` can be read up to there.
        """
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                try:
                    self._runner.call(self._end())
                except ClosedError:
                    pass  # the loop thread has ended, and with it all that was heard
                finally:
                    self.summary = self._writer.finish()
            if self.summary is None:
                raise self._writer.error or CaptureError(f"The capture {self.path.name} was not completed.")
            return self.summary

    def end(self) -> None:
        """As `close`, for the client that is closed: what went wrong is logged, and stays in `error`."""
        try:
            self.close()
        except CaptureError as error:
            _log.error("%s", error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        label = "SANDBOX " if self._settings.sandbox else ""
        state = self.summary.said if self.summary else "failed" if self.error else "recording"
        return f"<{label}capture {self.path.name}: {state}>"


def _named(path: object) -> Path:
    if isinstance(path, str | os.PathLike) and (name := os.fsdecode(path)):
        return Path(name).expanduser()
    raise InvalidRequest(f"{path!r} is not the name of a file.")


def _json(told: Any) -> bytes:
    return json.dumps(told, separators=(",", ":"), default=_plain).encode()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return dict(value)
