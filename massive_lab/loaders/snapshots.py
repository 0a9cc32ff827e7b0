"""Snapshots as of now, up to 250 symbols a call, and the poller that the live fallback uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from massive_lab.errors import InvalidRequest, NotEntitled, UnknownSymbol
from massive_lab.frames import rest
from massive_lab.frames.build import concat
from massive_lab.loaders.session import Load, Session, path_of
from massive_lab.schema.plans import MAX_SNAPSHOT_TICKERS
from massive_lab.schema.symbols import parse_many

__all__ = ["SnapshotPoller", "indices", "snapshot"]


async def snapshot(session: Session, symbols: object, *, errors: str = "raise") -> pl.DataFrame:
    wanted = sorted(symbol.text for symbol in parse_many(symbols))
    return await _batched(session, "snapshot", "snapshot", rest.snapshot, wanted, "stocks", errors)


async def indices(session: Session, symbols: object, *, errors: str = "raise") -> pl.DataFrame:
    wanted = sorted(symbol.text for symbol in parse_many(symbols, asset_class="indices"))
    return await _batched(session, "indices", "snapshot_indices", rest.indices, wanted, "indices", errors)


async def _batched(
    session: Session,
    table: str,
    endpoint: str,
    build: Callable[[Sequence[bytes]], pl.DataFrame],
    wanted: list[str],
    budget: str,
    errors: str,
) -> pl.DataFrame:
    if errors not in ("raise", "keep"):
        raise InvalidRequest(f"errors is {errors!r}.", hint="Use 'raise' or 'keep'.")
    batches = [wanted[i : i + MAX_SNAPSHOT_TICKERS] for i in range(0, len(wanted), MAX_SNAPSHOT_TICKERS)]
    async with session.load(table, wanted, total=len(batches)) as load:

        async def one(batch: list[str]) -> pl.DataFrame:
            frame = build(await _bodies(load, endpoint, batch, budget))
            load.progress.step()
            return frame

        frame = concat(table, await session.gather(batches, one))
        load.n_rows = frame.height
        if errors == "raise":
            _raise_row_errors(frame, wanted, endpoint)
        return frame


async def _bodies(load: Load, endpoint: str, batch: Sequence[str], budget: str) -> list[bytes]:
    params = {"ticker.any_of": ",".join(batch), "limit": str(MAX_SNAPSHOT_TICKERS)}
    pages = await load.pages(endpoint, path_of(endpoint), params=params, budget=budget)
    return [page.body for page in pages]


def _raise_row_errors(frame: pl.DataFrame, wanted: Sequence[str], endpoint: str) -> None:
    bad = frame.filter(pl.col("error").is_not_null())
    missing = sorted(set(wanted) - set(frame["symbol"]))
    unknown = [*bad.filter(pl.col("error") == "NOT_FOUND")["symbol"], *missing]
    hint = "Leave them out, or pass errors='keep' to get the good rows."
    if unknown:
        raise UnknownSymbol(
            f"The vendor does not know {_some(unknown)}.", symbol=unknown[0], endpoint=endpoint, hint=hint
        )
    if not bad.is_empty():
        denied = list(bad["symbol"])
        raise NotEntitled(f"The plan does not cover {_some(denied)}.", symbol=denied[0], endpoint=endpoint, hint=hint)


def _some(symbols: Sequence[str]) -> str:
    shown = ", ".join(symbols[:5])
    return shown if len(symbols) <= 5 else f"{shown} and {len(symbols) - 5} more"


class SnapshotPoller:
    """Polls snapshots for the live fallback; rows that are errors are left out, never raised."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def poll(self, cluster: str, symbols: Sequence[str]) -> pl.DataFrame:
        """One batched call on behalf of all readers of a cluster; at most 250 symbols.

        Returns
        -------
        polars.DataFrame
            The ``snapshot`` table, without error rows.
        """
        async with self._session.load(f"poll:{cluster}", symbols) as load:
            frame = rest.snapshot(await _bodies(load, "snapshot", symbols, cluster))
            load.n_rows = frame.height
            return frame.filter(pl.col("error").is_null())
