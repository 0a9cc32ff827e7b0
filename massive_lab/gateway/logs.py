"""Log lines: one event each, with named fields, as text or as JSON; no token, key or query in any of them.

What is logged is chosen so that nothing secret is among it. Beyond that every line, tracebacks included, passes a filter
that knows the secrets in force and blots them out.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
from collections.abc import Iterable
from typing import IO, Any, Literal

from massive_lab.config import Secret

__all__ = ["Blotter", "JsonLines", "TextLines", "configure", "log", "tell"]

log = logging.getLogger("massive_lab.gateway")

_BLOT = "<secret>"
_UNPRINTABLE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")
# Also secrets that nobody told us of: what stands where a credential stands.
_CREDENTIAL = re.compile(
    r"(?i)((?:api_?key|access_token|token|x-massive-proxy-token|authorization)[\"']?\s*[=:]\s*[\"']?(?:bearer\s+)?)[^\s\"'&,<>]+"
)


def tell(event: str, /, level: int = logging.INFO, **fields: object) -> None:
    """Log an event and its fields."""
    log.log(level, event, extra={"fields": fields})


class Blotter:
    """Knows the secrets of this process and takes them out of texts.

    Examples
    --------
    >>> Blotter([Secret("canary-0123456789")]).clean("key canary-0123456789, apiKey=abc&limit=1")
    'key <secret>, apiKey=<secret>&limit=1'
    """

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._secrets: list[Secret] = []
        self.learn(secrets)

    def __repr__(self) -> str:
        return f"Blotter({len(self._secrets)} secrets)"

    def learn(self, secrets: Iterable[Secret]) -> None:
        """Take out these as well from now on. Those of before stay: their holders may still show up."""
        known = dict.fromkeys((*self._secrets, *(each for each in secrets if len(each.reveal()) >= 8)))
        # Longer ones first: one may be the beginning of another.
        self._secrets = sorted(known, key=lambda each: -len(each.reveal()))

    def clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret.reveal(), _BLOT)
        return _CREDENTIAL.sub(rf"\1{_BLOT}", text)


class _Lines(logging.Formatter):
    def __init__(self, blotter: Blotter, *, sandbox: bool) -> None:
        super().__init__()
        self._blotter = blotter
        self._label = {"data": "SANDBOX"} if sandbox else {}

    def format(self, record: logging.LogRecord) -> str:
        at = dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = {**self._label, **getattr(record, "fields", {})}
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        return self._line(at, record.levelname, record.getMessage(), fields, trace)

    def _line(self, at: str, level: str, event: str, fields: dict[str, Any], trace: str) -> str:
        raise NotImplementedError


class TextLines(_Lines):
    """``2026-01-02T03:04:05.678Z INFO started url=http://127.0.0.1:8480``."""

    def _line(self, at: str, level: str, event: str, fields: dict[str, Any], trace: str) -> str:
        told = "".join(f" {name}={_plain(value)}" for name, value in fields.items())
        line = _UNPRINTABLE.sub("?", f"{at} {level} {event}{told}").replace("\n", "?")
        return self._blotter.clean(f"{line}\n{_UNPRINTABLE.sub('?', trace)}" if trace else line)


class JsonLines(_Lines):
    """One JSON object a line."""

    def _line(self, at: str, level: str, event: str, fields: dict[str, Any], trace: str) -> str:
        # Cleaned before it is written: escapes would hide a secret, and blotting must not break the JSON.
        clean = {name: self._clean(value) for name, value in fields.items()}
        whole = {"at": at, "level": level, "event": self._blotter.clean(event), **clean}
        if trace:
            whole["traceback"] = self._blotter.clean(trace)
        return json.dumps(whole, ensure_ascii=True, separators=(",", ":"))

    def _clean(self, value: object) -> object:
        return value if isinstance(value, bool | int | float | None) else self._blotter.clean(str(value))


def configure(
    form: Literal["text", "json"],
    stream: IO[str],
    blotter: Blotter,
    *,
    sandbox: bool = False,
    level: int = logging.INFO,
) -> logging.Handler:
    """Send the library's log, and that of the server below it, to `stream`; returns the handler, to be removed at the end."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter((JsonLines if form == "json" else TextLines)(blotter, sandbox=sandbox))
    for name in ("massive_lab", "aiohttp", "asyncio"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level if name == "massive_lab" else max(level, logging.WARNING))
        logger.propagate = False
    return handler


def _plain(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return json.dumps(text) if not text or set(text) & set(' "=\\') else text
