"""The command: what it says when it cannot start, and what it checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from massive_lab.cli import gateway as command
from massive_lab.cli.main import main

GOOD = {
    "MASSIVE_API_KEY": "a-key",
    "MASSIVE_GATEWAY_SECRET": "s" * 32,
    "MASSIVE_GATEWAY_TOKENS": "desk:0123456789abcdef",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """None of our variables, and a folder without .env."""
    import os

    for name in [each for each in os.environ if each.startswith(("MASSIVE_", "WEB_ORIGIN"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def put(environment: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)


@pytest.mark.usefixtures("environment")
def test_everything_that_is_missing_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gateway"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[0] == "massive-lab gateway: The gateway cannot start, 3 problems:"
    for name in ("MASSIVE_API_KEY", "MASSIVE_GATEWAY_TOKENS", "MASSIVE_GATEWAY_SECRET"):
        assert name in told.err


@pytest.mark.parametrize(
    ("variables", "arguments", "word"),
    [
        ({"MASSIVE_GATEWAY_TOKENS": "desk:short"}, [], "MASSIVE_GATEWAY_TOKENS"),
        ({"MASSIVE_GATEWAY_TOKENS": "desk:0123456789abcdef,desk:0123456789abcdef"}, [], "same token"),
        ({"MASSIVE_API_KEY": "0123456789abcdef"}, [], "also a proxy token"),
        ({"MASSIVE_REST_URL": "http://127.0.0.1:1"}, [], "do not match"),
        ({"WEB_ORIGIN": "*"}, [], "WEB_ORIGIN"),
        ({}, ["--port", "http"], "MASSIVE_GATEWAY_PORT"),
        ({}, ["--port", "70000"], "MASSIVE_GATEWAY_PORT"),
        ({}, ["--host", "not a host"], "MASSIVE_GATEWAY_HOST"),
        ({}, ["--port", "9000", "--admin-port", "9000"], "are the same"),
        ({}, ["--drain", "-1"], "drain_s"),
    ],
    ids=["short", "twice", "key", "schemes", "origin", "port", "range", "host", "ports", "drain"],
)
def test_what_is_wrong_is_named_and_never_shown(
    environment: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    arguments: list[str],
    word: str,
) -> None:
    put(environment, **{**GOOD, **variables})
    assert main(["gateway", *arguments]) == 2
    told = capsys.readouterr().err
    assert word in told
    for secret in ("a-key", "0123456789abcdef", "s" * 32, "short."):
        assert secret not in told


def test_a_check_starts_nothing(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    put(environment, **GOOD)
    assert main(["gateway", "--check"]) == 0
    assert capsys.readouterr().out == "the settings are complete: 1 tokens, stocks, options, indices\n"
    assert main(["gateway", "--check", "--sandbox", "http://127.0.0.1:1"]) == 0
    assert capsys.readouterr().out.startswith("SANDBOX: ")


def test_a_sandbox_is_an_http_address(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    put(environment, **GOOD)
    assert main(["gateway", "--sandbox", "https://api.massive.com"]) == 2
    assert "--sandbox is not an address" in capsys.readouterr().err


def test_a_limit_of_files_that_cannot_be_raised_is_told_and_no_reason_not_to_serve(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, int]] = []

    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(command.resource, "getrlimit", lambda _: (256, 2**63 - 1))
    monkeypatch.setattr(command.resource, "setrlimit", refuse)
    monkeypatch.setattr(command, "tell", lambda event, **fields: told.append((event, fields["limit"])))
    command._raise_file_limit()
    assert told == [("the limit of open files cannot be raised", 256)]
