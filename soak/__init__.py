"""Runs that take minutes: the live system under load, and the state machine over thousands of seeds."""
