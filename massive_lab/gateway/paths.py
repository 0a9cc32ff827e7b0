"""Which request goes where: to a vendor path that is on the list, to the gateway itself, or nowhere.

Nothing a client writes can name a host. The upstream's address is a setting; a request contributes a path, every segment of
which is a word of a template or a plain value, and a query. What goes up is built from those parts: the path is spelled the
one way the vendor spells it (so that no encoding makes a second key of one thing), the query is kept byte for byte, without
credentials. Anything else (absolute form, ``//``, ``@``, backslashes, dot segments encoded or not, double encoding, control
characters, methods) is refused with a fixed text.

Besides the vendor's own paths at the root there are, below ``/api/massive``:

======================================= ============================================================================
``POST /ws-token``                      a token for one WebSocket connection
``GET  /openapi.json``                  the document
``GET  /{stocks|options|indices}/bars`` ``ticker``, ``timeframe`` (``5m``) or ``multiplier`` and ``timespan``, ``from``, ``to``
``GET  /options/chain``                 ``underlying``; the vendor's filters
``GET  /options/contracts``             ``underlying`` (``I:SPX`` and ``SPX`` are one here); the vendor's filters
``GET  /indices``                       ``tickers=I:SPX,I:VIX``
``GET  /<vendor path>``                 the same as at the root
======================================= ============================================================================
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, TypeAlias
from urllib.parse import quote, unquote

from massive_lab.config import Secret
from massive_lab.errors import InvalidRequest, UnknownSymbol
from massive_lab.gateway.rewrite import foreign_cursor, rewrite_urls
from massive_lab.gateway.vendor import CREDENTIALS, TEMPLATES
from massive_lab.live.topics import CLUSTERS
from massive_lab.schema.symbols import parse_symbol
from massive_lab.schema.timeframe import parse_timeframe
from massive_lab.typing import Cluster

__all__ = ["Local", "Refusal", "Route", "Upstream", "foreign_cursor", "rewrite_urls", "route"]

API = "/api/massive"
_MAX_TARGET = 16_384
_MAX_PARAMS = 1_000
_MAX_INDICES = 250
_TARGET = re.compile(r"[!-~]+")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED_CONTROL = re.compile(r"%(?:[01][0-9A-Fa-f]|7[fF])")
_VALUE = re.compile(r"(?!.*\.\.)[A-Za-z0-9](?:[A-Za-z0-9.:_=-]{0,126}[A-Za-z0-9=])?")
_TIMESPANS = frozenset(("second", "minute", "hour", "day", "week", "month", "quarter", "year"))

LocalName: TypeAlias = Literal["ws", "ws_token", "openapi", "preflight"]


@dataclass(frozen=True, slots=True)
class Upstream:
    """Ask the vendor.

    Attributes
    ----------
    target : str
        Path and query for the upstream address; no credential in it.
    endpoint : str
        Name of the template, for metrics: one of a fixed list.
    key : Secret or None
        The credential that was in the query (``apiKey``), which the vendor's JavaScript and JVM clients send.
    """

    target: str
    endpoint: str
    key: Secret | None = None


@dataclass(frozen=True, slots=True)
class Local:
    """The gateway answers itself.

    Attributes
    ----------
    name : {"ws", "ws_token", "openapi", "preflight"}
    cluster : str or None
        Of a WebSocket, or named in the query of a token request.
    key : Secret or None
        ``apiKey`` of the query.
    token : Secret or None
        ``token`` of the query: an ephemeral token, good once.
    methods : str
        What the path answers, for a preflight.
    """

    name: LocalName
    cluster: Cluster | None = None
    key: Secret | None = None
    token: Secret | None = None
    methods: str = "GET"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing is asked of anybody. The text is fixed: nothing of the request is in it."""

    status: int
    message: str
    headers: tuple[tuple[str, str], ...] = ()


Route: TypeAlias = Upstream | Local | Refusal

_MALFORMED = Refusal(400, "The request target is malformed")
_NOT_FOUND = Refusal(404, "There is no such path")
_TOO_LONG = Refusal(414, "The request target is too long")
_TWO_KEYS = Refusal(400, "The query names two different credentials")


@dataclass(slots=True)
class _Query:
    """The pieces of a query as they came, its credentials aside."""

    pieces: list[str] = field(default_factory=list)
    key: Secret | None = None
    token: Secret | None = None

    def take(self, *names: str) -> str | None:
        """Remove and decode a parameter that is given once at most, under any of its names; "" when it is not one."""
        found = [piece for piece in self.pieces if _name_of(piece) in names]
        self.pieces = [piece for piece in self.pieces if piece not in found]
        if not found:
            return None
        return "" if len(found) > 1 else _decode(found[0].partition("=")[2])

    def behind(self, path: str, *first: str) -> str:
        query = "&".join((*first, *self.pieces))
        return f"{path}?{query}" if query else path


def route(method: str, raw_target: str) -> Route:
    """Judge the first line of a request.

    Parameters
    ----------
    method : str
        As sent; methods are case-sensitive.
    raw_target : str
        As sent, undecoded: path and query.

    Examples
    --------
    >>> route("GET", "/v3/snapshot/options/I%3ASPX?limit=250&apiKey=secret").target
    '/v3/snapshot/options/I:SPX?limit=250'
    >>> route("GET", "/api/massive/stocks/bars?ticker=AAPL&timeframe=5m&from=2025-01-02&to=2025-01-03&limit=100").target
    '/v2/aggs/ticker/AAPL/range/5/minute/2025-01-02/2025-01-03?limit=100'
    >>> route("GET", "/v2/aggs/%2e%2e/secret")
    Refusal(status=404, message='There is no such path', headers=())
    >>> route("GET", "http://elsewhere/v3/snapshot").status
    400
    """
    if len(raw_target) > _MAX_TARGET:
        return _TOO_LONG
    if not _TARGET.fullmatch(raw_target) or not raw_target.startswith("/") or set(raw_target) & set('#\\"<>'):
        return _MALFORMED
    raw_path, _, raw_query = raw_target.partition("?")
    segments = _segments(raw_path)
    query = _read_query(raw_query)
    if isinstance(segments, Refusal):
        return segments
    if isinstance(query, Refusal):
        return query
    answer, methods = _find(segments, query)
    if isinstance(answer, Refusal) and answer.status == _NOT_FOUND.status:
        return answer
    if method == "OPTIONS":
        return Local("preflight", methods=methods)
    if method != methods:
        return Refusal(405, "The method is not allowed", (("Allow", f"{methods}, OPTIONS"),))
    return answer


def _segments(raw_path: str) -> list[str] | Refusal:
    if _ESCAPE.search(raw_path) or "@" in raw_path:
        return _MALFORMED
    # Decoded once. What then still looks encoded, or holds a slash or a dot segment, is no plain value and matches nothing.
    segments = [unquote(part) for part in raw_path.split("/")[1:]]
    return segments if all(_VALUE.fullmatch(part) for part in segments) else _NOT_FOUND


def _read_query(raw: str) -> _Query | Refusal:
    if _ESCAPE.search(raw) or _ENCODED_CONTROL.search(raw):
        return _MALFORMED
    query = _Query()
    if not raw:
        return query
    pieces = raw.split("&")
    if len(pieces) > _MAX_PARAMS:
        return _TOO_LONG
    for piece in pieces:
        name = _name_of(piece).casefold()
        if name not in CREDENTIALS:
            query.pieces.append(piece)
            continue
        value = Secret(_decode(piece.partition("=")[2]))
        if not value:
            continue
        if name == "apikey":
            if query.key not in (None, value):
                return _TWO_KEYS
            query.key = value
        elif name == "token":
            if query.token not in (None, value):
                return _TWO_KEYS
            query.token = value
    return query


def _find(segments: list[str], query: _Query) -> tuple[Route, str]:
    """What is at a path, and the one method it answers."""
    match segments:
        case [cluster] if cluster in CLUSTERS:
            return Local("ws", _cluster(cluster), query.key, query.token), "GET"
        case ["ws", cluster] if cluster in CLUSTERS:
            return Local("ws", _cluster(cluster), query.key, query.token), "GET"
        case ["api", "massive", "ws-token"]:
            named = query.take("cluster")
            if named is not None and named not in CLUSTERS:
                return Refusal(400, "The parameter 'cluster' must be one of: stocks, options, indices"), "POST"
            return Local("ws_token", None if named is None else _cluster(named), query.key), "POST"
        case ["api", "massive", "openapi.json"]:
            return Local("openapi", key=query.key), "GET"
        case ["api", "massive", "options", "chain"]:
            return _chain(query), "GET"
        case ["api", "massive", "options", "contracts"]:
            return _contracts(query), "GET"
        case ["api", "massive", "indices"]:
            return _indices(query), "GET"
        case ["api", "massive", cluster, "bars"] if cluster in CLUSTERS:
            return _bars(_cluster(cluster), query), "GET"
        case ["api", "massive", *rest]:
            return _vendor(rest, query), "GET"
        case _:
            return _vendor(segments, query), "GET"


def _cluster(text: str) -> Cluster:
    return next(each for each in CLUSTERS if each == text)


def _vendor(segments: list[str], query: _Query) -> Route:
    path = "/" + "/".join(segments)
    endpoint = _endpoint(path)
    return _NOT_FOUND if endpoint is None else Upstream(query.behind(path), endpoint, query.key)


def _compiled() -> list[tuple[str, re.Pattern[str]]]:
    # Literal segments before placeholders, as in schema.endpoints.
    ordered = sorted(TEMPLATES.items(), key=lambda item: item[1].count("{"))
    return [(name, re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)))) for name, path in ordered]


_ROUTES = _compiled()


@lru_cache(maxsize=4096)
def _endpoint(path: str) -> str | None:
    return next((name for name, pattern in _ROUTES if pattern.fullmatch(path)), None)


# our own words for the vendor's paths


def _bars(cluster: Cluster, query: _Query) -> Route:
    ticker = query.take("ticker", "symbol")
    if ticker is None or not _is_of(ticker, cluster):
        return Refusal(400, f"The parameter 'ticker' must be one symbol of {cluster}")
    step = _step(query)
    if step is None:
        return Refusal(400, "Give 'timeframe' (1m, 5m, 1h, 1d), or 'multiplier' and 'timespan'")
    start, end = query.take("from", "start"), query.take("to", "end")
    if not (start and end and _VALUE.fullmatch(start) and _VALUE.fullmatch(end)):
        return Refusal(400, "The parameters 'from' and 'to' must be dates (YYYY-MM-DD) or Unix milliseconds")
    path = f"/v2/aggs/ticker/{ticker}/range/{step}/{start}/{end}"
    return Upstream(query.behind(path), "aggs_range", query.key)


def _step(query: _Query) -> str | None:
    timeframe, multiplier, timespan = (query.take(name) for name in ("timeframe", "multiplier", "timespan"))
    if timeframe is not None:
        if multiplier is not None or timespan is not None:
            return None
        try:
            parsed = parse_timeframe(timeframe)
        except InvalidRequest:
            return None
        return f"{parsed.multiplier}/{parsed.timespan}"
    multiplier = "1" if multiplier is None else multiplier
    if timespan not in _TIMESPANS or not re.fullmatch(r"[1-9][0-9]{0,5}", multiplier):
        return None
    return f"{multiplier}/{timespan}"


def _chain(query: _Query) -> Route:
    underlying = query.take("underlying", "underlying_ticker")
    if underlying is None or not (_is_of(underlying, "stocks") or _is_of(underlying, "indices")):
        return Refusal(400, "The parameter 'underlying' must be one stock or index, for example SPY or I:SPX")
    return Upstream(query.behind(f"/v3/snapshot/options/{underlying}"), "chain", query.key)


def _contracts(query: _Query) -> Route:
    path = TEMPLATES["contracts"]
    underlying = query.take("underlying")
    if underlying is None:
        return Upstream(query.behind(path), "contracts", query.key)
    if not (_is_of(underlying, "stocks") or _is_of(underlying, "indices")):
        return Refusal(400, "The parameter 'underlying' must be one stock or index, for example SPY or I:SPX")
    # Here, unlike in the chain, the vendor writes an index without its prefix.
    named = f"underlying_ticker={underlying.removeprefix('I:')}"
    return Upstream(query.behind(path, named), "contracts", query.key)


def _indices(query: _Query) -> Route:
    tickers = query.take("tickers", "ticker.any_of")
    each: Sequence[str] = list(dict.fromkeys(tickers.split(","))) if tickers else ()
    if not 1 <= len(each) <= _MAX_INDICES or not all(_is_of(ticker, "indices") for ticker in each):
        return Refusal(400, f"The parameter 'tickers' must be 1 to {_MAX_INDICES} indices, for example I:SPX,I:VIX")
    # Percent-encoded as the official client writes it.
    named = f"ticker.any_of={quote(','.join(each), safe='')}"
    return Upstream(query.behind(TEMPLATES["snapshot_indices"], named), "snapshot_indices", query.key)


def _is_of(text: str, cluster: str) -> bool:
    try:
        return _VALUE.fullmatch(text) is not None and parse_symbol(text).asset_class == cluster
    except (InvalidRequest, UnknownSymbol):
        return False


def _name_of(piece: str) -> str:
    return _decode(piece.partition("=")[0])


def _decode(text: str) -> str:
    return unquote(text.replace("+", " "))
