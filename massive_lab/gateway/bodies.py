"""Bodies on their way to a client: as they came wherever nothing in them must change.

Only an answer that may hold addresses is looked into, and only when one was changed does it leave in another form than it
came. Pure: no socket, no clock.
"""

from __future__ import annotations

from isal import igzip, isal_zlib

from massive_lab.gateway.rewrite import foreign_cursor, rewrite_urls

__all__ = ["BadBody", "accepts_gzip", "dress", "inflate", "may_hold_urls"]

MAX_INFLATED = 256 * 1024 * 1024
_SMALL = 512
"""Shorter bodies are not worth compressing."""

# The vendor documents no address in these, and they are not paged.
_PLAIN = frozenset(
    (
        "aggs_grouped",
        "aggs_prev",
        "branding",
        "chain_contract",
        "contract",
        "exchanges",
        "last_quote",
        "last_trade",
        "market_holidays",
        "market_status",
        "open_close",
        "snapshot_movers",
        "snapshot_stock",
        "snapshot_stocks",
        "ticker_types",
    )
)


class BadBody(Exception):
    """The vendor's answer cannot be handed on. The text is fixed."""


def may_hold_urls(endpoint: str) -> bool:
    return endpoint not in _PLAIN


def dress(
    body: bytes, *, gzipped: bool, upstream_base: str | None, public_base: str, accepts: bool
) -> tuple[bytes, bool]:
    """The body for one client, and whether it is compressed.

    Parameters
    ----------
    upstream_base : str or None
        The vendor's address, to be replaced by `public_base`; None when the body holds no address.
    accepts : bool
        Whether the client takes gzip.

    Raises
    ------
    BadBody
        When it is damaged or too large, or asks the client to go on at another host.

    Examples
    --------
    >>> dress(b'{"n":1}', gzipped=False, upstream_base=None, public_base="http://gw", accepts=True)
    (b'{"n":1}', False)
    """
    if upstream_base is None:
        return (body, True) if gzipped and accepts else (inflate(body) if gzipped else body, False)
    plain = inflate(body) if gzipped else body
    if foreign_cursor(plain, upstream_base):
        raise BadBody("The upstream answered with a page of another host")
    changed = rewrite_urls(plain, upstream_base, public_base)
    if gzipped and accepts and changed is plain:
        return body, True
    if gzipped and accepts and len(changed) >= _SMALL:
        return igzip.compress(changed, 1, mtime=0), True
    return changed, False


def inflate(body: bytes, limit: int = MAX_INFLATED) -> bytes:
    """Undo gzip, all members of it, up to a bound."""
    parts: list[bytes] = []
    room = limit
    data = body
    inflater = isal_zlib.decompressobj(wbits=31)
    try:
        while data:
            if inflater.eof:
                inflater = isal_zlib.decompressobj(wbits=31)
            # One byte more than there is room for tells "exactly full" from "too much".
            part = inflater.decompress(data, room + 1)
            room -= len(part)
            if room < 0:
                raise BadBody("The upstream's answer is too large")
            parts.append(part)
            data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    except isal_zlib.IsalError:  # type: ignore[misc]  # the stub calls the class a value
        raise BadBody("The upstream's answer is damaged") from None
    if body and not inflater.eof:
        raise BadBody("The upstream's answer is damaged")
    return b"".join(parts)


def accepts_gzip(header: str) -> bool:
    """Whether ``Accept-Encoding`` asks for gzip.

    Examples
    --------
    >>> accepts_gzip("br, gzip;q=0.5"), accepts_gzip("gzip; q=0"), accepts_gzip(""), accepts_gzip("*")
    (True, False, False, False)
    """
    for part in header.lower().split(","):
        coding, _, weight = part.replace(" ", "").partition(";q=")
        if coding == "gzip":
            return weight.strip("0.") != "" or not weight
    return False
