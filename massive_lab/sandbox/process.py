"""A sandbox as a process of its own, for as long as a ``with`` block lasts."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Any, Self

from massive_lab.errors import ConfigError
from massive_lab.sandbox.accounts import DEFAULT_KEY
from massive_lab.sandbox.client import SandboxControl
from massive_lab.sandbox.clock import DEFAULT_START

__all__ = ["SandboxProcess"]

_READY_S = 120.0
_STOP_S = 10.0


class SandboxProcess:
    """Start a sandbox, wait until it listens, stop it on exit.

    The child ends by itself when this process dies, however it dies.

    Parameters
    ----------
    seed : int
        Of the market and of every choice the sandbox makes.
    start : str
        Virtual time at the start, ISO; New York when it has no offset.
    speed : float
        Virtual seconds per real second.
    paused : bool
        Start with virtual time standing still.
    density : float
        How lively the market is.
    scenario : str
        Faults that come and go: ``calm``, ``drop``, ``rough``.
    port, delayed_port, control_port : int
        0: any free one.
    max_buffer_bytes : int, optional
        What a WebSocket client may leave unread.
    auth_timeout_s : float, optional
        Real seconds a connection may stay unauthenticated.

    Raises
    ------
    ConfigError
        When it cannot start: a port in use, a bad option. The text is the child's.

    Notes
    -----
    ::

        with SandboxProcess(seed=7) as sandbox:
            sandbox.rest_url, sandbox.ws_url, sandbox.key    # where to connect, and with what
            sandbox.control.add_fault("http_429", scope="trades", count=2, retry_after_s=1)
    """

    def __init__(
        self,
        *,
        seed: int = 7,
        start: str = DEFAULT_START,
        speed: float = 1.0,
        paused: bool = False,
        density: float = 1.0,
        scenario: str = "calm",
        port: int = 0,
        delayed_port: int = 0,
        control_port: int = 0,
        max_buffer_bytes: int | None = None,
        auth_timeout_s: float | None = None,
    ) -> None:
        self.key = DEFAULT_KEY
        """A key with the advanced plan of every asset class."""
        options: dict[str, Any] = {
            "seed": seed,
            "start": start,
            "speed": speed,
            "density": density,
            "scenario": scenario,
            "port": port,
            "delayed-port": delayed_port,
            "control-port": control_port,
            "max-buffer-bytes": max_buffer_bytes,
            "auth-timeout": auth_timeout_s,
        }
        arguments = [f"--{name}={value}" for name, value in options.items() if value is not None]
        if paused:
            arguments.append("--paused")
        self._owner = os.getpid()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the child
        read_fd, write_fd = os.pipe()
        try:
            self._child = subprocess.Popen(  # noqa: S603  our own interpreter and module
                [sys.executable, "-m", "massive_lab.sandbox", *arguments, "--ready-fd", str(write_fd), "--tied"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=(write_fd,),
                # Ctrl-C in a terminal and a notebook's interrupt go to the whole group of the parent: not to this one.
                process_group=0,
            )
        except BaseException:
            os.close(read_fd)
            self._errors.close()
            raise
        finally:
            os.close(write_fd)
        try:
            ports = self._wait_until_ready(read_fd)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(read_fd)
        self.rest_url = f"http://127.0.0.1:{ports['port']}"
        self.ws_url = f"ws://127.0.0.1:{ports['port']}"
        """Add the cluster: ``/stocks``, ``/options``, ``/indices``."""
        self.delayed_ws_url = f"ws://127.0.0.1:{ports['delayed_port']}"
        self.control_url = f"http://127.0.0.1:{ports['control_port']}"
        self.control = SandboxControl(self.control_url)

    @property
    def pid(self) -> int:
        return self._child.pid

    def close(self) -> None:
        """Stop the child and wait for it; may be called again. In a forked process it only lets go of it."""
        if self._child.stdin is not None:
            self._child.stdin.close()
        if os.getpid() != self._owner:
            self._errors.close()
            return
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait_until_ready(self, read_fd: int) -> dict[str, int]:
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(read_fd, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(_READY_S):
                    raise ConfigError(f"The sandbox did not start within {_READY_S:.0f} seconds.")
                part = os.read(read_fd, 4096)
                if not part:  # the child closed its end: it has failed
                    self._child.wait()
                    raise ConfigError(f"The sandbox did not start: {self._error_text()}")
                line += part
        ports: dict[str, int] = json.loads(line)
        return ports

    def _error_text(self) -> str:
        self._errors.seek(0)
        text = self._errors.read().decode("utf-8", "replace").strip()
        return text[-2_000:] or f"exit code {self._child.returncode}"
