"""``massive-lab doctor``: keys, settings, versions, clock, sockets; what is wrong and how to mend it."""

from __future__ import annotations

import argparse
import os
import socket
import ssl
import sys
from urllib.parse import urlsplit

from massive_lab._version import __version__
from massive_lab.audit.environment import Finding, examine
from massive_lab.config import Settings, read_settings
from massive_lab.errors import ConfigError

__all__ = ["run"]

_SIGNS = {"pass": "ok", "warn": "warn", "fail": "FAIL"}
_TIMEOUT_S = 5.0


def run(options: argparse.Namespace) -> int:
    """Print one line for each thing looked at; 1 when something must be mended."""
    findings = examine(_environ(), needs_key=True)
    settings = _settings(findings)
    findings += [_cache(settings), _calendar()]
    if settings is not None and not options.offline:
        findings += [
            _reach("REST server", settings.rest_url, {"http": 80, "https": 443}),
            _reach("WebSocket server", settings.ws_url, {"ws": 80, "wss": 443}),
        ]
    width = max(len(finding.what) for finding in findings)
    print(f"massive-lab {__version__} on Python {sys.version.split()[0]}")
    for finding in findings:
        mend = f" {finding.mend}" if finding.mend else ""
        print(f"{_SIGNS[finding.verdict]:<5} {finding.what:<{width}}  {finding.found}{mend}")
    return int(any(finding.verdict == "fail" for finding in findings))


def _environ() -> dict[str, str]:
    """The environment, with the key of a ``.env`` file counted as set."""
    values = dict(os.environ)
    try:
        read_settings()
    except ConfigError:
        return values
    values.setdefault("MASSIVE_API_KEY", "from .env")
    return values


def _settings(findings: list[Finding]) -> Settings | None:
    try:
        return read_settings()
    except ConfigError as error:
        if not any(finding.verdict == "fail" for finding in findings):
            findings.append(Finding("settings", "fail", error.message, error.hint))
        return None


def _cache(settings: Settings | None) -> Finding:
    if settings is None or settings.cache is None:
        return Finding("cache", "pass", "none: every load asks the server")
    if settings.cache.is_dir() and os.access(settings.cache, os.W_OK):
        return Finding("cache", "pass", "a writable folder")
    if settings.cache.exists():
        return Finding("cache", "fail", "not a writable folder.", "Set MASSIVE_LAB_CACHE to one, or unset it.")
    return Finding("cache", "warn", "the folder does not exist yet.", "It is made on first use.")


def _calendar() -> Finding:
    import time

    from massive_lab.errors import InvalidRequest
    from massive_lab.schema.session import phase_at

    try:
        return Finding("clock", "pass", f"US stocks are now in the phase: {phase_at(time.time_ns())}")
    except InvalidRequest as error:
        return Finding("clock", "fail", error.message, "Set the clock of this machine, or update exchange_calendars.")


def _reach(what: str, url: str, ports: dict[str, int]) -> Finding:
    """Open a TCP connection, and TLS where the address asks for it; nothing is sent."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or ports[parts.scheme]
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT_S) as plain:
            if parts.scheme in ("https", "wss"):
                with ssl.create_default_context().wrap_socket(plain, server_hostname=host):
                    pass
    except ssl.SSLError as error:
        return Finding(what, "fail", f"{host}: TLS failed ({error.reason}).", "Check the clock and the certificates.")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return Finding(
            what, "fail", f"{host}:{port} cannot be reached ({reason}).", "Check the network and the address."
        )
    return Finding(what, "pass", f"{host}:{port} accepts connections")
