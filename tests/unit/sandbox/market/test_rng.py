from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from massive_lab.sandbox.market.rng import generator, uniforms


@given(st.integers(0, 2**32), st.text(max_size=8), st.text(max_size=8))
def test_a_stream_is_addressed_by_its_parts_and_not_by_their_concatenation(seed: int, a: str, b: str) -> None:
    assert np.array_equal(generator(seed, a, b).random(4), generator(seed, a, b).random(4))
    if a and a + b != a:
        assert not np.array_equal(generator(seed, a, b).random(4), generator(seed, a + b).random(4))


@given(st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=40))
def test_hashed_numbers_do_not_depend_on_the_company(words: list[int]) -> None:
    array = np.array(words, dtype=np.uint64)
    together = uniforms(array, 7, "x")
    assert ((together > 0) & (together < 1)).all()
    assert [float(uniforms(array[i : i + 1], 7, "x")[0]) for i in range(len(words))] == together.tolist()


def test_hashed_numbers_are_uniform() -> None:
    u = uniforms(np.arange(20_000, dtype=np.uint64), 7, "spread")
    counts, _ = np.histogram(u, bins=20, range=(0, 1))
    assert counts.min() > 880
    assert counts.max() < 1120
