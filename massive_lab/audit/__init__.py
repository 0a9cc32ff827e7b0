"""Measure a run and report it: listen to telemetry, compare with the server's own count, score, render."""
