from __future__ import annotations

import socket
import threading

from massive_lab.audit.cleanup import Held, held, left_over


def test_an_open_connection_to_the_port_is_seen_and_others_are_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        before = held(ports=[port])
        with socket.create_connection(("127.0.0.1", port)):
            during = held(ports=[port])
            assert held(ports=[1]).sockets == 0
        after = held(ports=[port])
    assert (before.sockets, during.sockets) == (0, 1)
    assert left_over(before, during) == ["1 socket"]
    assert left_over(before, after) == []


def test_a_thread_that_stays_is_named() -> None:
    before, end = held(), threading.Event()
    thread = threading.Thread(target=end.wait, name="lost-soul")
    thread.start()
    during = held()
    end.set()
    thread.join()
    assert left_over(before, during) == ["thread lost-soul"]
    assert left_over(during, before) == []


def test_memory_is_read_and_judged_elsewhere() -> None:
    now = held()
    assert now.memory_bytes > 1_000_000
    assert left_over(Held((), 0, 0, 1), Held((), 0, 0, 10**9)) == []


def test_what_is_not_measured_is_not_left_over() -> None:
    assert left_over(Held((), None, None, None), Held((), 3, 3, None)) == []
    assert left_over(Held((), 0, 0, None), Held((), 3, None, None)) == ["3 tasks"]
