"""The macro regime, live."""
