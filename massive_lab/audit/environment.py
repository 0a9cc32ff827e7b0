"""Where a run took place: versions, platform, settings without secrets, and what is wrong with them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from massive_lab._version import __version__

__all__ = ["PACKAGES", "VARIABLES", "Finding", "describe", "examine"]

PACKAGES = (
    "polars", "numpy", "httpx2", "websockets", "msgspec", "isal", "TA-Lib", "exchange-calendars", "aiohttp",
    "pandas", "pyarrow", "ipykernel", "nbclient", "nbformat",
)  # fmt: skip
"""Distributions whose versions are told."""
NOTEBOOK_PACKAGES = ("ipykernel", "nbclient", "nbformat")
OPTIONAL_PACKAGES = ("pandas", "pyarrow", *NOTEBOOK_PACKAGES)

VARIABLES: dict[str, bool] = {
    "MASSIVE_API_KEY": True,
    "MASSIVE_PROXY_TOKEN": True,
    "MASSIVE_REST_URL": False,
    "MASSIVE_WS_URL": False,
    "MASSIVE_ENV": False,
    "MASSIVE_LAB_CACHE": False,
    "PORT": False,
    "WEB_ORIGIN": False,
}
"""Settings read from the environment; True for secrets, of which only the presence is told."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a check-up: what was looked at, what was found, and how to mend it when it is wrong."""

    what: str
    verdict: Literal["pass", "warn", "fail"]
    found: str
    mend: str = ""


def version_of(package: str) -> str | None:
    """The installed version of a distribution, or None.

    Examples
    --------
    >>> version_of("no-such-distribution") is None
    True
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe(environ: Mapping[str, str] | None = None) -> dict[str, object]:
    """Facts about this machine and process as plain data. Holds no secret and no path.

    Examples
    --------
    >>> describe({"MASSIVE_API_KEY": "abc"})["variables"]["MASSIVE_API_KEY"]
    'set'
    """
    values = os.environ if environ is None else environ
    return {
        "massive_lab": __version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "packages": {name: version_of(name) for name in PACKAGES},
        # Values are not told even of what is no secret: addresses name hosts and folders name people.
        "variables": {name: "set" if values.get(name) else "not set" for name in VARIABLES},
    }


def examine(environ: Mapping[str, str] | None = None, *, needs_key: bool = False) -> list[Finding]:
    """Judge the environment.

    Parameters
    ----------
    environ : mapping, optional
        Instead of the process environment.
    needs_key : bool
        Whether the run talks to a service that asks for a key.

    Examples
    --------
    >>> [f.verdict for f in examine({}, needs_key=True) if f.what == "API key"]
    ['fail']
    """
    values = os.environ if environ is None else environ
    found = [_python(), *_packages(), _key(values, needs_key=needs_key)]
    if values.get("MASSIVE_ENV", "production") not in ("production", "development"):
        found.append(
            Finding(
                "MASSIVE_ENV", "fail", "neither production nor development", "Set MASSIVE_ENV=production, or unset it."
            )
        )
    return found


def _python() -> Finding:
    name = platform.python_implementation()
    if name != "CPython":
        return Finding(
            "Python", "warn", f"{name} {platform.python_version()}", "The library is tested on CPython only."
        )
    return Finding("Python", "pass", f"{name} {platform.python_version()}")


def _packages() -> list[Finding]:
    required = [name for name in PACKAGES if name not in OPTIONAL_PACKAGES]
    missing = [name for name in required if version_of(name) is None]
    findings = [
        Finding("packages", "fail", f"missing: {', '.join(missing)}", "Install again: pip install massive-lab.")
        if missing
        else Finding("packages", "pass", f"{len(required)} required packages are installed")
    ]
    absent = [name for name in NOTEBOOK_PACKAGES if version_of(name) is None]
    if absent:
        findings.append(
            Finding(
                "notebooks",
                "warn",
                f"missing: {', '.join(absent)}",
                "For the audit: pip install 'massive-lab[notebook]'.",
            )
        )
    else:
        findings.append(Finding("notebooks", "pass", "notebooks can be executed"))
    return findings


def _key(values: Mapping[str, str], *, needs_key: bool) -> Finding:
    if values.get("MASSIVE_API_KEY") or values.get("MASSIVE_PROXY_TOKEN"):
        return Finding("API key", "pass", "set; its value is never shown")
    if needs_key:
        return Finding("API key", "fail", "not set", "Set MASSIVE_API_KEY in the environment or in .env.")
    return Finding("API key", "pass", "not set, and the sandbox needs none")
