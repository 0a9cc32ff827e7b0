"""``massive-lab replay``: check a capture, play it, and say what came out."""

from __future__ import annotations

import argparse
import datetime as dt
import json
from typing import Any

from massive_lab.cli.words import table
from massive_lab.errors import InvalidRequest
from massive_lab.live.capture.reader import Summary, verify
from massive_lab.live.capture.replay import Replay

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Print what the capture holds and the digest; 1 when it was cut short, or when something in it is missing."""
    speed = _speed(options.speed)
    if options.verify and speed is not None:
        raise InvalidRequest("--verify does not play the capture.", hint="Leave --speed out.")
    replay = None if options.verify else Replay(options.file)
    summary = verify(options.file) if replay is None else replay.run(speed).summary
    if options.json:
        print(json.dumps(_document(summary, replay), indent=1))
    else:
        _tell(summary, replay)
    return int(not summary.is_complete or bool(summary.n_lost))


def _speed(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise InvalidRequest(f"--speed {text!r} is not a speed.", hint="Give recorded seconds a second, such as 1 or 60.")
    return speed


def _tell(summary: Summary, replay: Replay | None) -> None:
    print(summary)
    n = {name: summary.by_kind.get(name, 0) for name in ("frame_in", "frame_out", "answered")}
    span = f"{_moment(summary.first_ns)} to {_moment(summary.last_ns)}"
    print(f"{span}: {n['frame_in']:,} frames in, {n['frame_out']:,} out, {n['answered']:,} answers of REST")
    if replay is None:
        return
    rows = replay.status.select("cluster", "state", "frames", "events", "polls", "reconnects").rows()
    print(table(("cluster", "state", "frames", "events", "polls", "reconnects"), rows))
    print(f"{replay.n_events:,} events came out; sha256 {replay.sha256}")


def _document(summary: Summary, replay: Replay | None) -> dict[str, Any]:
    told = {
        "sandbox": summary.is_sandbox,
        "complete": summary.is_complete,
        "blocks": summary.n_blocks,
        "bytes": summary.n_bytes,
        "records": summary.by_kind,
        "lost": summary.n_lost,
        "first_ns": summary.first_ns,
        "last_ns": summary.last_ns,
        "sha256": summary.sha256,
    }
    if replay is not None:
        told["replayed"] = {"events": replay.n_events, "sha256": replay.sha256}
    return told


def _moment(ns: int | None) -> str:
    if ns is None:
        return "-"
    return f"{dt.datetime.fromtimestamp(ns // 10**9, dt.UTC):%Y-%m-%d %H:%M:%S}Z"
