from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.sandbox.market.bars import aggregate, concat, empty

prints = st.lists(
    st.tuples(st.integers(0, 6), st.integers(1, 500), st.integers(1, 900), st.booleans(), st.booleans(), st.booleans()),
    max_size=60,
)


def naive(rows: list[tuple[int, float, float, bool, bool, bool]]) -> list[tuple[float, ...]]:
    out = []
    for window in sorted({row[0] for row in rows}):
        mine = [row for row in rows if row[0] == window]
        setters = [row for row in mine if row[4]]
        if not setters:
            continue
        movers = [row for row in mine if row[3] or row[4]]
        counted = [row for row in mine if row[5]]
        low, high = min(row[1] for row in movers), max(row[1] for row in movers)
        vwap = sum(row[1] * row[2] for row in movers) / sum(row[2] for row in movers)
        volume = sum(row[2] for row in counted)
        out.append((window, setters[0][1], high, low, setters[-1][1], volume, round(vwap, 4), len(counted)))
    return out


def as_rows(bars) -> list[tuple[float, ...]]:
    return [tuple(float(getattr(bars, name)[i]) for name in bars.__dataclass_fields__) for i in range(len(bars))]


@given(prints)
def test_it_is_the_plain_reading_of_the_rules(rows: list[tuple[int, int, int, bool, bool, bool]]) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    columns = [np.array([row[i] for row in rows]) for i in range(6)]
    window, price, size = columns[0].astype(np.int64), columns[1].astype(float), columns[2].astype(float)
    flags = [column.astype(bool) for column in columns[3:]]
    got = as_rows(aggregate(window, price, size, *flags))
    expected = naive(rows)
    assert len(got) == len(expected)
    for mine, theirs in zip(got, expected, strict=True):
        assert np.allclose(mine, theirs, atol=2e-4)


def test_nothing_comes_of_nothing() -> None:
    assert len(concat([])) == 0
    assert len(concat([empty(), empty()])) == 0
