"""The vocabulary: columns, symbols, timeframes, sessions, plans, endpoint names. Pure; no input or output."""
