"""One key, many readers: the vendor's REST and WebSocket interfaces served to the holders of proxy tokens."""
