"""What a trades or quotes request shows of a tape: exchanges, ids, reporting facilities, the NBBO around the prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from massive_lab.sandbox.market.conditions import MIXES
from massive_lab.sandbox.market.rng import Ints, generator
from massive_lab.sandbox.market.tape import Tape
from massive_lab.schema.session import Session

__all__ = ["NBBO", "Decor", "decorate", "make_nbbo", "trade_columns"]

Columns = Mapping[str, npt.NDArray[Any]]
NBBO = dict[str, npt.NDArray[Any]]
Decor = dict[str, Ints]

# Exchange ids and their share of prints; 4 is the reporting facility of off-exchange trades.
_LIT = np.array([12, 11, 10, 19, 8, 15, 7, 21, 2, 3, 9, 17, 20, 18, 16, 1])
_SHARE = np.cumsum([0.24, 0.17, 0.11, 0.11, 0.08, 0.06, 0.05, 0.05, 0.03, 0.025, 0.02, 0.02, 0.015, 0.01, 0.005, 0.005])
_TRF = 4
_PRIMARY = {"XNAS": 12, "XNYS": 10, "ARCX": 11}
_ID_BASE = 52_983_525_000_000


def decorate(seed: int, symbol: str, day: Session, tape: Tape, mic: str) -> Decor:
    """Numbers that bars do not need, one row a print, in the order of the tape."""
    rng = generator(seed, symbol, day.date, "decor")
    n = len(tape.part_ns)
    exchange = _LIT[np.searchsorted(_SHARE, rng.random(n) * _SHARE[-1])].astype(np.int64)
    # Mid-point prints, averages and contingent trades come from dealers; so does much of the rest.
    off = (rng.random(n) < 0.38) & ~np.isin(tape.mix, (1, 2, 5))
    off |= np.isin(tape.mix, (13, 14, 15))
    cross = np.isin(tape.mix, (8, 9, 10, 11))
    exchange[off] = _TRF
    exchange[cross] = _PRIMARY[mic]
    off &= ~cross
    # The facility's stamp lies between the trade and its publication.
    trf_ns = tape.part_ns + ((tape.sip_ns - tape.part_ns) * 0.8).astype(np.int64)
    steps = np.empty(n, dtype=np.int64)
    steps[tape.order] = np.cumsum(rng.integers(1, 40, n)) + 1000
    serial = np.empty(n, dtype=np.int64)
    serial[tape.order] = _ID_BASE + day.date.toordinal() * 1_000_000 + np.arange(n)
    return {
        "exchange": exchange,
        "trf_ns": np.where(off, trf_ns, -1),
        "trf_id": np.where(off, np.where(rng.random(n) < 0.75, 202, 201), -1),
        "sequence": steps,
        "serial": serial,
    }


def trade_columns(tape: Tape, decor: Decor, rows: Ints, tape_id: int) -> Columns:
    """The columns of `MarketData.trades` for some rows of the tape."""
    ids = np.array([str(serial) for serial in decor["serial"][rows].tolist()], dtype=object)
    conditions = np.empty(len(rows), dtype=object)
    for i, mix in enumerate(tape.mix[rows].tolist()):
        conditions[i] = MIXES[mix]
    return {
        "sip_ns": tape.sip_ns[rows],
        "participant_ns": tape.part_ns[rows],
        "trf_ns": decor["trf_ns"][rows],
        "price": tape.price[rows],
        "size": tape.size[rows],
        "exchange": decor["exchange"][rows],
        "tape": np.full(len(rows), tape_id, dtype=np.int64),
        "sequence": decor["sequence"][rows],
        "trf_id": decor["trf_id"][rows],
        "correction": tape.correction[rows],
        "late": tape.late[rows],
        "id": ids,
        "conditions": conditions,
    }


def make_nbbo(seed: int, symbol: str, day: Session, tape: Tape, mic: str, tape_id: int) -> NBBO:
    """The national best bid and offer of a session.

    Each print that is not late is preceded, after the print before it, by a quote whose touch holds its price; now and
    then a change of size alone comes between. So every such print is at or inside the quote in force at its SIP time.
    """
    rng = generator(seed, symbol, day.date, "nbbo")
    rows = tape.order[~tape.late[tape.order]]
    rows = rows[~np.isin(tape.mix[rows], (10, 11))]
    sip = tape.sip_ns[rows]
    n = len(rows)
    before = np.concatenate([[day.early_ns], sip[:-1]])
    gap = np.maximum(sip - before, 1)
    lead = np.minimum((gap * rng.random(n)).astype(np.int64), (2e8 * rng.random(n)).astype(np.int64) + 1)
    time = sip - np.clip(lead, 0, gap - 1)
    bid, ask = tape.bid[rows], tape.ask[rows]
    # A second quote half way to the next one changes sizes only: the same touch stays in force.
    room = np.flatnonzero((np.diff(time) > 2_000_000) & (rng.random(n - 1) < 0.45))
    flicker = time[room] + (np.diff(time)[room] * rng.uniform(0.2, 0.9, len(room))).astype(np.int64)
    order = np.argsort(np.concatenate([time, flicker]), kind="stable")
    time = np.concatenate([time, flicker])[order]
    source = np.concatenate([np.arange(n), room])[order]
    m = len(time)
    lots = np.array([100, 100, 200, 200, 300, 400, 500, 800, 1200], dtype=np.float64)
    exchange = _LIT[np.searchsorted(_SHARE, rng.random((2, m)) * _SHARE[-1])].astype(np.int64)
    at_cross = np.isin(tape.mix[rows][source], (8, 9))
    exchange[:, at_cross] = _PRIMARY[mic]
    return {
        "sip_ns": time,
        "participant_ns": time - rng.integers(150_000, 600_000, m),
        "bid_price": bid[source] / 100.0,
        "bid_size": lots[rng.integers(0, len(lots), m)],
        "bid_exchange": exchange[0],
        "ask_price": ask[source] / 100.0,
        "ask_size": lots[rng.integers(0, len(lots), m)],
        "ask_exchange": exchange[1],
        "sequence": np.cumsum(rng.integers(1, 30, m)) + 500,
        "tape": np.full(m, tape_id, dtype=np.int64),
        "condition": np.where(rng.random(m) < 0.2, 1, -1),
        "indicator": np.where(rng.random(m) < 0.01, 604, -1),
    }
