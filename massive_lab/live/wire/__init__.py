"""The life of one socket, and who listens in on it."""
