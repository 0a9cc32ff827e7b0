"""Tokens for one connection: signed claims, and the memory of those that were used.

A token is ``mlws1.<claims>.<signature>``, both parts in unpadded URL-safe Base64, the signature HMAC-SHA256 over all that
stands before it. Nothing of the claims is read before the signature is found good.
"""

from __future__ import annotations

import base64
import binascii
import heapq
import hmac
import json
from dataclasses import asdict, dataclass
from typing import Any

from massive_lab.config import Secret
from massive_lab.gateway.grants import Refused

__all__ = ["EPHEMERAL_S", "Claims", "Signer", "UsedOnce"]

EPHEMERAL_S = 300.0
"""Life of a token, seconds."""
_STEP_S = 60.0
"""Used tokens are remembered this much longer than they live, should the clock be set back."""
_MAX_TOKEN = 1024
_PREFIX = "mlws1"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says.

    Attributes
    ----------
    aud : str
        Whom it is for.
    sub : str
        Id of the grant it was drawn from.
    cls : str
        The one cluster.
    jti : str
        Its own id.
    iat, exp : float
        UTC seconds, from and until (exclusive).
    """

    aud: str
    sub: str
    cls: str
    jti: str
    iat: float
    exp: float


class Signer:
    """Writes and reads tokens under one key."""

    __slots__ = ("_key",)

    def __init__(self, key: Secret) -> None:
        self._key = key

    def write(self, claims: Claims) -> Secret:
        payload = _b64(json.dumps(asdict(claims), separators=(",", ":")).encode())
        return Secret(f"{_PREFIX}.{payload}.{_b64(self._sign(payload))}")

    def read(self, token: str | None) -> Claims | Refused:
        if not token:
            return Refused("missing")
        parts = token.split(".") if len(token) <= _MAX_TOKEN and token.isascii() else []
        if len(parts) != 3 or parts[0] != _PREFIX:
            return Refused("malformed")
        payload, signature = parts[1], _unb64(parts[2])
        if signature is None:
            return Refused("malformed")
        if not hmac.compare_digest(self._sign(payload), signature):
            return Refused("forged")
        # From here on every claim was written by a holder of the secret.
        return _claims(payload) or Refused("malformed")

    def _sign(self, payload: str) -> bytes:
        return hmac.digest(self._key.reveal().encode(), f"{_PREFIX}.{payload}".encode(), "sha256")


class UsedOnce:
    """Remembers what was used until it has expired.

    Parameters
    ----------
    max_live : int
        When so many are remembered nothing more is let through, so that nothing is let through twice.
    """

    __slots__ = ("_forget", "_max_live", "_used")

    def __init__(self, max_live: int) -> None:
        self._max_live = max_live
        self._used: set[str] = set()
        self._forget: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._used)

    def use(self, jti: str, ends_s: float, now_s: float) -> Refused | None:
        while self._forget and self._forget[0][0] <= now_s:
            self._used.discard(heapq.heappop(self._forget)[1])
        if jti in self._used:
            return Refused("reused")
        if len(self._used) >= self._max_live:
            return Refused("busy")
        self._used.add(jti)
        heapq.heappush(self._forget, (ends_s + _STEP_S, jti))
        return None


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _unb64(text: str) -> bytes | None:
    """Strict: the one spelling of its bytes, or None."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if _b64(data) == text else None


def _claims(payload: str) -> Claims | None:
    data = _unb64(payload)
    try:
        found: Any = json.loads(data) if data is not None else None
    except ValueError:
        return None
    if not isinstance(found, dict) or found.keys() != set(Claims.__slots__):
        return None
    texts = all(isinstance(found[name], str) for name in ("aud", "sub", "cls", "jti"))
    times = all(type(found[name]) in (int, float) for name in ("iat", "exp"))
    return Claims(**found) if texts and times else None
