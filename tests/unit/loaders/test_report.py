from __future__ import annotations

from massive_lab.loaders.report import LoadLedger
from massive_lab.telemetry import CacheHit, LoadDone, RequestCoalesced, RequestDone, RetryScheduled, Telemetry


def test_the_report_adds_up_what_telemetry_told() -> None:
    ledger = LoadLedger()
    telemetry = Telemetry()
    telemetry.add(ledger)
    telemetry.emit(RequestDone(0.0, "trades", "trades", 429, "http_error", 10, 0.1, 1))
    telemetry.emit(RetryScheduled(0.1, "trades", "429", 0.5, 1))
    telemetry.emit(RequestDone(0.6, "trades", "trades", 200, "ok", 90, 0.1, 2))
    telemetry.emit(RequestDone(0.7, "chain", "chain", None, "timeout", 0, 5.0, 1))
    telemetry.emit(RequestDone(0.7, "chain", "chain", None, "connection", 0, 0.0, 2, sent=False))
    telemetry.emit(RequestCoalesced(0.7, "trades", "trades"))
    telemetry.emit(CacheHit(0.8, "indicator_ema", "server_indicator"))
    telemetry.emit(LoadDone(0.9, "trades", ("AAPL",), 5, 1, 0.75, "ok"))
    report = ledger.report()
    assert (report.requests, report.pages, report.bytes) == (3, 1, 100)
    assert (report.cache_hits, report.coalesced, report.retries, report.rate_limited, report.failed) == (1, 1, 1, 1, 3)
    assert report.seconds == 0.75
    assert report.frame().rows() == [("chain", 1, 0), ("trades", 2, 100)]
    assert "3 requests" in str(report)
    assert "<caption>Load report</caption>" in report._repr_html_()


def test_an_empty_report_has_an_empty_frame_with_its_schema() -> None:
    assert LoadLedger().report().frame().columns == ["endpoint", "requests", "bytes"]
