"""Cursors, ``next_url`` and the paging of sorted lists."""

from __future__ import annotations

import base64
import binascii
import bisect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode

from massive_lab.sandbox.rest.envelope import Ask, bad_request

__all__ = ["decode_cursor", "encode_cursor", "next_url", "page_of"]

T = TypeVar("T")


def encode_cursor(params: Mapping[str, str]) -> str:
    """Unpadded Base64 of a query string, parameters in alphabetical order.

    Examples
    --------
    >>> encode_cursor({"sort": "asc", "limit": "2"})
    'bGltaXQ9MiZzb3J0PWFzYw'
    """
    text = urlencode(sorted(params.items()))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(text: str) -> dict[str, str]:
    """The parameters in a cursor; a 400 when it is none of ours.

    Examples
    --------
    >>> decode_cursor("bGltaXQ9MiZzb3J0PWFzYw")
    {'limit': '2', 'sort': 'asc'}
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, strict_parsing=True)
    except (binascii.Error, ValueError):
        raise bad_request("The parameter 'cursor' is not valid") from None
    return dict(pairs)


def next_url(ask: Ask, params: Mapping[str, str], path: str | None = None) -> str:
    """Absolute and without a key; `path` when it differs from the one asked."""
    where = quote(path or ask.request.path, safe="/:")
    return f"{ask.request.base_url}{where}?cursor={encode_cursor(params)}"


def page_of(
    ask: Ask,
    items: Sequence[T],
    keys: Sequence[tuple[Any, str]],
    limit: int,
    descending: bool,
    defaults: Mapping[str, str],
    read: Callable[[str], Any] = str,
) -> tuple[Sequence[T], str | None]:
    """One page of a list and the address of the next.

    Parameters
    ----------
    items : sequence
        All of them, ascending.
    keys : sequence of (value, ticker)
        What each item is sorted by, unique and ascending.
    defaults : mapping
        ``limit order sort`` as they hold, to be kept in the cursor.
    read : callable
        How the value of a key is read back from a cursor.
    """
    first, last = 0, len(items)
    if ask.position:
        try:
            mark = (read(ask.position["ap"]), ask.position.get("as", ""))
        except (KeyError, ValueError):
            raise bad_request("The parameter 'cursor' is not valid") from None
        if descending:
            last = bisect.bisect_left(keys, mark)
        else:
            first = bisect.bisect_right(keys, mark)
    if descending:
        start = max(first, last - limit)
        page, more, edge = items[start:last][::-1], start > first, start
    else:
        stop = min(last, first + limit)
        page, more, edge = items[first:stop], stop < last, stop - 1
    if not more:
        return page, None
    value, tie = keys[edge]
    return page, next_url(ask, {**ask.query, **defaults, "ap": str(value), "as": tie})
