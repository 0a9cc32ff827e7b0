"""The envelope of a page, and paging as a generator that moves no bytes.

::

    paginate(first) --yields path and query--> loader --sends the 200 body back--> ... --returns--> [Page, Page, ...]

Paging ends only on a page without ``next_url``. Anything else (a broken page, a loop, the same page again, a failed fetch)
raises `IncompletePagination` with the good pages, so a short result can never be taken for a whole one.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from massive_lab.decode.fields import Int, Text, decode, scrub, to_ints
from massive_lab.decode.status import BAD_STATUSES, failure
from massive_lab.errors import DecodeError, IncompletePagination, MassiveLabError

__all__ = ["Envelope", "Page", "paginate", "read_envelope", "read_page", "read_rows"]

_URL = re.compile(r"(?:https?://[^/?#\\\s]+)?(/[^#]*)(?:#.*)?", re.DOTALL)
_KEY = re.compile(r"(?i)api_?key=")
_UNSAFE = re.compile(r"[^\x21-\x7e]|\\")
_NULL = msgspec.Raw(b"null")
_NO_ROWS = msgspec.Raw(b"[]")


@dataclass(frozen=True, slots=True)
class Page:
    """One page as received, and what its envelope says."""

    body: bytes
    request_id: str | None
    next_path: str | None
    """Path and query of the next page, without host and key; None on the last page."""
    status: str | None
    n_rows: int | None
    """Rows as the envelope counts them; None when it does not."""


class Envelope(msgspec.Struct):
    """What surrounds the rows. `rows` is the raw JSON, checked for syntax but not read; empty when absent."""

    rows: msgspec.Raw = msgspec.Raw()
    status: Text = None
    request_id: Text = None
    next_url: Text = None
    error: Any = None
    message: Any = None
    results_count: Int = msgspec.field(default=None, name="resultsCount")
    query_count: Int = msgspec.field(default=None, name="queryCount")
    count: Int = None


@lru_cache(maxsize=16)
def _decoder(results: str) -> msgspec.json.Decoder[Envelope]:
    rows = ("rows", msgspec.Raw, msgspec.field(default=msgspec.Raw(), name=results))
    return msgspec.json.Decoder(msgspec.defstruct("Envelope", [rows], bases=(Envelope,)))


def read_envelope(body: bytes, *, endpoint: str, results: str = "results", symbol: str | None = None) -> Envelope:
    """Read an answer up to, not into, its rows.

    Raises
    ------
    DecodeError
        When the bytes are not JSON or not an envelope.
    UpstreamError, NotEntitled, UnknownSymbol, Unauthorized, RateLimited
        When the envelope of this 200 says ``ERROR``, ``NOT_AUTHORIZED`` or ``NOT_FOUND``, or holds an error and no rows.
    """
    envelope: Envelope = decode(_decoder(results), body, endpoint=endpoint, symbol=symbol)
    if envelope.rows == _NULL:
        envelope.rows = msgspec.Raw()
    if envelope.status in BAD_STATUSES or (envelope.error and not envelope.rows):
        texts = [text for text in (envelope.error, envelope.message) if isinstance(text, str) and text]
        raise failure(
            200,
            envelope.status or "ERROR",
            texts[0] if texts else "",
            endpoint=endpoint,
            symbol=symbol,
            request_id=envelope.request_id,
        )
    return envelope


def read_rows(
    body: bytes, *, endpoint: str, results: str = "results", symbol: str | None = None
) -> tuple[Envelope, msgspec.Raw]:
    """The envelope and the raw rows; ``[]`` where the vendor leaves the rows out because there are none.

    Raises
    ------
    DecodeError
        As `read_envelope`, and when the rows are missing from an answer that does not count them to zero: a body cut
        down to its envelope must not look like an empty result.
    """
    envelope = read_envelope(body, endpoint=endpoint, results=results, symbol=symbol)
    if envelope.rows:
        return envelope, envelope.rows
    counted = [envelope.results_count, envelope.query_count]
    if envelope.results_count or counted == [None, None]:
        raise DecodeError(
            f"The answer has no {results!r}.",
            excerpt=scrub(body[:600].decode("utf-8", "replace")),
            endpoint=endpoint,
            symbol=symbol,
            request_id=envelope.request_id,
            hint="Ask again; the answer was cut short or belongs to another endpoint.",
        )
    return envelope, _NO_ROWS


def read_page(body: bytes, *, endpoint: str, results: str = "results") -> Page:
    """Read the envelope of one page.

    Parameters
    ----------
    body : bytes
        The body of a 200, inflated.
    endpoint : str
        Name in `massive_lab.schema.endpoints`, for errors.
    results : str
        The member that holds the rows.

    Raises
    ------
    DecodeError
        Bad JSON, a wrong type in the envelope, no rows where there must be some, or a ``next_url`` that is none.
    UpstreamError, NotEntitled, UnknownSymbol, Unauthorized, RateLimited
        For an error body behind a 200.

    Examples
    --------
    >>> page = read_page(b'{"status":"OK","results":[],"next_url":"https://x/v3/trades/A?cursor=YQ"}', endpoint="trades")
    >>> page.next_path
    '/v3/trades/A?cursor=YQ'
    """
    return _page(body, endpoint, results)[0]


def _page(body: bytes, endpoint: str, results: str) -> tuple[Page, msgspec.Raw]:
    envelope, rows = read_rows(body, endpoint=endpoint, results=results)
    counts = to_ints([envelope.results_count, envelope.count], field="count", endpoint=endpoint)
    n_rows = next((count for count in counts if count is not None), None)
    next_path = None if envelope.next_url is None else _next_path(envelope.next_url, endpoint)
    return Page(body, envelope.request_id, next_path, envelope.status, n_rows), rows


def _next_path(url: str, endpoint: str) -> str:
    """Path and query of a ``next_url``: its host is not ours to trust, and a key in it not ours to repeat."""
    found = _URL.fullmatch(url)
    if found is None or found[1].startswith("//") or _UNSAFE.search(found[1]):
        raise DecodeError(
            "next_url is not the address of a page.",
            excerpt=scrub(url),
            endpoint=endpoint,
            hint="Ask again from the first page.",
        )
    path, mark, query = found[1].partition("?")
    kept = "&".join(part for part in query.split("&") if not _KEY.match(part))
    return path + mark + kept if kept else path


def paginate(first: str, *, endpoint: str, results: str = "results") -> Generator[str, bytes, list[Page]]:
    """Follow pages to an explicit last one.

    Parameters
    ----------
    first : str
        Path and query of the first page.
    endpoint, results : str
        As `read_page`.

    Yields
    ------
    str
        Path and query to fetch. Send the body of its 200 back, or throw the error that prevented it.

    Returns
    -------
    list of Page
        At least one.

    Raises
    ------
    IncompletePagination
        From its cause, when any page after the first fails, when a page points back to one already read, or when the
        same rows come again. ``partial`` is the list of good pages.
    DecodeError, TransportError, UnknownSymbol
        The cause itself, when the first page fails.

    Examples
    --------
    >>> steps = paginate("/v3/trades/A", endpoint="trades")
    >>> next(steps)
    '/v3/trades/A'
    >>> steps.send(b'{"results":[{"price":1}],"next_url":"https://x/v3/trades/A?cursor=YQ"}')
    '/v3/trades/A?cursor=YQ'
    >>> try:
    ...     steps.send(b'{"results":[{"price":2}]}')
    ... except StopIteration as end:
    ...     len(end.value)
    2
    """
    pages: list[Page] = []
    seen_paths = {first}
    seen_rows: list[msgspec.Raw] = []
    path = first
    while True:
        try:
            body = yield path
            page, rows = _page(body, endpoint, results)
            # An empty page may repeat (a filter can empty several); rows that repeat are a page served twice.
            if any(rows == earlier for earlier in seen_rows):
                raise DecodeError("A page repeats the rows of an earlier one.", endpoint=endpoint)
        except Exception as cause:
            if not pages:
                raise
            raise _incomplete(pages, cause, endpoint) from cause
        pages.append(page)
        if page.next_path is None:
            return pages
        path = page.next_path
        if path in seen_paths:
            loop = DecodeError("next_url points back to a page already read.", endpoint=endpoint)
            raise _incomplete(pages, loop, endpoint) from loop
        seen_paths.add(path)
        if len(rows) > 2:
            seen_rows.append(rows)


def _incomplete(pages: list[Page], cause: Exception, endpoint: str) -> IncompletePagination:
    known = cause if isinstance(cause, MassiveLabError) else None
    return IncompletePagination(
        f"Page {len(pages) + 1} failed after {len(pages)} good ones: {known.message if known else cause!r}",
        partial=list(pages),
        n_pages=len(pages),
        endpoint=endpoint,
        symbol=known.symbol if known else None,
        request_id=known.request_id if known else None,
        hint="Nothing was dropped silently: `partial` holds the good pages. Ask again, or for a shorter range.",
    )
