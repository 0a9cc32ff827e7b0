from __future__ import annotations

import errno
import gc
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from massive_lab.errors import CaptureDamaged, CaptureError, InvalidRequest
from massive_lab.live.capture.format import Kind, Record
from massive_lab.live.capture.reader import Capture, verify
from massive_lab.live.capture.replay import Replay
from massive_lab.live.capture.writer import BLOCK_BYTES, Writer

ROOT = Path(__file__).resolve().parents[4]


def frame(i: int, size: int = 100) -> Record:
    return Record(Kind.FRAME_IN, "stocks", i, i, os.urandom(size))


class Disk(io.FileIO):
    """A file that fails or waits when it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "xb")
        self.room = 10**9
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()

    def write(self, data) -> int:
        if not self.gate.is_set():
            self.reached.set()
        self.gate.wait()
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        # As a real unbuffered file may: a part of what it was given.
        n = super().write(bytes(data)[: min(self.room, 1_000)])
        self.room -= n
        return n


def writer_on(path: Path, **options) -> tuple[Writer, Disk]:
    disks: list[Disk] = []

    def opener(part: Path) -> Disk:
        disks.append(Disk(part))
        return disks[0]

    return Writer(path, {}, opener=opener, **options), disks[0]


@pytest.mark.parametrize("taken", ["a.mlcap", "a.mlcap.part"])
def test_a_file_that_exists_is_left_alone(tmp_path, taken):
    (tmp_path / taken).write_text("mine")
    with pytest.raises(InvalidRequest, match=f"{taken} exists already"):
        Writer(tmp_path / "a.mlcap", {})
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(taken, "mine")]


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(CaptureError, match="cannot be written: No such file"):
        Writer(tmp_path / "no" / "a.mlcap", {})
    assert list(tmp_path.iterdir()) == []


def test_many_blocks_and_records_larger_than_a_block(tmp_path):
    writer = Writer(tmp_path / "a", {})
    put = [frame(i, size) for i, size in enumerate([10, BLOCK_BYTES, 3 * BLOCK_BYTES, 0, *[5_000] * 200])]
    for record in put:
        writer.put(record)
    summary = writer.finish()
    assert list(Capture(tmp_path / "a")) == put
    assert summary.n_blocks >= 6


def test_a_disk_that_fills_up_stops_the_capture_with_a_clear_error_and_what_was_written_is_good(tmp_path):
    writer, disk = writer_on(tmp_path / "a")
    disk.room = 2 * BLOCK_BYTES
    for i in range(40):
        writer.put(frame(i, 50_000))
    with pytest.raises(CaptureError, match="No space left on device"):
        writer.finish()
    assert isinstance(writer.error, CaptureError)
    assert not (tmp_path / "a").exists()
    summary = verify(tmp_path / "a.part")
    assert not summary.is_complete
    assert 0 < summary.n_records < 40


def test_a_disk_that_is_full_from_the_start_leaves_nothing_behind(tmp_path):
    def opener(part: Path) -> Disk:
        disk = Disk(part)
        disk.room = 0
        return disk

    with pytest.raises(CaptureError, match="No space"):
        Writer(tmp_path / "a", {}, opener=opener)
    assert list(tmp_path.iterdir()) == []


def test_a_slow_disk_blocks_nobody_and_what_is_left_out_is_told_where_it_would_have_stood(tmp_path):
    writer, disk = writer_on(tmp_path / "a", queue_bytes=BLOCK_BYTES + 10_000)
    disk.gate.clear()
    first = [frame(i, 1_000) for i in range(BLOCK_BYTES // 1_000 + 1)]
    for record in first:
        writer.put(record)
    assert disk.reached.wait(30)  # the disk has the first batch, and does not come back
    second = [frame(1_000 + i, 1_000) for i in range(400)]
    for record in second:
        writer.put(record)
    opened = Record(Kind.READER_OPENED, "stocks", 5_000, 5_000, b"{}")
    writer.put(opened)
    assert 0 < writer.n_lost < 400
    disk.gate.set()
    summary = writer.finish()
    got = list(Capture(tmp_path / "a"))
    kept = 400 - writer.n_lost
    assert got[: len(first) + kept] == first + second[:kept]
    assert [record.kind for record in got[len(first) + kept :]] == [Kind.HOLE, Kind.READER_OPENED]
    hole = got[-2]
    assert hole.utc_ns == second[kept].utc_ns
    assert summary.n_lost == writer.n_lost
    assert "records are missing" in str(summary)


def test_a_hole_at_the_very_end_is_told_too(tmp_path):
    writer, disk = writer_on(tmp_path / "a", queue_bytes=1_000)
    disk.gate.clear()
    for i in range(50):
        writer.put(frame(i, 400))
    disk.gate.set()
    assert writer.n_lost > 0
    assert writer.finish().n_lost == writer.n_lost


def test_a_hole_alone_does_not_keep_what_follows_it_from_the_disk(tmp_path):
    writer, disk = writer_on(tmp_path / "a", queue_bytes=BLOCK_BYTES)
    disk.gate.clear()
    lost = frame(1, 2 * BLOCK_BYTES)  # more than ever fits, so that it is left out before anything waits
    writer.put(lost)
    assert writer.n_lost == 1
    writer.put(frame(2))
    try:
        assert disk.reached.wait(30), "what came after the hole is written after a second"
    finally:
        disk.gate.set()
        writer.finish()
    assert [record.kind for record in Capture(tmp_path / "a")] == [Kind.HOLE, Kind.FRAME_IN]


def test_what_a_killed_process_had_written_is_read_up_to_the_last_whole_block(tmp_path):
    script = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from massive_lab.live.capture.format import Kind, Record
from massive_lab.live.capture.replay import Replay
from massive_lab.live.capture.writer import Writer
writer = Writer(Path({str(tmp_path / "a")!r}), {{"sandbox": True}})
for i in range(1000):
    writer.put(Record(Kind.FRAME_IN, "stocks", i, i, b"x" * 1_000))
while Path({str(tmp_path / "a.part")!r}).stat().st_size < 700: pass
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == -9, done.stderr
    part = tmp_path / "a.part"
    summary = verify(part)
    assert not summary.is_complete
    assert summary.n_records == len(list(Capture(part))) > 0
    assert not (tmp_path / "a").exists()


def test_a_name_that_was_taken_meanwhile_is_not_overwritten(tmp_path):
    writer = Writer(tmp_path / "a", {})
    writer.put(frame(1))
    (tmp_path / "a").write_text("mine")
    with pytest.raises(CaptureError, match="come into being"):
        writer.finish()
    assert (tmp_path / "a").read_text() == "mine"
    assert verify(tmp_path / "a.part").is_complete


def test_records_of_a_hub_that_was_never_recorded_are_refused_and_nothing_is_left_open(tmp_path):
    writer = Writer(tmp_path / "a", {})
    writer.put(frame(1))
    writer.finish()
    with pytest.raises(CaptureDamaged, match="was never recorded"):
        Replay(tmp_path / "a").run()
    gc.collect()  # an event loop that is not closed says so here
