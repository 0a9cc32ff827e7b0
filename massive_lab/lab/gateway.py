"""Who is at the address of a gateway."""

from __future__ import annotations

import json

from massive_lab.clock import SystemClock
from massive_lab.config import Settings
from massive_lab.errors import ConfigError
from massive_lab.telemetry import Telemetry
from massive_lab.transports.http import HttpTransport

__all__ = ["recognise"]

_DOCUMENT = "/api/massive/openapi.json"
"""Costs the gateway nothing: no token is needed, nothing is asked upstream, and it counts against no limit."""
_LABEL = "x-massive-lab"


async def recognise(settings: Settings) -> Settings:
    """The settings, labelled as synthetic when the gateway says that its data are.

    Raises
    ------
    ConfigError
        When something else answers there.
    ConnectionLost, Timeout
        When nothing does, after retries.
    """
    # On the system's clock: what is waited for is a real server, also where a test's clock stands still.
    transport = HttpTransport(settings, Telemetry(), SystemClock())
    try:
        answer = await transport.get(_DOCUMENT, cause="connect")
    finally:
        await transport.aclose()
    if answer.status != 200 or not _is_document(answer.body):
        raise ConfigError(
            f"{settings.rest_url} is not a gateway: HTTP {answer.status} at {_DOCUMENT}.",
            hint="Start one with 'massive-lab gateway', or check the address.",
        )
    return settings.with_(sandbox=True) if answer.headers.get(_LABEL) == "SANDBOX" else settings


def _is_document(body: bytes) -> bool:
    try:
        document = json.loads(body)
    except ValueError:
        return False
    return isinstance(document, dict) and "openapi" in document
