"""Who may ask: keys, plans, the calls-per-minute limit, and the exact refusals."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl

from massive_lab.errors import ConfigError, InvalidRequest
from massive_lab.sandbox.api import Account, RestAnswer
from massive_lab.schema.plans import plan
from massive_lab.typing import AssetClass

__all__ = [
    "DEFAULT_KEY",
    "Accounts",
    "Victim",
    "asset_class_asked",
    "default_accounts",
    "key_of_request",
    "parse_query",
    "refusal",
    "request_id",
]

Victim = Literal["oldest", "newest", "random"]
"""Which connection dies when an account holds too many; the vendor's own choice is disputed."""

DEFAULT_KEY = "sandbox"

_CLASSES: tuple[AssetClass, ...] = ("stocks", "options", "indices")
_MINUTE_NS = 60_000_000_000
_TOO_MANY = (
    "You've exceeded the maximum requests per minute, please wait or upgrade your subscription to continue. "
    "https://polygon.io/pricing"
)


def default_accounts() -> list[Account]:
    """``sandbox`` (advanced everywhere), and one account per other tier: ``sandbox-basic``, ``sandbox-starter``..."""
    tiers = ("basic", "starter", "developer", "business")
    per_tier = [Account(f"sandbox-{tier}", f"sandbox-{tier}", dict.fromkeys(_CLASSES, plan(tier))) for tier in tiers]
    return [Account("sandbox", DEFAULT_KEY), *per_tier]


class Accounts:
    """The registry of keys, and the limiter that counts their calls in virtual time."""

    def __init__(self, accounts: Iterable[Account] | None = None) -> None:
        self._by_key: dict[str, Account] = {}
        self._victim: dict[str, Victim] = {}
        self._calls: defaultdict[tuple[str, AssetClass], deque[int]] = defaultdict(deque)
        for account in default_accounts() if accounts is None else accounts:
            self._by_key[account.key] = account

    def find(self, key: str | None) -> Account | None:
        return self._by_key.get(key) if key else None

    def names(self) -> list[str]:
        return [account.name for account in self._by_key.values()]

    def victim(self, account: Account) -> Victim:
        return self._victim.get(account.key, "oldest")

    def add(self, spec: Mapping[str, Any]) -> Account:
        """Register or replace an account.

        Parameters
        ----------
        spec : mapping
            ``key``; optional ``name`` (default: the key), ``plan`` (tier of every class) or ``plans`` (tier by class,
            basic where absent), ``victim`` (``oldest``, ``newest`` or ``random``).

        Raises
        ------
        InvalidRequest
            For a missing key, an unknown field, class, tier or victim.
        """
        unknown = set(spec) - {"key", "name", "plan", "plans", "victim"}
        key = spec.get("key")
        if unknown or not isinstance(key, str) or not key:
            raise InvalidRequest(
                f"An account needs a key; fields not known: {sorted(unknown)}.",
                hint="Known: key, name, plan, plans, victim.",
            )
        tiers = dict.fromkeys(_CLASSES, spec.get("plan", "advanced"))
        if "plans" in spec:
            tiers = {**dict.fromkeys(_CLASSES, "basic"), **spec["plans"]}
        victim = spec.get("victim", "oldest")
        if set(tiers) != set(_CLASSES) or victim not in get_args(Victim):
            raise InvalidRequest(f"Plans are for {_CLASSES}; a victim is one of {get_args(Victim)}.")
        try:
            plans = {asset_class: plan(tier) for asset_class, tier in tiers.items()}
        except ConfigError as error:
            raise InvalidRequest(str(error)) from error
        account = Account(str(spec.get("name", key)), key, plans)
        self._by_key[key] = account
        self._victim[key] = victim
        return account

    def allows(self, account: Account, asset_class: AssetClass, now_ns: int) -> bool:
        """Take one call from the minute's allowance; False when it is spent. A refused call costs nothing."""
        limit = account.plan_for(asset_class).calls_per_minute
        if limit is None:
            return True
        calls = self._calls[account.key, asset_class]
        while calls and calls[0] <= now_ns - _MINUTE_NS:
            calls.popleft()
        if len(calls) >= limit:
            return False
        calls.append(now_ns)
        return True


def key_of_request(authorization: str | None, query: Mapping[str, str]) -> str | None:
    """The key of a Bearer header, or of ``apiKey`` in the query; the header wins.

    Examples
    --------
    >>> key_of_request("Bearer abc", {}), key_of_request(None, {"apiKey": "abc"}), key_of_request("Basic x", {})
    ('abc', 'abc', None)
    """
    scheme, _, value = (authorization or "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return query.get("apiKey")


def asset_class_asked(path: str, query: Mapping[str, str]) -> AssetClass:
    """Whose limit a request counts against.

    Examples
    --------
    >>> asset_class_asked("/v2/aggs/ticker/I:SPX/prev", {}), asset_class_asked("/v3/snapshot/options/I:SPX", {})
    ('indices', 'options')
    >>> asset_class_asked("/v3/snapshot", {"ticker.any_of": "O:SPY251219C00650000,AAPL"})
    'options'
    """
    if "/options" in path or "/O:" in path:
        return "options"
    if "/I:" in path or path == "/v3/snapshot/indices":
        return "indices"
    asked = query.get("ticker.any_of") or query.get("ticker") or ""
    if asked.startswith("O:"):
        return "options"
    if asked.startswith("I:") or query.get("market", query.get("type")) == "indices":
        return "indices"
    return "options" if query.get("asset_class", query.get("type")) == "options" else "stocks"


def request_id(*parts: object) -> str:
    """32 hex digits that depend only on `parts`, so that equal requests at equal times get equal bodies."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def refusal(status: Literal[401, 429], path: str, now_ns: int, *, key_given: bool = True) -> RestAnswer:
    """The vendor's body for no key, a wrong key, or too many calls."""
    unauthorized = "Unknown API Key" if key_given else "API Key was not provided"
    text = unauthorized if status == 401 else _TOO_MANY
    body = {"status": "ERROR", "request_id": request_id(status, path, now_ns), "error": text}
    return RestAnswer(status, json.dumps(body, separators=(",", ":")).encode())


def parse_query(text: str) -> dict[str, str]:
    """Query parameters; of a repeated one the first counts, as the vendor does not honour repetition.

    Examples
    --------
    >>> parse_query("ticker.any_of=I%3ASPX%2CAAPL&limit=2&limit=9&flag=")
    {'ticker.any_of': 'I:SPX,AAPL', 'limit': '2', 'flag': ''}
    """
    query: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        query.setdefault(name, value)
    return query
