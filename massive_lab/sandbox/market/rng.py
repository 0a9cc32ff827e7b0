"""Random numbers by address, not by order: what was asked before changes nothing."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

__all__ = ["Bools", "Floats", "Ints", "generator", "mix64", "uniforms"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def _digest(seed: int, parts: tuple[object, ...], size: int) -> int:
    text = "\x1f".join(map(str, (seed, *parts)))
    return int.from_bytes(blake2b(text.encode(), digest_size=size).digest(), "little")


def generator(seed: int, *parts: object) -> np.random.Generator:
    """A counter-based generator for one purpose: ``generator(7, "AAPL", date, "tape")``.

    Examples
    --------
    >>> a = generator(7, "AAPL", "2025-06-02").random(3)
    >>> b = generator(7, "AAPL", "2025-06-02").random(3)
    >>> bool((a == b).all())
    True
    """
    return np.random.Generator(np.random.Philox(key=_digest(seed, parts, 16)))


def mix64(values: npt.NDArray[np.uint64], salt: int) -> npt.NDArray[np.uint64]:
    """The splitmix64 finaliser, elementwise: one well-spread 64-bit word for each input word."""
    with np.errstate(over="ignore"):
        z = values + np.uint64(salt & 0xFFFFFFFFFFFFFFFF) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniforms(values: npt.NDArray[np.uint64], seed: int, *parts: object) -> Floats:
    """One uniform number in (0, 1) for each word of `values`, for one purpose."""
    mixed = mix64(values, _digest(seed, parts, 8))
    return ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / 9007199254740992.0
