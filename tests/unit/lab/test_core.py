from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import massive_lab as ml
from massive_lab.errors import ClosedError, ConfigError, InvalidRequest
from massive_lab.loaders.report import LoadReport

NOWHERE = {"rest_url": "http://127.0.0.1:9", "ws_url": "ws://127.0.0.1:9", "control_url": "http://127.0.0.1:9"}


def test_no_key_is_an_error_and_never_the_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="MASSIVE_API_KEY") as caught:
        ml.connect()
    assert "sandbox" in caught.value.hint


def test_the_environment_is_read_when_connecting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MASSIVE_API_KEY", "canary-key")
    monkeypatch.setenv("MASSIVE_REST_URL", "http://127.0.0.1:9/")
    with ml.connect() as lab:
        assert lab.settings.rest_url == "http://127.0.0.1:9"
        assert not lab.settings.sandbox
        assert "canary" not in repr(lab) + repr(lab.settings)


def test_the_sandbox_is_named_in_everything_that_shows_the_client() -> None:
    with ml.connect("sandbox", sandbox=NOWHERE) as lab:
        assert lab.settings.sandbox
        assert "SANDBOX" in repr(lab)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"target": "prod"}, ConfigError, "no target"),
        ({"target": "sandbox", "sandbox": {"rest_url": "http://127.0.0.1:9"}}, ConfigError, "ws_url"),
        ({"target": None, "sandbox": NOWHERE}, InvalidRequest, "not named"),
        ({"target": "sandbox", "sandbox": NOWHERE, "frame": "arrow"}, InvalidRequest, "frame"),
        ({"target": "sandbox", "sandbox": NOWHERE, "plan": "gold"}, ConfigError, "no plan"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        ml.connect(**arguments)


def test_a_plan_sets_the_call_budget() -> None:
    with ml.connect("sandbox", sandbox=NOWHERE, plan="basic") as lab:
        assert lab.settings.calls_per_minute == 5


def test_a_closed_client_refuses_and_closing_again_is_nothing() -> None:
    lab = ml.connect("sandbox", sandbox=NOWHERE)
    lab.close()
    lab.close()
    assert "closed" in repr(lab)
    with pytest.raises(ClosedError):
        lab.market_status()
    with pytest.raises(ClosedError):
        lab.live(["AAPL"])


def test_the_last_client_to_close_ends_the_loop_thread() -> None:
    def io_threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "massive_lab-io"]

    before = io_threads()  # one, when somebody else's client is open
    with ml.connect("sandbox", sandbox=NOWHERE):
        with ml.connect("sandbox", sandbox=NOWHERE):
            assert len(io_threads()) == 1
        assert len(io_threads()) == 1
    assert io_threads() == before


def test_the_async_client_works_from_any_loop() -> None:
    async def use() -> LoadReport:
        async with ml.aconnect("sandbox", sandbox=NOWHERE, max_attempts=1) as lab:
            with pytest.raises(ml.ConnectionLost):
                await lab.market_status()
            return lab.load_report()

    for _ in range(2):
        assert asyncio.run(use()).failed == 1


def test_connecting_and_leaving_without_closing_ends_the_interpreter_cleanly() -> None:
    code = (
        "import massive_lab as ml\n"
        f"lab = ml.connect('sandbox', sandbox={NOWHERE!r}, max_attempts=1)\n"
        "try:\n    lab.market_status()\nexcept ml.ConnectionLost:\n    print('lost')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "lost", "")
