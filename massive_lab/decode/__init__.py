"""Bytes to columns: what the vendor sent, checked and named. Pure; no input or output."""
