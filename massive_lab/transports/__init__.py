"""Bytes in and out, never parsed: HTTP, WebSocket, retry and rate rules, and the loop thread they live on."""
