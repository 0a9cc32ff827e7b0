"""The REST half of the sandbox: every endpoint as a pure function of request, market and time (SANDBOX)."""
