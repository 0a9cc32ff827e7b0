"""One connection per cluster, many readers."""
