"""Where the real index history lies: inside an installed package, or at the top of a checkout."""

from __future__ import annotations

from pathlib import Path

from massive_lab.errors import ConfigError

__all__ = ["data_file"]

_PACKAGE = Path(__file__).resolve().parent.parent
_PLACES = (_PACKAGE / "_data", _PACKAGE.parent / "data")


def data_file(name: str) -> Path:
    """Path of one of the bundled data files.

    A wheel carries the files in ``massive_lab/_data``; an editable install reads the checkout's ``data``
    folder. ``data/README.md`` describes every file, its source and its licence.

    Parameters
    ----------
    name : str
        File name with its suffix and without folders.

    Returns
    -------
    pathlib.Path
        An existing file. Read it; never write to it.

    Raises
    ------
    ConfigError
        No such file is bundled, or the installation lost it.

    Examples
    --------
    >>> data_file("spx_close_1990_2022.parquet").name
    'spx_close_1990_2022.parquet'
    """
    return _find(name, _PLACES)


def _find(name: str, places: tuple[Path, ...]) -> Path:
    # A bare name only, so that no argument reaches a file outside the two folders.
    if Path(name).name == name:
        for place in places:
            if (place / name).is_file():
                return place / name
    known = sorted({file.name for place in places if place.is_dir() for file in place.glob("*.parquet")})
    raise ConfigError(
        f"No bundled data file is named {name!r}.",
        hint=f"Bundled: {', '.join(known)}." if known else "No data file was found: reinstall massive_lab.",
    )
