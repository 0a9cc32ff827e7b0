"""Keys out of whatever is about to be written, also where a server sends one back. Pure."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

from massive_lab.config import Secret
from massive_lab.errors import InvalidRequest

__all__ = ["Redactor"]

_SHORTEST = 6
_ENCODED = re.compile("%[0-9A-F]{2}")


class Redactor:
    """Replaces every occurrence of the secrets it has learnt by as many asterisks, so that JSON stays JSON.

    Each is looked for as it is, percent-encoded, and as JSON writes it.

    Examples
    --------
    >>> redact = Redactor(Secret("correct/horse"))
    >>> redact(b'{"message":"bad key correct/horse"}'), redact(b"?apiKey=correct%2Fhorse")
    (b'{"message":"bad key *************"}', b'?apiKey=***************')
    """

    def __init__(self, *secrets: Secret) -> None:
        self._forms: dict[bytes, bytes] = {}
        for secret in secrets:
            self.learn(secret)

    def learn(self, secret: Secret, *, at_any_length: bool = False) -> None:
        """Look for this one too. `at_any_length` is for a key that comes while a capture is being written: rather no data.

        Raises
        ------
        InvalidRequest
            When it is too short to be told from data.
        """
        text = secret.reveal()
        if len(text) < _SHORTEST and not at_any_length:
            raise InvalidRequest(
                f"A key of fewer than {_SHORTEST} characters cannot be told from data, so that it could not be kept out.",
                hint="Nothing is recorded with it.",
            )
        escaped = json.dumps(text)[1:-1]
        quoted = [quote(text, safe=safe) for safe in ("", "/")]
        lower = [_ENCODED.sub(lambda found: found[0].lower(), form) for form in quoted]
        for form in (text, *quoted, *lower, escaped, escaped.replace("/", "\\/")):
            self._forms[form.encode()] = b"*" * len(form)

    def __call__(self, data: bytes) -> bytes:
        for form, stars in self._forms.items():
            if form in data:
                data = data.replace(form, stars)
        return data

    def text(self, text: str) -> str:
        """The same for text."""
        return self(text.encode()).decode()
