"""The edge to pandas. Inside the library every frame is Polars."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, overload

import polars as pl

from massive_lab.errors import ConfigError, InvalidRequest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_kind", "to_kind"]


def check_kind(kind: object) -> None:
    """Refuse what `to_kind` cannot make.

    Raises
    ------
    ConfigError
        When pandas or pyarrow is not installed.
    InvalidRequest
        For any other kind than polars and pandas.
    """
    if not isinstance(kind, str) or kind not in ("polars", "pandas"):
        raise InvalidRequest(f"frame={repr(kind)[:80]} is not a kind of frame.", hint="Use 'polars' or 'pandas'.")
    missing = [name for name in ("pandas", "pyarrow") if kind == "pandas" and find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"frame='pandas' needs {' and '.join(missing)}.", hint="Run: pip install 'massive-lab[pandas]'"
        )


@overload
def to_kind(frame: pl.DataFrame, kind: Literal["polars"]) -> pl.DataFrame: ...
@overload
def to_kind(frame: pl.DataFrame, kind: Literal["pandas"]) -> pd.DataFrame: ...
@overload
def to_kind(frame: pl.DataFrame, kind: str) -> Any: ...
def to_kind(frame: pl.DataFrame, kind: str) -> Any:
    """Give a frame back in the kind the user asked for.

    Parameters
    ----------
    frame : polars.DataFrame
    kind : {"polars", "pandas"}
        With ``"pandas"`` times become ``datetime64[ns, UTC]`` and integers and booleans the nullable ``Int64`` and
        ``boolean``, whether or not a null is among them: the types of a column do not depend on its values, and a
        19-digit integer never passes through a double. Null prices become NaN, as pandas has it.

    Raises
    ------
    ConfigError
        When pandas or pyarrow is not installed.
    InvalidRequest
        For any other kind.

    Examples
    --------
    >>> frame = pl.DataFrame({"trade_count": [1, None]})
    >>> to_kind(frame, "pandas").dtypes["trade_count"]
    Int64Dtype()
    """
    check_kind(kind)
    if kind == "polars":
        return frame
    import pandas as pd

    nullable = {pl.Int64: pd.Int64Dtype(), pl.Boolean: pd.BooleanDtype()}

    def mapped(series: pl.Series) -> Any:
        found = nullable.get(type(series.dtype))
        return series.to_pandas() if found is None else pd.array(series.to_list(), dtype=found)

    return pd.DataFrame({series.name: mapped(series) for series in frame}, columns=frame.columns)
