from __future__ import annotations

import math

import numpy as np
import pytest

from massive_lab.decode import bars_quick
from massive_lab.decode.bars_quick import FIELDS, read_bars

ROW = {"v": "12", "vw": "1.25", "o": "1", "c": "2.5", "h": "3", "l": "0.5", "t": "1748871000000", "n": "7"}


def text_of(*rows: dict[str, str]) -> bytes:
    return ("[" + ",".join("{" + ",".join(f'"{k}":{v}' for k, v in row.items()) + "}" for row in rows) + "]").encode()


def read(text: bytes) -> list[dict[str, float]] | None:
    """The rows back as dictionaries, read from the middle of a longer body."""
    values = read_bars(b'{"results":' + text + b',"status":"OK"}', 11, 11 + len(text))
    if values is None:
        return None
    return [
        {name: x for name, x in zip(FIELDS, column, strict=True) if not math.isnan(x)} for column in values.T.tolist()
    ]


def volume(text: str) -> float | None:
    """What the quick way makes of one number; the other rows keep the odd ones few."""
    rows = read(text_of(*[ROW] * 30, {**ROW, "v": text}))
    return None if rows is None else rows[-1]["v"]


def test_rows_come_back_as_they_are():
    short = {"t": "1", "c": "1", "o": "1", "l": "1", "h": "1"}
    expected = [{name: float(value) for name, value in row.items()} for row in (ROW, short, ROW)]
    assert read(text_of(ROW, short, ROW)) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("0", "7", "10", "12345678", "123456789", "123456789012345", "1234567890123456", "9007199254740993"),
        *("0.1", "0.5", "1.25", "123.4567", "0.123456", "1234.5678", "12345.678", "1234567.8", "0.0000001"),
        *("12345678.5", "1234567.25", "0.12345678", "1.234567890", "12345678.1234567", "0.12345678901234"),
        *("1.2345678901234", "123456789.123456", "99999999999999.9", "0.30000000000000004", "5e-324"),
        *("1.7976931348623157e308", "1.2e7", "6.42646396e+08", "1E5", "2e-3", "-1", "-0.5", "-0.0", "-0", "100000000"),
        *("10000000000000000000000", "0.1000000000000000055511151231257827"),
    ],
)
def test_every_form_of_a_number_is_the_nearest_double(text: str):
    found = volume(text)
    assert found is not None
    expected = 0.0 if text == "-0" else float(text)
    assert np.float64(found).tobytes() == np.float64(expected).tobytes()


def test_all_lengths_and_places_of_the_point():
    digits = "9182736455463728190"
    texts = [digits[:n] for n in range(1, 17)]
    texts += [f"{digits[:k]}.{digits[k:n]}" for n in range(2, 18) for k in range(1, n)]
    rows = [{**ROW, "v": text} for text in texts] + [ROW] * 20 * len(texts)
    found = read(text_of(*rows))
    assert found is not None
    assert [row["v"] for row in found[: len(texts)]] == [float(text) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "1 ",
            " 1",
            "01",
            "00",
            "00.5",
            "1.",
            ".5",
            ".",
            "1..2",
            "1.2.3",
            "1.23456789.1",
            "+1",
            "--1",
            "-",
            "1-",
        ),
        *(
            "1e",
            "1e+",
            "e5",
            "0x10",
            "1_0",
            "NaN",
            "inf",
            "nan",
            "null",
            "true",
            '"1"',
            "[1]",
            "{}",
            '{"o":1}',
            "1e400",
        ),
        *(
            "1/2",
            "1;2",
            "1\x00",
            "1\x80",
            "\u0661",
            "12345678:1",
            "1,2",
            '1,"z":2',
            '1,"v":2',
            "123456789012345\n",
            "-01",
        ),
    ],
)
def test_what_is_no_plain_number_is_left_to_the_exact_way(text: str):
    assert volume(text) is None


@pytest.mark.parametrize("field", ["t", "n"])
@pytest.mark.parametrize("text", ["1.5", "7.0", "1e3", "-1", "1234567890123456", "9007199254740993", "null"])
def test_integers_must_be_written_as_integers(field: str, text: str):
    assert read(text_of(*[ROW] * 30, {**ROW, field: text})) is None


@pytest.mark.parametrize("missing", ["t", "o", "h", "l", "c"])
def test_row_without_a_required_field(missing: str):
    assert read(text_of(ROW, {name: value for name, value in ROW.items() if name != missing})) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"o":1', b'"o":1,"o":2'),
        (b'"o":1', b'"o":1,"otc":true'),
        (b'"o":1', b'"o":1,"z":2'),
        (b'"o":1', b'"O":1'),
        (b'"o":1', b'"o" :1'),
        (b'"o":1', b' "o":1'),
        (b'"o":1', b'o":1'),
        (b'"o":1', b'"o:1'),
        (b'"o":1', b'"o1":1'),
        (b'"vw"', b'"xw"'),
        (b'"vw"', b'"w"'),
        (b'"v":12', b'"vw":12'),
        (b'"o":1', b'"":1'),
        (b"},{", b"} ,{"),
        (b"},{", b"}, {"),
        (b"},{", b"};{"),
        (b"},{", b"]},{["),
        (b"},{", b"{{{"),
        (b"},{", b"},"),
        (b"},{", b"},{},{"),
        (b"},{", b"},,{"),
    ],
)
def test_structure_that_is_not_plain(old: bytes, new: bytes):
    whole = text_of(ROW, ROW, ROW)
    assert read(whole.replace(old, new, 1)) is None
    assert read(whole.replace(old, new)) is None


def test_too_many_odd_numbers_are_not_worth_it():
    assert read(text_of(*[{**ROW, "v": "1e3"}] * 100)) is None


@pytest.mark.parametrize("block", [1, 50, 300, 1000, 1 << 18])
def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch, block: int):
    monkeypatch.setattr(bars_quick, "_BLOCK", block)
    rows = [{**ROW, "o": str(i)} for i in range(60)]
    for i in (3, 7, 8):
        del rows[i]["vw"]
    found = read(text_of(*rows))
    assert found == [{name: float(value) for name, value in row.items()} for row in rows]
    assert read(text_of(*rows).replace(b'"o":31', b'"o":"},{"')) is None
