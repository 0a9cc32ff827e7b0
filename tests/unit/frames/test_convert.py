from __future__ import annotations

import importlib.util

import pandas as pd
import polars as pl
import pytest

from massive_lab.errors import ConfigError, InvalidRequest
from massive_lab.frames import convert
from massive_lab.frames.build import build, empty
from massive_lab.schema.columns import SCHEMAS


def test_polars_is_given_back_as_it_is():
    frame = empty("bars")
    assert convert.to_kind(frame, "polars") is frame


def test_pandas_types_do_not_depend_on_values():
    full = build(
        "trades", {"ts_sip": [1_748_871_000_123_456_789], "sequence": [2**53 + 1], "price": [1.5], "conditions": [[1]]}
    )
    holes = build("trades", {"ts_sip": [1], "price": [None]})
    expected = None
    for frame in (full, holes, empty("trades")):
        found = convert.to_kind(frame, "pandas")
        assert list(found.columns) == frame.columns
        assert len(found) == frame.height
        expected = expected or found.dtypes["sequence"]
        assert found.dtypes["sequence"] == expected == pd.Int64Dtype()
        assert str(found.dtypes["ts_sip"]) == "datetime64[ns, UTC]"
        assert str(found.dtypes["price"]) == "float64"
    found = convert.to_kind(full, "pandas")
    assert found["ts_sip"][0].value == 1_748_871_000_123_456_789
    assert found["sequence"][0] == 2**53 + 1
    assert list(found["conditions"][0]) == [1]


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_every_table_goes_to_pandas(name: str):
    frame = build(name, {}, 2)
    found = convert.to_kind(frame, "pandas")
    assert list(found.columns) == frame.columns
    assert bool(found.isna().all(axis=None))


def test_without_pandas_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(convert, "find_spec", lambda name: None if name == "pyarrow" else real(name))
    with pytest.raises(ConfigError, match=r"pip install 'massive-lab\[pandas\]'") as found:
        convert.to_kind(empty("bars"), "pandas")
    assert "pyarrow" in found.value.message


def test_other_kinds_are_refused():
    with pytest.raises(InvalidRequest, match="'polars' or 'pandas'"):
        convert.to_kind(pl.DataFrame(), "arrow")
