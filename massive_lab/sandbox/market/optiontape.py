"""One session of trades of one option contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from massive_lab.sandbox.market.optionmodel import EXCHANGES, Model, Specs
from massive_lab.sandbox.market.rng import Floats, Ints, generator
from massive_lab.sandbox.market.tape import print_times
from massive_lab.schema.session import Session

__all__ = ["OptionTape", "make_option_tape"]

_AUTO, _SWEEP, _CROSS, _AUCTION, _MULTI = 209, 219, 229, 227, 232


@dataclass(frozen=True)
class OptionTape:
    """Trades ascending by SIP time, each at or inside the touch in force."""

    sip_ns: Ints
    price: Floats
    size: Floats
    exchange: Ints
    condition: Ints
    sequence: Ints

    @property
    def nbytes(self) -> int:
        return 48 * len(self.sip_ns) + 300

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


def make_option_tape(
    seed: int, ticker: str, model: Model, spec: Specs, day: Session, step_ns: Ints, n: int
) -> OptionTape:
    """Generate a session of `n` orders; a sweep is one order and several prints.

    A sweep takes one side on several exchanges within a few milliseconds, and a block is one large print. Both stay within
    the quote they hit.
    """
    if not n:
        none = np.empty(0, dtype=np.int64)
        return OptionTape(none, np.empty(0), np.empty(0), none, none, none)
    rng = generator(seed, ticker, day.date, "tape")
    step = int(step_ns[0])
    first = min(day.open_ns + step, day.close_ns - 2)
    times = print_times(rng, n, first, day.close_ns - 20_000_000, shape="regular")
    quote = model.touch(spec, day, step_ns, times)
    # Buyers of calls and sellers of puts are the same people: one lean for the day and contract.
    lean = rng.uniform(0.38, 0.62)
    u = rng.random(n)
    tick = np.where(quote.ask - quote.bid > 0.099, 0.05, 0.01)
    middle = np.round(np.floor((quote.bid + quote.ask) / 2 / tick + 1e-9) * tick, 2)
    middle = np.clip(middle, quote.bid, quote.ask)
    price = np.where(u < lean * 0.86, quote.ask, np.where(u < 0.86, quote.bid, middle))
    price = np.where(price <= 0, quote.ask, price)
    size = np.minimum(rng.geometric(0.28, n), 60).astype(np.float64)
    kind = rng.random(n)
    condition = np.select([kind < 0.64, kind < 0.76, kind < 0.86, kind < 0.93], [_AUTO, _AUCTION, _MULTI, _CROSS], _SWEEP)
    block = rng.random(n) < 0.006
    size[block] = np.round(rng.uniform(200, 2500, int(block.sum())), -1)
    condition[block] = _CROSS
    legs = np.where(condition == _SWEEP, rng.integers(3, 7, n), 1)
    # A sweep takes a side, never the middle.
    swept = legs > 1
    price = np.where(swept, np.where((u < 0.5) | (quote.bid <= 0), quote.ask, quote.bid), price)

    source = np.repeat(np.arange(n), legs)
    leg = np.arange(len(source)) - np.repeat(np.cumsum(legs) - legs, legs)
    sip = times[source] + leg * rng.integers(150_000, 900_000, len(source))
    sip = np.minimum(sip, quote.quote_ns[source] + step - 1000 + leg)
    order = np.argsort(sip, kind="stable")
    steps = np.arange(len(source))
    sip = np.maximum.accumulate(sip[order] - steps) + steps
    source, leg = source[order], leg[order]
    start = rng.integers(0, len(EXCHANGES), n)[source]
    sizes = np.where(swept[source], np.maximum(1, np.round(size[source] * rng.uniform(1, 8, len(source)))), size[source])
    return OptionTape(
        sip,
        price[source],
        sizes,
        EXCHANGES[(start + leg * 3) % len(EXCHANGES)],
        condition[source].astype(np.int64),
        np.cumsum(rng.integers(1, 200, len(source))) + 10_000,
    )
