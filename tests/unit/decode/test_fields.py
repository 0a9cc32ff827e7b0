from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from massive_lab.decode.fields import decode, exact_size, iso_date, iso_ns, ms_to_ns, scrub, to_ints
from massive_lab.errors import DecodeError

WHERE = {"field": "f", "endpoint": "trades"}


def test_integers_of_nineteen_digits_stay_exact_in_any_form():
    texts = ["1748871000123456789", "1.748871000123456789e18", "1748871000123456789.0", "174887100012345678900E-2"]
    values = msgspec.json.decode("[" + ",".join(texts) + "]", type=list[int | Decimal | None])
    assert set(to_ints(values, **WHERE)) == {1748871000123456789}


@pytest.mark.parametrize(
    "value",
    [Decimal("1.5"), Decimal("1e999999"), Decimal("1e-999999"), Decimal("NaN"), 2**63, -(2**63) - 1, Decimal(2**63)],
)
def test_what_is_no_integer_of_64_bits_raises(value: int | Decimal):
    with pytest.raises(DecodeError):
        to_ints([1, value, None], **WHERE)


def test_bounds_of_64_bits_are_included():
    assert to_ints([2**63 - 1, -(2**63), Decimal("0e5"), None], **WHERE) == [2**63 - 1, -(2**63), 0, None]
    assert to_ints([None], **WHERE) == [None]
    assert to_ints([], **WHERE) == []


@pytest.mark.parametrize("value", [-1, 9_223_372_036_855, 1_748_871_000_123_456_789])
def test_a_stamp_in_another_unit_is_no_millisecond(value: int):
    with pytest.raises(DecodeError, match="milliseconds"):
        ms_to_ns([value], **WHERE)


def test_sizes():
    assert exact_size(0.0, "0.000001", **WHERE) == 1e-6
    assert exact_size(5.0, "", **WHERE) == 5.0
    assert exact_size(None, None, **WHERE) is None
    for text in ("nan", "inf", "1_0", " 1", "0x1", "1e999", "one"):
        with pytest.raises(DecodeError):
            exact_size(1.0, text, **WHERE)


def test_dates_and_times():
    assert str(iso_date("2023-03-10T00:00:00.000Z", **WHERE)) == "2023-03-10"
    assert iso_date(None, **WHERE) is None
    assert iso_ns("2026-11-27T18:00:00.000001Z", **WHERE) == 1795802400000001000
    assert iso_ns("2025-06-02T17:32:07-04:00", **WHERE) == 1748899927000000000
    assert iso_ns(None, **WHERE) is None
    for text in ("tomorrow", "2025-13-01T00:00:00Z"):
        with pytest.raises(DecodeError, match="not a time"):
            iso_ns(text, **WHERE)
        with pytest.raises(DecodeError, match="not a date"):
            iso_date(text, **WHERE)
    with pytest.raises(DecodeError, match="no zone"):
        iso_ns("2025-06-02T17:32:07", **WHERE)


def test_scrub_and_decode_keep_no_key():
    assert (
        scrub('{"apiKey": "abc"} Authorization: Bearer abc ?api_key=abc')
        == '{"apiKey": "***"} Authorization: Bearer *** ?api_key=***'
    )
    with pytest.raises(DecodeError) as found:
        decode(msgspec.json.Decoder(list[int]), b'["?apiKey=abc"]', endpoint="trades", symbol="A")
    assert "abc" not in found.value.excerpt
    assert found.value.symbol == "A"
