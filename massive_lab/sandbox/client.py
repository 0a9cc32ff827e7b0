"""A typed, synchronous client of the control plane, on the standard library alone."""

from __future__ import annotations

import http.client
import json
from typing import Any, cast
from urllib.parse import quote, urlsplit

from massive_lab.errors import ConnectionLost, InvalidRequest, UpstreamError

__all__ = ["SandboxControl"]


class SandboxControl:
    """Ask a running sandbox, and move it.

    Every call opens its own connection, so one object may be used from several threads.

    Parameters
    ----------
    control_url : str
        Like ``http://127.0.0.1:9091``.
    timeout_s : float
        For one call; a jump that delivers many events takes its time.

    Raises
    ------
    InvalidRequest
        From any call, when the sandbox refuses what was asked.
    ConnectionLost
        From any call, when there is no sandbox at the address.
    """

    def __init__(self, control_url: str, *, timeout_s: float = 60.0) -> None:
        parts = urlsplit(control_url)
        if parts.scheme != "http" or parts.hostname is None or parts.port is None:
            raise InvalidRequest(f"{control_url!r} is not a control address.", hint="Like http://127.0.0.1:9091.")
        self.url = control_url
        self._host, self._port = parts.hostname, parts.port
        self._timeout_s = timeout_s

    def __repr__(self) -> str:
        return f"SandboxControl({self.url!r})"

    # what it is, and what it has served

    def status(self) -> dict[str, Any]:
        """Version, seed, ports, pid, virtual time."""
        return self._call("GET", "/status")

    def counts(self) -> dict[str, Any]:
        """What was served: ``rest`` (``total``, ``endpoints``), ``ws`` by cluster, ``connections``, ``faults``."""
        return self._call("GET", "/counts")

    def reset_counts(self) -> None:
        """Count from zero."""
        self._call("POST", "/counts/reset")

    # faults

    def add_fault(
        self,
        kind: str,
        *,
        scope: str = "*",
        direction: str | None = None,
        probability: float = 1.0,
        count: int | None = None,
        seed: int = 0,
        name: str | None = None,
        **params: Any,
    ) -> str:
        """Arm a fault; it is in force when this returns.

        Parameters
        ----------
        kind : str
            One of `kinds`.
        scope : str
            ``*``, ``rest``, an endpoint name, ``ws``, ``realtime``, ``delayed``, a cluster, a topic, or ``conn:<id>``.
        direction : {"down", "up"}, optional
            For kinds that act on bytes; default from the sandbox to the client.
        probability : float
            In 0..1, of each decision.
        count : int, optional
            How often it strikes; None: until it is removed.
        seed : int
            Of its decisions.
        name : str, optional
            Its id; default ``<kind>-<n>``.
        **params
            The kind's own parameters.

        Returns
        -------
        str
            The id.
        """
        spec = {"kind": kind, "scope": scope, "probability": probability, "count": count, "seed": seed, **params}
        if direction is not None:
            spec["direction"] = direction
        if name is not None:
            spec["name"] = name
        return str(self._call("POST", "/faults", spec)["id"])

    def faults(self) -> list[dict[str, Any]]:
        """What is armed."""
        return cast("list[dict[str, Any]]", self._call("GET", "/faults")["faults"])

    def kinds(self) -> dict[str, Any]:
        """Every kind of fault: what it does, and its parameters with their defaults."""
        return self._call("GET", "/faults/kinds")

    def remove_fault(self, fault_id: str) -> None:
        """Disarm one."""
        self._call("DELETE", f"/faults/{quote(fault_id, safe='')}")

    def reset_faults(self) -> None:
        """Disarm all."""
        self._call("POST", "/faults/reset")

    # time

    def pause(self) -> int:
        """Stop virtual time; returns it in nanoseconds. What was published until then has been sent."""
        return self._clock(pause=True)

    def resume(self) -> int:
        """Let virtual time run."""
        return self._clock(resume=True)

    def speed(self, speed: float) -> int:
        """Virtual seconds per real second."""
        return self._clock(speed=speed)

    def jump(self, seconds: float, *, deliver: bool = True) -> int:
        """Move `seconds` ahead.

        With `deliver`, the events in between have been sent when this returns (an hour at most); without, they are
        passed over.
        """
        return self._clock(jump_s=seconds, deliver=deliver)

    def jump_to(self, moment: int | str, *, deliver: bool = True) -> int:
        """Move ahead to UTC nanoseconds or an ISO text (New York when it has no offset); see `jump`."""
        return self._clock(jump_to=moment, deliver=deliver)

    # connections and accounts

    def connections(self) -> list[dict[str, Any]]:
        """Open WebSocket connections, oldest first."""
        return cast("list[dict[str, Any]]", self._call("GET", "/connections")["connections"])

    def close_connection(self, connection_id: int, *, code: int = 1000, reason: str = "", abrupt: bool = False) -> None:
        """Close one with a code, or cut it without a close frame."""
        body = {"code": code, "reason": reason, "abrupt": abrupt}
        self._call("POST", f"/connections/{connection_id}/close", body)

    def add_account(
        self,
        key: str,
        *,
        name: str | None = None,
        plan: str = "advanced",
        plans: dict[str, str] | None = None,
        victim: str = "oldest",
    ) -> None:
        """Register or replace an account: one tier for all asset classes, or `plans` by class (basic where absent)."""
        spec: dict[str, Any] = {"key": key, "name": name or key, "plan": plan, "victim": victim}
        if plans is not None:
            spec["plans"] = plans
        self._call("POST", "/accounts", spec)

    def shutdown(self) -> None:
        """End the process."""
        self._call("POST", "/shutdown")

    def _clock(self, **asked: Any) -> int:
        return int(self._call("POST", "/clock", asked)["now_ns"])

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionLost(
                f"No sandbox answers at {self.url}: {error}.", hint="Start one: massive-lab sandbox."
            ) from error
        finally:
            connection.close()
        answer = cast("dict[str, Any]", json.loads(text))
        if response.status in {400, 404, 405}:
            raise InvalidRequest(str(answer.get("error")))
        if response.status >= 300:
            raise UpstreamError(f"The sandbox failed at {method} {path}: {answer}.", status=response.status)
        return answer
