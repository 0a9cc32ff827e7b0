from __future__ import annotations

import copy
import dataclasses
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest

from massive_lab.config import DEFAULT_REST_URL, DEFAULT_WS_URL, Secret, Settings, read_settings
from massive_lab.errors import ConfigError

KEY = "sk-Hidden-0123456789"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ``.env`` but the test's own."""
    monkeypatch.chdir(tmp_path)


def settings(**changes: Any) -> Settings:
    return dataclasses.replace(Settings(api_key=Secret(KEY)), **changes)


# where the key comes from


def test_without_a_key_the_error_says_how_to_give_one() -> None:
    with pytest.raises(ConfigError, match=r"MASSIVE_API_KEY.*\.env.*connect\(api_key=.*connect\('sandbox'\)"):
        read_settings({})


@pytest.mark.parametrize(
    ("environ", "api_key", "expected"),
    [
        ({"MASSIVE_API_KEY": "a"}, None, "a"),
        ({"MASSIVE_PROXY_TOKEN": "t"}, None, "t"),
        ({"MASSIVE_API_KEY": "a", "MASSIVE_PROXY_TOKEN": "t"}, None, "a"),
        ({"MASSIVE_PROXY_TOKEN": "t", "MASSIVE_API_KEY": "a"}, None, "a"),
        ({"MASSIVE_API_KEY": "", "MASSIVE_PROXY_TOKEN": "t"}, None, "t"),
        ({"MASSIVE_API_KEY": "a"}, "b", "b"),
        ({}, "b", "b"),
    ],
)
def test_which_key_wins(environ: dict[str, str], api_key: str | None, expected: str) -> None:
    assert read_settings(environ, api_key=api_key).api_key.reveal() == expected


def test_an_empty_key_that_was_passed_is_an_error_and_not_a_reason_to_use_another() -> None:
    with pytest.raises(ConfigError, match="api_key is empty"):
        read_settings({"MASSIVE_API_KEY": "a"}, api_key="")


def test_the_environment_is_read_when_asked_and_at_no_other_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASSIVE_API_KEY", "one")
    first = read_settings()
    monkeypatch.setenv("MASSIVE_API_KEY", "two")
    monkeypatch.setenv("MASSIVE_REST_URL", "http://127.0.0.1:8080")
    assert (first.api_key.reveal(), first.rest_url) == ("one", DEFAULT_REST_URL)
    assert (read_settings().api_key.reveal(), read_settings().rest_url) == ("two", "http://127.0.0.1:8080")


def test_a_dotenv_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Path(".env").write_text(
        "# ours\nexport MASSIVE_API_KEY='from file'\nMASSIVE_REST_URL=http://127.0.0.1:1\nMASSIVE_ENV=development\nX\n"
    )
    with pytest.raises(ConfigError, match="MASSIVE_API_KEY is empty, or has blanks"):
        read_settings()
    monkeypatch.setenv("MASSIVE_API_KEY", "from-environment")
    monkeypatch.setenv("MASSIVE_REST_URL", "http://127.0.0.1:2")
    read = read_settings()
    assert (read.api_key.reveal(), read.rest_url, read.env) == ("from-environment", "http://127.0.0.1:2", "development")
    other = tmp_path / "other.env"
    other.write_text("MASSIVE_API_KEY=other\n")
    assert read_settings({}, dotenv=other).api_key.reveal() == "other"


def test_an_empty_variable_hides_the_one_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("MASSIVE_API_KEY=from-file\n")
    assert read_settings().api_key.reveal() == "from-file"
    monkeypatch.setenv("MASSIVE_API_KEY", "")
    with pytest.raises(ConfigError, match="No API key"):
        read_settings()


def test_a_dotenv_file_that_does_not_exist_is_no_error_and_a_folder_is_none(tmp_path: Path) -> None:
    assert read_settings({"MASSIVE_API_KEY": "a"}, dotenv=tmp_path / "none").api_key.reveal() == "a"
    assert read_settings({"MASSIVE_API_KEY": "a"}, dotenv=tmp_path).api_key.reveal() == "a"


def test_a_dotenv_file_that_is_no_text_is_told_without_its_bytes() -> None:
    Path(".env").write_bytes(f"MASSIVE_API_KEY={KEY}\xff\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"\.env cannot be read") as caught:
        read_settings({})
    # The decoder's own error holds the bytes.
    assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, True)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_reading_a_dotenv_file_leaves_the_environment_alone() -> None:
    import os

    Path(".env").write_text("MASSIVE_API_KEY=from-file\nMASSIVE_LAB_SOMETHING=1\n")
    before = dict(os.environ)
    read_settings()
    assert dict(os.environ) == before


@pytest.mark.parametrize("where", ["{bad}Marker", "Marker{bad}", "Mar{bad}ker"])
@pytest.mark.parametrize("bad", [" ", "\n", "\r\n", "\t", "\0", "\x7f", "\u00e4", "\u200b", "\ufeff", "\ud800"])
def test_a_key_that_does_not_fit_in_a_header_is_refused_unquoted(where: str, bad: str) -> None:
    key = where.format(bad=bad)
    for source, environ, api_key in (
        ("MASSIVE_API_KEY", {"MASSIVE_API_KEY": key}, None),
        ("MASSIVE_PROXY_TOKEN", {"MASSIVE_PROXY_TOKEN": key}, None),
        ("api_key", {}, key),
    ):
        with pytest.raises(ConfigError, match=f"^{source} .*Copy the key again") as caught:
            read_settings(environ, api_key=api_key)
        assert "Mar" not in str(caught.value)


def test_a_key_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError):
        read_settings({}, api_key=123)  # type: ignore[arg-type]


# secrecy


def test_the_key_never_shows(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    one = settings(extra_headers={"X-Token": KEY})
    logging.getLogger("x").warning("%s %r", one, one.api_key)
    shown = [
        repr(one),
        str(one),
        f"{one}",
        f"{one.api_key:>40}",
        "%s %r" % (one.api_key, one.api_key),  # noqa: UP031
        repr([one.api_key]),
        str({"key": one.api_key}),
        repr(dataclasses.asdict(one)["api_key"]),
        repr(dataclasses.astuple(one)[0]),
        repr(copy.deepcopy(one)),
        caplog.text,
    ]
    assert KEY not in " ".join(shown)
    assert all("<secret>" in text for text in shown)


def test_a_copy_is_as_good() -> None:
    one = settings()
    for other in (copy.copy(one), copy.deepcopy(one), one.with_(), dataclasses.replace(one)):
        assert other == one
        assert other.api_key.reveal() == KEY


def test_neither_the_secret_nor_settings_are_pickled() -> None:
    for one in (Secret(KEY), settings()):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError, match="environment"):
                pickle.dumps(one, protocol)


def test_secrets_compare_and_hash_by_what_they_hide() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert hash(Secret("a")) != hash("a")
    assert Secret("a")
    assert not Secret("")


def test_a_secret_cannot_be_looked_into_by_accident() -> None:
    with pytest.raises(TypeError):
        vars(Secret(KEY))
    with pytest.raises(TypeError):
        "".join([Secret(KEY)])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "broken",
    [
        {"MASSIVE_REST_URL": "nowhere"},
        {"MASSIVE_WS_URL": "http://127.0.0.1"},
        {"MASSIVE_ENV": "staging"},
        {"MASSIVE_API_KEY": KEY + "\n"},
    ],
    ids=lambda broken: next(iter(broken)),
)
@pytest.mark.parametrize("home", ["environment", "file", "argument"])
def test_not_even_a_traceback_with_local_variables_shows_the_key(
    broken: dict[str, str], home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"MASSIVE_API_KEY": KEY, "MASSIVE_PROXY_TOKEN": KEY, **broken}
    api_key = None
    if home == "argument":
        api_key = values.pop("MASSIVE_API_KEY")
        del values["MASSIVE_PROXY_TOKEN"]
    if home == "file":
        Path(".env").write_text("".join(f'{name}="{value}"\n' for name, value in values.items()))
    else:
        for name, value in values.items():
            monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        read_settings(api_key=api_key)
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    # The first frame is this test's own, which knows the key.
    told.stack[:1] = []
    text = "".join(told.format())
    assert "read_settings" in text
    assert KEY not in text


# addresses


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080///", "http://127.0.0.1:8080"),
        ("https://host", "https://host"),
        ("https://host/base/", "https://host/base"),
        ("http://[::1]:9090", "http://[::1]:9090"),
        ("http://[fe80::1]/", "http://[fe80::1]"),
    ],
)
def test_addresses_that_work(given: str, kept: str) -> None:
    assert read_settings({"MASSIVE_API_KEY": "k", "MASSIVE_REST_URL": given}).rest_url == kept
    assert settings().with_(rest_url=given).rest_url == kept
    sockets = given.replace("http", "ws")
    assert read_settings({"MASSIVE_API_KEY": "k", "MASSIVE_WS_URL": sockets}).ws_url == kept.replace("http", "ws")


@pytest.mark.parametrize(
    "url",
    [
        "host",
        "host:8080",
        "//host",
        "http:",
        "http://",
        "http:///path",
        "http://:80",
        "ftp://host",
        "ws://host",
        "file:///etc/passwd",
        "http://user@host",
        "http://user:word@host",
        "http://:word@host",
        "http://@host",
        "http://host?",
        "http://host/?a=b",
        "http://host#",
        "http://host/#x",
        "http://host:port",
        "http://host:99999",
        "http://host:0",
        "http://host:-1",
        "http://[::1",
        "http://::1]",
        "http://[::g]",
        "http://ho st",
        " http://host",
        "http://host\n",
        "http://ho\nst",
        "http://host\\@evil",
        "http://h\u00f6st",
    ],
)
def test_addresses_that_do_not(url: str) -> None:
    with pytest.raises(ConfigError, match=r"MASSIVE_REST_URL is not a usable address.*http://host") as caught:
        read_settings({"MASSIVE_API_KEY": "k", "MASSIVE_REST_URL": url})
    assert "word" not in str(caught.value)
    with pytest.raises(ConfigError):
        settings(rest_url=url)
    with pytest.raises(ConfigError, match="MASSIVE_WS_URL"):
        read_settings({"MASSIVE_API_KEY": "k", "MASSIVE_WS_URL": url.replace("ws://host", "http://host")})


def test_empty_variables_are_not_set() -> None:
    names = ("REST_URL", "WS_URL", "ENV", "LAB_CACHE")
    read = read_settings({"MASSIVE_API_KEY": "k", **{f"MASSIVE_{name}": "" for name in names}})
    assert read == Settings(api_key=Secret("k"))
    assert (read.rest_url, read.ws_url, read.env, read.cache) == (DEFAULT_REST_URL, DEFAULT_WS_URL, "production", None)


# the rest


def test_the_cache_may_lie_under_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_settings({"MASSIVE_API_KEY": "k", "MASSIVE_LAB_CACHE": "~/c"}).cache == tmp_path / "c"


def test_only_two_environments_are_known() -> None:
    with pytest.raises(ConfigError, match=r"'staging'.*'production' or 'development'"):
        read_settings({"MASSIVE_API_KEY": "k", "MASSIVE_ENV": "staging"})


def test_settings_do_not_change() -> None:
    one = settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.rest_url = "http://other"  # type: ignore[misc]
    assert one.with_(timeout_s=1.0) == dataclasses.replace(one, timeout_s=1.0)
    assert one.timeout_s == 10.0


def test_a_setting_that_does_not_exist_is_told_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match=r"no setting timeout\b.*timeout_s"):
        settings().with_(timeout=1)


@pytest.mark.parametrize(
    "name", ["timeout_s", "connect_timeout_s", "max_attempts", "max_connections", "calls_per_minute"]
)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_bounds_that_bound_nothing_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        settings().with_(**{name: value})


def test_no_budget_is_fine() -> None:
    assert settings().with_(calls_per_minute=None).calls_per_minute is None
