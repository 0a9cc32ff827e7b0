"""The sandbox as users start it: a process, its ports, its end, and the same bytes from the same seed."""

from __future__ import annotations

import http.client
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.sync.client import ClientConnection, connect

from massive_lab.errors import ConfigError, ConnectionLost
from massive_lab.sandbox import SandboxControl, SandboxProcess

REST = [
    "/v2/aggs/ticker/AAPL/range/1/minute/2018-12-18/2018-12-18",
    "/v2/aggs/ticker/I:SPX/range/1/day/2018-11-01/2018-12-18",
    "/v3/trades/AAPL?limit=50",
    "/v3/quotes/AAPL?limit=50",
    "/v3/snapshot/options/AAPL?limit=20",
    "/v3/snapshot?ticker.any_of=AAPL,I:SPX,NOSUCH",
    "/v1/marketstatus/now",
    "/v1/indicators/ema/AAPL?window=5",
]


def get(sandbox: SandboxProcess, target: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(sandbox.rest_url.removeprefix("http://"), timeout=60)
    connection.request("GET", target, headers={"Authorization": f"Bearer {sandbox.key}"})
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


@contextmanager
def open_socket(base: str, cluster: str, params: str) -> Iterator[ClientConnection]:
    with connect(f"{base}/{cluster}", compression=None) as client:
        client.recv(10)
        client.send(json.dumps({"action": "auth", "params": "sandbox"}))
        client.recv(10)
        client.send(json.dumps({"action": "subscribe", "params": params}))
        client.recv(10)
        yield client


def frames(sandbox: SandboxProcess, cluster: str, params: str) -> list[str]:
    """Data frames of 65 virtual seconds, taken in three jumps."""
    with open_socket(sandbox.ws_url, cluster, params) as client:
        for seconds in (0.4, 4.6, 60):
            sandbox.control.jump(seconds)
        n = sandbox.control.connections()[-1]["frames"] - 3
        return [str(client.recv(10)) for _ in range(n)]


def one_run(seed: int) -> dict[str, object]:
    with SandboxProcess(seed=seed, paused=True) as sandbox:
        base = sandbox.rest_url.encode()
        bodies = {target: get(sandbox, target) for target in REST}
        return {
            "rest": {target: (status, body.replace(base, b"BASE")) for target, (status, body) in bodies.items()},
            "stocks": frames(sandbox, "stocks", "T.AAPL,Q.AAPL,A.AAPL,AM.AAPL,T.MSFT"),
            "indices": frames(sandbox, "indices", "V.I:SPX,A.I:SPX"),
        }


def test_two_processes_with_one_seed_serve_the_same_bytes_and_another_seed_does_not():
    first, second, other = one_run(7), one_run(7), one_run(8)
    assert first == second
    assert first["stocks"] != other["stocks"]
    for cluster in ("stocks", "indices"):
        assert sum(len(json.loads(frame)) for frame in first[cluster]) > 50
    assert {target: status for target, (status, _) in first["rest"].items()} == dict.fromkeys(REST, 200)


def test_addresses_control_and_end():
    with SandboxProcess(seed=3, speed=2.0, scenario="drop") as sandbox:
        status = sandbox.control.status()
        assert (status["label"], status["seed"], status["speed"]) == ("SANDBOX", 3, 2.0)
        assert status["pid"] == sandbox.pid
        assert sandbox.rest_url.endswith(str(status["port"]))
        assert sandbox.delayed_ws_url.endswith(str(status["delayed_port"]))
        with open_socket(sandbox.delayed_ws_url, "stocks", "T.AAPL"):
            assert sandbox.control.connections()[0]["delayed"]
    sandbox.close()
    with pytest.raises(ConnectionLost):
        sandbox.control.status()


@pytest.mark.parametrize("which", ["port", "delayed_port", "control_port"])
def test_a_port_in_use_is_one_clear_line(which: str):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1:{number}"):
            SandboxProcess(**{which: number})


@pytest.mark.parametrize("options", [{"scenario": "nope"}, {"start": "nope"}, {"speed": 0.0}])
def test_a_bad_option_is_one_clear_line(options: dict):
    with pytest.raises(ConfigError) as caught:
        SandboxProcess(**options)
    assert "Traceback" not in str(caught.value)
    assert "\n" not in str(caught.value)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "massive_lab.sandbox", "--port=0", "--control-port=0", *arguments]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_sandbox_and_ends_cleanly(number: signal.Signals):
    child = subprocess.Popen(command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith("SANDBOX")
        addresses = [child.stdout.readline() for _ in range(5)]
        assert any("control" in line for line in addresses)
        child.send_signal(number)
        _, errors = child.communicate(timeout=30)
    assert (child.returncode, errors) == (0, "")


def test_it_ends_with_the_process_that_started_it():
    # The pipe is inherited by both; its end is seen when the last of them has gone.
    script = (
        "import os, signal, subprocess; popen = subprocess.Popen; fd = int(os.environ['HELD_FD'])\n"
        "def holding(*a, pass_fds, **k): return popen(*a, pass_fds=(*pass_fds, fd), **k)\n"
        "subprocess.Popen = holding\n"
        "from massive_lab.sandbox import SandboxProcess\n"
        "print(SandboxProcess().pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    read_fd, write_fd = os.pipe()
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        pass_fds=(write_fd,),
        env={**os.environ, "HELD_FD": str(write_fd)},
    )
    os.close(write_fd)
    with parent, os.fdopen(read_fd, "rb") as held:
        assert parent.stdout is not None
        assert int(parent.stdout.readline()) != parent.pid
        assert parent.wait(60) == -signal.SIGKILL
        with selectors.DefaultSelector() as selector:
            selector.register(held, selectors.EVENT_READ)
            assert selector.select(60), "the sandbox outlived the process that started it"
        assert held.read() == b""


def test_shutdown_over_the_control_plane():
    child = subprocess.Popen(command(), stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(6)]
        url = next(line for line in lines if "control" in line).split()[-1].removesuffix("/status")
        SandboxControl(url).shutdown()
        assert child.wait(30) == 0
