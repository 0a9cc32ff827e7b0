"""What the search for look-ahead found, to read and to fail on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from massive_lab.errors import FrameInvariantError

__all__ = ["LookaheadReport"]

_SHOWN = 5


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class LookaheadReport:
    """What `prove_no_lookahead` found.

    Attributes
    ----------
    verdict : str
        ``clean``, ``leaking``, or ``undetermined`` when nothing could be compared: the function is not deterministic, has
        no values, or raised on everything but the whole frame.
    leaks : polars.DataFrame
        One row per past value that changed: `symbol` (if the result has it), the time column, `column` (``(row)`` when a
        whole row came or went), `value` on the whole frame, `otherwise` with the other future (both as text), `future`
        (one of `massive_lab.frames.futures.FUTURES`), `known_until` (the cut) and `bars_back` (how many bar times the row
        lies before the cut: 0 is the last known bar). The first occurrence of each, in key order.
    columns : polars.DataFrame
        Per column: `n_values` (comparisons of values that are not null), `n_leaks`, `n_rounding` (differences within the
        tolerance) and `verdict`: ``clean``, ``leaking``, ``nondeterministic`` or ``empty``.
    errors : polars.DataFrame
        Runs in which the function raised: `known_until`, `future`, `error`, `message`.
    n_cuts, n_runs : int
        Cuts at which something was compared, and runs of the function in all.
    tolerance : float
    seed : int
    """

    verdict: str
    leaks: pl.DataFrame
    columns: pl.DataFrame
    errors: pl.DataFrame
    n_cuts: int
    n_runs: int
    tolerance: float
    seed: int

    @property
    def ok(self) -> bool:
        """True when values were compared and none changed; never true for what is undetermined."""
        return self.verdict == "clean"

    def __repr__(self) -> str:
        head = f"Look-ahead: {self.verdict}. {self.n_runs} runs, {self.n_cuts} cuts, seed {self.seed}."
        lines = [head, *self._about_columns()]
        for name, n in self.errors.group_by("error", maintain_order=True).len().iter_rows():
            first = self.errors.filter(pl.col("error") == name).row(0, named=True)
            lines.append(f"  {n} runs raised {name}, first with the future {first['future']}: {first['message'][:120]}")
        if self.leaks.height:
            lines += ["  first leaks:", *(f"    {self._sentence(row)}" for row in self._first())]
        return "\n".join(lines)

    def raise_if_leaking(self) -> None:
        """Raise unless the report is clean.

        Raises
        ------
        FrameInvariantError
            Rule ``lookahead`` with the leaks as `rows`; rule ``undetermined`` when nothing could be compared, which is not
            blamed as a leak but must not pass as a proof.
        """
        if self.verdict == "leaking":
            row = self._first()[0]
            raise FrameInvariantError(
                f"The function looks ahead: {self.leaks.height} past values changed with the future. {self._sentence(row)}",
                rule="lookahead",
                rows=self.leaks,
                hint="The changed values are on the error as .rows.",
            )
        if self.verdict == "undetermined":
            raise FrameInvariantError(
                "Nothing can be said about look-ahead: " + " ".join(map(str.strip, repr(self).splitlines()[1:])),
                rule="undetermined",
                hint="Seed the function's random numbers, give more bars, or name the columns to judge.",
            )

    def _first(self) -> list[dict[str, Any]]:
        # One of each column first: five rows of one column would hide the others.
        order = self.leaks.with_columns(pl.int_range(pl.len()).over("column").alias("\0nth")).sort(
            "\0nth", maintain_order=True
        )
        return order.head(_SHOWN).to_dicts()

    def _sentence(self, row: dict[str, Any]) -> str:
        time = self.leaks.columns[self.leaks.columns.index("column") - 1]
        who = " ".join(str(row[name]) for name in ("symbol", time) if name in row)
        return (
            f"{who} {row['column']}: {row['value']} on the whole frame, {row['otherwise']} with the future "
            f"{row['future']} after {row['known_until']} ({row['bars_back']} bars back)"
        )

    def _about_columns(self) -> list[str]:
        lines = []
        for row in self.columns.iter_rows(named=True):
            text = f"  {row['column']}: {row['verdict']}"
            if row["verdict"] == "leaking":
                text += f", {row['n_leaks']} values, up to {row['bars_back']} bars before the cut"
            if row["n_rounding"]:
                text += f", {row['n_rounding']} comparisons differ by rounding within {self.tolerance:g}"
            if row["verdict"] != "clean" or row["n_rounding"]:
                lines.append(text)
        clean = self.columns.filter(pl.col("verdict") == "clean")["column"].to_list()
        if clean:
            lines.insert(0, f"  clean: {', '.join(clean)}")
        return lines
