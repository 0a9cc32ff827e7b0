"""Faults: named, scoped, seeded values that make the sandbox misbehave on purpose.

``book`` holds the armed ones and draws their decisions; ``toxics`` act on bytes, ``answers`` on REST answers, ``stream``
on WebSocket sessions. A new kind is one frozen dataclass with a `register` line above it.
"""
