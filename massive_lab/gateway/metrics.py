"""What Prometheus is told: names and units as its conventions ask, labels from fixed lists only.

No label holds a ticker, a token, a path or an address: endpoints are names of templates, clients names of the configuration.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from massive_lab._version import __version__

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The counters of one gateway, in a registry of their own.

    Examples
    --------
    >>> metrics = Metrics(sandbox=True)
    >>> metrics.answered("trades", "desk", 200, 0.012, 1_000)
    >>> 'massive_gateway_requests_total{code="200",endpoint="trades"} 1.0' in metrics.text()
    True
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, *, sandbox: bool = False) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"massive_gateway_{name}", text, labels, registry=self.registry)

        def seconds(name: str, text: str) -> Histogram:
            return Histogram(
                f"massive_gateway_{name}_seconds", text, ("endpoint",), buckets=_SECONDS, registry=self.registry
            )

        Info("massive_gateway_build", "What runs here.", registry=self.registry).info(
            {"version": __version__, "data": "SANDBOX" if sandbox else "vendor"}
        )
        self._requests = counter("requests", "REST requests answered.", "endpoint", "code")
        self._clients = counter("client_requests", "REST requests answered, by configured name.", "client")
        self._bytes = counter("response_bytes", "Bytes of REST bodies sent.", "endpoint")
        self._seconds = seconds("request_duration", "From a request's head to its answer.")
        self._upstream = counter("upstream_requests", "Requests sent to the vendor.", "endpoint", "outcome")
        self._upstream_seconds = seconds("upstream_duration", "How long the vendor took.")
        self._spared = counter("spared_requests", "Requests answered without asking the vendor.", "source")
        self._refused = counter("refused_requests", "Requests refused by the gateway.", "reason")
        self._broken = counter("broken_requests", "Connections that did not speak proper HTTP.", "kind")
        self._opened = counter("websocket_connections", "WebSocket connections opened.", "cluster")
        self._closed = counter("websocket_closes", "WebSocket connections ended, by code.", "code")
        self._held_off = counter("websocket_not_admitted", "WebSocket connections told to come later.", "cluster")
        self._rotations = counter("token_rotations", "Times the tokens were read anew.", "outcome")

    def answered(self, endpoint: str, client: str | None, status: int, elapsed_s: float, n_bytes: int) -> None:
        """A request was answered."""
        self._requests.labels(endpoint, str(status)).inc()
        self._bytes.labels(endpoint).inc(n_bytes)
        self._seconds.labels(endpoint).observe(elapsed_s)
        if client is not None:
            self._clients.labels(client).inc()

    def asked(self, endpoint: str, outcome: str, elapsed_s: float) -> None:
        """The vendor was asked; `outcome` is ``2xx`` to ``5xx``, ``timeout``, ``failed`` or ``closed``."""
        self._upstream.labels(endpoint, outcome).inc()
        self._upstream_seconds.labels(endpoint).observe(elapsed_s)

    def spared(self, source: str) -> None:
        """A request was answered from the ``cache``, or with the answer to another one (``shared``)."""
        self._spared.labels(source).inc()

    def refused(self, reason: str) -> None:
        """A request was refused: a reason of `massive_lab.gateway.tokens`, or ``limit token``, ``limit total``, ``path``."""
        self._refused.labels(reason).inc()

    def broken(self, kind: str) -> None:
        """A connection was ended: ``malformed``, ``too large``, ``too slow``, ``not taken``, ``error``."""
        self._broken.labels(kind).inc()

    def rotated(self, outcome: str) -> None:
        """Tokens were read anew: ``ok`` or ``failed``."""
        self._rotations.labels(outcome).inc()

    def socket(self, what: str, label: str) -> None:
        """Something rare happened to a WebSocket: ``opened``, ``closed``, ``auth_refused`` or ``not_admitted``."""
        match what:
            case "opened":
                self._opened.labels(label).inc()
            case "closed":
                self._closed.labels(label).inc()
            case "not_admitted":
                self._held_off.labels(label).inc()
            case "auth_refused":
                self._refused.labels(label).inc()

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A value that is read when it is asked for."""
        Gauge(f"massive_gateway_{name}", text, registry=self.registry).set_function(read)

    def text(self) -> str:
        """The exposition."""
        return generate_latest(self.registry).decode()
