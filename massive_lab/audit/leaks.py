"""Nothing secret leaves: everything about to be written is searched for the key in the forms it may hide in."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from massive_lab.errors import MassiveLabError

__all__ = ["SecretFound", "find_secret", "forms", "refuse_secrets", "secrets_of"]

_VARIABLES = ("MASSIVE_API_KEY", "MASSIVE_PROXY_TOKEN", "POLYGON_API_KEY")
_SHORTEST = 8
"""A shorter key would be found by chance in any text, and the vendor issues none."""


class SecretFound(MassiveLabError):
    """Something about to be written holds a key or token; nothing was written."""


def secrets_of(environ: Mapping[str, str], *more: str) -> tuple[str, ...]:
    """Keys and tokens of an environment, and `more`; too short ones left out.

    Examples
    --------
    >>> secrets_of({"MASSIVE_API_KEY": "abcdefgh"}, "short")
    ('abcdefgh',)
    """
    found = [environ.get(name, "") for name in _VARIABLES]
    return tuple(dict.fromkeys(value for value in (*found, *more) if len(value) >= _SHORTEST))


def forms(secret: str) -> dict[str, str]:
    """The texts by which a secret may be written, by the name of the form.

    The three alignments of base64 are cut to the characters that depend on the secret alone, so that it is also found inside
    a longer encoded text, such as an ``Authorization: Basic`` value.

    Examples
    --------
    >>> forms("a/b+c=d e")["URL"]
    'a%2Fb%2Bc%3Dd%20e'
    """
    raw = secret.encode()
    found = {
        "plain": secret,
        "reversed": secret[::-1],
        "hex": raw.hex(),
        "URL": quote(secret, safe=""),
        "form": quote(secret, safe="").replace("%20", "+"),
        "JSON": json.dumps(secret)[1:-1],
        "HTML": secret.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
    }
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + raw).decode()
        start = (0, 2, 3)[shift]
        core = text[start : len(text) - (0 if (shift + len(raw)) % 3 == 0 else 4 - (shift + len(raw)) % 3)]
        core = core.rstrip("=")
        name = "base64" if not shift else f"base64 at {shift}"
        found[name] = core
        found[f"{name}, URL-safe"] = core.replace("+", "-").replace("/", "_")
    return found


def find_secret(text: str, secrets: Iterable[str]) -> str | None:
    """The name of the form in which `text` holds one of `secrets`, or None.

    Examples
    --------
    >>> find_secret("Basic " + base64.b64encode(b"user:abcdefgh").decode(), ["abcdefgh"])
    'base64 at 2'
    """
    lowered = text.lower()
    for secret in secrets:
        for name, form in forms(secret).items():
            if form in text or (name == "hex" and form in lowered):
                return name
    return None


def refuse_secrets(texts: Mapping[str, str], secrets: Iterable[str]) -> None:
    """Raise when anything in `texts`, by name, holds a secret.

    Raises
    ------
    SecretFound
        Names the text and the form, never the secret.
    """
    known = tuple(secrets)
    for name, text in texts.items():
        if form := find_secret(text, known):
            raise SecretFound(
                f"{name} holds an API key or token ({form}); nothing was written.",
                hint="Look for a print of the key in the notebook, and issue a new key if it was shown to anybody.",
            )
