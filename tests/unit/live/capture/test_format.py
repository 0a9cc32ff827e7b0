from __future__ import annotations

import struct
import zlib

import pytest

from massive_lab.errors import CaptureDamaged, CaptureError
from massive_lab.live.capture.format import (
    HEAD_BYTES,
    PREFIX,
    Kind,
    Record,
    pack_block,
    pack_record,
    prefix_hash,
    unpack_records,
)
from massive_lab.live.capture.reader import Capture, verify
from massive_lab.live.capture.writer import Writer


def records(n: int = 40) -> list[Record]:
    return [Record(Kind.FRAME_IN, "stocks", i, 2 * i, b'[{"ev":"T","sym":"AAPL","t":%d}]' % i) for i in range(n)]


@pytest.fixture
def path(tmp_path):
    writer = Writer(tmp_path / "a.mlcap", {"sandbox": True})
    for record in records():
        writer.put(record)
    writer.finish()
    return tmp_path / "a.mlcap"


def blocks(data: bytes) -> list[tuple[int, int]]:
    """Where each block begins and ends."""
    at, found = len(PREFIX), []
    while at < len(data):
        _, _, n_stored, _ = struct.unpack_from("<1sIII", data, at)
        found.append((at, at + HEAD_BYTES + n_stored))
        at = found[-1][1]
    return found


def test_what_was_written_is_read_and_the_summary_says_what_there_is(path):
    assert list(Capture(path)) == records()
    summary = verify(path)
    assert (summary.is_complete, summary.n_records, summary.n_bytes) == (True, 40, path.stat().st_size)
    assert (summary.first_ns, summary.last_ns, summary.by_kind) == (2, 78, {"frame_in": 40})
    assert str(summary).startswith("SANDBOX  40 records in 3 blocks")
    assert not path.with_name("a.mlcap.part").exists()


@pytest.mark.parametrize("bit", [0, 3, 7])
def test_any_flipped_byte_is_located_and_named(path, bit):
    data = path.read_bytes()
    spans = blocks(data)
    bad = path.with_name("bad")
    for i in range(len(data)):
        bad.write_bytes(data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :])
        with pytest.raises(CaptureDamaged) as caught:
            verify(bad)
        error = caught.value
        if i < len(PREFIX):
            assert (error.block, error.offset) == (0, i)
            assert error.what in ("magic", "version", "prefix")
        else:
            number = next(n for n, (_, end) in enumerate(spans) if i < end)
            assert (error.block, error.offset) == (number, spans[number][0])
            assert error.what in ("head", "hash")
            assert f"Block {number} at byte {error.offset}" in str(error)


def test_cut_anywhere_it_is_readable_up_to_the_last_whole_block_and_says_so(path):
    data = path.read_bytes()
    spans = blocks(data)
    cut = path.with_name("cut")
    for n in range(len(data)):
        cut.write_bytes(data[:n])
        if n < spans[0][1]:
            with pytest.raises(CaptureDamaged, match="ends within"):
                verify(cut)
            continue
        summary = verify(cut)
        assert not summary.is_complete
        assert summary.n_bytes == max(end for _, end in spans if end <= n)
        assert list(Capture(cut)) == (records() if n >= spans[1][1] else [])
        assert "cut short" in str(summary)


def test_bytes_behind_the_end_blocks_in_another_order_and_a_block_less_are_found(path):
    data = path.read_bytes()
    (head, data_block, footer) = (data[a:b] for a, b in blocks(data))
    for changed, what in [
        (data + b"x", "trailer"),
        (PREFIX + head + data_block + data_block + footer, "hash"),
        (PREFIX + head + footer, "hash"),
        (PREFIX + data_block + footer, "hash"),
    ]:
        path.write_bytes(changed)
        with pytest.raises(CaptureDamaged) as caught:
            verify(path)
        assert caught.value.what == what


@pytest.mark.parametrize(
    ("kind", "plain", "n", "what"),
    [(b"D", b"\x05\0\0\0abcde", 1, "record"), (b"F", b"{}", 0, "order"), (b"F", b"[]", 0, "record"), (b"H", b"{}", 0, "order")],
    ids=["no-record", "wrong-totals", "no-totals", "second-header"],
)
def test_a_well_chained_block_that_no_writer_writes_is_refused(tmp_path, kind, plain, n, what):
    head, digest = pack_block(b"H", 0, b"{}", prefix_hash())
    path = tmp_path / "odd"
    path.write_bytes(PREFIX + head + pack_block(kind, n, plain, digest)[0])
    with pytest.raises(CaptureDamaged) as caught:
        verify(path)
    assert (caught.value.what, caught.value.block) == (what, 1)


def test_a_block_that_would_inflate_without_end_is_refused_before_it_does(tmp_path):
    head, digest = pack_block(b"H", 0, b"{}", prefix_hash())
    fields = struct.pack("<1sIII", b"D", 1, 10, 2**31)
    path = tmp_path / "bomb"
    path.write_bytes(PREFIX + head + fields + struct.pack("<I", zlib.crc32(fields)) + digest + b"0123456789")
    with pytest.raises(CaptureDamaged) as caught:
        verify(path)
    assert caught.value.what == "head"


def test_an_unknown_kind_of_record_is_not_guessed_at():
    packed = bytearray(pack_record(records(1)[0]))
    packed[4] = 200
    with pytest.raises(CaptureDamaged):
        list(unpack_records(bytes(packed), 1, 3, 99))


def test_another_version_and_another_file_are_named(path, tmp_path):
    data = path.read_bytes()
    path.write_bytes(data[:8] + b"\x02\x00" + data[10:])
    with pytest.raises(CaptureDamaged, match="version 2; this library reads version 1"):
        verify(path)
    other = tmp_path / "notes.txt"
    other.write_text("Dear diary, today nothing was recorded.")
    with pytest.raises(CaptureDamaged, match="not a capture"):
        verify(other)
    with pytest.raises(CaptureError, match="cannot be read"):
        verify(tmp_path / "nowhere")
