"""Laws of captures: what is written is read, what is changed is noticed, what is cut is a beginning, what plays, the same."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.config import Secret
from massive_lab.errors import CaptureDamaged
from massive_lab.live.capture.format import CLUSTERS, Kind, Record
from massive_lab.live.capture.reader import Capture, verify
from massive_lab.live.capture.redact import Redactor
from massive_lab.live.capture.replay import Replay
from massive_lab.live.capture.writer import Writer

SESSION = Path(__file__).resolve().parents[1] / "golden" / "capture" / "session.mlcap"
NS = st.integers(-(2**63), 2**63 - 1)
RECORDS = st.builds(
    Record,
    st.sampled_from([kind for kind in Kind if kind is not Kind.HOLE]),
    st.sampled_from(CLUSTERS),
    NS,
    NS,
    st.binary(max_size=400),
    st.booleans(),
)


def written(folder: str, records: list[Record]) -> Path:
    writer = Writer(Path(folder) / "a", {"sandbox": True})
    for record in records:
        writer.put(record)
    writer.finish()
    return Path(folder) / "a"


@given(st.lists(RECORDS, max_size=30))
def test_what_is_written_is_read(records):
    with TemporaryDirectory() as folder:
        path = written(folder, records)
        assert list(Capture(path)) == records
        assert verify(path).n_records == len(records)


@cache
def golden() -> tuple[bytes, list[Record]]:
    return SESSION.read_bytes(), list(Capture(SESSION))


def damaged_at(path: Path) -> int | None:
    try:
        verify(path)
    except CaptureDamaged as error:
        return error.offset
    return None


@given(st.data())
def test_no_change_goes_unnoticed_and_none_brings_a_wrong_record(data):
    whole, records = golden()
    at = data.draw(st.integers(0, len(whole) - 1))
    n_out = data.draw(st.integers(0, 300))
    put_in = data.draw(st.one_of(st.binary(max_size=50), st.just(whole[at : at + 64]), st.just(b"")))
    changed = whole[:at] + put_in + whole[at + n_out :]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "changed"
        path.write_bytes(changed)
        offset = damaged_at(path)
        if offset is not None:
            # Up to the block that is named, all is as it was written.
            assert changed[:offset] == whole[:offset]
        else:
            assert changed == whole or not verify(path).is_complete
            got = list(Capture(path))
            assert got == records[: len(got)]


@pytest.mark.parametrize("bit", range(8))
@given(at=st.integers(0, SESSION.stat().st_size - 1))
def test_a_flipped_bit_is_always_found(bit, at):
    whole, _ = golden()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "flipped"
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        with pytest.raises(CaptureDamaged) as caught:
            verify(path)
        assert caught.value.offset <= at


@cache
def streamed() -> list:
    return [event for event in Replay(SESSION).events if event.source == "stream"]


@given(st.integers(400, SESSION.stat().st_size))
def test_cut_anywhere_it_plays_the_beginning_and_twice_the_same(n):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "cut"
        path.write_bytes(golden()[0][:n])
        one, two = Replay(path), Replay(path)
        assert one.sha256 == two.sha256
        events = [event for event in one.events if event.source == "stream"]
        assert events == streamed()[: len(events)]


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=40),
    st.binary(max_size=60),
    st.binary(max_size=60),
)
def test_a_key_never_gets_through(key, before, after):
    out = Redactor(Secret(key))(before + key.encode() + after)
    assert len(out) == len(before) + len(key) + len(after)
    if set(key) != {"*"}:
        assert key.encode() not in out
