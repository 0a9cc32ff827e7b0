"""Header rules: who may call from a browser, what goes up, what comes back.

Browsers are let in by an exact list of origins. No answer carries ``*``, none allows credentials: tokens travel in headers
that a foreign page cannot set without a preflight, never in cookies. Upstream goes nothing of what the client sent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from massive_lab.config import Secret

__all__ = [
    "PROXY_TOKEN",
    "SECURITY",
    "Cors",
    "Preflight",
    "canonical_origin",
    "credential",
    "new_request_id",
    "public_base",
    "to_client",
    "to_upstream",
]

PROXY_TOKEN = "x-massive-proxy-token"  # noqa: S105  (the header's name)
REQUEST_ID = "X-Request-Id"

SECURITY: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Answers depend on the token; no cache between us and the client may hand them to another.
    "Cache-Control": "no-store",
}
"""On every answer."""

_REQUEST_HEADERS = ("accept", "authorization", "content-type", PROXY_TOKEN)
# Readable by a page, besides the few that always are.
_EXPOSED = "Retry-After, X-Request-Id, X-Upstream-Request-Id"
_VARY = "Origin"
_VARY_PREFLIGHT = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
_MAX_AGE_S = 600
_BACK = {"content-type": "Content-Type", "retry-after": "Retry-After", "x-request-id": "X-Upstream-Request-Id"}
_DATA = frozenset(
    (
        "application/json",
        "text/csv",
        "text/plain",
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "image/svg+xml",
    )
)
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([!-~]+)")


def canonical_origin(text: str) -> str | None:
    """An origin as browsers send it; None when the text is not one.

    Examples
    --------
    >>> canonical_origin("HTTPS://Desk.Example:443"), canonical_origin("null"), canonical_origin("https://desk.example/x")
    ('https://desk.example', None, None)
    """
    if not text.isascii() or not text.isprintable() or set(text) & set(" *@\\?#%,"):
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or port == 0:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if not _HOST.fullmatch(host):
        return None
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + ("" if port in (None, default) else f":{port}")


@dataclass(frozen=True, slots=True)
class Preflight:
    status: int
    headers: Mapping[str, str]


class Cors:
    """The origins that may call from a browser.

    Parameters
    ----------
    origins : iterable of str
        ``https://desk.example``. An empty list lets no page in.

    Raises
    ------
    ValueError
        When one is not an origin; ``*`` and ``null`` are none.

    Examples
    --------
    >>> cors = Cors(["https://desk.example"])
    >>> cors.answer("https://desk.example")["Access-Control-Allow-Origin"], cors.answer("https://desk.example.evil.example")
    ('https://desk.example', {'Vary': 'Origin'})
    """

    __slots__ = ("origins",)

    def __init__(self, origins: Iterable[str] = ()) -> None:
        found = [canonical_origin(each) for each in origins]
        if None in found:
            raise ValueError("an origin is a scheme, a host and perhaps a port, nothing else")
        self.origins = frozenset(each for each in found if each is not None)

    def allows(self, origin: str | None) -> bool:
        """Compared whole and as it came: browsers send the canonical form."""
        return origin is not None and origin in self.origins

    def answer(self, origin: str | None) -> dict[str, str]:
        """Headers for any answer. ``Vary`` is there for the others too, or a cache would give one page another's."""
        if origin is None or origin not in self.origins:
            return {"Vary": _VARY}
        return {"Vary": _VARY, "Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED}

    def preflight(
        self, origin: str | None, method: str | None, request_headers: str | None = None, *, allowed: str = "GET"
    ) -> Preflight:
        """Answer ``OPTIONS``.

        Parameters
        ----------
        method, request_headers : str or None
            ``Access-Control-Request-Method`` and ``-Headers``.
        allowed : str
            The method the path answers.
        """
        vary = {"Vary": _VARY_PREFLIGHT}
        if origin is None or method is None:
            return Preflight(204, {**vary, "Allow": f"{allowed}, OPTIONS"})  # no browser asks like that
        wanted = [name.strip().lower() for name in (request_headers or "").split(",") if name.strip()]
        if origin not in self.origins or method != allowed or not set(wanted) <= set(_REQUEST_HEADERS):
            return Preflight(403, vary)
        granted = {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": allowed,
            "Access-Control-Allow-Headers": ", ".join(_REQUEST_HEADERS),
            "Access-Control-Max-Age": str(_MAX_AGE_S),
        }
        return Preflight(204, {**vary, **granted})

    def may_upgrade(self, origins: Sequence[str]) -> bool:
        """Whether a WebSocket may be opened, given every ``Origin`` header of the request.

        None at all: not a browser (browsers always send one), so no page can be behind it; the token decides. Otherwise one,
        and on the list. ``null`` (a file, a sandboxed frame) never is.
        """
        return not origins or (len(origins) == 1 and origins[0] in self.origins)


def credential(headers: Mapping[str, str] | Iterable[tuple[str, str]], key: Secret | None = None) -> Secret | None:
    """The one credential of a request; None when there is none, or two that differ.

    Parameters
    ----------
    headers : mapping or iterable of pairs
        All of them, repeated ones repeated.
    key : Secret, optional
        ``apiKey`` of the query.
    """
    found: list[Secret] = [] if key is None else [key]
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        if name.lower() == PROXY_TOKEN:
            found.append(Secret(value.strip()))
        # Another scheme is somebody else's: a proxy before us may ask for a password.
        elif name.lower() == "authorization" and (match := _BEARER.fullmatch(value.strip())):
            found.append(Secret(match[1]))
    return found[0] if found and all(each == found[0] for each in found) and found[0] else None


def to_upstream() -> dict[str, str]:
    """What goes to the vendor besides the key: one header of ours. It takes no argument, so nothing can slip through."""
    return {"Accept-Encoding": "gzip"}


def to_client(upstream: Mapping[str, str], request_id: str) -> dict[str, str]:
    """The headers of an answer: the few of the vendor's that mean something to the client, ours, the security headers.

    The vendor's id of the answer goes back as ``X-Upstream-Request-Id``.
    """
    back = {
        _BACK[name.lower()]: value
        for name, value in upstream.items()
        if name.lower() in _BACK and value.isascii() and value.isprintable() and len(value) <= 256
    }
    back.setdefault("Content-Type", "application/json")
    if not _is_data(back["Content-Type"]):
        back["Content-Type"] = "application/octet-stream"
    return {**SECURITY, **back, REQUEST_ID: request_id}


def _is_data(content_type: str) -> bool:
    """Nothing that a browser would run; a picture's scripts are stopped by the security policy."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind in _DATA


def new_request_id(entropy: Callable[[int], bytes] = os.urandom) -> str:
    """Thirty-two hex digits, as the vendor's. Never taken from the client, who could forge a log with it."""
    return entropy(16).hex()


def public_base(scheme: str, host: str | None, configured: str | None = None) -> str | None:
    """The address to put into answers: the configured one, else what the client called; None when that is no host.

    Examples
    --------
    >>> public_base("http", "gw:8080"), public_base("http", "gw/@evil"), public_base("http", None, "https://data.desk.example/")
    ('http://gw:8080', None, 'https://data.desk.example')
    """
    if configured is not None:
        return configured.rstrip("/")
    if host is None or scheme not in ("http", "https") or not _HOST.fullmatch(host):
        return None
    return f"{scheme}://{host}"
