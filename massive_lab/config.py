"""Settings: frozen, read when asked and never at import; secrets never show.

Environment (a ``.env`` file in the working directory is read too; the environment wins):

================== ================================================= =====================================
variable           meaning                                           default
================== ================================================= =====================================
MASSIVE_API_KEY    the key                                           none: its absence is an error
MASSIVE_REST_URL   REST base address                                 ``https://api.massive.com``
MASSIVE_WS_URL     WebSocket base address                            ``wss://socket.massive.com``
MASSIVE_PROXY_TOKEN token of a gateway, used instead of a key         none
MASSIVE_ENV        ``production`` or ``development``                 ``production``
MASSIVE_LAB_CACHE  folder of the local cache                         none: nothing is kept
================== ================================================= =====================================
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from massive_lab.errors import ConfigError

__all__ = ["DEFAULT_REST_URL", "DEFAULT_WS_URL", "Secret", "Settings", "read_settings"]

DEFAULT_REST_URL = "https://api.massive.com"
DEFAULT_WS_URL = "wss://socket.massive.com"


class Secret:
    """A string that does not print itself.

    Examples
    --------
    >>> key = Secret("abc")
    >>> key, str(key), f"{key}"
    (<secret>, '<secret>', '<secret>')
    >>> key.reveal()
    'abc'
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself, for the one line that puts it on the wire."""
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format("<secret>", spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        raise TypeError("a Secret is not pickled: pass the settings on by the environment instead")


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach the vendor. Build it with `read_settings`; change a copy with `with_`."""

    api_key: Secret
    rest_url: str = DEFAULT_REST_URL
    ws_url: str = DEFAULT_WS_URL
    env: str = "production"
    cache: Path | None = None
    sandbox: bool = False
    """True when the data are synthetic; everything shown is then labelled SANDBOX."""
    control_url: str | None = None
    """Control plane of the sandbox, when there is one."""
    timeout_s: float = 10.0
    """No byte for this long ends a request."""
    connect_timeout_s: float = 5.0
    max_attempts: int = 4
    """Tries of one request, the first included."""
    max_connections: int = 10
    calls_per_minute: int | None = None
    """Local budget; None for plans without a limit (the client still stays below 100 calls a second)."""
    extra_headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_url("MASSIVE_REST_URL", self.rest_url, ("http", "https"))
        _check_url("MASSIVE_WS_URL", self.ws_url, ("ws", "wss"))
        if self.env not in ("production", "development"):
            raise ConfigError(
                f"MASSIVE_ENV is {self.env!r}.", hint="Set it to 'production' or 'development', or leave it out."
            )

    def with_(self, **changes: object) -> Settings:
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


def _check_url(name: str, value: str, schemes: tuple[str, ...]) -> None:
    parts = urlsplit(value)
    if parts.scheme not in schemes or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ConfigError(
            f"{name} is not a usable address.",
            hint=f"Give {' or '.join(s + '://host[:port]' for s in schemes)}, without user name, query or fragment.",
        )


def read_settings(
    environ: Mapping[str, str] | None = None, *, dotenv: Path | None = None, api_key: str | None = None
) -> Settings:
    """Read the settings now.

    Parameters
    ----------
    environ : mapping, optional
        Instead of the process environment.
    dotenv : Path, optional
        Instead of ``.env`` in the working directory. A file that does not exist is no error.
    api_key : str, optional
        Wins over MASSIVE_API_KEY.

    Returns
    -------
    Settings

    Raises
    ------
    ConfigError
        When no key is given anywhere, or a variable is malformed.

    Examples
    --------
    >>> read_settings({"MASSIVE_API_KEY": "k", "MASSIVE_REST_URL": "http://127.0.0.1:8080/"}).rest_url
    'http://127.0.0.1:8080'
    """
    values = {**_read_dotenv(dotenv or Path(".env")), **(os.environ if environ is None else environ)}
    key = api_key or values.get("MASSIVE_API_KEY") or values.get("MASSIVE_PROXY_TOKEN")
    if not key:
        raise ConfigError(
            "No API key: MASSIVE_API_KEY is not set.",
            hint="Set it in the environment or in .env, pass connect(api_key=...), or name the sandbox: connect('sandbox').",
        )
    if key != key.strip() or not key.isprintable():
        raise ConfigError(
            "MASSIVE_API_KEY has blanks or control characters around or in it.",
            hint="Copy the key again, without line ends.",
        )
    cache = values.get("MASSIVE_LAB_CACHE")
    return Settings(
        api_key=Secret(key),
        rest_url=values.get("MASSIVE_REST_URL", DEFAULT_REST_URL).rstrip("/"),
        ws_url=values.get("MASSIVE_WS_URL", DEFAULT_WS_URL).rstrip("/"),
        env=values.get("MASSIVE_ENV", "production"),
        cache=Path(cache).expanduser() if cache else None,
    )


def _read_dotenv(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    from dotenv import dotenv_values  # only where there is such a file

    return {name: value for name, value in dotenv_values(path).items() if value is not None}
