from __future__ import annotations

import json
from pathlib import Path

import pytest

from massive_lab.cli.main import main

SESSION = Path(__file__).resolve().parents[2] / "golden" / "capture" / "session.mlcap"


def _run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_capture_is_verified_and_played_and_the_digest_printed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = _run(capsys, "replay", SESSION)
    assert (code, err) == (0, "")
    assert out.startswith("SANDBOX  130 records in 6 blocks, 20,550 bytes: complete; sha256 83a53ca2")
    assert "30 frames in, 6 out, 8 answers of REST" in out
    first = out.splitlines()[-1]
    assert first.startswith("335 events came out; sha256 ")
    assert _run(capsys, "replay", SESSION, "--speed", "1e6")[1].splitlines()[-1] == first
    document = json.loads(_run(capsys, "replay", SESSION, "--json")[1])
    assert first.endswith(document["replayed"]["sha256"])


def test_verifying_plays_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "replay", SESSION, "--verify")
    assert code == 0
    assert "events came out" not in out
    assert "replayed" not in json.loads(_run(capsys, "replay", SESSION, "--verify", "--json")[1])


def test_a_capture_that_was_cut_short_is_played_and_the_exit_code_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    part = tmp_path / "session.mlcap.part"
    part.write_bytes(SESSION.read_bytes()[:-60])
    code, out, _ = _run(capsys, "replay", part)
    assert code == 1
    assert "cut short after block" in out


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("damaged", (), "at byte"),
        ("damaged", ("--verify",), "its SHA-256 does not agree"),
        ("nowhere", (), "cannot be read"),
        ("notes", (), "not a capture"),
        ("damaged", ("--speed", "fast"), "is not a speed"),
        ("damaged", ("--speed", "0"), "is not a speed"),
        ("damaged", ("--speed", "2", "--verify"), "does not play"),
    ],
    ids=["played", "verified", "no-file", "no-capture", "a-word", "zero", "both"],
)
def test_what_cannot_be_played_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, more: tuple[str, ...], words: str
) -> None:
    data = bytearray(SESSION.read_bytes())
    data[6_000] ^= 1
    (tmp_path / "damaged").write_bytes(data)
    (tmp_path / "notes").write_text("Nothing was recorded today, and nothing was heard.")
    code, out, err = _run(capsys, "replay", tmp_path / name, *more)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
