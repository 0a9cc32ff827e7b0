"""The face of the library: `connect` and the two clients, sync and async, with the same names."""
