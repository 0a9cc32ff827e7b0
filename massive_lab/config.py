"""Settings: frozen, read when asked and never at import; secrets never show.

Environment (a ``.env`` file in the working directory is read too; the environment wins, and an empty variable there hides
the file's and counts as not set):

================== ================================================= =====================================
variable           meaning                                           default
================== ================================================= =====================================
MASSIVE_API_KEY    the key                                           none: its absence is an error
MASSIVE_REST_URL   REST base address                                 ``https://api.massive.com``
MASSIVE_WS_URL     WebSocket base address                            ``wss://socket.massive.com``
MASSIVE_PROXY_TOKEN token of a gateway, used instead of a key         none
MASSIVE_ENV        ``production`` or ``development``; checked only   ``production``
MASSIVE_LAB_CACHE  folder of a local cache; checked only, none yet   none
================== ================================================= =====================================
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from pathlib import Path
from urllib.parse import urlsplit

from massive_lab.errors import ConfigError

__all__ = [
    "DEFAULT_REST_URL",
    "DEFAULT_WS_URL",
    "TOKEN_HINT",
    "ProxyToken",
    "Secret",
    "Settings",
    "read_gateway_address",
    "read_settings",
]

DEFAULT_REST_URL = "https://api.massive.com"
DEFAULT_WS_URL = "wss://socket.massive.com"
TOKEN_HINT = "Check the token given to connect(), or MASSIVE_PROXY_TOKEN: it is unknown to the gateway, expired or revoked."  # noqa: S105  (a sentence)
GATEWAY_CALLS_PER_MINUTE = 1_200
"""What a gateway grants one token, unless it is told otherwise."""
_SECRETS = ("MASSIVE_API_KEY", "MASSIVE_PROXY_TOKEN")


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

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        raise TypeError("a Secret is not pickled: pass the settings on by the environment instead")


class ProxyToken(Secret):
    """A token of a gateway, which stands where a key would. What refuses it can then be told from what refuses a key."""

    __slots__ = ()


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
    backoff_seed: int | None = None
    """Seeds the jitter of WebSocket reconnects, so that a run can be repeated; None draws it anew each time."""
    extra_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with every REST request; never shown, since a gateway may want a token here."""

    def __post_init__(self) -> None:
        if not _is_key(self.api_key):
            # An HTTP library would say so too, and quote it.
            raise ConfigError("The API key is empty, or has blanks, control or foreign characters around or in it.")
        for name in ("rest_url", "ws_url"):
            if not isinstance(getattr(self, name), str):
                raise ConfigError(f"{name} is not a text.", hint="Give an address with its scheme.")
            # Paths are put behind these.
            object.__setattr__(self, name, getattr(self, name).rstrip("/"))
        _check_url("MASSIVE_REST_URL", self.rest_url, ("http", "https"))
        _check_url("MASSIVE_WS_URL", self.ws_url, ("ws", "wss"))
        if self.env not in ("production", "development"):
            raise ConfigError(
                f"MASSIVE_ENV is {self.env!r}.", hint="Set it to 'production' or 'development', or leave it out."
            )

        for name in ("timeout_s", "connect_timeout_s", "max_attempts", "max_connections", "calls_per_minute"):
            value = getattr(self, name)
            is_number = isinstance(value, Real) and not isinstance(value, bool)
            if value is not None and not (is_number and 0 < value < math.inf):
                raise ConfigError(f"{name} is {value!r}.", hint="Give a number above 0.")

    def with_(self, **changes: object) -> Settings:
        """A copy with some fields changed.

        Raises
        ------
        ConfigError
            When there is no such field, or its value is malformed.
        """
        known = [each.name for each in fields(self)]
        if unknown := sorted(changes.keys() - set(known)):
            raise ConfigError(f"There is no setting {', '.join(unknown)}.", hint=f"One of: {', '.join(known)}.")
        return replace(self, **changes)  # type: ignore[arg-type]


def _check_url(name: str, value: str, schemes: tuple[str, ...]) -> None:
    if not _is_address(value, schemes):
        # The value itself stays unsaid: what was pasted into the wrong variable may be a key.
        raise ConfigError(
            f"{name} is not a usable address.",
            hint=f"Give {' or '.join(s + '://host[:port]' for s in schemes)}, without user name, query or fragment.",
        )


def _is_address(value: str, schemes: tuple[str, ...]) -> bool:
    # `urlsplit` silently drops line ends and forgives what an HTTP client will not; an empty query or user name is
    # one as well, and would swallow the path put behind it.
    if not value.isascii() or not value.isprintable() or set(value) & set(" ?#@\\"):
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is none
        return False


def read_settings(
    environ: Mapping[str, str] | None = None, *, dotenv: Path | None = None, api_key: str | Secret | None = None
) -> Settings:
    """Read the settings now.

    Parameters
    ----------
    environ : mapping, optional
        Instead of the process environment.
    dotenv : Path, optional
        Instead of ``.env`` in the working directory. A file that does not exist is no error.
    api_key : str or Secret, optional
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
    # From here on no local variable holds the key in the clear: some tracebacks show them.
    given = api_key if isinstance(api_key, Secret | None) else Secret(api_key)
    keys = {} if given is None else {"api_key": given}
    api_key = None
    dotenv = Path(".env") if dotenv is None else dotenv
    values = _collect(dotenv, os.environ if environ is None else environ)
    for name in _SECRETS:
        if value := values.get(name):
            keys.setdefault(name, value)
    if not keys:
        raise ConfigError(
            "No API key: MASSIVE_API_KEY is not set.",
            hint="Set it in the environment or in .env, pass connect(api_key=...), or name the sandbox: connect('sandbox').",
        )
    source, key = next(iter(keys.items()))
    if not _is_key(key):
        raise ConfigError(
            f"{source} is empty, or has blanks, control or foreign characters around or in it.",
            hint="Copy the key again, without line ends.",
        )
    text = {name: value.reveal() for name, value in values.items() if name not in _SECRETS and value}
    cache = text.get("MASSIVE_LAB_CACHE")
    return Settings(
        api_key=ProxyToken(key.reveal()) if source == "MASSIVE_PROXY_TOKEN" else key,
        rest_url=text.get("MASSIVE_REST_URL", DEFAULT_REST_URL),
        ws_url=text.get("MASSIVE_WS_URL", DEFAULT_WS_URL),
        env=text.get("MASSIVE_ENV", "production"),
        cache=Path(cache).expanduser() if cache else None,
    )


def read_gateway_address(
    url: str,
    *,
    token: str | Secret | None = None,
    environ: Mapping[str, str] | None = None,
    dotenv: Path | None = None,
) -> Settings:
    """Settings for a gateway: REST and WebSocket on one address, a token in place of a key, and a gateway's usual call budget.

    Parameters
    ----------
    url : str
        ``http://host[:port]`` or ``https://host[:port]``; the WebSocket address is the same with ``ws`` or ``wss``.
    token : str or Secret, optional
        Wins over MASSIVE_PROXY_TOKEN. MASSIVE_API_KEY is not looked at: a key has no business at a gateway.
    environ : mapping, optional
        Instead of the process environment.
    dotenv : Path, optional
        Instead of ``.env`` in the working directory.

    Raises
    ------
    ConfigError
        When there is no token, or the address or a variable is malformed.

    Examples
    --------
    >>> settings = read_gateway_address("https://data.desk.example/", token="t")
    >>> settings.rest_url, settings.ws_url, settings.api_key
    ('https://data.desk.example', 'wss://data.desk.example', <secret>)
    """
    # From here on no local variable holds the token in the clear: some tracebacks show them.
    given = token if isinstance(token, Secret | None) else Secret(token)
    token = None
    dotenv = Path(".env") if dotenv is None else dotenv
    values = _collect(dotenv, os.environ if environ is None else environ)
    held = given if given is not None else values.get("MASSIVE_PROXY_TOKEN") or None
    if held is None:
        raise ConfigError(
            "No token for the gateway: MASSIVE_PROXY_TOKEN is not set.",
            hint="Pass connect(url, token=...), or set it in the environment or in .env.",
        )
    if not _is_key(held):
        raise ConfigError(
            "The token of the gateway is empty, or has blanks, control or foreign characters around or in it.",
            hint="Copy it again, without line ends.",
        )
    if not _is_address(url, ("http", "https")) or urlsplit(url).path.strip("/"):
        # The value itself stays unsaid: it may hold a password.
        raise ConfigError(
            "The address of the gateway is not usable.",
            hint="Give http://host[:port] or https://host[:port], without path, user name, query or fragment.",
        )
    scheme, _, host = url.rstrip("/").partition("://")
    scheme = scheme.lower()
    cache = values.get("MASSIVE_LAB_CACHE")
    environment = values.get("MASSIVE_ENV")
    return Settings(
        api_key=ProxyToken(held.reveal()),
        rest_url=f"{scheme}://{host}",
        ws_url=f"{'wss' if scheme == 'https' else 'ws'}://{host}",
        env=environment.reveal() if environment else "production",
        cache=Path(cache.reveal()).expanduser() if cache else None,
        calls_per_minute=GATEWAY_CALLS_PER_MINUTE,
    )


def _is_key(key: Secret) -> bool:
    """Whether it fits in a header as it is."""
    text: object = key.reveal()
    return isinstance(text, str) and text != "" and all("!" <= letter <= "~" for letter in text)


def _collect(dotenv: Path, environ: Mapping[str, str]) -> dict[str, Secret]:
    merged = {**_read_dotenv(dotenv), **environ}
    return {name: Secret(value) for name, value in merged.items() if name.startswith("MASSIVE_")}


def _read_dotenv(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    from dotenv import dotenv_values  # only where there is such a file

    try:
        found = dotenv_values(path)
    except (OSError, UnicodeDecodeError) as error:
        # Not chained: the decoder's error carries the file's bytes.
        raise ConfigError(f"{path} cannot be read: {type(error).__name__}.", hint="Save it as UTF-8 text.") from None
    return {name: value for name, value in found.items() if value is not None}
