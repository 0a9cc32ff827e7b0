"""Symbols: stocks, options (``O:``) and indices (``I:``), parsed once, at the edge.

Forex (``C:``) and crypto (``X:``) symbols are recognised and refused: their bars follow other sessions and fields, and
nothing here has been tested on them.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from numbers import Real

from massive_lab.errors import InvalidRequest, UnknownSymbol
from massive_lab.typing import AssetClass, OptionType

__all__ = ["OptionSymbol", "Symbol", "parse_many", "parse_symbol"]

_STOCK = re.compile(r"[A-Z][A-Za-z0-9]*(?:[./-][A-Za-z0-9]+)*")
_INDEX = re.compile(r"[A-Z0-9][A-Z0-9._-]*")
_ROOT = re.compile(r"[A-Z][A-Z0-9]{0,5}")
_REFUSED = {"C:": "forex", "X:": "crypto"}

# Index options trade under several roots: the weeklies have their own, and neither equals the index ticker.
_INDEX_ROOTS = {
    "SPX": "I:SPX",
    "SPXW": "I:SPX",
    "XSP": "I:XSP",
    "NDX": "I:NDX",
    "NDXP": "I:NDX",
    "VIX": "I:VIX",
    "VIXW": "I:VIX",
    "RUT": "I:RUT",
    "RUTW": "I:RUT",
    "DJX": "I:DJX",
}
# An OCC root has no dot, so a share class is run into the name.
_CLASS_ROOTS = {"BRKB": "BRK.B", "BFB": "BF.B"}


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol as the vendor writes it, with its asset class.

    Examples
    --------
    >>> str(parse_symbol("I:SPX")), parse_symbol("I:SPX").asset_class
    ('I:SPX', 'indices')
    """

    text: str
    asset_class: AssetClass

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class OptionSymbol(Symbol):
    """An option contract.

    Attributes
    ----------
    root : str
        OCC root, 1 to 6 characters; ends in a digit for adjusted contracts (``SOXS1``).
    expiration : datetime.date
    option_type : {"call", "put"}
    strike : float
        US dollars, or index points.
    """

    root: str
    expiration: dt.date
    option_type: OptionType
    strike: float

    @property
    def is_adjusted(self) -> bool:
        """True when a corporate action changed what the contract delivers: the multiplier may not be 100."""
        return self.root[-1].isdigit()

    @property
    def underlying(self) -> str:
        """The symbol the contract is written on, as the chain snapshot wants it: ``I:SPX`` for the roots SPX and SPXW.

        For an adjusted contract the digit is dropped: ``SOXS1`` is written on what became of ``SOXS``.
        """
        root = self.root.rstrip("0123456789") or self.root
        return _INDEX_ROOTS.get(root) or _CLASS_ROOTS.get(root, root)

    @classmethod
    def build(cls, root: str, expiration: dt.date, option_type: OptionType, strike: float) -> OptionSymbol:
        """Format a contract from its parts.

        Raises
        ------
        InvalidRequest
            When a part does not fit the fixed-width form.

        Examples
        --------
        >>> str(OptionSymbol.build("SPY", dt.date(2025, 12, 19), "call", 650))
        'O:SPY251219C00650000'
        """
        root = str(root)
        if not _ROOT.fullmatch(root):
            raise InvalidRequest(f"Option root {root!r} is not 1 to 6 capital letters and digits.")
        if option_type not in ("call", "put"):
            raise InvalidRequest(f"option_type is {option_type!r}.", hint="Use 'call' or 'put'.")
        if not _is_date(expiration):
            raise InvalidRequest(f"Expiration {expiration!r} is not a date.", symbol=root)
        thousandths = _thousandths(strike)
        if thousandths is None:
            raise InvalidRequest(
                f"Strike {strike!r} cannot be written in thousandths of a dollar with eight digits.", symbol=root
            )
        if not 2000 <= expiration.year <= 2099:
            raise InvalidRequest(f"Expiration {expiration} is outside 2000-2099.", symbol=root)
        text = f"O:{root}{expiration:%y%m%d}{'C' if option_type == 'call' else 'P'}{thousandths:08d}"
        return cls(text, "options", root, expiration, option_type, thousandths / 1000)


def parse_symbol(text: object) -> Symbol:
    """Read a symbol as the vendor writes it.

    Parameters
    ----------
    text : str
        ``AAPL``, ``BRK.B``, ``I:SPX``, ``O:SPY251219C00650000``. Case matters, as it does for the vendor.

    Returns
    -------
    Symbol
        An `OptionSymbol` for options.

    Raises
    ------
    UnknownSymbol
        For malformed symbols, and for forex and crypto, which this library does not serve.

    Examples
    --------
    >>> parse_symbol("O:SPXW251219P05000000").underlying
    'I:SPX'
    >>> parse_symbol("X:BTCUSD")
    Traceback (most recent call last):
        ...
    massive_lab.errors.UnknownSymbol: X:BTCUSD is a crypto symbol. [symbol X:BTCUSD] Only stocks, options and indices are served.
    """
    if not isinstance(text, str) or not text:
        raise UnknownSymbol(
            f"A symbol must be a non-empty text; this is {repr(text)[:80]}.", hint="For example 'AAPL' or 'I:SPX'."
        )
    # A subclass of str (numpy's, an enum's) is equal to the plain text and would take its place in the cache.
    return _parse(str.__str__(text))


@lru_cache(maxsize=65536)
def _parse(text: str) -> Symbol:
    prefix, rest = text[:2], text[2:]
    if prefix in _REFUSED:
        raise UnknownSymbol(
            f"{text} is a {_REFUSED[prefix]} symbol.", symbol=text, hint="Only stocks, options and indices are served."
        )
    if prefix == "O:":
        return _parse_option(text, rest)
    if prefix == "I:":
        if not _INDEX.fullmatch(rest):
            raise UnknownSymbol(f"{text!r} is not an index symbol.", symbol=text, hint=_hint(text, "'I:SPX'"))
        return Symbol(text, "indices")
    if not _STOCK.fullmatch(text):
        raise UnknownSymbol(f"{text!r} is not a stock symbol.", symbol=text, hint=_hint(text, "'AAPL' or 'BRK.B'"))
    return Symbol(text, "stocks")


def _thousandths(strike: object) -> int | None:
    if not isinstance(strike, Real | Decimal) or not math.isfinite(strike):
        return None
    exact = float(strike * 1000 if isinstance(strike, Decimal) else float(strike) * 1000)
    whole = round(exact)
    return whole if 0 < whole < 10**8 and abs(whole - exact) <= 1e-6 else None


def _is_date(value: object) -> bool:
    return isinstance(value, dt.date) and not isinstance(value, dt.datetime)


def _hint(text: str, example: str) -> str:
    """The same text in capitals, when that is a symbol."""
    if text != (capitals := text.upper()):
        with contextlib.suppress(UnknownSymbol):
            return f"Did you mean {_parse(capitals).text!r}?"
    return f"Write it like {example}."


def _parse_option(text: str, rest: str) -> OptionSymbol:
    hint = "Write it like 'O:SPY251219C00650000': root, YYMMDD, C or P, strike in thousandths with eight digits."
    # The last 15 characters are fixed, so the root is what stands before them, digits included.
    root, tail = rest[:-15], rest[-15:]
    date, letter, strike = tail[:6], tail[6:7], tail[7:]
    if not (_ROOT.fullmatch(root) and date.isascii() and date.isdigit() and letter in ("C", "P")):
        raise UnknownSymbol(f"{text!r} is not an option symbol.", symbol=text, hint=hint)
    if not (len(strike) == 8 and strike.isascii() and strike.isdigit() and int(strike)):
        raise UnknownSymbol(f"{text!r} is not an option symbol.", symbol=text, hint=hint)
    try:
        expiration = dt.date(2000 + int(date[:2]), int(date[2:4]), int(date[4:]))
    except ValueError:
        raise UnknownSymbol(f"{text!r} has no valid expiration date.", symbol=text, hint=hint) from None
    return OptionSymbol(text, "options", root, expiration, "call" if letter == "C" else "put", int(strike) / 1000)


def parse_many(symbols: object, *, asset_class: AssetClass | None = None) -> list[Symbol]:
    """Read one symbol or several, keeping order and dropping repeats.

    Parameters
    ----------
    symbols : str or iterable of str
    asset_class : {"stocks", "options", "indices"}, optional
        Refuse symbols of any other class.

    Raises
    ------
    InvalidRequest
        When there is none, or one is of the wrong class.
    UnknownSymbol
        As `parse_symbol`.

    Examples
    --------
    >>> [s.text for s in parse_many(["AAPL", "I:SPX", "AAPL"])]
    ['AAPL', 'I:SPX']
    """
    if isinstance(symbols, str):
        symbols = [symbols]
    if not isinstance(symbols, Iterable) or isinstance(symbols, (bytes, bytearray)):
        raise InvalidRequest(
            f"{repr(symbols)[:80]} is neither a symbol nor a list of symbols.", hint="For example ['AAPL', 'I:SPX']."
        )
    parsed = list(dict.fromkeys(parse_symbol(text) for text in symbols))
    if not parsed:
        raise InvalidRequest("The list of symbols is empty.", hint="Give at least one, for example ['AAPL'].")
    for symbol in parsed:
        if asset_class is not None and symbol.asset_class != asset_class:
            raise InvalidRequest(
                f"{symbol} belongs to {symbol.asset_class}; this call serves {asset_class}.", symbol=symbol.text
            )
    return parsed
