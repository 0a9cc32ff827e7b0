r"""Addresses inside answers: the host becomes the gateway's, everything else stays as the vendor wrote it.

The body is never read into objects: numbers of 19 digits and prices keep their spelling, and a large answer costs one
search. In JSON an unescaped quote that is not preceded by a backslash opens or closes a string, so a key can be found by
its bytes alone, whatever the formatting; keys spelled with ``\u`` escapes are found by a slower search that is run only
where such escapes are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes, urlsplit

from massive_lab.gateway.vendor import CREDENTIALS

__all__ = ["foreign_cursor", "rewrite_urls"]

_KEYS = (b"next_url", b"icon_url", b"logo_url", b"url")
_SPACE = b" \t\r\n"
_SLASH = rb"(?:/|\\/|\\u002[fF])"
_PLAIN = re.compile(rb'url"[ \t\r\n]*:[ \t\r\n]*"')
_ESCAPED_LETTER = re.compile(rb"\\u00(?:[67][0-9A-Fa-f]|5[fF])")
_REST_OF_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
# An address ends where one of these begins: `\\u0040` behind a host would make it a user name.
_END = rb"(?=" + _SLASH + rb"|[?#]|\Z)"
_ADDRESS = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*):" + _SLASH * 2 + rb"([A-Za-z0-9.:\[\]_-]+)" + _END)
_LOCAL_PATH = re.compile(_SLASH + rb"(?!/|\\)")
_AND = re.compile(rb"(&|\\u0026)")
_UNICODE = re.compile(rb"\\u00([0-9A-Fa-f]{2})")
_LEGACY = {"api.massive.com": "api.polygon.io", "api.polygon.io": "api.massive.com"}
"""The vendor's two names for one service."""


def _tolerant(key: bytes) -> bytes:
    return b"".join(b"(?:%c|\\\\u%s)" % (letter, _hex(letter)) for letter in key)


def _hex(letter: int) -> bytes:
    return b"".join(b"[%c%c]" % (d, d - 32) if chr(d).isalpha() else bytes((d,)) for d in b"%04x" % letter)


_ANY_SPELLING = re.compile(
    rb'(?<!\\)"(?:' + b"|".join(b"(" + _tolerant(key) + b")" for key in _KEYS) + rb')"[ \t\r\n]*:[ \t\r\n]*"'
)


@dataclass(frozen=True, slots=True)
class _Member:
    """``"key": "value"``: where it stands."""

    key: bytes
    begin: int
    """The quote that opens the key."""
    value: int
    """Behind the quote that opens the value."""
    end: int
    """The quote that closes the value."""


@dataclass(frozen=True, slots=True)
class _Base:
    host: str
    port: int | None
    path: re.Pattern[bytes]


def rewrite_urls(body: bytes, upstream_base: str, public_base: str) -> bytes:
    """Point ``next_url``, ``underlying.url`` and branding addresses at the gateway.

    Parameters
    ----------
    body : bytes
        JSON, not compressed.
    upstream_base : str
        The vendor's address as configured. Its other name counts as the same host, and so does the other scheme.
    public_base : str
        What clients call us: scheme, host, port, perhaps a path; no quote, backslash or control character.

    Returns
    -------
    bytes
        The same bytes but for the addresses. A credential in the query of one is taken out. A ``next_url`` that points to
        another host is removed, with its comma: ask `foreign_cursor` first where the client must not take the answer for
        the last page. Other addresses of other hosts are left alone.

    Raises
    ------
    ValueError
        When `public_base` could not stand in a JSON string.

    Examples
    --------
    >>> rewrite_urls(b'{"next_url": "https://api.massive.com/v3/x?cursor=1","n":1.10}', "https://api.massive.com", "http://gw")
    b'{"next_url": "http://gw/v3/x?cursor=1","n":1.10}'
    """
    public = public_base.rstrip("/")
    if not public.isascii() or not public.isprintable() or set(public) & set('"\\ <>'):
        raise ValueError("the public address cannot stand in a JSON string")
    base = _parse(upstream_base)
    out = bytearray()
    done = 0
    for member in _members(body):
        value = body[member.value : member.end]
        tail = _tail(value, base)
        if tail is not None:
            out += body[done : member.value] + public.encode() + _without_credentials(tail)
            done = member.end
        elif member.key == b"next_url" and not _is_local(value):
            out += body[done : member.begin]
            done = _close_gap(body, member.end + 1, out)
    return bytes(out + body[done:]) if done else body


def foreign_cursor(body: bytes, upstream_base: str) -> bool:
    """Whether a ``next_url`` points to another host: such an answer is neither whole nor to be followed.

    Examples
    --------
    >>> foreign_cursor(b'{"next_url":"https://elsewhere.example/v3/x"}', "https://api.massive.com")
    True
    """
    base = _parse(upstream_base)
    for member in _members(body):
        value = body[member.value : member.end]
        if member.key == b"next_url" and _tail(value, base) is None and not _is_local(value):
            return True
    return False


def _members(body: bytes) -> Iterator[_Member]:
    spelled = _ESCAPED_LETTER.search(body) is not None
    at = 0
    while (match := (_ANY_SPELLING if spelled else _PLAIN).search(body, at)) is not None:
        at = match.end()
        if spelled:
            key, begin = _KEYS[(match.lastindex or 0) - 1], match.start()
        else:
            found = _key_before(body, match.start())
            if found is None:
                continue
            key, begin = found, match.start() - (len(found) - len(b"url")) - 1
        closing = _REST_OF_STRING.match(body, at)
        if closing is None:
            return  # cut short: not for us to mend
        yield _Member(key, begin, at, closing.end() - 1)
        at = closing.end()


def _key_before(body: bytes, at: int) -> bytes | None:
    """The key that ends with the ``url`` at this place, when it is one of ours as a whole."""
    for key in _KEYS:
        opened = b'"' + key.removesuffix(b"url")
        begin = at - len(opened)
        if begin >= 0 and body.startswith(opened, begin) and body[begin - 1 : begin] != b"\\":
            return key
    return None


@lru_cache(maxsize=16)
def _parse(base: str) -> _Base:
    parts = urlsplit(base)
    path = _SLASH.join(re.escape(part) for part in parts.path.rstrip("/").encode().split(b"/"))
    # The path must end where ours ends: /gateway2 is not below /gateway.
    return _Base(parts.hostname or "", _port(parts.scheme, parts.port), re.compile(path + _END))


def _port(scheme: str, port: int | None) -> int | None:
    return None if port in (None, {"http": 80, "https": 443}.get(scheme)) else port


def _tail(value: bytes, base: _Base) -> bytes | None:
    """What follows the upstream's address in a string's raw bytes; None when it is another address or none."""
    match = _ADDRESS.match(value)
    if match is None:
        return None
    scheme, authority = match[1].decode().lower(), match[2].decode()
    if scheme not in ("http", "https"):
        return None
    try:
        parts = urlsplit(f"{scheme}://{authority}")
        host, port = parts.hostname or "", _port(scheme, parts.port)
    except ValueError:
        return None
    if host not in (base.host, _LEGACY.get(base.host)) or port != base.port:
        return None
    path = base.path.match(value, match.end())
    return None if path is None else value[path.end() :]


def _is_local(value: bytes) -> bool:
    """An empty text, or a path on the host that was called."""
    return not value or _LOCAL_PATH.match(value) is not None


def _without_credentials(tail: bytes) -> bytes:
    head, mark, query = tail.partition(b"?")
    if not mark:
        return tail
    pieces = _AND.split(query)  # piece, separator, piece, ...
    kept: list[bytes] = []
    for piece, separator in zip(pieces[::2], (b"", *pieces[1::2]), strict=True):
        written = _UNICODE.sub(lambda match: bytes((int(match[1], 16),)), piece)
        name = unquote_to_bytes(written.partition(b"=")[0]).decode("utf-8", "replace").casefold()
        if name not in CREDENTIALS:
            kept += [separator, piece] if kept else [piece]
    return head + mark + b"".join(kept) if kept else head


def _close_gap(body: bytes, at: int, out: bytearray) -> int:
    """Behind a removed member: swallow its comma, or the one before it when it was the last; where to go on."""
    behind = at
    while behind < len(body) and body[behind] in _SPACE:
        behind += 1
    if body[behind : behind + 1] == b",":
        return behind + 1
    stripped = out.rstrip(_SPACE)
    if stripped.endswith(b","):
        del out[len(stripped) - 1 :]
    return at
