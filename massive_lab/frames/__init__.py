"""Columns to Polars frames that match `massive_lab.schema.columns` exactly. Pure; no input or output."""
