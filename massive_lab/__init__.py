"""DataFrame-first access to Massive.com market data."""

from __future__ import annotations

from massive_lab._version import __version__

__all__ = ["__version__"]
