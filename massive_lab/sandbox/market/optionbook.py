"""Listed options."""
from __future__ import annotations
class OptionBook:
    def __init__(self, market): self.m = market
    def listed(self, *a): return False
    def active(self, *a): return []
    def days(self, *a): return iter(())
