"""Reference tables as the vendor lists them: exchanges and ticker types."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EXCHANGES", "TICKER_TYPES", "Exchange"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A venue. `letter` is the id of the participant on the tape, empty where there is none."""

    id: int
    type: str
    asset_class: str
    name: str
    mic: str
    operating_mic: str
    letter: str = ""
    acronym: str = ""


_STOCK_ROWS = """
1  | exchange | NYSE American, LLC                        | XASE | XNYS | A | AMEX
2  | exchange | Nasdaq OMX BX, Inc.                       | XBOS | XNAS | B |
3  | exchange | NYSE National, Inc.                       | XCIS | XNYS | C | NSX
4  | TRF      | FINRA NYSE TRF                            |      | FINR | D |
5  | SIP      | Unlisted Trading Privileges               |      | XNAS | E | UTP
6  | TRF      | FINRA Nasdaq TRF Carteret                 |      | FINR | D |
7  | exchange | NYSE Chicago, Inc.                        | XCHI | XNYS | M | CHX
8  | exchange | Cboe EDGA                                 | EDGA | XCBO | J |
9  | exchange | Cboe EDGX                                 | EDGX | XCBO | K |
10 | exchange | New York Stock Exchange                   | XNYS | XNYS | N |
11 | exchange | NYSE Arca, Inc.                           | ARCX | XNYS | P |
12 | exchange | Nasdaq                                    | XNAS | XNAS | T |
13 | SIP      | Consolidated Tape Association             |      | XNYS | S | CTA
14 | exchange | Long-Term Stock Exchange                  | LTSE | LTSE | L |
15 | exchange | Investors Exchange                        | IEXG | IEXG | V |
16 | exchange | Cboe Stock Exchange                       | CBSX | XCBO | W | CBSX
17 | exchange | Nasdaq Philadelphia Exchange LLC          | XPHL | XNAS | X |
18 | exchange | Cboe BYX                                  | BATY | XCBO | Y |
19 | exchange | Cboe BZX                                  | BATS | XCBO | Z |
20 | exchange | MIAX Pearl                                | EPRL | MIHI | H |
21 | exchange | Members Exchange                          | MEMX | MEMX | U |
"""
_OPTION_ROWS = """
300 | exchange | NYSE American Options                     | AMXO | XNYS | A |
301 | exchange | BOX Options Exchange                      | XBOX | XBOX | B |
302 | exchange | Cboe Options Exchange                     | XCBO | XCBO | C |
303 | exchange | MIAX Emerald                              | EMLD | MIHI | D |
304 | exchange | Cboe EDGX Options                         | EDGO | XCBO | E |
307 | exchange | Nasdaq GEMX                               | GMNI | XNAS | H |
308 | exchange | Nasdaq ISE                                | XISX | XNAS | I |
309 | exchange | Nasdaq MRX                                | MCRY | XNAS | J |
312 | exchange | MIAX Options                              | XMIO | MIHI | M |
313 | exchange | NYSE Arca Options                         | ARCO | XNYS | N |
314 | SIP      | Options Price Reporting Authority         |      | OPRA | O | OPRA
315 | exchange | MIAX Pearl Options                        | MPRL | MIHI | P |
316 | exchange | Nasdaq Options Market                     | XNDQ | XNAS | Q |
318 | exchange | MIAX Sapphire                             | SPHR | MIHI | S |
319 | exchange | Nasdaq BX Options                         | XBXO | XNAS | T |
320 | exchange | MEMX Options                              | MXOP | MEMX | U |
322 | exchange | Cboe C2 Options                           | C2OX | XCBO | W |
323 | exchange | Nasdaq PHLX                               | XPHO | XNAS | X |
325 | exchange | Cboe BZX Options                          | BATO | XCBO | Z |
"""


def _table(rows: str, asset_class: str) -> list[Exchange]:
    out = []
    for row in rows.strip().splitlines():
        code, kind, name, mic, operating, letter, acronym = (part.strip() for part in row.split("|"))
        out.append(Exchange(int(code), kind, asset_class, name, mic, operating, letter, acronym))
    return out


EXCHANGES: tuple[Exchange, ...] = (*_table(_STOCK_ROWS, "stocks"), *_table(_OPTION_ROWS, "options"))

TICKER_TYPES: tuple[tuple[str, str, str], ...] = (
    ("CS", "Common Stock", "stocks"),
    ("PFD", "Preferred Stock", "stocks"),
    ("WARRANT", "Warrant", "stocks"),
    ("RIGHT", "Rights", "stocks"),
    ("ETF", "Exchange Traded Fund", "stocks"),
    ("ETN", "Exchange Traded Note", "stocks"),
    ("ADRC", "American Depository Receipt Common", "stocks"),
    ("UNIT", "Unit", "stocks"),
    ("FUND", "Fund", "stocks"),
    ("INDEX", "Index", "indices"),
)
"""Code, description and asset class."""
