"""Trades of option contracts through one session, for one contract or a page of the chain at once.

Every number is hashed from the contract, the date and the count of the order, so a contract's trades are the same in
whatever company they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from massive_lab.sandbox.market.optionmodel import EXCHANGES, Model, Specs, rows_of
from massive_lab.sandbox.market.rng import Bools, Floats, Ints, mix64, uniforms
from massive_lab.schema.session import Session

__all__ = ["OptionTape", "make_option_tape"]

_AUTO, _SWEEP, _CROSS, _AUCTION, _MULTI = 209, 219, 229, 227, 232
_APART = 10**14  # ns: more than any session lasts


@dataclass(frozen=True)
class OptionTape:
    """Trades ascending by contract and SIP time, each at or inside the touch in force.

    Those of contract ``i`` are the rows ``first[i]`` to ``first[i + 1]``.
    """

    first: Ints
    sip_ns: Ints
    price: Floats
    size: Floats
    exchange: Ints
    condition: Ints
    sequence: Ints

    @property
    def nbytes(self) -> int:
        return 48 * len(self.sip_ns) + 8 * len(self.first) + 400

    def seen(self, now_ns: int) -> Ints:
        """For each contract, the trades published by an instant."""
        published = np.concatenate([[0], np.cumsum(self.sip_ns <= now_ns)])
        return np.asarray(np.diff(published[self.first]))

    def columns(self, lo: int, hi: int) -> Mapping[str, npt.NDArray[Any]]:
        """The columns of `MarketData.trades` for a stretch of rows."""
        n = hi - lo
        conditions, ids = np.empty(n, dtype=object), np.empty(n, dtype=object)
        ids[:] = ""
        for i, code in enumerate(self.condition[lo:hi].tolist()):
            conditions[i] = (code,)
        sip = self.sip_ns[lo:hi]
        none = np.full(n, -1, dtype=np.int64)
        return {
            "sip_ns": sip,
            "participant_ns": sip - 150_000,
            "trf_ns": none,
            "price": self.price[lo:hi],
            "size": self.size[lo:hi],
            "exchange": self.exchange[lo:hi],
            "tape": none,
            "sequence": self.sequence[lo:hi],
            "trf_id": none,
            "correction": none,
            "late": np.zeros(n, dtype=np.bool_),
            "id": ids,
            "conditions": conditions,
        }


def _within(counts: Ints) -> Ints:
    """0, 1, 2 ... anew for each group of a size."""
    return np.asarray(np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts))


def _shape(u: Floats) -> Floats:
    """Uniform numbers to times of day: more at the open and the close than at noon."""
    grid = np.linspace(0, 1, 66)
    middle = (grid[1:] + grid[:-1]) / 2
    intensity = 0.55 + 1.7 * np.exp(-middle * 14) + 1.6 * np.exp((middle - 1) * 16) + 0.35 * (2 * middle - 1) ** 2
    mass = np.concatenate([[0.0], np.cumsum(intensity)])
    return np.asarray(np.interp(u, mass / mass[-1], grid))


def _put(model: Model, spec: Specs, day: Session, counts: Ints) -> tuple[Ints, Ints, npt.NDArray[np.uint64], Ints]:
    """Orders sorted by contract and time: contract, time, word and count within the contract."""
    contract = np.repeat(np.arange(len(counts)), counts)
    word = mix64(spec.key[contract], model.seed) + _within(counts).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    u = _shape(uniforms(word, model.seed, day.date, "time"))
    start, end = day.open_ns + 60_000_000_000, day.close_ns - 20_000_000
    times = start + (u * (end - start)).astype(np.int64)
    order = np.lexsort((times, contract))
    return contract[order], times[order], word[order], _within(counts)


def make_option_tape(model: Model, spec: Specs, day: Session, step_ns: Ints, counts: Ints) -> OptionTape:
    """Generate a session with so many orders for each contract; a sweep is one order and several prints.

    A sweep takes one side on several exchanges within a few milliseconds, and a block is one large print. Both stay within
    the quote they hit.
    """
    seed, date = model.seed, day.date
    contract, times, word, _ = _put(model, spec, day, counts)
    n = len(times)

    def draw(purpose: str) -> Floats:
        return uniforms(word, seed, date, purpose)

    quote = model.touch(rows_of(spec, contract), day, step_ns[contract], times)
    # Buyers of calls and sellers of puts are the same people: one lean for the day and contract.
    lean = 0.38 + 0.24 * uniforms(spec.key, seed, date, "lean")[contract]
    u, kind = draw("side"), draw("kind")
    tick = np.where(quote.ask - quote.bid > 0.099, 0.05, 0.01)
    middle = np.round(np.floor((quote.bid + quote.ask) / 2 / tick + 1e-9) * tick, 2)
    middle = np.clip(middle, quote.bid, quote.ask)
    price = np.where(u < lean * 0.86, quote.ask, np.where(u < 0.86, quote.bid, middle))
    size = np.minimum(np.floor(np.log(draw("size")) / np.log(0.72)) + 1, 60.0)
    bins = np.searchsorted([0.64, 0.76, 0.86, 0.93], kind, side="right")
    condition = np.array([_AUTO, _AUCTION, _MULTI, _CROSS, _SWEEP], dtype=np.int64)[bins]
    large = draw("block")
    block: Bools = large < 0.006
    size = np.where(block, np.round(200 + 380_000 * large, -1), size)
    condition[block] = _CROSS
    swept = condition == _SWEEP
    # A sweep takes a side, never the middle.
    price = np.where(swept, np.where(u < 0.5, quote.ask, quote.bid), price)
    price = np.where(price <= 0, quote.ask, price)

    pick = draw("legs")
    legs = np.where(swept, 3 + (pick * 4).astype(np.int64), 1)
    source = np.repeat(np.arange(n), legs)
    leg = _within(legs)
    leg_word = word[source] + leg.astype(np.uint64)
    gaps = 150_000 + (uniforms(leg_word, seed, date, "gap") * 750_000).astype(np.int64)
    sip = np.minimum(times[source] + leg * gaps, quote.quote_ns[source] + step_ns[contract[source]] - 1000 + leg)
    apart = (sip - day.open_ns) + contract[source] * _APART
    order = np.argsort(apart, kind="stable")
    steps = np.arange(len(order))
    apart = np.maximum.accumulate(apart[order] - steps) + steps
    source, leg, leg_word = source[order], leg[order], leg_word[order]
    owner = contract[source]
    share = np.maximum(1.0, np.round(size[source] * (1 + 7 * uniforms(leg_word, seed, date, "share"))))
    first = np.searchsorted(owner, np.arange(len(counts) + 1))
    serial = np.cumsum(1 + (uniforms(leg_word, seed, date, "serial") * 199).astype(np.int64))
    before = np.concatenate([[0], serial])[first[:-1]]
    return OptionTape(
        first.astype(np.int64),
        apart - owner * _APART + day.open_ns,
        price[source],
        np.where(swept[source], share, size[source]),
        EXCHANGES[((pick[source] * 997).astype(np.int64) + leg * 3) % len(EXCHANGES)],
        condition[source],
        serial - before[owner] + 10_000,
    )
