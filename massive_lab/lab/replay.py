"""``ml.replay``: bars in event order from a frame, or a recorded live session from a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from massive_lab.frames.replay import Bar
    from massive_lab.live.capture.replay import Replay

__all__ = ["replay"]


@overload
def replay(source: str | os.PathLike[str]) -> Replay: ...
@overload
def replay(source: pl.DataFrame | pl.LazyFrame | pd.DataFrame) -> Iterator[Bar]: ...


def replay(source: Any) -> Any:
    """The bars of a frame in event order, or a session that ``lab.live.record`` wrote.

    Parameters
    ----------
    source : polars.DataFrame, polars.LazyFrame, pandas.DataFrame, str or path-like
        Table ``bars``; or the path of a capture.

    Returns
    -------
    iterator of Bar, or Replay
        See `massive_lab.frames.replay.replay` for bars: a bar comes at its close, never before. A path gives a
        `massive_lab.live.capture.replay.Replay`: the recorded session, verified, and played by the code that ran it.

    Raises
    ------
    FrameInvariantError
        When the frame breaks a rule of its schema.
    CaptureError, CaptureDamaged
        When there is no capture at the path, or a byte of it is not what was written.

    Examples
    --------
    >>> from massive_lab.frames.build import empty
    >>> list(replay(empty("bars")))
    []
    """
    if isinstance(source, str | os.PathLike):
        from massive_lab.live.capture.replay import Replay

        return Replay(source)
    from massive_lab.frames.replay import replay as replay_bars

    return replay_bars(source)
