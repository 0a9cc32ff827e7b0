"""The fixed page of the decode benchmark, and the loopback server that serves it: `python -m benchmarks.decode_page`."""

from __future__ import annotations

import gzip
import http.server
import json
import random

N_BARS = 50_000


def bars_page(n: int = N_BARS, seed: int = 7) -> bytes:
    """A page as the vendor writes it; some rows lack `vw`, some `n`, volumes are whole or fractional."""
    draw = random.Random(seed)
    rows = []
    price, stamp = 200.0, 1_735_819_200_000
    for i in range(n):
        price = max(1.0, price + draw.gauss(0, 0.1))
        opened, closed = round(price, 2), round(price + draw.gauss(0, 0.05), 4 if draw.random() < 0.2 else 2)
        volume = draw.randint(1, 200_000)
        row = {
            "v": float(volume) if draw.random() < 0.5 else volume,
            "vw": round((opened + closed) / 2, 4),
            "o": opened,
            "c": closed,
            "h": max(opened, closed, round(price + abs(draw.gauss(0, 0.05)), 2)),
            "l": min(opened, closed, round(price - abs(draw.gauss(0, 0.05)), 2)),
            "t": stamp,
            "n": draw.randint(1, 900),
        }
        if i % 97 == 5:
            del row["vw"]
        if i % 131 == 7:
            del row["n"]
        rows.append(row)
        stamp += 60_000
    counts = {"queryCount": n, "resultsCount": n, "adjusted": True}
    tail = {"status": "OK", "request_id": "6a7e466379af0a71039d60cc78e72282", "count": n}
    page = {"ticker": "AAPL", **counts, "results": rows, **tail}
    return json.dumps(page, separators=(",", ":")).encode()


def ticks_page(n: int = N_BARS, seed: int = 7) -> bytes:
    """A page of trades: conditions, ids and trade reporting facilities on some rows only."""
    draw = random.Random(seed)
    rows = []
    stamp = 1_748_871_000_000_000_000
    for i in range(n):
        stamp += draw.randint(1, 2_000_000)
        row: dict[str, object] = {
            "conditions": draw.choice(([14, 41], [37], [12, 37])),
            "decimal_size": f"{draw.randint(1, 500)}.0",
            "exchange": draw.randint(1, 21),
            "id": str(i),
            "participant_timestamp": stamp - draw.randint(1, 900_000),
            "price": round(200 + draw.gauss(0, 1), 4),
            "sequence_number": 1000 + 7 * i,
            "sip_timestamp": stamp,
            "size": draw.randint(1, 500),
            "tape": 3,
        }
        if i % 3 == 0:
            row |= {"trf_id": 202, "trf_timestamp": stamp - 5}
        if i % 7 == 0:
            del row["conditions"]
        rows.append(row)
    return json.dumps({"results": rows, "status": "OK", "request_id": "1"}, separators=(",", ":")).encode()


def serve() -> None:
    plain = bars_page()
    packed = gzip.compress(plain, 6)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            accepted = "gzip" in self.headers.get("Accept-Encoding", "")
            body = packed if accepted else plain
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if accepted:
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve()
