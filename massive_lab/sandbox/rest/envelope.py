"""What every answer has in common: the question as the handlers see it, the envelope and the refusals."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from massive_lab.sandbox.api import MarketData, RestAnswer, RestRequest
from massive_lab.schema.plans import Plan
from massive_lab.typing import AssetClass

__all__ = [
    "Ask",
    "Handler",
    "Refused",
    "asset_class_of",
    "bad_request",
    "encode",
    "not_entitled",
    "not_found",
    "ok",
    "request_id",
    "unrouted",
    "wrong_timeframe",
]

_PRICING = "https://massive.com/pricing"
_ENCODER = msgspec.json.Encoder()

encode = _ENCODER.encode
"""Any answer to JSON bytes; fields that are `msgspec.UNSET` are left out."""


def request_id(seed: int, path: str, query: Mapping[str, str]) -> str:
    """32 hex digits that depend only on seed and question."""
    text = repr((seed, path, sorted(query.items())))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def asset_class_of(symbol: str) -> AssetClass:
    """The class a ticker's prefix says.

    Examples
    --------
    >>> asset_class_of("O:SPY251219C00650000"), asset_class_of("I:SPX"), asset_class_of("SPY")
    ('options', 'indices', 'stocks')
    """
    return "options" if symbol.startswith("O:") else "indices" if symbol.startswith("I:") else "stocks"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, routed.

    Attributes
    ----------
    parts : mapping
        What the placeholders of the path stand for.
    query : mapping
        Parameters, those of a cursor included.
    position : mapping
        ``ap`` and ``as`` of the cursor: where the last page ended. Empty on a first page.
    """

    market: MarketData
    request: RestRequest
    endpoint: str
    parts: Mapping[str, str]
    query: Mapping[str, str]
    position: Mapping[str, str]
    id: str

    @property
    def now_ns(self) -> int:
        return self.request.now_ns

    def plan(self, asset_class: AssetClass) -> Plan:
        return self.request.account.plan_for(asset_class)


Handler = Callable[[Ask], RestAnswer]


class Refused(Exception):
    """Raised by a handler in place of an answer. `name` is the field that carries the text."""

    def __init__(self, http: int, status: str, name: str, text: str) -> None:
        super().__init__(text)
        self.http = http
        self.status = status
        self.name = name
        self.text = text

    def answer(self, id_: str) -> RestAnswer:
        return RestAnswer(self.http, encode({"status": self.status, "request_id": id_, self.name: self.text}))


def bad_request(text: str) -> Refused:
    return Refused(400, "ERROR", "error", text)


def not_entitled() -> Refused:
    text = f"You are not entitled to this data. Please upgrade your plan at {_PRICING}"
    return Refused(403, "NOT_AUTHORIZED", "message", text)


def wrong_timeframe() -> Refused:
    text = f"Your plan doesn't include this data timeframe. Please upgrade your plan at {_PRICING}"
    return Refused(403, "NOT_AUTHORIZED", "message", text)


def not_found(text: str) -> Refused:
    return Refused(404, "NOT_FOUND", "message", text)


def unrouted() -> RestAnswer:
    return RestAnswer(404, b"404 page not found", "text/plain")


def ok(
    ask: Ask, /, *, status: str = "OK", next_url: str | None = None, with_id: bool = True, **fields: Any
) -> RestAnswer:
    """The usual envelope around `fields`; fields that are None are left out. A few endpoints have no id."""
    body: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    body["status"] = status
    if with_id:
        body["request_id"] = ask.id
    if next_url is not None:
        body["next_url"] = next_url
    return RestAnswer(200, encode(body))
