"""Measurements against named peers: each prints a ratio of two figures taken in the same run."""
