"""However a program ends, nothing of it stays: threads, sockets, child processes, files, half-sent requests.

Programs run in interpreters of their own, with warnings as errors, and get real signals.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import massive_lab as ml
from massive_lab.errors import ClosedError, ConfigError, IncompletePagination, InvalidRequest
from massive_lab.sandbox.process import SandboxProcess

DAY, NEXT = "2018-12-18", "2018-12-19"
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess(seed=7) as process:
        process.control.pause()
        yield process


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; the step only bounds how often it is asked."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        threading.Event().wait(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("massive_lab")]


HEAD = """
import massive_lab as ml
import sys
import threading


def ready(lab):
    print("READY", lab.sandbox.pid, flush=True)


def ready_once_waiting(lab):
    # Said by another thread, when the main one is seen waiting inside the library: not a moment before.
    main = threading.main_thread().ident

    def watch():
        names = ()
        while not {"wait", "call"} <= set(names) and not {"wait", "get"} <= set(names):
            frame, names = sys._current_frames()[main], []
            while frame is not None:
                names.append(frame.f_code.co_name)
                frame = frame.f_back
        ready(lab)

    threading.Thread(target=watch, daemon=True).start()


"""


class Program:
    """A script that says READY and the pid of its sandbox, in a process group and a temporary folder of its own."""

    def __init__(self, body: str, folder: Path) -> None:
        head = HEAD
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", head + textwrap.dedent(body)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(folder)},
            start_new_session=True,
        )
        assert self.process.stdout is not None
        word, _, pid = self.process.stdout.readline().partition(" ")
        assert word == "READY", self.process.communicate()[1]
        self.sandbox_pid = int(pid)

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal to the whole group, as a terminal and Jupyter do."""
        os.killpg(self.process.pid, number)
        _, errors = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, errors


BODIES = {
    "a huge chain": """
        lab = ml.connect("sandbox", progress=False)
        ready_once_waiting(lab)
        while True:
            lab.chain("I:SPX")
        """,
    "years of minutes with a progress bar": """
        lab = ml.connect("sandbox", progress=True)
        ready_once_waiting(lab)
        while True:
            lab.bars("AAPL", "1m", "2014-01-01", "2019-01-01")
        """,
    "waiting for a trade that never comes": """
        lab = ml.connect("sandbox", progress=False)
        live = lab.live(["AAPL", "I:SPX"]).wait_live(30)
        lab.sandbox.control.pause()
        ready_once_waiting(lab)
        for trade in live.trades():
            pass
        """,
    "asyncio": """
        import asyncio

        async def main():
            async with ml.aconnect("sandbox", progress=False) as lab, lab.live("AAPL") as live:
                await live.await_live()
                ready(lab)
                while True:
                    await lab.chain("I:SPX")

        asyncio.run(main())
        """,
}


@pytest.mark.parametrize("name", BODIES)
def test_ctrl_c_ends_at_once_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    program = Program(BODIES[name], tmp_path)
    code, errors = program.end(signal.SIGINT)
    assert code == -signal.SIGINT
    assert errors.strip().endswith("KeyboardInterrupt")
    assert "Warning" not in errors
    assert "ignored" not in errors
    # The interpreter has closed the client on its way out: nobody has to wait for the sandbox.
    assert not is_alive(program.sandbox_pid)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_program_takes_its_sandbox_along(number: int, tmp_path: Path) -> None:
    program = Program(BODIES["waiting for a trade that never comes"], tmp_path)
    code, _ = program.end(number)
    assert code == -number
    until(lambda: not is_alive(program.sandbox_pid))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_notebook_keeps_its_sandbox(tmp_path: Path) -> None:
    # Jupyter sends the signal to the kernel's whole process group; the kernel goes on, and so must the sandbox.
    program = Program(
        """
        lab = ml.connect("sandbox", progress=False)
        try:
            ready_once_waiting(lab)
            while True:
                lab.chain("I:SPX")
        except KeyboardInterrupt:
            pass
        assert lab.bars("AAPL", "1d", "2018-12-10", "2018-12-15").height == 5
        lab.close()
        """,
        tmp_path,
    )
    assert program.end(signal.SIGINT) == (0, "")
    assert not is_alive(program.sandbox_pid)


def test_leaving_without_closing_is_quiet_and_ends_the_sandbox(tmp_path: Path) -> None:
    program = Program(
        """
        lab = ml.connect("sandbox", progress=False)
        lab.bars("AAPL", "1d", "2018-12-10", "2018-12-15")
        live = lab.live("AAPL").wait_live(30)
        ready(lab)
        """,
        tmp_path,
    )
    _, errors = program.process.communicate(timeout=PATIENCE_S)
    assert (program.process.returncode, errors) == (0, "")
    assert not is_alive(program.sandbox_pid)
    assert list(tmp_path.iterdir()) == []


def test_a_forgotten_client_is_closed() -> None:
    lab = ml.connect("sandbox", progress=False)
    assert lab.market_status().height
    assert lab.sandbox is not None
    pid, gone = lab.sandbox.pid, weakref.ref(lab)
    del lab
    gc.collect()
    assert gone() is None
    until(lambda: not is_alive(pid) and not own_threads())


def test_a_feed_keeps_its_client() -> None:
    live = ml.connect("sandbox", progress=False).live("AAPL")
    gc.collect()
    live.wait_live(PATIENCE_S)
    live.close()
    del live
    gc.collect()
    until(lambda: not own_threads())


def test_a_failed_connect_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[SandboxProcess] = []

    class Watched(SandboxProcess):
        def __init__(self, **options: int) -> None:
            super().__init__(**options)
            started.append(self)

    def fail(*_: object, **__: object) -> None:
        raise InvalidRequest("no")

    monkeypatch.setattr("massive_lab.sandbox.process.SandboxProcess", Watched)
    monkeypatch.setattr("massive_lab.lab.core.Session", fail)
    with pytest.raises(InvalidRequest, match="no"):
        ml.connect("sandbox")
    assert [is_alive(each.pid) for each in started] == [False]
    assert own_threads() == []


def test_closing_while_other_threads_load(sandbox: SandboxProcess) -> None:
    lab = ml.connect("sandbox", sandbox=sandbox, progress=False)
    ended: list[BaseException] = []
    busy = threading.Barrier(5)

    def load() -> None:
        busy.wait()
        try:
            while True:
                lab.bars(["AAPL", "MSFT"], "1m", "2018-06-01", NEXT)
        except (ClosedError, IncompletePagination) as error:
            ended.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    busy.wait()
    until(lambda: lab.load_report().requests > 0)
    lab.close()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(ended) == 4
    assert own_threads() == []
    for use in (lab.market_status, lambda: lab.live("AAPL")):
        with pytest.raises(ClosedError):
            use()


def test_a_timeout_aborts_the_request_and_leaves_no_task(sandbox: SandboxProcess) -> None:
    control = sandbox.control
    control.reset_counts()
    held = control.add_fault("timeout", scope="chain")

    async def use() -> None:
        async with ml.aconnect("sandbox", sandbox=sandbox, progress=False) as lab:
            loop = lab._runner.loop
            load = asyncio.create_task(lab.chain("AAPL"))
            await asyncio.to_thread(until, lambda: control.counts()["rest"]["total"]["requests"])
            load.cancel()
            with pytest.raises(asyncio.CancelledError):
                await load
            await asyncio.to_thread(until, lambda: not asyncio.all_tasks(loop))
            assert lab._session.transport.n_in_flight == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert own_threads() == []

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await use()

    asyncio.run(bounded())
    until(lambda: control.counts()["rest"]["total"]["disconnected"] == 1)
    control.remove_fault(held)


def test_a_block_left_by_a_timeout_is_closed() -> None:
    pids: list[int] = []

    async def use() -> None:
        async with ml.aconnect("sandbox", progress=False) as lab:
            assert lab.sandbox is not None
            pids.append(lab.sandbox.pid)
            lab.sandbox.control.pause()
            live = await lab.live("AAPL").await_live()
            async with asyncio.timeout(0):
                async for _ in live.trades():
                    pass

    with pytest.raises(TimeoutError):
        asyncio.run(use())
    assert not is_alive(pids[0])
    assert own_threads() == []


def _worker(urls: dict[str, str]) -> int:
    with ml.connect("sandbox", sandbox=urls, progress=False) as lab:
        return lab.bars("AAPL", "1d", "2018-12-10", "2018-12-15").height


def _forked(urls: dict[str, str], lab: ml.Lab) -> str:
    told = []
    for use in (lab.market_status, lambda: _worker(urls)):
        try:
            use()
        except (ClosedError, ConfigError) as error:
            told.append(type(error).__name__)
    lab.close()
    return " ".join(told)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
def test_workers_are_spawned_and_a_fork_is_told_so_instead_of_hanging() -> None:
    with ml.connect("sandbox", progress=False) as lab:
        assert lab.sandbox is not None
        urls = {name: getattr(lab.sandbox, name) for name in ("rest_url", "ws_url")}
        assert lab.market_status().height
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.map(_worker, [urls]) == [5]
        read_fd, write_fd = os.pipe()
        child = os.fork()
        if not child:
            os.write(write_fd, _forked(urls, lab).encode())
            os._exit(0)
        os.close(write_fd)
        assert os.waitpid(child, 0)[1] == 0
        with os.fdopen(read_fd) as told:
            assert told.read() == "ClosedError ConfigError"
        # The child's goodbye was its own.
        assert lab.market_status().height


def test_temporary_files_end_with_the_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with ml.connect("sandbox", progress=False) as lab:
        assert lab.market_status().height
    assert list(tmp_path.iterdir()) == []
