"""What a token gives, and why one is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from massive_lab.config import Secret
from massive_lab.live.topics import CLUSTERS
from massive_lab.typing import Cluster

__all__ = ["Grant", "Reason", "Refused", "Rotation", "TokenRule", "is_name", "is_pattern", "is_token"]

MIN_TOKEN, MAX_TOKEN = 16, 512
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PATTERN = re.compile(r"[A-Za-z0-9.:/*_-]{1,128}")

Reason: TypeAlias = Literal[
    "missing",
    "malformed",
    "unknown",
    "expired",
    "revoked",
    "forged",
    "other audience",
    "other cluster",
    "future",
    "reused",
    "busy",
]
_TEXTS: dict[Reason, str] = {
    "missing": "API Key was not provided",
    "malformed": "Unknown API Key",
    "unknown": "Unknown API Key",
    "revoked": "Unknown API Key",
    "forged": "Unknown API Key",
    "other audience": "Unknown API Key",
    "future": "Unknown API Key",
    "expired": "The token has expired",
    "other cluster": "The token is for another cluster",
    "reused": "The token has been used",
    "busy": "Too many tokens are in use, try again later",
}


@dataclass(frozen=True, slots=True)
class TokenRule:
    """One proxy token and what it may do, as configured.

    Attributes
    ----------
    name : str
        Whose it is; shown in logs and metrics. Names that differ only in case are the same name.
    token : Secret
    calls_per_minute : int or None
        REST calls; None for the gateway's default.
    topics : tuple of str
        What may be subscribed: ``AM.*``, ``T.AAPL``, ``options/T.O:SPY*``. ``*`` stands for any text, a cluster and a slash
        in front limit the pattern to that cluster.
    clusters : tuple of {"stocks", "options", "indices"}
    expires_s : float or None
        UTC seconds from which the token is refused.
    """

    name: str
    token: Secret
    calls_per_minute: int | None = None
    topics: tuple[str, ...] = ("*",)
    clusters: tuple[Cluster, ...] = CLUSTERS
    expires_s: float | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """What the bearer of an accepted token may do. This, and never the token, is handed on.

    Attributes
    ----------
    name : str
        As configured.
    id : str
        Tells this token from others of the name, in every replica with the same secret; no secret itself.
    calls_per_minute : int or None
        None for the gateway's default.
    expires_s : float or None
        UTC seconds at which what was opened with it must end.
    ephemeral : bool
        Whether it came from a token for one connection.
    """

    name: str
    id: str
    clusters: tuple[Cluster, ...]
    topic_patterns: tuple[str, ...]
    calls_per_minute: int | None = None
    sandbox: bool = False
    expires_s: float | None = None
    ephemeral: bool = False

    def allows(self, cluster: str) -> bool:
        return cluster in self.clusters

    def allows_topic(self, cluster: str, wire: str) -> bool:
        """Whether a topic may be subscribed; a wildcard only where every symbol of its channel may.

        Examples
        --------
        >>> grant = Grant("desk", "desk-1", ("stocks",), ("AM.*", "T.A*"))
        >>> [grant.allows_topic("stocks", wire) for wire in ("AM.*", "AM.MSFT", "T.AAPL", "T.MSFT", "T.*")]
        [True, True, True, False, False]
        """
        return cluster in self.clusters and any(_matches(each, cluster, wire) for each in self.topic_patterns)

    def is_over(self, now_s: float) -> bool:
        return self.expires_s is not None and now_s >= self.expires_s


@dataclass(frozen=True, slots=True)
class Refused:
    """No grant. `reason` is for our logs and metrics; `text` is what the client may read: it does not tell a wrong guess
    from a token that once was good.
    """

    reason: Reason

    @property
    def text(self) -> str:
        return _TEXTS[self.reason]


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a new book changed, as ids of grants.

    Attributes
    ----------
    revoked : frozenset of str
        What was opened with these must be closed.
    changed : frozenset of str
        Still good, with other rights: ask `TokenBook.grant` again.
    """

    added: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    revoked: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.revoked)


def is_name(text: str) -> bool:
    """Letters, digits, dot, dash and underscore, at most 64: it becomes a label and a log field."""
    return _NAME.fullmatch(text) is not None


def is_token(text: str) -> bool:
    """Whether a text may serve as a proxy token: 16 to 512 printable ASCII characters without blank or comma."""
    return MIN_TOKEN <= len(text) <= MAX_TOKEN and all("!" <= letter <= "~" and letter != "," for letter in text)


def is_pattern(text: str) -> bool:
    """Whether a text is a topic pattern (see `TokenRule`)."""
    return _PATTERN.fullmatch(text) is not None


def _matches(pattern: str, cluster: str, wire: str) -> bool:
    head, slash, rest = pattern.partition("/")
    if slash and head in CLUSTERS:
        if head != cluster:
            return False
        pattern = rest
    # The topic's own asterisk is an ordinary character here: it is matched by an asterisk at the end or not at all.
    first, *others = pattern.split("*")
    if not others:
        return pattern == wire
    *middle, last = others
    if len(wire) < len(first) + len(last) or not wire.startswith(first) or not wire.endswith(last):
        return False
    at, end = len(first), len(wire) - len(last)
    for part in middle:
        found = wire.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
