"""Every exception the library raises on purpose.

::

    MassiveLabError
    ├── ConfigError                      a setting is missing or wrong
    ├── InvalidRequest (ValueError)      the arguments of a call cannot be honoured; nothing was sent
    ├── TransportError                   what was asked, what came, what to do
    │   ├── Timeout                      no answer in time
    │   ├── ConnectionLost               the connection could not be opened, or broke
    │   ├── RateLimited                  429; ``retry_after_s`` when the vendor said so
    │   ├── Unauthorized                 401, or ``auth_failed`` on a socket
    │   ├── NotEntitled                  403: the key is good, the plan lacks the data
    │   └── UpstreamError                any other answer that is not a success; ``status``
    ├── DecodeError                      the bytes were not what the vendor documents; keeps an excerpt
    ├── DataError
    │   ├── UnknownSymbol                no such instrument, or one this library refuses
    │   ├── IncompletePagination         a page is missing or broken; ``partial`` holds what was got
    │   ├── FrameInvariantError          ``rule`` and the offending ``rows``
    │   └── GapError                     ``symbol``, ``start``, ``end``
    ├── SubscriptionFailed               ``topic`` and ``reason``
    ├── SlowReader                       ``reader`` and ``n_dropped``
    ├── CaptureError                     a capture cannot be written, or not be read
    │   └── CaptureDamaged               it is not what was written: ``block``, ``offset`` and ``what``
    └── ClosedError                      the client, feed or reader was closed before or during the call

Every error carries ``request_id``, ``symbol`` and ``endpoint`` where it has them, ends in a hint, and survives
pickling. No text, repr or attribute of an error holds an API key.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "CaptureDamaged",
    "CaptureError",
    "ClosedError",
    "ConfigError",
    "ConnectionLost",
    "DataError",
    "DecodeError",
    "FrameInvariantError",
    "GapError",
    "IncompletePagination",
    "InvalidRequest",
    "MassiveLabError",
    "NotEntitled",
    "RateLimited",
    "SlowReader",
    "SubscriptionFailed",
    "Timeout",
    "TransportError",
    "Unauthorized",
    "UnknownSymbol",
    "UpstreamError",
]


def _rebuild(cls: type[MassiveLabError], args: tuple[Any, ...], state: dict[str, Any]) -> MassiveLabError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class MassiveLabError(Exception):
    """Base of every error of this library.

    Parameters
    ----------
    message : str
        What was asked and what came.
    hint : str, optional
        What to do about it; printed last.
    request_id : str, optional
        The vendor's id of the answer.
    symbol, endpoint : str, optional
        What the failing call was about.

    Examples
    --------
    >>> str(MassiveLabError("No bars.", symbol="AAPL", hint="Widen the range."))
    'No bars. [symbol AAPL] Widen the range.'
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        request_id: str | None = None,
        symbol: str | None = None,
        endpoint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.request_id = request_id
        self.symbol = symbol
        self.endpoint = endpoint

    def __str__(self) -> str:
        named = (("symbol", self.symbol), ("endpoint", self.endpoint), ("request", self.request_id))
        context = ", ".join(f"{name} {value}" for name, value in named if value)
        parts = [self.message, f"[{context}]" if context else "", self.hint]
        return " ".join(part for part in parts if part)

    def __reduce__(self) -> tuple[Any, ...]:
        # The default rebuilds from positional arguments alone and would lose every keyword attribute.
        return _rebuild, (type(self), self.args, self.__dict__)


class ConfigError(MassiveLabError):
    """A setting is missing or wrong. The text names the variable and how to set it."""


class InvalidRequest(MassiveLabError, ValueError):
    """The arguments of a call cannot be honoured. Raised before anything is sent."""


class TransportError(MassiveLabError):
    """The bytes did not come as asked."""


class Timeout(TransportError, TimeoutError):
    """No answer in time."""


class ConnectionLost(TransportError, ConnectionError):
    """The connection could not be opened, or broke before the answer was whole."""


class RateLimited(TransportError):
    """The vendor answered 429 and the retry budget is spent.

    Attributes
    ----------
    retry_after_s : float or None
        Seconds the vendor asked to wait; None when it did not say.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None, **context: Any) -> None:
        super().__init__(message, **context)
        self.retry_after_s = retry_after_s


class Unauthorized(TransportError):
    """The key is missing, unknown or refused (HTTP 401, ``auth_failed``)."""


class NotEntitled(TransportError):
    """The key is good but its plan lacks this data (HTTP 403, ``NOT_AUTHORIZED``)."""


class UpstreamError(TransportError):
    """An answer that is neither a success nor one of the named failures.

    Attributes
    ----------
    status : int
        HTTP status, or the WebSocket close code.
    """

    def __init__(self, message: str, *, status: int, **context: Any) -> None:
        super().__init__(message, **context)
        self.status = status


class DecodeError(MassiveLabError):
    """The bytes were not what the vendor documents.

    Attributes
    ----------
    excerpt : str
        At most 200 characters of the offending text.
    """

    def __init__(self, message: str, *, excerpt: str | bytes = "", **context: Any) -> None:
        super().__init__(message, **context)
        # 800 bytes hold 200 characters of any width: a large body is not decoded for its first line.
        text = excerpt[:800].decode("utf-8", "replace") if isinstance(excerpt, bytes) else excerpt
        self.excerpt = text[:200]


class DataError(MassiveLabError):
    """The data are not usable as asked."""


class UnknownSymbol(DataError, LookupError):
    """No such instrument, or one of an asset class this library does not serve."""


class IncompletePagination(DataError):
    """A paged answer ended without an explicit last page.

    Attributes
    ----------
    partial : object
        What was got before the failure: a frame for loaders, a list of pages for the pagination generator.
    n_pages : int
        Pages received whole.
    """

    def __init__(self, message: str, *, partial: Any = None, n_pages: int = 0, **context: Any) -> None:
        super().__init__(message, **context)
        self.partial = partial
        self.n_pages = n_pages


class FrameInvariantError(DataError):
    """A frame breaks a rule of its schema.

    Attributes
    ----------
    rule : str
        Name of the broken rule.
    rows : object
        The first offending rows as a frame, or None when the rule is about the columns.
    """

    def __init__(self, message: str, *, rule: str, rows: Any = None, **context: Any) -> None:
        super().__init__(message, **context)
        self.rule = rule
        self.rows = rows


class GapError(DataError):
    """Data are missing between ``start`` and ``end`` (UTC nanoseconds, half open)."""

    def __init__(self, message: str, *, start: int, end: int, **context: Any) -> None:
        super().__init__(message, **context)
        self.start = start
        self.end = end


class SubscriptionFailed(MassiveLabError):
    """An upstream topic was refused or never confirmed; delivered to the readers that asked for it."""

    def __init__(self, topic: str, reason: str, **context: Any) -> None:
        super().__init__(f"Subscription to {topic} failed: {reason}.", **context)
        self.topic = topic
        self.reason = reason


class SlowReader(MassiveLabError):
    """A reader fell behind its bound and events were dropped."""

    def __init__(self, reader: str, n_dropped: int, **context: Any) -> None:
        super().__init__(f"Reader {reader} fell behind: {n_dropped} events were dropped.", **context)
        self.reader = reader
        self.n_dropped = n_dropped


class CaptureError(MassiveLabError):
    """A capture cannot be written (no room, no permission, a disk that fails), or there is none to read."""


class CaptureDamaged(CaptureError):
    """A capture is not what was written.

    Attributes
    ----------
    block : int
        Number of the first block that is wrong; 0 is the header.
    offset : int
        Byte of the file at which that block begins, or of the first wrong byte before all blocks.
    what : str
        What failed: ``magic``, ``version``, ``prefix``, ``head``, ``hash``, ``inflate``, ``record``, ``order`` or ``trailer``.
    """

    def __init__(self, message: str, *, block: int, offset: int, what: str, **context: Any) -> None:
        super().__init__(message, **context)
        self.block = block
        self.offset = offset
        self.what = what


class ClosedError(MassiveLabError):
    """The client, feed or reader was closed before or during the call."""
