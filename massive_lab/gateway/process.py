"""A gateway as a process of its own, for as long as a ``with`` block lasts."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Self

from massive_lab.errors import ConfigError

__all__ = ["GatewayProcess"]

_READY_S = 60.0
_STOP_S = 30.0
_SECRET = "a-secret-of-a-gateway-for-one-process"  # noqa: S105  nobody else's tokens are signed with it


class GatewayProcess:
    """Start ``massive-lab gateway``, wait until it listens, stop it on exit.

    The child ends by itself when this process dies, however it dies. It inherits the environment, without variables that
    would name another upstream, other tokens or other ports.

    Parameters
    ----------
    sandbox : str, optional
        Address of a sandbox to serve; everything is then labelled SANDBOX.
    environ : mapping, optional
        Variables for the child: an upstream, limits, a file of tokens.
    tokens : mapping
        Name to token; left out when `environ` names a file of tokens.
    arguments : sequence of str
        More options of ``massive-lab gateway``.

    Raises
    ------
    ConfigError
        When it cannot start. The text is the child's.

    Notes
    -----
    ::

        with SandboxProcess() as sandbox, GatewayProcess(sandbox=sandbox.rest_url) as gateway:
            gateway.url, gateway.ws_url, gateway.token
    """

    def __init__(
        self,
        *,
        sandbox: str | None = None,
        tokens: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        named = {"desk": "desk-0123456789abcdef"} if tokens is None else dict(tokens)
        self.token = next(iter(named.values()), "")
        """Of the first name."""
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(("MASSIVE_", "WEB_ORIGIN"))}
        # The child reads ``.env`` where it starts; an empty variable hides one from there.
        hidden = dict.fromkeys(("MASSIVE_GATEWAY_TOKENS_FILE", "MASSIVE_GATEWAY_PUBLIC_URL", "WEB_ORIGIN"), "")
        ours = {
            **hidden,
            "MASSIVE_GATEWAY_SECRET": _SECRET,
            "MASSIVE_GATEWAY_TOKENS": ",".join(f"{name}:{token}" for name, token in named.items()),
            "MASSIVE_GATEWAY_PORT": "0",
            "MASSIVE_GATEWAY_ADMIN_PORT": "0",
        }
        command = [sys.executable, "-m", "massive_lab", "gateway", *arguments]
        if sandbox is not None:
            command += ["--sandbox", sandbox]
        self._owner = os.getpid()
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the child
        read_fd, write_fd = os.pipe()
        try:
            self._child = subprocess.Popen(  # noqa: S603  our own interpreter and module
                [*command, "--ready-fd", str(write_fd), "--tied"],
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(write_fd,),
                process_group=0,
                env={**inherited, **ours, **(environ or {})},
            )
        except BaseException:
            os.close(read_fd)
            self._log.close()
            raise
        finally:
            os.close(write_fd)
        try:
            found = self._wait_until_ready(read_fd)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(read_fd)
        self.url = found["url"]
        self.ws_url = found["ws_url"]
        """Add the cluster: ``/stocks``, ``/options``, ``/indices``."""
        self.admin_url = found["admin_url"]

    @property
    def pid(self) -> int:
        return self._child.pid

    def log(self) -> str:
        """All that the child has printed until now."""
        # Read at a place of our own: the child writes at the one it shares with us.
        return os.pread(self._log.fileno(), 64 * 1024 * 1024, 0).decode("utf-8", "replace")

    def reload(self) -> None:
        """Ask the child to read its tokens anew."""
        self._child.send_signal(signal.SIGHUP)

    def terminate(self) -> None:
        """Ask the child to drain and end; `wait` for it."""
        self._child.terminate()

    def wait(self, timeout_s: float = _STOP_S) -> int:
        """Wait for the end of the child; its exit code."""
        return self._child.wait(timeout_s)

    def close(self) -> None:
        """Stop the child and wait for it; may be called again. In a forked process it only lets go of it."""
        if self._child.stdin is not None:
            self._child.stdin.close()
        if os.getpid() != self._owner:
            self._log.close()
            return
        if self._child.poll() is None:
            # Twice: a drain that others wait for is no use here.
            self._child.terminate()
            self._child.terminate()
            try:
                self._child.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait_until_ready(self, read_fd: int) -> dict[str, str]:
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(read_fd, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(_READY_S):
                    raise ConfigError(f"The gateway did not start within {_READY_S:.0f} seconds.")
                part = os.read(read_fd, 4096)
                if not part:  # the child closed its end: it has failed
                    code = self._child.wait()
                    raise ConfigError(
                        f"The gateway did not start: {self.log().strip()[-2_000:] or f'exit code {code}'}"
                    )
                line += part
        found: dict[str, str] = json.loads(line)
        return found
