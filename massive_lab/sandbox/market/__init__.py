"""The synthetic market: one truth from which REST and the stream are both served (SANDBOX)."""
