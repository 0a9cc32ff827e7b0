from __future__ import annotations

import dataclasses
import re
from typing import get_args

import pytest

from massive_lab.schema import columns
from massive_lab.schema.columns import SCHEMAS, Dtype, Table, table

each_table = pytest.mark.parametrize("one", SCHEMAS.values(), ids=SCHEMAS)


@each_table
def test_names_are_unique_and_spelt_like_names(one: Table) -> None:
    assert len(set(one.names)) == len(one.names) > 0
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in (one.name, *one.names))


@each_table
def test_the_key_is_of_columns_that_are_there_and_at_least_begins_with_one_never_null(one: Table) -> None:
    assert one.key
    assert len(set(one.key)) == len(one.key)
    assert all(name in one.names for name in one.key)
    assert one[one.key[0]].null == ""


@each_table
def test_every_column_says_what_it_is(one: Table) -> None:
    assert one.doc.endswith(".")
    for column in one.columns:
        assert column.dtype in get_args(Dtype)
        assert column.meaning
        assert column.meaning == column.meaning.strip()


@each_table
def test_units_and_dtypes_agree(one: Table) -> None:
    for column in one.columns:
        assert (column.dtype == "ts") == (column.unit == "ns UTC"), column
        assert (column.dtype == "date") == (column.unit == "New York date"), column
        if column.dtype == "ts":
            assert column.name.startswith("ts_"), column
        if column.unit == "price":
            assert column.dtype == "f64", column


def test_a_column_has_one_dtype_in_all_tables_but_for_the_exchange_of_a_holiday() -> None:
    known: dict[str, tuple[str, str]] = {}
    for one in SCHEMAS.values():
        for column in one.columns:
            if (one.name, column.name) == ("holidays", "exchange"):
                # The vendor's calendar names exchanges (NYSE) that have no id.
                assert column.dtype == "str"
                continue
            dtype, first = known.setdefault(column.name, (column.dtype, one.name))
            assert column.dtype == dtype, f"{column.name} is {dtype} in {first}, {column.dtype} in {one.name}"


def test_the_docstring_lists_every_dtype() -> None:
    listed = set(re.findall(r"^(\w+) +[A-Z]\w+", columns.__doc__ or "", re.MULTILINE)) - {"dtype"}
    assert listed == set(get_args(Dtype))


def test_looking_up() -> None:
    assert table("bars") is SCHEMAS["bars"]
    assert table("bars")["close"].dtype == "f64"
    with pytest.raises(KeyError, match="nope"):
        table("bars")["nope"]
    with pytest.raises(KeyError, match="nope"):
        table("nope")
    assert all(one.name == name for name, one in SCHEMAS.items())
    with pytest.raises(dataclasses.FrozenInstanceError):
        table("bars").name = "x"  # type: ignore[misc]


def test_the_live_tables_are_the_loaded_ones_and_when_and_whence() -> None:
    for live, loaded in (("live_trades", "trades"), ("live_quotes", "quotes"), ("live_values", "values")):
        assert table(live).names == (*table(loaded).names, "ts_recv", "source")
