"""A real NATS server for the tests."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

WAIT_S = 30.0


class NatsServer:
    """Debian's nats-server on a free port of the loopback interface, with a store that outlives it."""

    def __init__(self, path: Path) -> None:
        program = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")
        assert program is not None, "nats-server is missing: apt-get install nats-server"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.url = f"nats://127.0.0.1:{self.port}"
        self._command = [program, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(path)]
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._child = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + WAIT_S
        while True:
            assert self._child.poll() is None, f"nats-server ended with {self._child.returncode}"
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1.0) as asked:
                    assert asked.recv(4) == b"INFO"
                    return
            except OSError:
                assert time.monotonic() < end, "nats-server does not listen"
                time.sleep(0.02)

    def stop(self, how: int = signal.SIGTERM) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.send_signal(how)
            child.wait(WAIT_S)
