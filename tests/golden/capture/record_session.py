"""Records the golden session anew: ``python -m tests.golden.capture.record_session FILE``. Its times are those of today."""

from __future__ import annotations

import sys

import massive_lab as ml
from massive_lab import telemetry as t
from massive_lab.sandbox import SandboxProcess
from tests.e2e.ear import Ear


def main(path: str) -> None:
    """A minute of three symbols, a lost socket that REST stands in for, the return, and what REST fills in."""
    with SandboxProcess(seed=7, paused=True) as sandbox, ml.connect("sandbox", sandbox=sandbox) as lab:
        ear = Ear()
        lab.telemetry.add(ear)
        with lab.live.record(path) as recording:
            live = lab.live(["AAPL", "SPY", "I:SPX"]).wait_live(30.0)
            sandbox.control.jump(30.0)
            fault = sandbox.control.add_fault("refuse_upgrade", scope="stocks")
            for connection in sandbox.control.connections():
                if connection["cluster"] == "stocks" and connection["open"]:
                    sandbox.control.close_connection(connection["id"], abrupt=True)
            ear.wait(lambda: len(ear.of(t.PollTick)) >= 1)
            sandbox.control.jump(30.0)
            ear.wait(lambda: len(ear.of(t.PollTick)) >= 2)
            sandbox.control.remove_fault(fault)
            ear.wait(lambda: len(ear.of(t.TopicConfirmed)) == 14)
            sandbox.control.jump(60.0)
            ear.wait(lambda: len(ear.of(t.GapFilled)) == 6)
            live.close()
        sys.stdout.write(f"{recording.summary}\n")


if __name__ == "__main__":
    main(sys.argv[1])
