"""Settings of the gateway: frozen, read once at start, every problem in one message.

The upstream's settings (``MASSIVE_API_KEY``, ``MASSIVE_REST_URL``, ``MASSIVE_WS_URL``, ``MASSIVE_ENV``) are those of
`massive_lab.config`; they are checked here along with the gateway's own. As there, the environment wins over ``.env``, and
an empty variable counts as not set.

======================================== ==================================================== ==================
variable                                 meaning                                              default
======================================== ==================================================== ==================
MASSIVE_GATEWAY_TOKENS                   ``name:token,name:token``                            one of the two
MASSIVE_GATEWAY_TOKENS_FILE              TOML, read again when it changes                     is needed
MASSIVE_GATEWAY_SECRET                   signs ephemeral tokens; at least 32 characters       none: needed
MASSIVE_GATEWAY_HOST                     address to listen on                                 ``127.0.0.1``
MASSIVE_GATEWAY_PORT                     REST and WebSocket                                   ``8480``
MASSIVE_GATEWAY_ADMIN_HOST               health and metrics                                   ``127.0.0.1``
MASSIVE_GATEWAY_ADMIN_PORT               health and metrics                                   ``8481``
MASSIVE_GATEWAY_PUBLIC_URL               what clients call us, when a balancer is before us   the Host they sent
MASSIVE_GATEWAY_CLUSTERS                 comma list                                           all three
MASSIVE_GATEWAY_CALLS_PER_MINUTE         REST calls of one token, unless its own says more    1200
MASSIVE_GATEWAY_CALLS_PER_MINUTE_TOTAL   REST calls of all tokens                             1200
MASSIVE_GATEWAY_BUS                      NATS that replicas share; may hold a password        none: one process
WEB_ORIGIN                               comma list of origins whose pages may call           none
======================================== ==================================================== ==================
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from massive_lab.config import DEFAULT_REST_URL, DEFAULT_WS_URL, Secret, Settings, _is_address, _read_dotenv
from massive_lab.errors import ConfigError
from massive_lab.gateway.headers import canonical_origin
from massive_lab.gateway.tokenfile import GatewayConfigError, doubled, parse_token_list, read_token_file
from massive_lab.gateway.tokens import TokenRule, is_name, is_token
from massive_lab.live.topics import CLUSTERS
from massive_lab.typing import Cluster

__all__ = ["GatewayConfigError", "GatewaySettings", "read_gateway_settings"]

_MIN_SECRET = 32
_FILE = "MASSIVE_GATEWAY_TOKENS_FILE"
_LIST = "MASSIVE_GATEWAY_TOKENS"
_WHOLE = {
    "MASSIVE_GATEWAY_PORT": 8480,
    "MASSIVE_GATEWAY_ADMIN_PORT": 8481,
    "MASSIVE_GATEWAY_CALLS_PER_MINUTE": 1200,
    "MASSIVE_GATEWAY_CALLS_PER_MINUTE_TOTAL": 1200,
}
# What is no secret. Everything else stays wrapped.
_PLAIN = frozenset(
    (
        *_WHOLE,
        _FILE,
        "MASSIVE_ENV",
        "MASSIVE_GATEWAY_ADMIN_HOST",
        "MASSIVE_GATEWAY_CLUSTERS",
        "MASSIVE_GATEWAY_HOST",
        "MASSIVE_GATEWAY_PUBLIC_URL",
        "MASSIVE_REST_URL",
        "MASSIVE_WS_URL",
        "WEB_ORIGIN",
    )
)
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How the gateway serves. Raises `GatewayConfigError` with everything that is wrong.

    Attributes
    ----------
    tokens : tuple of TokenRule
        At start; those of `tokens_file` are read again when it changes.
    port, admin_port : int
        0 picks a free one.
    web_origins : tuple of str
        Canonical; empty lets no page in.
    calls_per_minute_token, calls_per_minute_total : int
        REST calls in any 60 seconds.
    queue_bytes, queue_age_s
        Bounds of what waits for one client.
    drain_s : float
        How long clients are given when the gateway stops.
    audience : str
        Whom ephemeral tokens are for; gateways that share a secret and not their clients differ here.
    sandbox : bool
        The data are synthetic, and said to be.
    bus : Secret or None
        Address of the NATS that replicas share; None serves from this process alone.
    """

    tokens: tuple[TokenRule, ...]
    secret: Secret
    tokens_file: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8480
    admin_host: str = "127.0.0.1"
    admin_port: int = 8481
    public_url: str | None = None
    web_origins: tuple[str, ...] = ()
    clusters: tuple[Cluster, ...] = CLUSTERS
    calls_per_minute_token: int = 1200
    calls_per_minute_total: int = 1200
    queue_bytes: int = 1024 * 1024
    queue_age_s: float = 10.0
    drain_s: float = 25.0
    audience: str = "massive-lab-gateway"
    sandbox: bool = False
    bus: Secret | None = None

    def __post_init__(self) -> None:
        origins = [canonical_origin(origin) for origin in self.web_origins]
        problems = self._problems()
        if None in origins:
            problems.append(
                "WEB_ORIGIN is not a comma list of origins such as https://desk.example; '*' and 'null' are not accepted."
            )
        if problems:
            raise GatewayConfigError(problems)
        object.__setattr__(self, "web_origins", tuple(dict.fromkeys(each for each in origins if each is not None)))
        if self.public_url is not None:
            object.__setattr__(self, "public_url", self.public_url.rstrip("/"))

    def _problems(self) -> list[str]:
        problems = []
        if not self.tokens:
            problems.append("There is no proxy token: set MASSIVE_GATEWAY_TOKENS or MASSIVE_GATEWAY_TOKENS_FILE.")
        if not all(is_name(rule.name) and is_token(rule.token.reveal()) for rule in self.tokens):
            problems.append("MASSIVE_GATEWAY_TOKENS: a name or a token is malformed.")
        problems += doubled(self.tokens, "MASSIVE_GATEWAY_TOKENS")
        if len(self.secret.reveal()) < _MIN_SECRET:
            problems.append(f"MASSIVE_GATEWAY_SECRET is missing or shorter than {_MIN_SECRET} characters.")
        if any(rule.token == self.secret for rule in self.tokens):
            problems.append("MASSIVE_GATEWAY_SECRET is also a proxy token: who holds it could sign tokens of others.")
        for name, host in (("HOST", self.host), ("ADMIN_HOST", self.admin_host)):
            if not _is_host(host):
                problems.append(f"MASSIVE_GATEWAY_{name} is neither an address nor a host name.")
        for name, port in (("PORT", self.port), ("ADMIN_PORT", self.admin_port)):
            if type(port) is not int or not 0 <= port <= 65535:
                problems.append(f"MASSIVE_GATEWAY_{name} is not a port (0 to 65535).")
        if self.port == self.admin_port != 0:
            problems.append("MASSIVE_GATEWAY_PORT and MASSIVE_GATEWAY_ADMIN_PORT are the same.")
        servers = self.bus.reveal().split(",") if self.bus is not None else []
        if not all(server.strip().startswith(("nats://", "tls://")) for server in servers):
            problems.append("MASSIVE_GATEWAY_BUS is not an address such as nats://host:4222.")
        if self.public_url is not None and not (
            _is_address(self.public_url, ("http", "https")) and not set(self.public_url) & set('"<>')
        ):
            problems.append("MASSIVE_GATEWAY_PUBLIC_URL is not an address such as https://data.desk.example.")
        if (
            not self.clusters
            or len(set(self.clusters)) != len(self.clusters)
            or not set(self.clusters) <= set(CLUSTERS)
        ):
            problems.append(f"MASSIVE_GATEWAY_CLUSTERS is not a comma list of some of {', '.join(CLUSTERS)}.")
        for name, calls in (("", self.calls_per_minute_token), ("_TOTAL", self.calls_per_minute_total)):
            if type(calls) is not int or calls < 1:
                problems.append(f"MASSIVE_GATEWAY_CALLS_PER_MINUTE{name} is not a whole number above 0.")
        for name, bound in (
            ("queue_bytes", self.queue_bytes),
            ("queue_age_s", self.queue_age_s),
            ("drain_s", self.drain_s),
        ):
            if not 0 < bound < float("inf"):
                problems.append(f"{name} is not a number above 0.")
        if not is_name(self.audience):
            problems.append("audience is not a name.")
        return problems


def read_gateway_settings(
    environ: Mapping[str, str] | None = None, *, dotenv: Path | None = None, sandbox: bool = False
) -> GatewaySettings:
    """Read and check everything the gateway needs, its own settings and the upstream's.

    Parameters
    ----------
    environ : mapping, optional
        Instead of the process environment.
    dotenv : Path, optional
        Instead of ``.env`` in the working directory.
    sandbox : bool
        The upstream is a sandbox of ours: no key is needed, and its variables are not looked at.

    Raises
    ------
    GatewayConfigError
        With every missing, malformed or mismatched variable.

    Examples
    --------
    >>> read_gateway_settings({"WEB_ORIGIN": "*", "MASSIVE_GATEWAY_PORT": "http"}, dotenv=Path("none"))
    Traceback (most recent call last):
        ...
    massive_lab.gateway.tokenfile.GatewayConfigError: The gateway cannot start, 5 problems:
      - MASSIVE_API_KEY is not set.
      - MASSIVE_GATEWAY_PORT is not a whole number.
      - There is no proxy token: set MASSIVE_GATEWAY_TOKENS or MASSIVE_GATEWAY_TOKENS_FILE.
      - MASSIVE_GATEWAY_SECRET is missing or shorter than 32 characters.
      - WEB_ORIGIN is not a comma list of origins such as https://desk.example; '*' and 'null' are not accepted.
    """
    file = Path(".env") if dotenv is None else dotenv
    merged = {**_read_dotenv(file), **(os.environ if environ is None else environ)}
    # In the clear in no local variable: some tracebacks show those.
    values = {
        name: Secret(value)
        for name, value in merged.items()
        if (name.startswith("MASSIVE_") or name == "WEB_ORIGIN") and value
    }
    del merged
    problems = [] if sandbox else _upstream_problems(values)
    text = {name: value.reveal() for name, value in values.items() if name in _PLAIN}
    whole = {name: _whole(name, text, default, problems) for name, default in _WHOLE.items()}
    tokens, are_wrong = _tokens(values, text, problems)
    try:
        settings = GatewaySettings(
            tokens=tokens,
            secret=values.get("MASSIVE_GATEWAY_SECRET", Secret("")),
            tokens_file=Path(text[_FILE]).expanduser() if _FILE in text else None,
            host=text.get("MASSIVE_GATEWAY_HOST", "127.0.0.1"),
            port=whole["MASSIVE_GATEWAY_PORT"],
            admin_host=text.get("MASSIVE_GATEWAY_ADMIN_HOST", "127.0.0.1"),
            admin_port=whole["MASSIVE_GATEWAY_ADMIN_PORT"],
            public_url=text.get("MASSIVE_GATEWAY_PUBLIC_URL"),
            web_origins=_list(text.get("WEB_ORIGIN", "")),
            clusters=_list(text.get("MASSIVE_GATEWAY_CLUSTERS", ",".join(CLUSTERS))),  # type: ignore[arg-type]  # checked there
            calls_per_minute_token=whole["MASSIVE_GATEWAY_CALLS_PER_MINUTE"],
            calls_per_minute_total=whole["MASSIVE_GATEWAY_CALLS_PER_MINUTE_TOTAL"],
            sandbox=sandbox,
            bus=values.get("MASSIVE_GATEWAY_BUS"),
        )
    except GatewayConfigError as error:
        # Tokens that are there and malformed have been named; that none is left is no second problem.
        found = [each for each in error.problems if not (are_wrong and each.startswith("There is no proxy token"))]
        raise GatewayConfigError(dict.fromkeys(problems + found + _mismatches(values, text, tokens))) from None
    problems += _mismatches(values, text, tokens)
    if problems:
        raise GatewayConfigError(dict.fromkeys(problems))
    return settings


def _upstream_problems(values: Mapping[str, Secret]) -> list[str]:
    """Each variable of the upstream for itself: `Settings` would stop at the first."""
    problems = []
    key = values.get("MASSIVE_API_KEY")
    if key is None:
        problems.append("MASSIVE_API_KEY is not set.")
    tries: list[dict[str, object]] = [{} if key is None else {"api_key": key}]
    names = (("MASSIVE_REST_URL", "rest_url"), ("MASSIVE_WS_URL", "ws_url"), ("MASSIVE_ENV", "env"))
    tries += [{field: values[name].reveal()} for name, field in names if name in values]
    for given in tries:
        try:
            Settings(**{"api_key": Secret("k"), **given})  # type: ignore[arg-type]
        except ConfigError as error:
            problems.append(f"MASSIVE_API_KEY: {error}" if "api_key" in given else str(error))
    return problems


def _tokens(
    values: Mapping[str, Secret], text: Mapping[str, str], problems: list[str]
) -> tuple[tuple[TokenRule, ...], bool]:
    """The tokens of either variable, and whether what is there is wrong."""
    if _LIST in values:
        if _FILE in text:
            problems.append(f"{_LIST} and {_FILE} are both set: keep one.")
        tokens, wrong = parse_token_list(values[_LIST].reveal())
        problems += wrong
        return tokens, bool(wrong)
    if _FILE in text:
        try:
            return read_token_file(Path(text[_FILE]).expanduser()), False
        except GatewayConfigError as error:
            problems += error.problems
            return (), True
    return (), False


def _mismatches(values: Mapping[str, Secret], text: Mapping[str, str], tokens: tuple[TokenRule, ...]) -> list[str]:
    """Variables that are fine alone and wrong together."""
    problems = []
    key, secret = values.get("MASSIVE_API_KEY"), values.get("MASSIVE_GATEWAY_SECRET")
    if key is not None and any(rule.token == key for rule in tokens):
        problems.append("MASSIVE_API_KEY is also a proxy token: it would leave the gateway.")
    if key is not None and key == secret:
        problems.append("MASSIVE_API_KEY is also MASSIVE_GATEWAY_SECRET: give the secret a value of its own.")
    rest = text.get("MASSIVE_REST_URL", DEFAULT_REST_URL).partition(":")[0]
    stream = text.get("MASSIVE_WS_URL", DEFAULT_WS_URL).partition(":")[0]
    if (rest, stream) in {("https", "ws"), ("http", "wss")}:
        problems.append("MASSIVE_REST_URL and MASSIVE_WS_URL do not match: one is encrypted, the other is not.")
    if text.get("MASSIVE_ENV", "production") == "production":
        for origin in _list(text.get("WEB_ORIGIN", "")):
            if origin.lower().startswith("http://") and not _is_loopback(origin):
                problems.append("WEB_ORIGIN has a page without TLS, and MASSIVE_ENV is production: use https.")
                break
    return problems


def _whole(name: str, text: Mapping[str, str], default: int, problems: list[str]) -> int:
    value = text.get(name)
    if value is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", value):
        problems.append(f"{name} is not a whole number.")
        return default
    return int(value)


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None and len(text) <= 253
    return True


def _is_loopback(origin: str) -> bool:
    try:
        host = urlsplit(origin).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
