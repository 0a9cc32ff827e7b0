"""The whole job: the command, the sandbox, the notebook, the report. Two runs, because their counts must be equal."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import nbformat
import pytest

from massive_lab.audit.leaks import find_secret

_ROOT = Path(__file__).parents[2]
_KEY = "mlab-canary-7f3kQ/x+Z9"


def _audit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A key in the environment must neither be used for the sandbox nor turn up anywhere.
    environ = {**os.environ, "MASSIVE_API_KEY": _KEY}
    return subprocess.run(
        [sys.executable, "-m", "massive_lab", "audit", "--duration", "10s", "-o", str(folder), *arguments],
        capture_output=True, text=True, check=False, env=environ, cwd=folder.parent, timeout=280,
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, subprocess.CompletedProcess[str]]]:
    folders = [tmp_path_factory.mktemp(name) / "audit" for name in ("first", "second")]
    return [(folder, _audit(folder, "--seed", "7")) for folder in folders]


@pytest.fixture(scope="module")
def document(runs: list[tuple[Path, subprocess.CompletedProcess[str]]]) -> dict[str, Any]:
    folder, done = runs[0]
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads((folder / "audit.json").read_text(encoding="utf-8"))


def test_the_command_sums_up_and_names_the_files(runs: list[tuple[Path, subprocess.CompletedProcess[str]]]) -> None:
    folder, done = runs[0]
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"SANDBOX  \d+(\.\d+)? of 10", done.stdout)
    for name in ("audit.html", "audit.json", "audit.ipynb"):
        assert f"audit/{name}" in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["audit.html", "audit.ipynb", "audit.json"]
    assert [path.name for path in folder.parent.iterdir()] == ["audit"]


def test_two_runs_differ_in_their_timings_alone(runs: list[tuple[Path, subprocess.CompletedProcess[str]]]) -> None:
    first, second = (json.loads((folder / "audit.json").read_text(encoding="utf-8")) for folder, _ in runs)
    assert first.pop("timings") != second.pop("timings")
    assert first == second


def test_the_document_is_as_the_schema_says(document: dict[str, Any]) -> None:
    schema = json.loads((_ROOT / "docs" / "audit-schema.json").read_text(encoding="utf-8"))
    errors = jsonschema.Draft202012Validator(schema).iter_errors(document)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_everything_was_measured_and_no_critical_check_failed(document: dict[str, Any]) -> None:
    assert document["score"]["not_measured"] == 0
    assert [check["id"] for check in document["score"]["checks"] if check["verdict"] == "fail"] == []
    assert all(document["sections"].values())


def test_both_counts_agree_in_every_line_and_there_are_many(document: dict[str, Any]) -> None:
    lines = document["sections"]["reconciliation"]["lines"]
    assert [line for line in lines if not line["equal"]] == []
    assert {line["what"] for line in lines} >= {
        "REST requests", "REST answers", "REST bytes", "connections", "subscribe params", "stream events", "stream frames",
        "stream bytes",
    }  # fmt: skip
    assert len(lines) > 50


def test_many_readers_cost_one_subscription(document: dict[str, Any]) -> None:
    totals = document["sections"]["subscriptions"]["totals"]
    assert totals["readers"] > 2 * totals["topics"] > 0
    assert totals["subscribes_sent"] == totals["topics"] == totals["confirmed"]
    assert totals["duplicates_asked"] == totals["readers"] - totals["topics"]
    assert (totals["duplicates_sent"], totals["dropped"], totals["quarantined"]) == (0, 0, 0)
    assert totals["messages"] > 50


def test_polling_stood_in_at_once_as_predicted_and_stopped(document: dict[str, Any]) -> None:
    fallback = document["sections"]["fallback"]["clusters"]
    assert [row["cluster"] for row in fallback] == ["stocks", "options", "indices"]
    assert all(row["since_loss_s"] == 0.05 and row["recovered"] and row["gaps"] == 1 for row in fallback)
    rows = {(row["phase"], row["endpoint"]): row for row in document["sections"]["polling"]["rows"]}
    # All three classes together may make 40 calls a minute: 11, 21 and 8. In 10.05 s, the first at 0.05 s.
    assert [sum(at <= 10.05 for at in row["polled_at_s"]) for row in fallback] == [2, 4, 2]
    assert rows["fallback", "snapshot"]["calls"] == 2 + 4 + 2
    planned = {row["cluster"]: row["fallback_per_minute"] for row in document["sections"]["polling"]["plan"]}
    assert planned == {"stocks": 11.0, "options": 21.0, "indices": 8.0}
    assert all(row["calls"] == row["predicted"] for row in rows.values())


def test_nothing_is_left_behind(document: dict[str, Any]) -> None:
    section = document["sections"]["cleanup"]
    held = {row["moment"]: row for row in document["timings"]["held"]}
    assert section["left_over"] == []
    assert held["streaming"]["sockets"] >= 3
    assert (held["after"]["sockets"], held["after"]["tasks"]) == (0, 0)


def test_the_notebook_is_executed_and_shows_the_report_without_a_kernel(
    runs: list[tuple[Path, subprocess.CompletedProcess[str]]],
) -> None:
    notebook = nbformat.read(runs[0][0] / "audit.ipynb", as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output.output_type in ("error", "stream") for cell in cells for output in cell.outputs)
    html = cells[-1].outputs[-1]["data"]["text/html"]
    assert "SANDBOX" in html
    assert "<svg" in html


def test_no_key_is_in_any_output(runs: list[tuple[Path, subprocess.CompletedProcess[str]]]) -> None:
    for folder, done in runs:
        for text in (done.stdout, done.stderr, *(path.read_text(encoding="utf-8") for path in folder.iterdir())):
            assert find_secret(text, [_KEY]) is None


def test_no_path_of_this_machine_is_in_the_report(runs: list[tuple[Path, subprocess.CompletedProcess[str]]]) -> None:
    for path in runs[0][0].iterdir():
        text = path.read_text(encoding="utf-8")
        assert str(_ROOT) not in text
        assert str(runs[0][0].parent) not in text


def test_a_failed_audit_leaves_the_report_before_it(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    folder.mkdir()
    (folder / "audit.json").write_text("the one before")
    done = _audit(folder, "--watchlist", "SPY,NOSUCHSYMBOL")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(r"massive-lab audit: .*UnknownSymbol.*NOSUCHSYMBOL", done.stderr)
    assert done.stderr.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["audit.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]


def test_a_range_before_the_history_of_the_plan_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    done = _audit(folder, "--plan", "starter", "--start", "2001-01-02", "--end", "2001-02-01")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(r"massive-lab audit: .*InvalidRequest.*starter", done.stderr)
    assert not folder.exists()


def test_one_phase_alone_is_judged_by_what_it_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    from massive_lab.audit import scenario

    for name in ("MASSIVE_LAB_AUDIT_ENDPOINTS", "MASSIVE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    audit = scenario.begin("sandbox", ["SPY", "I:SPX"], duration_s=5)
    with audit.phase("history", aggs_range=2):
        frame = audit.lab.bars(audit.symbols, "1d", audit.end - dt.timedelta(days=30), audit.end)
    audit.close()
    report = audit.finish()
    assert frame["symbol"].n_unique() == 2
    verdicts = {check["id"]: check["verdict"] for check in report.document["score"]["checks"]}
    assert {verdicts[name] for name in ("rest.errors", "rest.loads", "reconciliation.counts", "cleanup.left")} == {
        "pass"
    }
    assert verdicts["subscriptions.shared"] == verdicts["fallback.time"] == "not measured"
    score = report.document["score"]
    assert score["value"] < 5 < score["ceiling"] == 10
    assert "This was not measured in this run." in report._repr_mimebundle_()["text/html"]
    assert repr(report).startswith("SANDBOX audit: ")


def test_a_poll_that_has_to_be_repeated_delays_the_drill_and_does_not_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from massive_lab.audit import scenario

    for name in ("MASSIVE_LAB_AUDIT_ENDPOINTS", "MASSIVE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(scenario, "_PATIENCE_S", 12.0)  # a retry sleeps on the clock of the drill
    audit = scenario.begin("sandbox", ["SPY", "I:SPX"], duration_s=5)
    live = audit.lab.live(audit.streamed, channels=["T", "V"])
    try:
        with audit.phase("live"):
            audit.stream(live)
        assert audit._control is not None
        audit._control.add_fault("http_5xx", scope="snapshot", count=1, status=503)
        drop = audit.drop()
        restored = audit.restore()
    finally:
        audit.close(live)
    assert drop is not None
    assert (drop["polls"] >= drop["expected"]).all()
    assert restored is not None
    assert restored["recovered"].all()
    retries = audit.recorder.read(lambda r: sum(tally.retries for tally in r.endpoints.values()))
    assert retries == 1
