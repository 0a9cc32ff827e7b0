"""The first exchange on a socket as a machine without I/O: connected, auth, auth_success.

=============== ================= ============================== ==========================
phase           status            then                           deadline
=============== ================= ============================== ==========================
connecting      connected         send auth, go to authenticating `connected_s`
authenticating  auth_success      done                           `auth_s`
any             auth_failed       NotEntitled when the text speaks of the plan, else Unauthorized
any             auth_timeout      Timeout
any             max_connections   Evicted
=============== ================= ============================== ==========================
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from massive_lab.config import TOKEN_HINT, ProxyToken, Secret
from massive_lab.errors import NotEntitled, Timeout, TransportError, Unauthorized, UpstreamError

__all__ = ["Authenticated", "Evicted", "Handshake", "Refused", "SendAuth", "eviction"]


class Evicted(UpstreamError):
    """Another connection holds this cluster: the vendor allows one, and closed ours."""

    def __init__(self, message: str, *, status: int = 1008, **context: Any) -> None:
        super().__init__(message, status=status, **context)


@dataclass(frozen=True, slots=True)
class SendAuth:
    """Put this text on the wire. Its repr hides it, because the key is in it."""

    text: str

    def __repr__(self) -> str:
        return "SendAuth(<secret>)"


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The socket may be used."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The handshake is over and failed. `final`: trying again with the same key cannot help."""

    error: TransportError
    final: bool


Action: TypeAlias = SendAuth | Authenticated | Refused


def eviction(cluster: str) -> Evicted:
    """The error of ``max_connections``."""
    return Evicted(
        f"The {cluster} connection was closed by the server: the account's connection limit is reached.",
        hint="Another program holds this cluster with the same account; stop it, or share one gateway. Tried again once a lease.",
    )


class Handshake:
    """Drive it with the status messages of the server and the time.

    Parameters
    ----------
    cluster : str
    key : Secret
    now : float
        Monotonic seconds at the upgrade.
    connected_s, auth_s : float
        How long each answer may take.

    Attributes
    ----------
    deadline : float
        Monotonic seconds at which `tick` gives up.

    Examples
    --------
    >>> machine = Handshake("stocks", Secret("k"), 0.0)
    >>> machine.status("connected", "Connected Successfully", 0.1), machine.phase
    (SendAuth(<secret>), 'authenticating')
    >>> machine.status("auth_success", "authenticated", 0.2), machine.phase
    (Authenticated(), 'done')
    """

    def __init__(
        self, cluster: str, key: Secret, now: float, *, connected_s: float = 5.0, auth_s: float = 5.0
    ) -> None:
        self._cluster = cluster
        self._key = key
        self._auth_s = auth_s
        self.phase: Literal["connecting", "authenticating", "done", "failed"] = "connecting"
        self.deadline = now + connected_s

    def status(self, status: str, message: str, now: float) -> Action | None:
        """Take one status of the server; None when it changes nothing."""
        if self.phase in ("done", "failed"):
            return None
        if status == "connected" and self.phase == "connecting":
            self.phase = "authenticating"
            self.deadline = now + self._auth_s
            return SendAuth(json.dumps({"action": "auth", "params": self._key.reveal()}))
        if status == "auth_success" and self.phase == "authenticating":
            self.phase = "done"
            return Authenticated()
        if status == "auth_failed":
            return self._fail(self._why(message), final=True)
        if status == "auth_timeout":
            return self._fail(Timeout(f"The {self._cluster} server says that no authentication came in time."), final=False)
        if status == "max_connections":
            return self._fail(eviction(self._cluster), final=True)
        return None

    def tick(self, now: float) -> Refused | None:
        """Give up when the deadline has passed."""
        if self.phase in ("done", "failed") or now < self.deadline:
            return None
        waited_for = "greeting" if self.phase == "connecting" else "answer to the key"
        return self._fail(Timeout(f"The {self._cluster} server sent no {waited_for} in time."), final=False)

    def _why(self, message: str) -> TransportError:
        # The vendor has one status for two causes and only the text tells them apart.
        is_token = isinstance(self._key, ProxyToken)
        if "plan" in message.lower():
            if is_token:
                return NotEntitled(
                    f"The gateway does not serve the {self._cluster} WebSocket to this token.",
                    hint="The token itself is good; ask whoever runs the gateway for the cluster.",
                )
            return NotEntitled(
                f"The plan does not include the {self._cluster} WebSocket.", hint="The key itself is good; see the plan."
            )
        if is_token:
            return Unauthorized(f"The gateway refused the token for {self._cluster}.", hint=TOKEN_HINT)
        return Unauthorized(f"The {self._cluster} server refused the key.", hint="Check MASSIVE_API_KEY.")

    def _fail(self, error: TransportError, *, final: bool) -> Refused:
        self.phase = "failed"
        return Refused(error, final)
