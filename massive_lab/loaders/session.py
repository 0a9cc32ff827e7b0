"""What every loader stands on: fetch one answer, or follow the pages of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from massive_lab.clock import Clock, SystemClock
from massive_lab.config import TOKEN_HINT, ProxyToken, Secret, Settings
from massive_lab.decode.pages import Page, paginate
from massive_lab.decode.status import error_from
from massive_lab.errors import IncompletePagination, InvalidRequest, MassiveLabError, Unauthorized
from massive_lab.loaders.progress import Progress
from massive_lab.loaders.report import LoadLedger
from massive_lab.schema.endpoints import ENDPOINTS
from massive_lab.schema.plans import Plan
from massive_lab.telemetry import CALLER, LoadDone, Telemetry
from massive_lab.transports.flights import Flights
from massive_lab.transports.http import HttpTransport

__all__ = ["Load", "Session", "path_of"]

T = TypeVar("T")
R = TypeVar("R")


def path_of(endpoint: str, **parts: object) -> str:
    """The path of an endpoint; parts are percent-encoded, but for the colon that the vendor takes raw.

    Examples
    --------
    >>> path_of("chain", underlying="I:SPX")
    '/v3/snapshot/options/I:SPX'
    """
    return ENDPOINTS[endpoint].format(**{name: quote(str(part), safe=":") for name, part in parts.items()})


class Load:
    """One call of a loader: counts its pages and rows for telemetry and the progress bar."""

    __slots__ = ("asked", "n_pages", "n_rows", "name", "progress", "session", "symbols")

    def __init__(self, session: Session, name: str, symbols: Sequence[str], progress: Progress) -> None:
        self.session = session
        self.name = name
        self.symbols = tuple(symbols)
        self.progress = progress
        self.n_pages = 0
        self.n_rows = 0
        self.asked: set[str] = set()
        """Digests of what was asked for, first pages only."""

    async def fetch(
        self,
        endpoint: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        symbol: str | None = None,
        budget: str = "stocks",
    ) -> bytes:
        """The body of a 200; anything else raises what it means."""
        self.asked.add(_digest(path, params))
        return await self._body(endpoint, path, params=params, symbol=symbol, budget=budget)

    async def _body(
        self, endpoint: str, path: str, *, params: Mapping[str, str] | None = None, symbol: str | None, budget: str
    ) -> bytes:
        answer = await self.session.transport.get(path, params=params, cause=self.name, budget=budget)
        if answer.status != 200:
            error = error_from(answer.status, answer.body, answer.headers, endpoint=endpoint, symbol=symbol)
            if isinstance(error, Unauthorized) and isinstance(self.session.settings.api_key, ProxyToken):
                error.hint = TOKEN_HINT
            raise error
        self.n_pages += 1
        return answer.body

    async def pages(
        self,
        endpoint: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        symbol: str | None = None,
        budget: str = "stocks",
        results: str = "results",
        on_page: Callable[[int], None] | None = None,
    ) -> list[Page]:
        """Every page of a paged answer, or an error that holds those received.

        Raises
        ------
        IncompletePagination
            When a later page failed; ``partial`` is the list of whole pages.
        """
        first = f"{path}?{urlencode(params)}" if params else path
        self.asked.add(_digest(first))
        steps = paginate(first, endpoint=endpoint, results=results)
        target = next(steps)
        n_pages = 0
        while True:
            try:
                body = await self._body(endpoint, target, symbol=symbol, budget=budget)
            except MassiveLabError as error:
                # The generator knows whether this was the first page, which fails as itself, or a later one.
                steps.throw(error)
                raise
            n_pages += 1
            if on_page is not None:
                on_page(n_pages)
            try:
                target = steps.send(body)
            except StopIteration as stop:
                pages: list[Page] = stop.value
                return pages


class Session:
    """The settings, transport, telemetry and call budget that the loaders of one client share."""

    def __init__(
        self,
        settings: Settings,
        *,
        telemetry: Telemetry | None = None,
        clock: Clock | None = None,
        plan: Plan | None = None,
        progress: bool | None = None,
    ) -> None:
        self.settings = settings
        self.telemetry = telemetry or Telemetry()
        self.clock = clock or SystemClock()
        self.plan = plan
        self.show_progress = progress
        self.transport = HttpTransport(settings, self.telemetry, self.clock)
        self.ledger = LoadLedger()
        self._remove_ledger = self.telemetry.add(self.ledger)
        # Answers that stay good for a while, by request; see `cached`.
        self._cache: dict[Any, tuple[float, Any]] = {}
        self.shared: Flights[Any] = Flights()
        """Loads in flight that several callers may wait for."""
        self._gate = asyncio.Semaphore(settings.max_connections)

    def use_key(self, key: Secret) -> None:
        """Ask with another key from the next request on."""
        self.settings = self.settings.with_(api_key=key)
        self.transport.use_key(key)

    async def aclose(self) -> None:
        # The transport first: what is shared then ends with an error that says why.
        await self.transport.aclose()
        await self.shared.cancel()
        self._remove_ledger()

    @asynccontextmanager
    async def load(
        self, name: str, symbols: Iterable[str], *, total: int | None = None, unit: str = "page"
    ) -> AsyncIterator[Load]:
        """Account for one loader call, however it ends."""
        symbols = tuple(symbols)
        started = self.clock.monotonic()
        outcome = "error"
        with Progress(name, symbols, total=total, unit=unit, show=self.show_progress) as progress:
            load = Load(self, name, symbols, progress)
            try:
                yield load
                outcome = "ok"
            except asyncio.CancelledError:
                outcome = "cancelled"
                raise
            finally:
                now = self.clock.monotonic()
                self.telemetry.emit(
                    LoadDone(
                        now, name, symbols, load.n_rows, load.n_pages, now - started, outcome, CALLER.get(),
                        tuple(sorted(load.asked)),
                    )
                )  # fmt: skip

    async def gather(self, items: Sequence[T], work: Callable[[T], Awaitable[R]]) -> list[R]:
        """Do `work` for all items at once, as far as connections allow; the first failure cancels the rest."""

        async def one(item: T) -> R:
            async with self._gate:
                return await work(item)

        failure: MassiveLabError | None = None
        tasks: list[asyncio.Task[R]] = []
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(item)) for item in items]
        except* MassiveLabError as errors:
            failure = _first(errors)
        if failure is not None:
            # Raised outside the group, so that the error's own cause stays its cause.
            raise failure
        return [task.result() for task in tasks]

    def cached(self, key: Any, ttl_s: float) -> Any | None:
        """A stored answer younger than `ttl_s`, or None."""
        entry = self._cache.get(key)
        if entry is None or self.clock.monotonic() - entry[0] >= ttl_s:
            self._cache.pop(key, None)
            return None
        return entry[1]

    def store(self, key: Any, value: Any, at_s: float, *, most: int = 1_000) -> None:
        """Keep an answer that is as old as `at_s`; beyond `most` answers the oldest one goes."""
        self._cache.pop(key, None)
        if len(self._cache) >= most:
            self._cache.pop(next(iter(self._cache)))
        self._cache[key] = (at_s, value)

    def check_history(self, start_ns: int, now_ns: int) -> None:
        """Refuse a start the plan does not reach, which the vendor would clip without a word."""
        years = self.plan.history_years if self.plan is not None else None
        if years is not None and start_ns < now_ns - int(years * 365.25 * 86_400) * 1_000_000_000:
            assert self.plan is not None
            raise InvalidRequest(
                f"The {self.plan.tier} plan reaches back {years} years; the range starts before that.",
                hint="The vendor would silently return only the later part. Start later, or use a higher plan.",
            )


def _digest(path: str, params: Mapping[str, str] | None = None) -> str:
    target = f"{path}?{urlencode(params)}" if params else path
    return blake2b(target.encode(), digest_size=8).hexdigest()


def _first(group: BaseExceptionGroup[MassiveLabError]) -> MassiveLabError:
    errors = [_first(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    # An error that names a cause is of more use than the cut that followed from it.
    return next((error for error in errors if not isinstance(error, IncompletePagination)), errors[0])
