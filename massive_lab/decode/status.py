"""Failures on the wire to typed errors: HTTP statuses, and error bodies behind a 200."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from massive_lab.decode.fields import scrub
from massive_lab.errors import (
    MassiveLabError,
    NotEntitled,
    RateLimited,
    Unauthorized,
    UnknownSymbol,
    UpstreamError,
)

__all__ = ["BAD_STATUSES", "error_from", "failure"]

BAD_STATUSES = frozenset({"ERROR", "NOT_AUTHORIZED", "NOT_FOUND"})
"""Words of the envelope's ``status`` that mean failure, whatever the HTTP status."""

_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_SECONDS = re.compile(r"\d{1,9}(?:\.\d+)?")
_HTTP_DATE = re.compile(r"[A-Za-z]{3}, (\d{2}) ([A-Za-z]{3}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NO_KEY = re.compile(r"(?i)api key")
_TOO_MANY = re.compile(r"(?i)exceeded the maximum requests|too many requests")
_MISSING = re.compile(r"(?i)\b(?:ticker|symbol|contract|data|options?|result)\b.{0,40}\bnot found\b")

_TOLD = 200


class _Failure(msgspec.Struct):
    status: Any = None
    error: Any = None
    message: Any = None
    request_id: Any = None


_FAILURE = msgspec.json.Decoder(_Failure)


def error_from(
    status: int, body: bytes, headers: Mapping[str, str], *, endpoint: str, symbol: str | None = None
) -> MassiveLabError:
    """The error an HTTP answer other than 200 stands for.

    Parameters
    ----------
    status : int
        HTTP status.
    body : bytes
        Body as received, inflated: JSON, HTML, plain text or nothing.
    headers : mapping
        Response headers, in any case.
    endpoint : str
        Name in `massive_lab.schema.endpoints`.
    symbol : str, optional

    Returns
    -------
    MassiveLabError
        `Unauthorized` (401), `NotEntitled` (403), `UnknownSymbol` (404 that says so), `RateLimited` (429) or
        `UpstreamError`. To be raised by the caller; the vendor's words are kept up to 200 characters, keys removed.

    Examples
    --------
    >>> error_from(429, b"", {"Retry-After": "7"}, endpoint="trades").retry_after_s
    7.0
    >>> print(error_from(504, b"<html><title>504 Gateway Time-out</title></html>", {}, endpoint="trades"))
    HTTP 504: 504 Gateway Time-out [endpoint trades] The vendor's side failed; try again later.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    word, text, request_id = _read(body)
    return failure(
        status,
        word,
        text,
        endpoint=endpoint,
        symbol=symbol,
        request_id=request_id or lower.get("x-request-id"),
        retry_after_s=_retry_after(lower) if status in (429, 503) else None,
    )


def failure(
    status: int,
    word: str | None,
    text: str,
    *,
    endpoint: str,
    symbol: str | None = None,
    request_id: str | None = None,
    retry_after_s: float | None = None,
) -> MassiveLabError:
    """The error for an HTTP status, the envelope's `word` and the vendor's `text`; 200 with an error body included."""
    told = scrub(" ".join(text.split()))[:_TOLD] or "no explanation"
    said = f"HTTP {status}: {told}" if status != 200 else f"HTTP 200 with status {word}: {told}"
    context: dict[str, Any] = {"endpoint": endpoint, "symbol": symbol, "request_id": request_id}
    if status == 401 or (status == 200 and word == "ERROR" and _NO_KEY.search(text)):
        return Unauthorized(said, hint="Set MASSIVE_API_KEY to a key of your account's dashboard.", **context)
    if status == 403 or (status == 200 and word == "NOT_AUTHORIZED"):
        return NotEntitled(said, hint=_plan_hint(text), **context)
    if status == 429 or (status == 200 and _TOO_MANY.search(text)):
        hint = "Ask less often, or choose the plan you have so that the client paces itself."
        return RateLimited(said, retry_after_s=retry_after_s, hint=hint, **context)
    if word == "NOT_FOUND" or (status == 404 and word is not None and _MISSING.search(text)):
        hint = "Check the spelling (case counts; O: for options, I: for indices) and that it existed on that date."
        return UnknownSymbol(said, hint=hint, **context)
    return UpstreamError(said, status=status, hint=_upstream_hint(status), **context)


def _plan_hint(text: str) -> str:
    if "timeframe" in text:
        return "The key's plan does not reach back (or forward) to these dates; narrow the range or change the plan."
    return "The key is good, but its plan lacks this data."


def _upstream_hint(status: int) -> str:
    if status == 400:
        return "A parameter is wrong; the vendor's text names it."
    if status == 404:
        return "The path does not exist: check the configured host, and that the endpoint is not retired."
    if status >= 500 or status in (408, 499):
        return "The vendor's side failed; try again later."
    return "The vendor refused the request."


def _read(body: bytes) -> tuple[str | None, str, str | None]:
    """Status word (None unless JSON), text and request id of a failed answer."""
    try:
        found = _FAILURE.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = bytes(body[:4000]).decode("utf-8", "replace")
        title = _TITLE.search(text)
        return None, title[1] if title else _TAG.sub(" ", text), None
    word = found.status if isinstance(found.status, str) else ""
    request_id = found.request_id if isinstance(found.request_id, str) else None
    texts = (found.error, found.message, word)
    return word, next((text for text in texts if isinstance(text, str) and text), ""), request_id


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    # A date is measured against the server's own clock; without it the wait is unknown.
    until, now = _http_date(value), _http_date(headers.get("date", "").strip())
    if until is None or now is None:
        return None
    return max(0.0, (until - now).total_seconds())


def _http_date(text: str) -> dt.datetime | None:
    found = _HTTP_DATE.fullmatch(text)
    if found is None or found[2].lower() not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(found[i]) for i in (1, 3, 4, 5, 6))
    try:
        return dt.datetime(year, _MONTHS.index(found[2].lower()) + 1, day, hour, minute, second, tzinfo=dt.UTC)
    except ValueError:
        return None
