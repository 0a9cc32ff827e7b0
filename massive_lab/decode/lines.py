"""The quick way through a page of flat rows: one row a line, read by Polars on all cores, and a proof that nothing was missed.

Polars reads newline-delimited JSON with a schema several times faster than any way through Python objects, and strictly: broken
JSON, a text where a number should be and a fraction where an integer should be are errors. What it does silently is skip unknown
fields, take the first of two equal keys, and write a number as text where text is wanted. One count rules all of that out:
every cell read accounts for one colon and two quotes, every text cell for two quotes more. When the page has exactly as many,
there was nothing else in it.

A page that is not proven (unknown fields, explicit nulls, colons or escapes in texts, spaces between rows, integers
in scientific notation, anything broken) gives None: the caller reads it with msgspec, which is slower and decides what it
is. The two agree to the last bit, and a property test holds them to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from massive_lab.decode.pages import Envelope, read_envelope
from massive_lab.errors import MassiveLabError

__all__ = ["cut_rows", "read_flat"]

_Bytes: TypeAlias = npt.NDArray[np.uint8]
_Flags: TypeAlias = npt.NDArray[np.bool_]

_OPEN = b'"results":[{'
_MARK = b'["rows are read apart"]'
_SMALL = 4096  # bytes; below that msgspec is quicker than starting a scan


def cut_rows(body: bytes, *, endpoint: str, symbol: str | None = None) -> tuple[Envelope, int, int] | None:
    """The envelope of a page, and where in it the rows stand as a JSON list of objects; None when that is not plain to see.

    The envelope is read with a mark in place of the rows. When the mark comes back as the rows, all around it is valid JSON
    and what was cut out stood where the rows belong. What was cut out is not yet checked in any way.
    """
    start = body.find(_OPEN)
    end = body.rfind(b"}]") + 2
    if start < 0 or end - start < _SMALL:
        return None
    start += len(_OPEN) - 2
    head, tail = body[:start], body[end:]
    if _MARK in head or _MARK in tail:
        return None
    try:
        envelope = read_envelope(head + _MARK + tail, endpoint=endpoint, symbol=symbol)
    except MassiveLabError:
        return None
    return (envelope, start, end) if bytes(envelope.rows) == _MARK else None


def read_flat(body: bytes, wire: Mapping[str, Any], *, endpoint: str, symbol: str | None = None) -> pl.DataFrame | None:
    """The rows of a page of flat objects, or None when the page must be read the exact way.

    Parameters
    ----------
    body : bytes
        The page, not yet checked in any way.
    wire : mapping
        Name on the wire to Polars type: Float64, Int64, String or List(Int64).

    Returns
    -------
    polars.DataFrame or None
        The columns of `wire`, in the order of the rows; null where a row lacks the field.
    """
    found = cut_rows(body, endpoint=endpoint, symbol=symbol)
    if found is None:
        return None
    _, start, end = found
    text = np.frombuffer(body, np.uint8)[start + 1 : end - 1].copy()
    match = np.empty(text.size, np.bool_)
    _break_lines(text, match)
    try:
        frame = pl.read_ndjson(text.tobytes(), schema=dict(wire))
    except pl.exceptions.PolarsError:
        return None
    return frame if _is_all(text, match, frame) else None


def _break_lines(text: _Bytes, match: _Flags) -> None:
    """One row a line, in place. Where ``},{`` stands inside a text, the halves are no JSON and the reader refuses them."""
    row = np.flatnonzero(np.equal(text, ord("{"), out=match))[1:]
    row = row[(text.take(row - 1) == ord(",")) & (text.take(row - 2) == ord("}"))]
    text[row - 1] = ord("\n")


def _is_all(text: _Bytes, match: _Flags, frame: pl.DataFrame) -> bool:
    n_cells = sum(frame.height - column.null_count() for column in frame)
    n_texts = sum(frame.height - column.null_count() for column in frame if column.dtype == pl.String)
    n_colons = np.count_nonzero(np.equal(text, ord(":"), out=match))
    n_quotes = np.count_nonzero(np.equal(text, ord('"'), out=match))
    return bool(n_colons == n_cells and n_quotes == 2 * (n_cells + n_texts))
