"""Who may ask: named proxy tokens, and short-lived tokens for one WebSocket connection.

Pure: no file, no clock. Times are UTC seconds since the Unix epoch, brought by the caller.

- A proxy token is kept as a digest of fixed length. A lookup compares against every one of them in constant time, so
  neither the answer's time nor its text says how much of a guess was right.
- A name may have several tokens, so that a new one can be handed out before the old one goes. They share the name's quota.
- A token that is gone from the next book is *retired*: known, refused, and accepted again should it come back. One that
  was taken back with `TokenBook.revoke` stays refused whatever later books say.
- An ephemeral token is signed, names one audience, one cluster and the token it was drawn from, lives five minutes, and
  opens one connection.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from massive_lab.config import Secret
from massive_lab.gateway.ephemeral import EPHEMERAL_S, Claims, Signer, UsedOnce
from massive_lab.gateway.grants import (
    MAX_TOKEN,
    Grant,
    Reason,
    Refused,
    Rotation,
    TokenRule,
    is_name,
    is_pattern,
    is_token,
)
from massive_lab.typing import Cluster

__all__ = [
    "EPHEMERAL_S",
    "Grant",
    "Reason",
    "Refused",
    "Rotation",
    "TokenBook",
    "TokenRule",
    "is_name",
    "is_pattern",
    "is_token",
]

_SKEW_S = 5.0
"""How far the clock of another replica may be ahead."""


@dataclass(frozen=True, slots=True)
class _Entry:
    digest: bytes = field(repr=False)
    grant: Grant


class TokenBook:
    """The tokens in force.

    Parameters
    ----------
    rules : iterable of TokenRule
        The texts of the tokens are digested and not kept.
    secret : Secret
        Signs ephemeral tokens; the same in every replica.
    audience : str
        Whom ephemeral tokens are for; a gateway with the same secret and another audience refuses them.
    sandbox : bool
        Written into every grant.
    entropy : callable
        ``entropy(n)`` gives n random bytes.
    max_live : int
        Used ephemeral tokens remembered until they expire. Beyond it none is accepted, so that none is accepted twice.
    max_retired : int
        Digests of tokens that are gone, the oldest forgotten first (they are then unknown, and still refused).

    Notes
    -----
    The memory of used tokens is this process's. Replicas that share a secret share no memory: an ephemeral token opens one
    connection at each, so bind them by `audience` or send a client's connection where its token was minted.
    """

    def __init__(
        self,
        rules: Iterable[TokenRule],
        secret: Secret,
        *,
        audience: str = "massive-lab-gateway",
        sandbox: bool = False,
        entropy: Callable[[int], bytes] = os.urandom,
        max_live: int = 100_000,
        max_retired: int = 10_000,
    ) -> None:
        root = secret.reveal().encode()
        # One key for each purpose: a signature can never be taken for a tag.
        self._signer = Signer(Secret(hmac.digest(root, b"massive-lab gateway: sign", "sha256").hex()))
        self._tag_key = Secret(hmac.digest(root, b"massive-lab gateway: tag", "sha256").hex())
        self.audience = audience
        self._sandbox = sandbox
        self._entropy = entropy
        self._used = UsedOnce(max_live)
        self._max_retired = max_retired
        self._retired: OrderedDict[bytes, None] = OrderedDict()
        self._banned: dict[bytes, None] = {}
        self._listeners: list[Callable[[Rotation], None]] = []
        self._entries: dict[bytes, _Entry] = self._read(rules)

    def __repr__(self) -> str:
        return f"TokenBook({', '.join(self.names)})"

    @property
    def names(self) -> list[str]:
        return sorted({entry.grant.name for entry in self._entries.values()})

    # proxy tokens

    def find(self, token: str | None, now_s: float) -> Grant | Refused:
        """The grant of a proxy token."""
        if not token:
            return Refused("missing")
        if len(token) > MAX_TOKEN:
            return Refused("malformed")
        digest = _digest(token)
        found: _Entry | None = None
        # All of them, also behind a match: the time says neither whether nor where there was one.
        for entry in self._entries.values():
            if hmac.compare_digest(entry.digest, digest):
                found = entry
        gone = digest in self._banned or digest in self._retired
        if found is None:
            return Refused("revoked" if gone else "unknown")
        return Refused("expired") if found.grant.is_over(now_s) else found.grant

    def grant(self, grant_id: str) -> Grant | None:
        """The rights that a grant has now; None when its token is gone."""
        return next((entry.grant for entry in self._entries.values() if entry.grant.id == grant_id), None)

    def rotate(self, rules: Iterable[TokenRule]) -> Rotation:
        """Put another book in force, and tell the listeners what that changed."""
        before = self._entries
        after = self._read(rules)
        for digest in before.keys() - after.keys():
            self._retire(digest)
        for digest in after:
            self._retired.pop(digest, None)
        self._entries = after
        return self._tell(before)

    def revoke(self, name: str) -> Rotation:
        """Take back all tokens of a name for good."""
        before = self._entries
        gone = {digest for digest, entry in before.items() if entry.grant.name.casefold() == name.casefold()}
        self._banned.update(dict.fromkeys(gone))
        self._entries = {digest: entry for digest, entry in before.items() if digest not in gone}
        return self._tell(before)

    def listen(self, listener: Callable[[Rotation], None]) -> Callable[[], None]:
        """Call `listener` at each change; returns what ends that."""
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    def _tell(self, before: dict[bytes, _Entry]) -> Rotation:
        was = {entry.grant.id: entry.grant for entry in before.values()}
        now = {entry.grant.id: entry.grant for entry in self._entries.values()}
        rotation = Rotation(
            added=frozenset(now.keys() - was.keys()),
            changed=frozenset(each for each in now.keys() & was.keys() if now[each] != was[each]),
            revoked=frozenset(was.keys() - now.keys()),
        )
        if rotation:
            for listener in tuple(self._listeners):
                listener(rotation)
        return rotation

    def _retire(self, digest: bytes) -> None:
        self._retired[digest] = None
        self._retired.move_to_end(digest)
        while len(self._retired) > self._max_retired:
            self._retired.popitem(last=False)

    def _read(self, rules: Iterable[TokenRule]) -> dict[bytes, _Entry]:
        entries = {}
        for rule in rules:
            digest = _digest(rule.token.reveal())
            if digest in self._banned:
                continue
            grant = Grant(
                name=rule.name,
                id=f"{rule.name}-{self._tag(digest)}",
                clusters=rule.clusters,
                topic_patterns=rule.topics,
                calls_per_minute=rule.calls_per_minute,
                sandbox=self._sandbox,
                expires_s=rule.expires_s,
            )
            entries[digest] = _Entry(digest, grant)
        return entries

    def _tag(self, digest: bytes) -> str:
        # Under a key: who reads it in a log cannot try tokens against it.
        return hmac.digest(self._tag_key.reveal().encode(), digest, "sha256")[:6].hex()

    # ephemeral tokens

    def mint(self, grant: Grant, cluster: Cluster, now_s: float) -> Secret | Refused:
        """A token that opens one connection to `cluster` within five minutes, for the bearer of `grant`.

        A grant that itself came from an ephemeral token mints nothing: five minutes must not become for ever.
        """
        current = self.grant(grant.id)
        if grant.ephemeral or current is None:
            return Refused("revoked")
        if current.is_over(now_s):
            return Refused("expired")
        if not current.allows(cluster):
            return Refused("other cluster")
        jti = self._entropy(16).hex()
        return self._signer.write(Claims(self.audience, grant.id, cluster, jti, now_s, now_s + EPHEMERAL_S))

    def check(self, token: str | None, cluster: Cluster, now_s: float) -> Grant | Refused:
        """Accept an ephemeral token, once. What is refused here for its cluster or its time is not used up by that."""
        claims = self._signer.read(token)
        if isinstance(claims, Refused):
            return claims
        if claims.aud != self.audience:
            return Refused("other audience")
        if claims.cls != cluster:
            return Refused("other cluster")
        if claims.iat > now_s + _SKEW_S:
            return Refused("future")
        ends_s = min(claims.exp, claims.iat + EPHEMERAL_S)
        if now_s >= ends_s:
            return Refused("expired")
        parent = self.grant(claims.sub)
        if parent is None:
            return Refused("revoked")
        if parent.is_over(now_s):
            return Refused("expired")
        if not parent.allows(cluster):
            return Refused("other cluster")
        used = self._used.use(claims.jti, ends_s, now_s)
        return replace(parent, clusters=(cluster,), ephemeral=True) if used is None else used


def _digest(token: str) -> bytes:
    # A header may carry bytes that are no UTF-8; they make an unknown token, not an error.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
