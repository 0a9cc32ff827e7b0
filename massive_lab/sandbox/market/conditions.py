"""Trade conditions and what each may update: the one table behind the bars and the reference endpoint."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from massive_lab.sandbox.market.rng import Bools

__all__ = [
    "MIXES",
    "MIX_HIGH_LOW",
    "MIX_OPEN_CLOSE",
    "MIX_VOLUME",
    "OPTION_CONDITIONS",
    "STOCK_CONDITIONS",
    "Condition",
]


@dataclass(frozen=True, slots=True)
class Condition:
    """One trade condition. The three flags are the consolidated update rules."""

    id: int
    name: str
    type: str
    high_low: bool
    open_close: bool
    volume: bool
    sips: tuple[tuple[str, str], ...] = ()


def _table(rows: str, sips: tuple[str, ...]) -> dict[int, Condition]:
    out = {}
    for row in rows.strip().splitlines():
        code, name, kind, flags, letter = (part.strip() for part in row.split("|"))
        high_low, open_close, volume = (flag == "y" for flag in flags)
        mapping = tuple((sip, letter) for sip in sips) if letter else ()
        out[int(code)] = Condition(int(code), name, kind, high_low, open_close, volume, mapping)
    return out


STOCK_CONDITIONS: dict[int, Condition] = _table(
    """
    0  | Regular Sale                     | sale_condition | yyy | @
    2  | Average Price Trade              | sale_condition | nny | W
    7  | Cash Sale                        | sale_condition | nny | C
    8  | Closing Prints                   | sale_condition | yyy | 6
    9  | Cross Trade                      | sale_condition | yyy | X
    10 | Derivatively Priced              | sale_condition | yny | 4
    12 | Form T/Extended Hours            | sale_condition | nny | T
    13 | Extended Hours (Sold Out Of Sequence) | sale_condition | nny | U
    14 | Intermarket Sweep                | sale_condition | yyy | F
    15 | Market Center Official Close     | sale_condition | nnn | M
    16 | Market Center Official Open      | sale_condition | nnn | Q
    17 | Market Center Opening Trade      | sale_condition | yyy | O
    22 | Prior Reference Price            | sale_condition | yny | P
    33 | Sold (Out Of Sequence)           | sale_condition | yny | Z
    37 | Odd Lot Trade                    | sale_condition | nny | I
    41 | Trade Thru Exempt                | trade_thru_exempt | yyy | X
    52 | Contingent Trade                 | sale_condition | nny | V
    53 | Qualified Contingent Trade (QCT) | sale_condition | nny | 7
    """,
    ("CTA", "UTP"),
)

OPTION_CONDITIONS: dict[int, Condition] = _table(
    """
    201 | Canceled                                          | sale_condition | nnn | A
    202 | Late And Out Of Sequence                          | sale_condition | yny | B
    207 | Opening Trade, Late And Out Of Sequence           | sale_condition | yyy | H
    209 | Automatic Execution                               | sale_condition | yyy | I
    219 | Intermarket Sweep Order                           | sale_condition | yyy | S
    227 | Single Leg Auction Non ISO                        | sale_condition | yyy | a
    228 | Single Leg Auction ISO                            | sale_condition | yyy | b
    229 | Single Leg Cross Non ISO                          | sale_condition | yyy | c
    231 | Single Leg Floor Trade                            | sale_condition | yyy | e
    232 | Multi Leg Auto-Electronic Trade                   | sale_condition | yyy | f
    233 | Multi Leg Auction                                 | sale_condition | yyy | g
    236 | Multi Leg Floor Trade                             | sale_condition | yyy | j
    """,
    ("OPRA",),
)

MIXES: tuple[tuple[int, ...], ...] = (
    (),  # 0: a regular sale carries no condition
    (14,),  # 1
    (14, 41),  # 2
    (41,),  # 3
    (37,),  # 4
    (14, 37, 41),  # 5
    (12,),  # 6
    (12, 37),  # 7
    (17,),  # 8: opening cross
    (8, 9, 41),  # 9: closing cross
    (16,),  # 10: official open
    (15,),  # 11: official close
    (33,),  # 12: late
    (2,),  # 13
    (53, 41),  # 14
    (52,),  # 15
    (22,),  # 16
    (13,),  # 17: late, extended hours
    (37, 33),  # 18: late odd lot
)
"""Combinations of conditions that occur on the tape; a print stores the index."""


def _all(flag: str) -> Bools:
    return np.array([all(getattr(STOCK_CONDITIONS[c], flag) for c in mix) for mix in MIXES])


MIX_HIGH_LOW: Bools = _all("high_low")
MIX_OPEN_CLOSE: Bools = _all("open_close")
MIX_VOLUME: Bools = _all("volume")
