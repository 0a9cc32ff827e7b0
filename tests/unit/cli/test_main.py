from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from massive_lab.cli.main import main


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "MASSIVE_API_KEY",
        "MASSIVE_PROXY_TOKEN",
        "MASSIVE_REST_URL",
        "MASSIVE_WS_URL",
        "MASSIVE_ENV",
        "MASSIVE_LAB_CACHE",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("audit", "--watchlist", "spy"), "Did you mean 'SPY'?"),
        (("audit", "--watchlist", "O:NOPE"), "not an option symbol"),
        (("audit", "--watchlist", "X:BTCUSD"), "crypto"),
        (("audit", "--watchlist", " , "), "The watchlist is empty."),
        (("audit", "--start", "2018-06-01", "--end", "2018-05-01"), "is not before"),
        (("audit", "--start", "2018-06-01T10:00:00", "--end", "2018-07-01"), "Give dates"),
        (("audit", "--start", "yesterday", "--end", "2018-07-01"), "is not a date"),
        (("audit", "--start", "2018-06-01"), "given together"),
        (("audit", "--duration", "soon"), "is not a duration"),
        (("audit", "--duration", "1s"), "cannot be audited"),
        (("audit", "--target", "the-moon"), "There is no target"),
        (("audit", "--target", "http://user:secret-word@host"), "There is no target with a user name"),
        (("audit", "--target", "live"), "No API key"),
        (("audit", "--plan", "gold"), "There is no plan"),
        (("audit", "--seed", "-1"), "negative"),
        (("audit", "--port", "70000"), "There is no port"),
        (("audit", "-o", "file/out"), "cannot be written"),
        (("audit", "-o", "file"), "is a file"),
        (("plan", "--watchlist", ""), "The watchlist is empty."),
        (("plan", "--plan", "gold"), "There is no plan"),
        (("frobnicate",), "invalid choice"),
        ((), "required"),
        (("audit", "--seed", "seven"), "invalid int value"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "file").write_text("x")
    code, out, err = _run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.rglob("*")) in (["file"], ["file", "out"])
    assert not list((tmp_path / "out").glob("*"))


def test_a_password_in_a_refused_target_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = _run(capsys, "audit", "--target", "http://user:secret-word@host")
    assert "secret-word" not in err


def test_a_wrong_key_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from massive_lab.sandbox.process import SandboxProcess

    monkeypatch.setenv("MASSIVE_API_KEY", "not-a-key-of-the-sandbox")
    with SandboxProcess(paused=True) as sandbox:
        code, out, err = _run(capsys, "audit", "--target", sandbox.rest_url, "-o", "out/audit")
    assert (code, out) == (2, "")
    assert "Unauthorized" in err
    assert "not-a-key-of-the-sandbox" not in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out" / "audit").exists()


def test_a_port_in_use_is_one_clear_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, out, err = _run(capsys, "audit", "--port", str(taken.getsockname()[1]))
    assert (code, out) == (2, "")
    assert "in use" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out" / "audit").exists()


def test_the_traceback_is_shown_when_asked_for() -> None:
    from massive_lab.errors import InvalidRequest

    with pytest.raises(InvalidRequest):
        main(["--debug", "audit", "--duration", "soon"])


def test_the_plan_of_a_watchlist_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "plan", "--watchlist", "SPY,I:SPX")
    assert code == 0
    assert "27 calls a minute of 1,200; naive: 40." in out
    code, out, _ = _run(capsys, "plan", "--watchlist", "SPY,I:SPX", "--json")
    plan = json.loads(out)
    assert code == 0
    assert (plan["worst_per_minute"], plan["sockets"], plan["fits"]) == (27.0, 2, True)
    assert plan["topics"] == ["T.SPY", "Q.SPY", "AM.SPY", "V.I:SPX", "AM.I:SPX"]


def test_a_plan_without_sockets_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "plan", "--plan", "basic")
    assert code == 0
    assert "has no WebSocket" in out


def test_the_doctor_names_the_missing_key_and_how_to_set_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "doctor", "--offline")
    assert code == 1
    assert "FAIL  API key" in out
    assert "Set MASSIVE_API_KEY" in out


def test_the_doctor_is_content_and_never_shows_the_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("MASSIVE_API_KEY", "correct-horse-battery")
        monkeypatch.setenv("MASSIVE_REST_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("MASSIVE_WS_URL", f"ws://127.0.0.1:{port}")
        code, out, _ = _run(capsys, "doctor")
    assert code == 0
    assert out.count("accepts connections") == 2
    assert "correct-horse" not in out


def test_the_doctor_finds_a_server_that_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("MASSIVE_API_KEY", "k" * 20)
    monkeypatch.setenv("MASSIVE_REST_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MASSIVE_WS_URL", f"ws://127.0.0.1:{port}")
    code, out, _ = _run(capsys, "doctor")
    assert code == 1
    assert "cannot be reached" in out


def test_a_key_in_a_dotenv_file_counts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MASSIVE_API_KEY=correct-horse-battery\n")
    code, out, _ = _run(capsys, "doctor", "--offline")
    assert code == 0
    assert "correct-horse" not in out


def test_help_and_version_load_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from massive_lab.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'polars', 'pandas', 'numpy', 'httpx2', 'websockets', 'aiohttp', 'nbclient', 'talib'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "audit" in done.stdout
    version = subprocess.run(
        [sys.executable, "-m", "massive_lab", "--version"], capture_output=True, text=True, check=True
    )
    assert version.stdout.startswith("massive-lab ")
