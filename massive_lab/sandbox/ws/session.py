"""One WebSocket session as a state machine: what each message of the client brings about.

It knows no socket. `receive` returns effects in the order they have to happen; the connection carries them out.

Where the vendor's behaviour is documented or has been observed, it is followed. Where it is not known, this is what the
sandbox does:

======================================= =========================================================================
case                                    answer
======================================= =========================================================================
subscribe before auth                   error ``not authorized`` for every param, as for what a plan lacks
auth once more                          error ``already authenticated``; the session goes on
option quote number 1,001, ``Q.*``      error that names no channel; the other params are confirmed
a delayed plan on the real-time host    auth succeeds, every param is an error ``not authorized``
real-time topics on the delayed host    error ``not authorized``
unsubscribe from what is not held       no answer
not JSON, no action, no params          error ``invalid message``; the session goes on
no auth                                 ``auth_timeout`` after 10 real seconds, then close 1008
======================================= =========================================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from massive_lab.sandbox.accounts import Accounts
from massive_lab.sandbox.api import Account
from massive_lab.sandbox.counts import ClusterCount
from massive_lab.sandbox.faults.book import FaultBook
from massive_lab.sandbox.faults.stream import AuthFail, AuthSilent, NotAuthorized, Unconfirmed
from massive_lab.sandbox.ws.topics import judge, split_param, split_params
from massive_lab.schema.plans import MAX_OPTION_QUOTES
from massive_lab.typing import AssetClass

__all__ = ["MAX_CONNECTIONS_TEXT", "Admit", "Cut", "Effect", "Hold", "Release", "Say", "Session", "status"]

MAX_CONNECTIONS_TEXT = (
    "Maximum number of websocket connections exceeded. You have reached the connection limit for your account. "
    "Please contact support at https://polygon.io/contact to increase your limit."
)
_NO_WEBSOCKET = "Your plan doesn't include websocket access. Visit https://massive.com/pricing to upgrade."
_TOO_MANY_QUOTES = f"subscription limit exceeded: at most {MAX_OPTION_QUOTES} option quote subscriptions per connection"


@dataclass(frozen=True, slots=True)
class Say:
    """Send these statuses in one frame."""

    statuses: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """Flush, then end TCP without a close frame."""

    reason: str


@dataclass(frozen=True, slots=True)
class Admit:
    """The account is in: count its connections."""

    account: Account


@dataclass(frozen=True, slots=True)
class Hold:
    """Events of `param` flow from virtual time `since_ns` on."""

    param: str
    since_ns: int


@dataclass(frozen=True, slots=True)
class Release:
    """Events of `param` stop."""

    param: str


Effect = Say | Cut | Admit | Hold | Release


def status(name: str, message: str) -> bytes:
    """One status item.

    Examples
    --------
    >>> status("auth_success", "authenticated")
    b'{"ev":"status","status":"auth_success","message":"authenticated"}'
    """
    return json.dumps({"ev": "status", "status": name, "message": message}, separators=(",", ":")).encode()


_NOT_AUTHORIZED = status("error", "not authorized")


class Session:
    """State of one connection between its upgrade and its end.

    Parameters
    ----------
    cluster : {"stocks", "options", "indices"}
    delayed : bool
        Whether this is the delayed feed.
    accounts, book, count
        The registry of keys, the armed faults, and the counters of the cluster.
    labels : frozenset of str
        Scopes this connection answers to.
    now_ns : callable
        Virtual time of the feed: of the delayed one, 15 minutes ago.
    """

    def __init__(
        self,
        cluster: AssetClass,
        *,
        delayed: bool,
        accounts: Accounts,
        book: FaultBook,
        count: Callable[[], ClusterCount],
        labels: frozenset[str],
        now_ns: Callable[[], int],
    ) -> None:
        self.cluster: AssetClass = cluster
        self.delayed = delayed
        self.account: Account | None = None
        self.stage: Literal["connected", "authenticated", "subscribed"] = "connected"
        self.held: dict[str, int] = {}
        """Params to the virtual time from which their events are wanted."""
        self.waits_for_auth = True
        self._dead = False
        self._accounts = accounts
        self._book = book
        self._count = count
        self._labels = labels
        self._now_ns = now_ns

    def greet(self) -> list[Effect]:
        return [Say((status("connected", "Connected Successfully"),))]

    def auth_timed_out(self) -> list[Effect]:
        self._dead = True
        return [Say((status("auth_timeout", "No authentication request received."),))]

    def receive(self, text: str | bytes) -> list[Effect]:
        """Effects of one client message; a dead session has none."""
        if self._dead:
            return []
        try:
            message = json.loads(text)
        except ValueError:
            return [Say((status("error", "invalid message: not JSON"),))]
        if not isinstance(message, dict) or not isinstance(message.get("params"), str):
            return [Say((status("error", "invalid message: an object with action and params is expected"),))]
        handler = {"auth": self._auth, "subscribe": self._subscribe, "unsubscribe": self._unsubscribe}.get(
            str(message.get("action"))
        )
        if handler is None:
            return [Say((status("error", "invalid message: unknown action"),))]
        return handler(message["params"])

    def since(self, topic: str) -> int | None:
        """From which virtual time events of `topic` are wanted; None: not at all."""
        single = self.held.get(topic)
        wildcard = self.held.get(split_param(topic)[0] + ".*")
        if single is None or wildcard is None:
            return wildcard if single is None else single
        return min(single, wildcard)

    def _auth(self, key: str) -> list[Effect]:
        if self.account is not None:
            return [Say((status("error", "already authenticated"),))]
        self.waits_for_auth = False
        if self._book.draw(AuthSilent, self._labels) is not None:
            return []
        fault = self._book.draw(AuthFail, self._labels)
        account = self._accounts.find(key)
        if account is None or fault is not None:
            return self._refuse("authentication failed" if fault is None else fault.kind.message)
        if not account.plan_for(self.cluster).websocket:
            return self._refuse(_NO_WEBSOCKET)
        self.account = account
        self.stage = "authenticated"
        self._count().authenticated += 1
        return [Say((status("auth_success", "authenticated"),)), Admit(account)]

    def _refuse(self, message: str) -> list[Effect]:
        self._dead = True
        self._count().auth_failed += 1
        return [Say((status("auth_failed", message),)), Cut("auth_failed")]

    def _subscribe(self, params: str) -> list[Effect]:
        statuses: list[bytes] = []
        holds: list[Effect] = []
        for param in split_params(params):
            self._count().subscribe_params += 1
            answer, hold = self._judge(param)
            if answer is not None:
                statuses.append(answer)
            if hold:
                self.held[param] = self._now_ns()
                self.stage = "subscribed"
                holds.append(Hold(param, self.held[param]))
        return [Say(tuple(statuses)), *holds] if statuses else holds

    def _judge(self, param: str) -> tuple[bytes | None, bool]:
        """The answer to one param, and whether its events are to flow."""
        count = self._count()
        denied = True
        answer = _NOT_AUTHORIZED
        if self.account is not None:
            if param in self.held:
                count.ignored += 1
                return None, False
            verdict = judge(self.cluster, delayed=self.delayed, plan=self.account.plan_for(self.cluster), param=param)
            if verdict == "unknown":
                count.ignored += 1
                return None, False
            denied = verdict == "denied"
            if not denied and self._quotes_spent(param):
                denied, answer = True, status("error", _TOO_MANY_QUOTES)
            labels = self._labels | {param, split_param(param)[0] + ".*"}
            denied = denied or self._book.draw(NotAuthorized, labels) is not None
            if not denied and (silent := self._book.draw(Unconfirmed, labels)) is not None:
                count.ignored += 1
                return None, silent.kind.data
        if denied:
            count.denied += 1
            return answer, False
        count.confirmed += 1
        return status("success", f"subscribed to: {param}"), True

    def _quotes_spent(self, param: str) -> bool:
        if self.cluster != "options" or not param.startswith("Q."):
            return False
        return sum(held.startswith("Q.") for held in self.held) >= MAX_OPTION_QUOTES

    def _unsubscribe(self, params: str) -> list[Effect]:
        count = self._count()
        statuses: list[bytes] = []
        releases: list[Effect] = []
        for param in split_params(params):
            count.unsubscribe_params += 1
            if self.held.pop(param, None) is None:
                continue
            count.unsubscribed += 1
            statuses.append(status("success", f"unsubscribed to: {param}"))
            releases.append(Release(param))
        return [Say(tuple(statuses)), *releases] if statuses else releases
