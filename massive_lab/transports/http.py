"""The REST transport: pooled HTTP/1.1, one attempt after another, nothing parsed.

Keeps these promises: the key travels in a header, only to the configured host; redirects are not followed; an identical
request in flight is shared; a cancelled call aborts its connection; a body is whole or it is an error; a compressed body
cannot inflate beyond a bound; every attempt is reported to telemetry exactly once, and says whether its request was sent.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

import httpx2
from isal import isal_zlib

from massive_lab._version import __version__
from massive_lab.clock import Clock
from massive_lab.config import Secret, Settings
from massive_lab.errors import ClosedError, ConnectionLost, InvalidRequest, Timeout, TransportError, UpstreamError
from massive_lab.schema.endpoints import classify
from massive_lab.schema.plans import ADVISED_CALLS_PER_SECOND
from massive_lab.telemetry import RequestCoalesced, RequestDone, RetryScheduled, Telemetry, ThrottleWait
from massive_lab.transports.flights import Flights
from massive_lab.transports.ratelimit import TokenBucket
from massive_lab.transports.retry import RetryBudget, RetryPolicy, parse_retry_after

__all__ = ["Answer", "Ear", "HttpTransport", "ear"]

MAX_BODY_BYTES = 512 * 1024 * 1024
_MAX_TARGET = 32 * 1024
_TARGET = re.compile(r"/(?!/)[!\"$-~]*")
_DOTS = re.compile(r"/(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, whatever its status."""

    status: int
    headers: Mapping[str, str]
    """Lower-case names."""
    body: bytes
    n_wire_bytes: int
    elapsed_s: float

    @property
    def request_id(self) -> str | None:
        return self.headers.get("x-request-id")


class Ear(Protocol):
    """Hears the requests of a task and of the tasks it starts, whichever transport serves them; see `ear`."""

    def asked(self, target: str, cause: str) -> int:
        """A request begins; gives the number it is told by from here on."""
        ...

    def answered(self, number: int, answer: Answer) -> None: ...
    def failed(self, number: int, error: BaseException) -> None:
        """There is no answer: an error, or a cancelled call."""
        ...


ear: ContextVar[Ear | None] = ContextVar("massive_lab_ear", default=None)
"""Who hears the requests made in this context; nobody, unless it is set."""


class HttpTransport:
    """One connection pool to one host. All methods run on the loop thread.

    Parameters
    ----------
    settings : Settings
    telemetry : Telemetry
    clock : Clock
    chance : callable, optional
        Draws from ``[0, 1)`` for the jitter of retries.
    max_body_bytes : int
        A larger answer, on the wire or inflated, is refused.
    """

    def __init__(
        self,
        settings: Settings,
        telemetry: Telemetry,
        clock: Clock,
        *,
        chance: Callable[[], float] = random.random,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._clock = clock
        self._chance = chance
        self._max_body_bytes = max_body_bytes
        self._policy = RetryPolicy(max_attempts=settings.max_attempts)
        self._retry_budget = RetryBudget()
        self._buckets: dict[str, TokenBucket] = {}
        self._flights: Flights[Answer] = Flights()
        self._client: httpx2.AsyncClient | None = None
        self._closed = False

    async def get(
        self, target: str, *, params: Mapping[str, str] | None = None, cause: str, budget: str = "stocks"
    ) -> Answer:
        """GET a path of the configured host.

        Parameters
        ----------
        target : str
            Path, or path and query as ``next_url`` gave it; never a host.
        params : mapping, optional
            Query parameters, encoded here.
        cause : str
            The loader or topic that asks, for telemetry.
        budget : str
            Whose call budget it spends: the asset class.

        Returns
        -------
        Answer
            Of any status: the last one, when retries did not help.

        Raises
        ------
        Timeout, ConnectionLost
            When no whole answer came, after retries.
        UpstreamError
            When the answer is too large, or encoded in a way that was not asked for. Not repeated.
        ClosedError
            When the transport was closed.
        InvalidRequest
            When `target` is not a path of the configured host. Nothing was sent.
        """
        if params:
            target = f"{target}{'&' if '?' in target else '?'}{urlencode(params)}"
        _check_target(target)
        hears = ear.get()
        if hears is None:
            return await self._get(target, cause, budget)
        number = hears.asked(target, cause)
        try:
            answer = await self._get(target, cause, budget)
        except BaseException as error:
            hears.failed(number, error)
            raise
        hears.answered(number, answer)
        return answer

    async def pass_on(self, target: str, *, cause: str) -> Answer:
        """GET a path of the configured host once, and leave the body as it came.

        For who hands the answer to a client that repeats by itself: nothing is repeated, shared or delayed here, and a
        compressed body stays so (its ``content-encoding`` is among the headers).

        Raises
        ------
        Timeout, ConnectionLost, UpstreamError, ClosedError, InvalidRequest
            As `get`.
        """
        _check_target(target)
        return await self._attempt(target, classify(urlsplit(target).path), cause, 1, inflate=False)

    async def _get(self, target: str, cause: str, budget: str) -> Answer:
        endpoint = classify(urlsplit(target).path)
        if self._flights.is_shared(target):
            self._telemetry.emit(RequestCoalesced(self._clock.monotonic(), endpoint, cause))
        elif self._closed:
            raise ClosedError("The client is closed.", endpoint=endpoint, hint="Connect again.")
        try:
            return await self._flights.join(target, lambda: self._with_retries(target, endpoint, cause, budget))
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if self._closed and not (caller and caller.cancelling()):
                raise ClosedError("The client was closed during the call.", endpoint=endpoint) from None
            raise

    def use_key(self, key: Secret) -> None:
        """Send another key from the next request on."""
        self._settings = self._settings.with_(api_key=key)
        if self._client is not None:
            self._client.headers["Authorization"] = f"Bearer {key.reveal()}"

    async def aclose(self) -> None:
        """Abort what is in flight and close the pool. Idempotent."""
        self._closed = True
        await self._flights.cancel()
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    @property
    def n_in_flight(self) -> int:
        return len(self._flights)

    async def _with_retries(self, target: str, endpoint: str, cause: str, budget: str) -> Answer:
        attempt = 0
        self._retry_budget.earn()
        while True:
            attempt += 1
            await self._throttle(endpoint, budget)
            answer: Answer | None = None
            failure: TransportError | None = None
            try:
                answer = await self._attempt(target, endpoint, cause, attempt)
            except (Timeout, ConnectionLost) as error:
                failure = error
            if answer is not None and answer.status < 400:
                return answer
            status = answer.status if answer is not None else None
            after = (
                parse_retry_after(answer.headers.get("retry-after"), self._clock.now_ns())
                if answer is not None
                else None
            )
            delay = self._policy.delay(attempt, status=status, retry_after_s=after, chance=self._chance())
            if delay is None or not self._retry_budget.spend():
                if answer is not None:
                    return answer
                assert failure is not None
                raise failure
            reason = str(status) if status is not None else type(failure).__name__
            self._telemetry.emit(RetryScheduled(self._clock.monotonic(), endpoint, reason, delay, attempt))
            await self._clock.sleep(delay)

    async def _throttle(self, endpoint: str, budget: str) -> None:
        bucket = self._buckets.get(budget)
        if bucket is None:
            per_minute = self._settings.calls_per_minute
            bucket = TokenBucket(ADVISED_CALLS_PER_SECOND, 1.0) if per_minute is None else TokenBucket(per_minute, 60.0)
            self._buckets[budget] = bucket
        wait_s = bucket.reserve(self._clock.monotonic())
        if wait_s > 0:
            self._telemetry.emit(ThrottleWait(self._clock.monotonic(), endpoint, wait_s))
            await self._clock.sleep(wait_s)

    async def _attempt(
        self, target: str, endpoint: str, cause: str, attempt: int, *, inflate: bool = True
    ) -> Answer:
        started = self._clock.monotonic()
        status: int | None = None
        n_bytes = 0
        outcome = "cancelled"
        request_id: str | None = None
        sent = _Sent()
        try:
            url = self._settings.rest_url + target
            async with self._open().stream("GET", url, extensions={"trace": sent}) as response:
                status = response.status_code
                request_id = response.headers.get("x-request-id")
                chunks: list[bytes] = []
                # Closed by hand: a generator left in the middle would be ended later, by a task of its own.
                async with aclosing(response.aiter_raw()) as raw:
                    async for chunk in raw:
                        n_bytes += len(chunk)
                        if n_bytes > self._max_body_bytes:
                            raise _TooLarge
                        chunks.append(chunk)
                headers = MappingProxyType({name.lower(): value for name, value in response.headers.items()})
            encoding = headers.get("content-encoding", "") if inflate else ""
            body = _inflate(chunks, encoding, self._max_body_bytes)
            outcome = "ok" if 200 <= status < 300 else "http_error"
            return Answer(status, headers, body, n_bytes, self._clock.monotonic() - started)
        except httpx2.TimeoutException as error:
            outcome = "timeout"
            raise Timeout(
                f"No answer within {self._settings.timeout_s:g} s ({type(error).__name__}).",
                endpoint=endpoint,
                request_id=request_id,
                hint="Try again, or raise timeout_s.",
            ) from None
        except httpx2.TransportError as error:
            outcome = "connection"
            raise ConnectionLost(
                f"The connection failed: {type(error).__name__}: {error}.",
                endpoint=endpoint,
                request_id=request_id,
                hint="Check the network and MASSIVE_REST_URL.",
            ) from None
        except _Damaged as error:
            outcome = "connection"
            raise ConnectionLost(
                f"The compressed answer {error}.", endpoint=endpoint, request_id=request_id, hint="Try again."
            ) from None
        except (_TooLarge, _Foreign) as error:
            outcome = "connection"
            assert status is not None
            what = f"is larger than {self._max_body_bytes} bytes" if isinstance(error, _TooLarge) else str(error)
            raise UpstreamError(
                f"The answer {what}.", status=status, endpoint=endpoint, request_id=request_id, hint="Ask for less."
            ) from None
        finally:
            now = self._clock.monotonic()
            self._telemetry.emit(
                RequestDone(
                    now, endpoint, cause, status, outcome, n_bytes, now - started, attempt, request_id, sent.done
                )
            )

    def _open(self) -> httpx2.AsyncClient:
        if self._client is None:
            if self._closed:
                raise ClosedError("The client is closed.", hint="Connect again.")
            settings = self._settings
            host = urlsplit(settings.rest_url).hostname or ""
            self._client = httpx2.AsyncClient(
                headers={
                    **settings.extra_headers,
                    "Authorization": f"Bearer {settings.api_key.reveal()}",
                    "Accept": "application/json",
                    "Accept-Encoding": "gzip",
                    "User-Agent": f"massive_lab/{__version__}",
                },
                timeout=httpx2.Timeout(settings.timeout_s, connect=settings.connect_timeout_s, pool=None),
                limits=httpx2.Limits(
                    max_connections=settings.max_connections, max_keepalive_connections=settings.max_connections
                ),
                follow_redirects=False,
                # A proxy of the environment is for the vendor, not for a server on this machine.
                trust_env=host not in ("127.0.0.1", "localhost", "::1"),
            )
        return self._client


class _Sent:
    """Watches one attempt for the moment its request is with the operating system.

    Between ``started`` and the write nothing lets another task run, and a request fits into an empty socket buffer. So it
    was written unless the write itself failed; a cancellation can only come in after it, before ``complete`` is told.
    """

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

    async def __call__(self, name: str, info: Mapping[str, Any]) -> None:
        if name == "http11.send_request_headers.started":
            # A proxy is first asked for a tunnel, with the same callback.
            self.done = info["request"].method == b"GET"
        elif name == "http11.send_request_headers.failed":
            self.done = self.done and isinstance(info["exception"], asyncio.CancelledError)


class _Damaged(Exception):
    pass


class _Foreign(Exception):
    pass


class _TooLarge(Exception):
    pass


def _check_target(target: str) -> None:
    # A line end, a fragment or a dot segment would make another address of it on the way out.
    if not _TARGET.fullmatch(target) or _DOTS.search(target.partition("?")[0]) or len(target) > _MAX_TARGET:
        raise InvalidRequest(f"{target[:80]!r} is not a path of the configured host.")


def _inflate(chunks: list[bytes], encoding: str, limit: int) -> bytes:
    encoding = encoding.strip().lower()
    if not chunks or encoding in ("", "identity"):
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
    if encoding not in ("gzip", "x-gzip"):
        raise _Foreign(f"is encoded as {encoding[:40]!r}, which was not asked for")
    inflater = isal_zlib.decompressobj(wbits=31)
    parts: list[bytes] = []
    room = limit
    try:
        for chunk in chunks:
            data = chunk
            while data:
                if inflater.eof:
                    # A gzip stream may have several members, one behind the other.
                    inflater = isal_zlib.decompressobj(wbits=31)
                # One byte more than there is room for tells "exactly full" from "too much".
                part = inflater.decompress(data, room + 1)
                room -= len(part)
                if room < 0:
                    raise _TooLarge
                parts.append(part)
                data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    except isal_zlib.IsalError as error:  # type: ignore[misc]  # the stub calls the class a value
        raise _Damaged(f"is damaged: {error}") from None
    if not inflater.eof:
        raise _Damaged("ends too early")
    return b"".join(parts)
