"""Parse, dispatch, and turn every error of the library into one line and exit code 2.

Exit codes: 0 all is well; 1 the work was done and found something that must not be; 2 bad input or an unusable
environment, and nothing was written; 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence

from massive_lab._version import __version__
from massive_lab.errors import MassiveLabError

__all__ = ["build_parser", "main"]

DEFAULT_WATCHLIST = "SPY,AAPL,MSFT,I:SPX,I:NDX,I:VIX"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage is one ``--help`` away."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    parser = _Parser(
        prog="massive-lab", description="Market data from Massive.com: audit, sandbox, gateway and check-ups."
    )
    parser.add_argument("--version", action="version", version=f"massive-lab {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    audit = commands.add_parser(
        "audit",
        help="measure a run and write the report",
        description="Run the audit notebook and write audit.html, audit.json and audit.ipynb.",
    )
    audit.add_argument(
        "--target",
        default="sandbox",
        help="sandbox (default), live for the vendor, or the http(s) address of a server to measure",
    )
    audit.add_argument(
        "--watchlist", default=DEFAULT_WATCHLIST, help=f"symbols, separated by commas (default {DEFAULT_WATCHLIST})"
    )
    audit.add_argument("--duration", default="60s", help="streaming to measure, and again of outage (default 60s)")
    audit.add_argument("--seed", type=int, default=7, help="seed of the sandbox (default 7)")
    audit.add_argument("--port", type=int, default=0, help="port of the sandbox; 0 takes a free one (default)")
    audit.add_argument("--start", help="first day of the history to load, as 2018-06-01 (default: half a year)")
    audit.add_argument("--end", help="day after the last of that history")
    audit.add_argument("--plan", help="plan of the key: basic, starter, developer, advanced or business")
    audit.add_argument("-o", "--out", default="out/audit", help="folder for the report (default out/audit)")

    sandbox = commands.add_parser("sandbox", help="run the synthetic server", add_help=False)
    sandbox.add_argument("rest", nargs=argparse.REMAINDER)

    doctor = commands.add_parser("doctor", help="what is wrong with this set-up, and how to mend it")
    doctor.add_argument("--offline", action="store_true", help="do not try to reach the servers")

    plan = commands.add_parser("plan", help="calls a minute and topics of a watchlist, before anything runs")
    plan.add_argument("--watchlist", default=DEFAULT_WATCHLIST, help="symbols, separated by commas")
    plan.add_argument("--plan", default="advanced", help="plan of the key (default advanced)")
    plan.add_argument("--json", action="store_true", help="print JSON instead of a table")

    replay = commands.add_parser(
        "replay",
        help="play a recorded live session, and print the digest of what comes out",
        description="Verify a capture that lab.live.record wrote, play it, and print the digest of what comes out.",
    )
    replay.add_argument("file", help="the capture; also the .part file that a crash has left")
    replay.add_argument("--speed", help="recorded seconds in one second, as 1 or 60 (default: without waiting)")
    replay.add_argument("--verify", action="store_true", help="check every byte, and do not play it")
    replay.add_argument("--json", action="store_true", help="print JSON instead of lines")

    gateway = commands.add_parser(
        "gateway",
        help="serve one key to many holders of tokens",
        description=(
            "Serve the vendor's REST and WebSocket interfaces to the holders of proxy tokens. Settings come from the "
            "environment and .env; the options here win."
        ),
    )
    gateway.add_argument(
        "--sandbox",
        nargs="?",
        const="start",
        metavar="ADDRESS",
        help="serve synthetic data: of the sandbox at this http address, or of one that is started along",
    )
    gateway.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    gateway.add_argument("--port", help="REST and WebSocket; 0 takes a free one (default 8480)")
    gateway.add_argument("--admin-port", help="health and metrics; 0 takes a free one (default 8481)")
    gateway.add_argument("--bus", metavar="URL", help="share one upstream with other replicas over NATS, nats://host:4222")
    gateway.add_argument("--log", choices=("text", "json"), default="text", help="form of the log lines (default text)")
    gateway.add_argument("--drain", type=float, help="seconds that clients are given at the end (default 25)")
    gateway.add_argument("--check", action="store_true", help="check the settings, and start nothing")
    gateway.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    gateway.add_argument("--tied", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the return value is the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # The sandbox has a grammar of its own; argparse would claim its options.
    if arguments[:1] == ["sandbox"]:
        return _guarded("sandbox", lambda: _sandbox(arguments[1:]), debug=False)
    options = build_parser().parse_args(arguments)
    module = importlib.import_module(f"massive_lab.cli.{options.command}")
    return _guarded(options.command, lambda: int(module.run(options)), debug=options.debug)


def _sandbox(arguments: list[str]) -> int:
    module = importlib.import_module("massive_lab.sandbox.__main__")
    return int(module.main(arguments) or 0)


def _guarded(command: str, work: Callable[[], int], *, debug: bool) -> int:
    try:
        return work()
    except MassiveLabError as error:
        if debug:
            raise
        print(f"massive-lab {command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"massive-lab {command}: interrupted", file=sys.stderr)
        return 130
