"""What a client holds open: its feeds, requests, recordings and sandbox, and the order in which they end."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING

from massive_lab.errors import ClosedError
from massive_lab.loaders.session import Session
from massive_lab.transports.runner import Runner

if TYPE_CHECKING:
    from massive_lab.live.capture.record import Recording
    from massive_lab.live.core import Core as LiveCore
    from massive_lab.live.session import Live
    from massive_lab.sandbox.process import SandboxProcess

__all__ = ["Lives", "Parts"]


class Lives(weakref.WeakSet["Live"]):
    """The feeds of a client, and what is left of those that nobody refers to any more, until it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self._cores: weakref.WeakSet[LiveCore] = weakref.WeakSet()

    def add(self, live: Live) -> None:
        """Close this one with the client."""
        super().add(live)
        # What ends a forgotten feed is a task on the loop, and that holds its core for so long.
        self._cores.add(live.core)

    def close(self, runner: Runner) -> None:
        """Close them all."""
        for live in list(self):
            live.close()
        for core in list(self._cores):
            # The collector was here first: the feed is ending, and is waited for rather than cut.
            if not core.ended.is_set():
                runner.call(core.aclose())


class Parts:
    """What a client holds open; apart from the client, so that a forgotten one can be collected and its parts ended."""

    def __init__(self, runner: Runner, session: Session, sandbox: SandboxProcess | None) -> None:
        self.runner = runner
        self.session = session
        self.sandbox = sandbox
        self.lives = Lives()
        self.recordings: list[Recording] = []
        self.closed = False
        self._lock = threading.Lock()
        self._pid = os.getpid()
        # After the runner has registered itself, so that it is still there when this is called.
        atexit.register(self.close)

    def close(self) -> None:
        """Close feeds, requests and the sandbox, in that order; what was closed stays closed."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
        atexit.unregister(self.close)
        if self._pid != os.getpid():
            # A forked child has copies of the handles; what they stand for is its parent's.
            if self.sandbox is not None:
                self.sandbox.close()
            return
        try:
            self.lives.close(self.runner)
            self.runner.call(self.session.aclose())
        except ClosedError:
            pass  # the loop thread has ended already, and with it all that it ran
        finally:
            # Ctrl-C in the middle skips a step, never what comes after it; the last one named is the first one done.
            with ExitStack() as steps:
                if self.sandbox is not None:
                    steps.callback(self.sandbox.close)
                steps.callback(self.runner.release)
                for recording in self.recordings:
                    steps.callback(recording.end)

    def forget(self) -> None:
        """Close from a thread of its own: the garbage collector may strike anywhere, also in the loop thread."""
        if not self.closed:
            threading.Thread(target=self.close, name="massive_lab-end", daemon=True).start()
