"""Capture and replay: what a live session heard, in one file, and the same session again from it."""
