"""Words of the command line: lists of symbols, durations, addresses, plain tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from massive_lab.errors import ConfigError, InvalidRequest
from massive_lab.schema.symbols import parse_many

__all__ = ["parse_duration", "parse_target", "split_symbols", "table"]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|)")


def split_symbols(text: str) -> list[str]:
    """A watchlist as typed, checked: trimmed, without repeats, in order.

    Raises
    ------
    InvalidRequest
        When it is empty.
    UnknownSymbol
        When a symbol is malformed or of a class that is not served.

    Examples
    --------
    >>> split_symbols("SPY, I:SPX,SPY")
    ['SPY', 'I:SPX']
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InvalidRequest(
            "The watchlist is empty.", hint="Give symbols, separated by commas: --watchlist SPY,I:SPX."
        )
    return [symbol.text for symbol in parse_many(names)]


def parse_duration(text: str) -> float:
    """Seconds of ``20s``, ``1.5m`` or ``20``.

    Raises
    ------
    InvalidRequest
        When it is anything else, or not between 5 seconds and 10 minutes.

    Examples
    --------
    >>> parse_duration("2m"), parse_duration("20")
    (120.0, 20.0)
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise InvalidRequest(f"{text!r} is not a duration.", hint="Write it like 20s or 2m.")
    seconds = float(match[1]) * (60 if match[2] == "m" else 1)
    if not 5 <= seconds <= 600:
        raise InvalidRequest(f"A duration of {text} cannot be audited.", hint="Choose between 5s and 10m.")
    return seconds


def parse_target(text: str) -> str:
    """``sandbox``, ``live`` or an address, as typed.

    Raises
    ------
    ConfigError
        When it is none of these.
    """
    if text in ("sandbox", "live"):
        return text
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        shown = "with a user name" if "@" in text else repr(text)  # what stands before the @ may be a password
        raise ConfigError(
            f"There is no target {shown}.", hint="Use sandbox, live, or an address like http://127.0.0.1:8080."
        )
    return text.rstrip("/")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns in plain text; all but the first are right-aligned.

    Examples
    --------
    >>> print(table(("name", "n"), [("a", 1), ("bcdef", 20)]))
    name    n
    a       1
    bcdef  20
    """
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in lines)
