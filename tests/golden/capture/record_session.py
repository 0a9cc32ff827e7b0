"""Records the golden session anew: ``python tests/golden/capture/record_session.py FILE``. Its times are those of today."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import massive_lab as ml
from massive_lab import telemetry as t
from massive_lab.sandbox import SandboxProcess


class Ear:
    """Telemetry that can be waited on."""

    def __init__(self) -> None:
        self.events: list[t.Event] = []
        self._came = threading.Condition()

    def __call__(self, event: t.Event) -> None:
        with self._came:
            self.events.append(event)
            self._came.notify_all()

    def wait(self, condition: Callable[[], object]) -> None:
        with self._came:
            self._came.wait_for(condition, 60.0)

    def n(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.events)


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
            ear.wait(lambda: ear.n(t.PollTick) >= 1)
            sandbox.control.jump(30.0)
            ear.wait(lambda: ear.n(t.PollTick) >= 2)
            sandbox.control.remove_fault(fault)
            ear.wait(lambda: ear.n(t.TopicConfirmed) == 14)
            sandbox.control.jump(60.0)
            ear.wait(lambda: ear.n(t.GapFilled) == 6)
            live.close()
        sys.stdout.write(f"{recording.summary}\n")


if __name__ == "__main__":
    main(sys.argv[1])
