"""``massive-lab audit``: measure a run and write the report."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from massive_lab.audit import export
from massive_lab.audit.load import predict
from massive_lab.cli.words import parse_duration, parse_target, split_symbols
from massive_lab.config import read_settings
from massive_lab.errors import ConfigError, InvalidRequest
from massive_lab.schema.plans import plan as plan_of

__all__ = ["run"]

_SANDBOX_KEY = "sandbox"


def run(options: argparse.Namespace) -> int:
    """Check everything that can be checked, then measure, write, and sum up; 1 when a critical check failed."""
    target = parse_target(options.target)
    watchlist = split_symbols(options.watchlist)
    predict(watchlist)
    duration_s = parse_duration(options.duration)
    start, end = _history(options.start, options.end)
    if options.plan is not None:
        plan_of(options.plan)
    out = export.prepare_folder(Path(options.out))
    parameters = {
        "target": target,
        "watchlist": watchlist,
        "duration_s": duration_s,
        "seed": options.seed,
        "plan": options.plan,
        "start": start,
        "end": end,
    }
    with _served(target, options) as environ:
        document = export.export(out, parameters=parameters, environ=environ)
    _sum_up(document, out)
    return 1 if document["verdict"] == "fail" else 0


def _history(start: str | None, end: str | None) -> tuple[str | None, str | None]:
    """The range to load, checked as far as it can be without a server."""
    days = {}
    for name, text in (("start", start), ("end", end)):
        if text is None:
            continue
        try:
            days[name] = dt.date.fromisoformat(text)
        except ValueError:
            hint = "Write a date like 2018-06-01." if "T" not in text else "Give dates: an audit loads whole days."
            raise InvalidRequest(f"--{name} {text!r} is not a date.", hint=hint) from None
    if len(days) == 2 and days["start"] >= days["end"]:
        raise InvalidRequest(
            f"--start {days['start']} is not before --end {days['end']}.", hint="The range is [start, end)."
        )
    if len(days) == 1:
        raise InvalidRequest("--start and --end are given together or not at all.")
    return start, end


@contextmanager
def _served(target: str, options: argparse.Namespace) -> Iterator[Mapping[str, str]]:
    """What the kernel must know to reach the server; a sandbox lives as long as the block."""
    if target != "sandbox":
        settings = read_settings()  # raises, in words, when there is no key
        changes = {} if target == "live" else {"MASSIVE_REST_URL": target, "MASSIVE_WS_URL": _ws(target)}
        if target != "live":
            settings.with_(rest_url=changes["MASSIVE_REST_URL"], ws_url=changes["MASSIVE_WS_URL"])
        yield changes
        return
    if options.seed < 0:
        raise InvalidRequest(f"The seed {options.seed} is negative.")
    if not 0 <= options.port <= 65535:
        raise ConfigError(f"There is no port {options.port}.", hint="0 takes a free one.")
    from massive_lab.sandbox.process import SandboxProcess

    with SandboxProcess(seed=options.seed, port=options.port, paused=True, density=export.DENSITY) as sandbox:
        urls = {name: getattr(sandbox, name) for name in ("rest_url", "ws_url", "control_url")}
        # A key in the environment is none of the sandbox's business, and must not be sent to it.
        yield {export.ENDPOINTS: json.dumps(urls), "MASSIVE_API_KEY": "", "MASSIVE_PROXY_TOKEN": ""}


def _ws(rest_url: str) -> str:
    return rest_url.replace("http", "ws", 1)


def _sum_up(document: Mapping[str, Any], out: Path) -> None:
    score = document["score"]
    label = "SANDBOX  " if document["synthetic"] else ""
    unknown = f", {score['not_measured']:g} not measured" if score["not_measured"] else ""
    print(f"{label}{score['value']:g} of 10{unknown}: {document['verdict']}")
    for check in (*score["checks"], *document["timings"]["checks"]):
        if check["verdict"] != "pass":
            critical = " (critical)" if check["critical"] else ""
            print(f"  {check['verdict']}: {check['title']}{critical}. {check['finding']}")
    for name in export.FILES:
        print(os.path.relpath(out / name))
