"""The vendor, asked once for all who want the same thing at the same time.

One attempt for each client call: the clients repeat by themselves, and two layers of retries would multiply. A call that
comes while an identical one is in flight shares its answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from massive_lab.clock import Clock
from massive_lab.config import Settings
from massive_lab.errors import ClosedError, Timeout, TransportError, UpstreamError
from massive_lab.gateway.cache import Cache, lifetime_s
from massive_lab.gateway.metrics import Metrics
from massive_lab.telemetry import Telemetry
from massive_lab.transports.flights import Flights
from massive_lab.transports.http import HttpTransport

__all__ = ["Fetched", "Upstream", "meaning"]

MAX_WIRE_BYTES = 128 * 1024 * 1024
_TIMEOUT_S = 9.0
"""The official clients give up after ten seconds without a byte: they shall hear 504 before."""
_CONNECTIONS = 64
_ENTRY_BYTES = 2_048
"""What a kept answer takes beside its body: many small ones must not add up unseen."""
_PASSED_TYPES = ("application/json", "text/plain", "text/csv", "image/")


@dataclass(frozen=True, slots=True)
class Fetched:
    """The vendor's answer, its body as it came.

    Attributes
    ----------
    headers : mapping
        Names in lower case.
    gzipped : bool
        Whether `body` is compressed.
    source : {"upstream", "shared", "cache"}
        Who paid for it: this call, one that was in flight, one before.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    gzipped: bool
    source: Literal["upstream", "shared", "cache"]

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class Upstream:
    """The way to the vendor. All methods run on one loop.

    Parameters
    ----------
    settings : Settings
        The vendor's address and the key, which leaves this object only towards that address.
    """

    def __init__(
        self,
        settings: Settings,
        telemetry: Telemetry,
        clock: Clock,
        metrics: Metrics,
        cache: Cache[Fetched] | None = None,
    ) -> None:
        ours = settings.with_(
            timeout_s=min(settings.timeout_s, _TIMEOUT_S), max_connections=max(settings.max_connections, _CONNECTIONS)
        )
        self._transport = HttpTransport(ours, telemetry, clock, max_body_bytes=MAX_WIRE_BYTES)
        self._flights: Flights[Fetched] = Flights()
        self._cache: Cache[Fetched] = Cache() if cache is None else cache
        self._clock = clock
        self._metrics = metrics
        self.base = ours.rest_url

    @property
    def n_in_flight(self) -> int:
        return len(self._flights)

    async def fetch(self, target: str, endpoint: str) -> Fetched:
        """Ask for a path of the vendor, or share what is known.

        Raises
        ------
        Timeout, ConnectionLost, UpstreamError
            When no usable answer came.
        ClosedError
            When the gateway is closing.
        """
        kept = self._cache.get(target, self._clock.monotonic())
        if kept is not None:
            self._metrics.spared("cache")
            return replace(kept, source="cache")
        shared = self._flights.is_shared(target)
        if shared:
            self._metrics.spared("shared")
        fetched = await self._flights.join(target, lambda: self._ask(target, endpoint))
        return replace(fetched, source="shared") if shared else fetched

    async def aclose(self) -> None:
        """Abort what is in flight and close the connections. Idempotent."""
        await self._flights.cancel()
        await self._transport.aclose()

    async def _ask(self, target: str, endpoint: str) -> Fetched:
        started = self._clock.monotonic()
        outcome = "closed"
        try:
            answer = await self._transport.pass_on(target, cause="gateway")
            encoding = answer.headers.get("content-encoding", "").strip().lower()
            outcome = f"{answer.status // 100}xx"
            if encoding not in ("", "identity", "gzip", "x-gzip"):
                raise UpstreamError("The answer is encoded in a way that was not asked for.", status=answer.status)
        except Timeout:
            outcome = "timeout"
            raise
        except TransportError:
            outcome = "failed"
            raise
        finally:
            self._metrics.asked(endpoint, outcome, self._clock.monotonic() - started)
        gzipped = encoding in ("gzip", "x-gzip") and bool(answer.body)
        fetched = Fetched(answer.status, answer.headers, answer.body, gzipped, "upstream")
        ttl_s = lifetime_s(endpoint, answer.status, answer.headers)
        if ttl_s:
            n_bytes = len(answer.body) + len(target) + _ENTRY_BYTES
            self._cache.put(target, fetched, n_bytes, ttl_s=ttl_s, now_s=self._clock.monotonic())
        return fetched


def meaning(found: Fetched | TransportError | ClosedError) -> tuple[int, str] | None:
    """What an answer, or its absence, means to the client: a status and a fixed text; None to pass the answer on.

    The client's own faults (400, 403, 404, 429 ...) keep the vendor's words. A refused key is ours and none of the client's,
    whose token was good: 502. What failed between us and the vendor is 502, what took too long 504.

    Examples
    --------
    >>> meaning(Fetched(403, {"content-type": "application/json"}, b"{}", False, "upstream"))
    >>> meaning(Fetched(401, {"content-type": "application/json"}, b"{}", False, "upstream"))
    (502, "The gateway's key was refused upstream")
    >>> meaning(Fetched(504, {"content-type": "text/html"}, b"<html>", False, "upstream"))
    (504, 'The upstream did not answer in time')
    """
    if isinstance(found, Timeout):
        return 504, "The upstream did not answer in time"
    if isinstance(found, ClosedError):
        return 503, "The gateway is stopping"
    if isinstance(found, TransportError):
        return 502, "The upstream could not be reached, or its answer broke off"
    passed = found.content_type.startswith(_PASSED_TYPES)
    match found.status:
        case status if 200 <= status < 300:
            return None if passed else (502, "The upstream answered with something that is no data")
        case 401 | 407:
            return 502, "The gateway's key was refused upstream"
        case 503:
            return 503, "The upstream is not available"
        case 504 | 408 | 499:
            return 504, "The upstream did not answer in time"
        case status if 400 <= status < 500:
            return None if passed else (status, "The upstream refused the request")
        case _:
            return 502, "The upstream failed"
