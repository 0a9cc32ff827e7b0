"""Settings of the gateway: all problems in one message, and no secret in any."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest

from massive_lab.config import Secret
from massive_lab.errors import ConfigError
from massive_lab.gateway.config import GatewayConfigError, GatewaySettings, read_gateway_settings
from massive_lab.gateway.tokenfile import parse_token_list, read_token_file
from massive_lab.gateway.tokens import TokenRule

KEY, TOKEN, OTHER, SECRET = "key-canary", "token-canary-0123", "other-canary-0123", "secret-canary-of-32-characters-00"
GOOD = {"MASSIVE_API_KEY": KEY, "MASSIVE_GATEWAY_TOKENS": f"desk:{TOKEN}", "MASSIVE_GATEWAY_SECRET": SECRET}
NOWHERE = Path("there-is-no-such-file")


def read(**changes: str | None) -> GatewaySettings:
    merged = {**GOOD, **changes}
    return read_gateway_settings({k: v for k, v in merged.items() if v is not None}, dotenv=NOWHERE)


def problems_of(**changes: str | None) -> tuple[str, ...]:
    with pytest.raises(GatewayConfigError) as caught:
        read(**changes)
    text = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert "canary" not in text
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


def test_what_is_left_out_has_its_default() -> None:
    settings = read()
    assert (settings.host, settings.port, settings.admin_port) == ("127.0.0.1", 8480, 8481)
    assert (settings.calls_per_minute_token, settings.calls_per_minute_total) == (1200, 1200)
    assert (settings.queue_bytes, settings.web_origins, settings.public_url) == (1024 * 1024, (), None)
    assert settings.clusters == ("stocks", "options", "indices")
    assert settings.tokens == (TokenRule("desk", Secret(TOKEN)),)


def test_every_variable_is_read() -> None:
    settings = read(
        MASSIVE_GATEWAY_TOKENS=f"desk:{TOKEN}, night:{OTHER}",
        MASSIVE_GATEWAY_HOST="::",
        MASSIVE_GATEWAY_PORT="80",
        MASSIVE_GATEWAY_ADMIN_HOST="admin.internal",
        MASSIVE_GATEWAY_ADMIN_PORT="81",
        MASSIVE_GATEWAY_PUBLIC_URL="https://data.desk.example/",
        MASSIVE_GATEWAY_CLUSTERS="options, stocks",
        MASSIVE_GATEWAY_CALLS_PER_MINUTE="60",
        MASSIVE_GATEWAY_CALLS_PER_MINUTE_TOTAL="600",
        WEB_ORIGIN="https://Desk.Example:443, http://localhost:3000,https://desk.example",
    )
    assert [rule.name for rule in settings.tokens] == ["desk", "night"]
    assert (settings.host, settings.port, settings.admin_host, settings.admin_port) == ("::", 80, "admin.internal", 81)
    assert (settings.public_url, settings.clusters) == ("https://data.desk.example", ("options", "stocks"))
    assert (settings.calls_per_minute_token, settings.calls_per_minute_total) == (60, 600)
    assert settings.web_origins == ("https://desk.example", "http://localhost:3000")


def test_everything_that_is_missing_or_wrong_is_said_at_once() -> None:
    problems = problems_of(
        MASSIVE_API_KEY=None,
        MASSIVE_REST_URL="ftp://x/key-canary",
        MASSIVE_WS_URL="key-canary",
        MASSIVE_ENV="staging",
        MASSIVE_GATEWAY_TOKENS=None,
        MASSIVE_GATEWAY_SECRET="canary",
        MASSIVE_GATEWAY_HOST="a b",
        MASSIVE_GATEWAY_PORT="http",
        MASSIVE_GATEWAY_ADMIN_HOST="-",
        MASSIVE_GATEWAY_ADMIN_PORT="70000",
        MASSIVE_GATEWAY_PUBLIC_URL="data.example",
        MASSIVE_GATEWAY_CLUSTERS="stocks,forex",
        MASSIVE_GATEWAY_CALLS_PER_MINUTE="0",
        MASSIVE_GATEWAY_CALLS_PER_MINUTE_TOTAL="-1",
        WEB_ORIGIN="*",
    )
    named = [
        "MASSIVE_API_KEY",
        "MASSIVE_REST_URL",
        "MASSIVE_WS_URL",
        "MASSIVE_ENV",
        "MASSIVE_GATEWAY_PORT",
        "MASSIVE_GATEWAY_CALLS_PER_MINUTE_TOTAL",
        "MASSIVE_GATEWAY_TOKENS",
        "MASSIVE_GATEWAY_SECRET",
        "MASSIVE_GATEWAY_HOST",
        "MASSIVE_GATEWAY_ADMIN_HOST",
        "MASSIVE_GATEWAY_ADMIN_PORT",
        "MASSIVE_GATEWAY_PUBLIC_URL",
        "MASSIVE_GATEWAY_CLUSTERS",
        "MASSIVE_GATEWAY_CALLS_PER_MINUTE ",
        "WEB_ORIGIN",
    ]
    assert len(problems) == len(named)
    assert all(any(name in problem for problem in problems) for name in named)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"MASSIVE_API_KEY": " key canary"}, "MASSIVE_API_KEY"),
        ({"MASSIVE_API_KEY": ""}, "MASSIVE_API_KEY is not set"),
        ({"MASSIVE_API_KEY": TOKEN}, "also a proxy token"),
        ({"MASSIVE_API_KEY": SECRET}, "also MASSIVE_GATEWAY_SECRET"),
        ({"MASSIVE_GATEWAY_TOKENS": f"desk:{SECRET}"}, "MASSIVE_GATEWAY_SECRET is also a proxy token"),
        ({"MASSIVE_GATEWAY_TOKENS_FILE": "tokens.toml"}, "are both set"),
        ({"MASSIVE_GATEWAY_PORT": "8481"}, "are the same"),
        ({"MASSIVE_GATEWAY_PORT": "٨٠"}, "MASSIVE_GATEWAY_PORT is not a whole number"),
        ({"MASSIVE_REST_URL": "http://127.0.0.1:1"}, "do not match"),
        ({"MASSIVE_WS_URL": "ws://127.0.0.1:1"}, "do not match"),
        ({"WEB_ORIGIN": "http://desk.example"}, "without TLS"),
        ({"WEB_ORIGIN": "null"}, "WEB_ORIGIN"),
        ({"WEB_ORIGIN": "https://desk.example/app"}, "WEB_ORIGIN"),
        ({"MASSIVE_GATEWAY_CLUSTERS": "stocks,stocks"}, "MASSIVE_GATEWAY_CLUSTERS"),
        ({"MASSIVE_GATEWAY_CLUSTERS": ","}, "MASSIVE_GATEWAY_CLUSTERS"),
        ({"MASSIVE_GATEWAY_PUBLIC_URL": "https://me:canary@desk.example"}, "MASSIVE_GATEWAY_PUBLIC_URL"),
        ({"MASSIVE_GATEWAY_PUBLIC_URL": 'https://desk.example/"'}, "MASSIVE_GATEWAY_PUBLIC_URL"),
        ({"MASSIVE_GATEWAY_TOKENS": TOKEN}, "entry 1 is not name:token"),
        ({"MASSIVE_GATEWAY_TOKENS": "desk:canary"}, "the token of entry 1"),
        ({"MASSIVE_GATEWAY_TOKENS": f"de sk canary:{TOKEN}"}, "the name of entry 1"),
        ({"MASSIVE_GATEWAY_TOKENS": f"desk:{TOKEN},"}, "entry 2 is not name:token"),
        ({"MASSIVE_GATEWAY_TOKENS": f"desk:{TOKEN},night:{TOKEN}"}, "desk and night have the same token"),
        ({"MASSIVE_GATEWAY_TOKENS": None, "MASSIVE_GATEWAY_TOKENS_FILE": "no-such.toml"}, "cannot be read"),
    ],
    ids=range(23),
)
def test_one_problem_alone_is_the_only_one_said(changes: dict[str, Any], said: str) -> None:
    problems = problems_of(**changes)
    assert [said in problem for problem in problems] == [True]


def test_plain_addresses_match_each_other_and_a_page_on_this_machine_needs_no_tls() -> None:
    settings = read(
        MASSIVE_REST_URL="http://127.0.0.1:1", MASSIVE_WS_URL="ws://127.0.0.1:1", WEB_ORIGIN="http://[::1]:3000"
    )
    assert settings.web_origins == ("http://[::1]:3000",)
    assert read(MASSIVE_ENV="development", WEB_ORIGIN="http://desk.example").web_origins == ("http://desk.example",)


def test_a_sandbox_needs_no_key_and_is_marked() -> None:
    environ = {name: value for name, value in GOOD.items() if name != "MASSIVE_API_KEY"}
    assert read_gateway_settings(environ, dotenv=NOWHERE, sandbox=True).sandbox is True


def test_the_environment_wins_over_the_file_and_empty_counts_as_not_set(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("MASSIVE_GATEWAY_PORT=1111\nMASSIVE_GATEWAY_ADMIN_PORT=2222\nWEB_ORIGIN=https://desk.example\n")
    settings = read_gateway_settings({**GOOD, "MASSIVE_GATEWAY_PORT": "3333", "MASSIVE_GATEWAY_HOST": ""}, dotenv=file)
    assert (settings.port, settings.admin_port, settings.host) == (3333, 2222, "127.0.0.1")
    assert settings.web_origins == ("https://desk.example",)


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WEB_ORIGIN", raising=False)
    assert read_gateway_settings().tokens[0].name == "desk"


def test_no_repr_of_the_settings_holds_a_secret() -> None:
    settings = read()
    assert "canary" not in repr(settings) + str(settings) + f"{settings}"


@pytest.mark.parametrize(
    "bad",
    [
        {"tokens": ()},
        {"port": -1},
        {"port": True},
        {"queue_bytes": 0},
        {"queue_age_s": float("nan")},
        {"drain_s": float("inf")},
        {"audience": "a b"},
        {"calls_per_minute_token": 1.5},
        {"tokens": (TokenRule("a b", Secret(TOKEN)),)},
    ],
    ids=str,
)
def test_settings_built_by_hand_are_checked_too(bad: dict[str, Any]) -> None:
    given: dict[str, Any] = {"tokens": (TokenRule("desk", Secret(TOKEN)),), "secret": Secret(SECRET)}
    with pytest.raises(ConfigError):
        GatewaySettings(**{**given, **bad})
    assert GatewaySettings(**given, port=0, admin_port=0).port == 0


# the file of tokens


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_file_says_everything_about_a_token(tmp_path: Path) -> None:
    text = f"""
        [tokens.desk]
        tokens = ["{TOKEN}", "{OTHER}"]
        calls_per_minute = 60
        topics = ["AM.*", "options/T.O:SPY*"]
        clusters = ["options", "stocks"]
        expires = 2027-01-31T00:00:00Z
        [tokens.night]
        token = "third-canary-0123"
    """
    path = write(tmp_path / "tokens.toml", text)
    first, second, third = read_token_file(path)
    wide = {"topics": ("AM.*", "options/T.O:SPY*"), "clusters": ("stocks", "options"), "expires_s": 1801353600.0}
    assert first == TokenRule("desk", Secret(TOKEN), 60, **wide)  # type: ignore[arg-type]
    assert second == TokenRule("desk", Secret(OTHER), 60, **wide)  # type: ignore[arg-type]
    assert third == TokenRule("night", Secret("third-canary-0123"))
    settings = read(MASSIVE_GATEWAY_TOKENS=None, MASSIVE_GATEWAY_TOKENS_FILE=str(path))
    assert (settings.tokens, settings.tokens_file) == ((first, second, third), path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["nothing else"]),
        ("x = 'canary'", ["nothing else"]),
        ("[tokens]\ndesk = 'canary'", ["desk is not a table"]),
        ("[tokens.desk]\ntoken = 'canary", ["not a TOML file"]),
        (b"\xff\xfecanary", ["not UTF-8 text"]),
        ("[tokens.desk]\n", ["needs token"]),
        ("[tokens.'d e']\ntoken = 'x'", ["the name of table 1"]),
        ("[tokens.desk]\ntoken = 'canary'\nwhat = 1", ["none of", "needs token"]),
        (
            f"[tokens.desk]\ntoken = '{TOKEN}'\ncalls_per_minute = 0\ntopics = 'T.*'\nclusters = ['forex']\nexpires = 2027-01-31",
            ["calls_per_minute", "topics", "clusters", "expires"],
        ),
        (f"[tokens.a]\ntoken = '{TOKEN}'\n[tokens.b]\ntoken = '{TOKEN}'", ["a and b have the same token"]),
        (f"[tokens.a]\ntoken = '{TOKEN}'\ntokens = 'canary'", ["needs token"]),
        (f"[tokens.a]\ntoken = '{TOKEN}'\nexpires = 2027-01-31T00:00:00", ["expires"]),
    ],
    ids=[
        "empty",
        "other",
        "no-table",
        "broken",
        "bytes",
        "tokenless",
        "name",
        "field",
        "fields",
        "twice",
        "no-list",
        "local-time",
    ],
)
def test_every_fault_of_the_file_is_said_and_no_token(tmp_path: Path, text: str | bytes, said: list[str]) -> None:
    with pytest.raises(GatewayConfigError) as caught:
        read_token_file(write(tmp_path / "tokens.toml", text))
    assert len(caught.value.problems) == len(said)
    assert all(each in problem for each, problem in zip(said, caught.value.problems, strict=True))
    assert "canary" not in "".join(traceback.format_exception(caught.value)).replace(str(tmp_path), "")


def test_a_list_of_tokens_may_have_colons_in_the_tokens() -> None:
    rules, problems = parse_token_list("desk:abc:0123456789:def")
    assert (rules, problems) == ((TokenRule("desk", Secret("abc:0123456789:def")),), [])
