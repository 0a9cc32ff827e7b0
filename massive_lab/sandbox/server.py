"""The vendor's host, synthetic: REST and WebSocket on one port, the delayed feed on a second.

aiohttp parses HTTP; bytes pass through `massive_lab.sandbox.pipe`, where faults act. Market work happens in two worker
threads with a market each (the same seed makes the same market), so a long REST page never holds up a socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from massive_lab._version import __version__
from massive_lab.errors import ConfigError, InvalidRequest
from massive_lab.sandbox.accounts import Accounts
from massive_lab.sandbox.api import MarketData, RestRules
from massive_lab.sandbox.clock import DEFAULT_START, VirtualClock, parse_moment
from massive_lab.sandbox.counts import Counts
from massive_lab.sandbox.faults import answers, stream, toxics
from massive_lab.sandbox.faults.book import FaultBook
from massive_lab.sandbox.http import RestHost
from massive_lab.sandbox.pipe import Pipe, Tap
from massive_lab.sandbox.scenarios import SCENARIOS, play
from massive_lab.sandbox.ws.host import WsHost
from massive_lab.sandbox.ws.topics import CLUSTERS

__all__ = ["LABEL", "Options", "Sandbox"]

LABEL = {"X-Massive-Lab": "SANDBOX"}
"""On every answer: nothing here is the vendor's."""

MAX_DELIVERED_JUMP_NS = 3_600_000_000_000

# Importing them registers the kinds.
_FAULTS = (answers, stream, toxics)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """How a sandbox is started."""

    host: str = "127.0.0.1"
    port: int = 9090
    """REST and real-time WebSocket; 0: any free one."""
    delayed_port: int = 0
    control_port: int = 9091
    seed: int = 7
    start: str = DEFAULT_START
    """Virtual time at the start, ISO; New York when it has no offset."""
    speed: float = 1.0
    paused: bool = False
    density: float = 1.0
    """How lively the synthetic market is; 1 is the market's own default."""
    scenario: str = "calm"
    max_buffer_bytes: int = 4 * 1024 * 1024
    auth_timeout_s: float = 10.0


@dataclass(slots=True)
class _Port:
    """A listening port that a fault may close and open again."""

    number: int
    delayed: bool
    server: asyncio.Server | None = None


class Sandbox:
    """All of the sandbox but its control plane.

    Parameters
    ----------
    options : Options
    make : callable, optional
        Builds a market and REST rules; called twice, once for each worker thread. Default: the synthetic market.
    """

    def __init__(self, options: Options, make: Callable[[], tuple[MarketData, RestRules]] | None = None) -> None:
        if options.scenario not in SCENARIOS:
            raise ConfigError(
                f"There is no scenario {options.scenario!r}.", hint=f"One of: {', '.join(sorted(SCENARIOS))}."
            )
        self.options = options
        self.counts = Counts()
        self.book = FaultBook(self.counts.fault_fired)
        self.accounts = Accounts()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the exception when a part of the sandbox breaks; never a result."""
        try:
            start_ns, paused = parse_moment(options.start), options.paused
            self.clock = VirtualClock(start_ns, speed=options.speed, paused=paused)
        except InvalidRequest as error:
            raise ConfigError(str(error)) from error
        make = make or (lambda: _synthetic(options))
        self._workers = [ThreadPoolExecutor(1, thread_name_prefix=f"sandbox-{name}") for name in ("rest", "ws")]
        self.rest = RestHost(
            make()[1], self.clock, self._workers[0], self.accounts, self.book, self.counts, label=LABEL
        )
        self.ws = WsHost(
            make()[0],
            self.clock,
            self._workers[1],
            self.accounts,
            self.book,
            self.counts,
            label=LABEL,
            max_buffer_bytes=options.max_buffer_bytes,
            auth_timeout_s=options.auth_timeout_s,
            seed=options.seed,
        )
        self._http = web.Server(self._serve, access_log=None)
        self._ports = [_Port(options.port, delayed=False), _Port(options.delayed_port, delayed=True)]
        self._pipes: dict[Pipe, bool] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._is_down = False
        self._opening = asyncio.Lock()
        self._switching: asyncio.Task[None] | None = None
        self.book.listen(self._faults_changed)

    @property
    def port(self) -> int:
        return self._ports[0].number

    @property
    def delayed_port(self) -> int:
        return self._ports[1].number

    async def start(self) -> None:
        """Listen, and run the feeds and the scenario.

        Raises
        ------
        ConfigError
            When a port is in use.
        """
        for port in self._ports:
            await self._listen(port)
        loop = asyncio.get_running_loop()
        jobs = [feed.run() for feed in self.ws.feeds.values()]
        jobs.append(play(SCENARIOS[self.options.scenario], self.clock, self.book))
        for job in jobs:
            task = loop.create_task(job)
            task.add_done_callback(self._task_done)
            self._tasks.append(task)

    async def stop(self) -> None:
        """Close everything; returns when nothing is left running."""
        self.ws.stop()
        for port in self._ports:
            if port.server is not None:
                port.server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pipe in list(self._pipes):
            pipe.abort()
        await self._http.shutdown(1.0)
        for worker in self._workers:
            worker.shutdown(wait=True, cancel_futures=True)

    def status(self) -> dict[str, Any]:
        """What ``GET /status`` of the control plane tells, ports of the control plane aside."""
        return {
            "label": "SANDBOX",
            "version": __version__,
            "seed": self.options.seed,
            "scenario": self.options.scenario,
            "density": self.options.density,
            "port": self.port,
            "delayed_port": self.delayed_port,
            "now_ns": self.clock.now_ns(),
            "speed": self.clock.speed,
            "paused": self.clock.paused,
            "accounts": self.accounts.names(),
            "n_connections": len(self.ws.connections),
            "n_faults": len(self.book),
        }

    # the clock, together with those who follow it

    async def pause(self) -> None:
        """Stop time; everything published until now has been sent when this returns."""
        self.clock.pause()
        await self.ws.settle()

    def resume(self) -> None:
        self.clock.resume()
        self.ws.poke()

    def set_speed(self, speed: float) -> None:
        self.clock.set_speed(speed)
        self.ws.poke()

    async def jump_to(self, moment_ns: int, *, deliver: bool = True) -> None:
        """Move time forward; with `deliver`, what was published meanwhile has been sent when this returns.

        Raises
        ------
        InvalidRequest
            Backwards, or more than an hour of undelivered events at once.
        """
        held = any(feed.n_topics for feed in self.ws.feeds.values())
        if deliver and held and moment_ns - self.clock.now_ns() > MAX_DELIVERED_JUMP_NS:
            raise InvalidRequest(
                "More than an hour of events would be sent at once.", hint="Jump with deliver=false to pass over them."
            )
        if not deliver:
            await self.ws.settle()
        self.clock.jump_to(moment_ns)
        if deliver:
            await self.ws.settle()
        else:
            self.ws.skip()

    # connections

    async def _listen(self, port: _Port) -> None:
        loop = asyncio.get_running_loop()
        try:
            port.server = await loop.create_server(
                lambda: Tap(self._http(), lambda pipe: self._made(pipe, port.delayed), self._lost),
                self.options.host,
                port.number,
            )
        except OSError as error:
            name = "delayed port" if port.delayed else "port"
            raise ConfigError(
                f"The sandbox cannot listen on {self.options.host}:{port.number} ({name}): {error.strerror or error}.",
                hint="Choose another port, or 0 for any free one.",
            ) from error
        port.number = port.server.sockets[0].getsockname()[1]

    def _made(self, pipe: Pipe, delayed: bool) -> None:
        self._pipes[pipe] = delayed
        if self._is_down or self.book.draw(toxics.Down, ("*",)) is not None:
            pipe.reset()
            return
        pipe.refresh(self.book)

    def _lost(self, pipe: Pipe) -> None:
        del self._pipes[pipe]

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        pipe = request.transport
        if not isinstance(pipe, Pipe):  # gone already
            return web.Response(status=503)
        path = request.raw_path.partition("?")[0].strip("/")
        for cluster in CLUSTERS:
            if path == cluster:
                return await self.ws.handle(request, pipe, cluster, delayed=self._pipes[pipe])
        return await self.rest.handle(request, pipe)

    def _faults_changed(self) -> None:
        for pipe in list(self._pipes):
            pipe.refresh(self.book)
        self.ws.faults_changed()
        down = any(
            isinstance(fault.kind, toxics.Down)
            and fault.scope == "*"
            and fault.count is None
            and fault.probability == 1
            for fault in self.book.faults()
        )
        if down == self._is_down:
            return
        self._is_down = down
        if down:
            self._go_down()
        task = asyncio.get_running_loop().create_task(self._listen_as_wanted())
        self._tasks.append(task)
        task.add_done_callback(self._task_done)
        self._switching = task

    async def settled(self) -> None:
        """Return once the last change of the faults is in force, the ports included."""
        if self._switching is not None:
            await self._switching

    def _go_down(self) -> None:
        for port in self._ports:
            if port.server is not None:
                port.server.close()
                port.server = None
        for pipe in list(self._pipes):
            pipe.reset()

    async def _listen_as_wanted(self) -> None:
        async with self._opening:
            for port in self._ports:
                if port.server is None and not self._is_down:
                    await self._listen(port)
        if self._is_down:  # again, while a port was being opened
            self._go_down()

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        _log.error("The sandbox broke.", exc_info=error)
        if not self.failed.done():
            self.failed.set_exception(error)


def _synthetic(options: Options) -> tuple[MarketData, RestRules]:
    from massive_lab.sandbox.market.market import Market
    from massive_lab.sandbox.rest.rules import Rest

    market = Market(options.seed, options.density)
    return market, Rest(market, options.seed)
