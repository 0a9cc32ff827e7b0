"""Option chain, unified and index snapshots as frames."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from massive_lab.decode import snapshot as wire
from massive_lab.frames.build import build, concat, sort
from massive_lab.frames.rest_ticks import with_mid

__all__ = ["chain", "chain_contract", "indices", "snapshot"]


def chain(pages: Sequence[bytes], *, underlying: str) -> pl.DataFrame:
    """Pages of the option chain, table ``chain``, by contract.

    Greeks, quotes and trades the vendor leaves out are null. Adjusted contracts keep their multiplier.
    """
    parts = [with_mid(build("chain", wire.chain_columns(body, underlying=underlying))) for body in pages]
    return sort("chain", concat("chain", parts))


def chain_contract(body: bytes) -> pl.DataFrame:
    """The snapshot of one contract, table ``chain``: one row."""
    return with_mid(build("chain", wire.contract_snapshot_columns(body)))


def snapshot(pages: Sequence[bytes]) -> pl.DataFrame:
    """Pages of the unified snapshot, table ``snapshot``, by symbol.

    A symbol the vendor refuses keeps its row: ``error`` says NOT_FOUND or NOT_ENTITLED and all else is null.
    """
    parts = [with_mid(build("snapshot", wire.snapshot_columns(body))) for body in pages]
    return sort("snapshot", concat("snapshot", parts))


def indices(pages: Sequence[bytes]) -> pl.DataFrame:
    """Pages of the indices snapshot, table ``indices``, by symbol; refused symbols as in `snapshot`."""
    return sort("indices", concat("indices", [build("indices", wire.indices_columns(body)) for body in pages]))
