"""Rules of the project that are not rules of any one module."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from massive_lab._version import __version__

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def tracked() -> list[Path]:
    # The clone may belong to another user than the one who runs the tests; git refuses that unless told.
    git = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-z"]
    names = subprocess.run(git, check=True, capture_output=True, text=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    parts = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in parts}


# release


def releases() -> list[tuple[Version, str]]:
    """Version and date of each section of the changelog, as written."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    found = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (Unreleased|\d{4}-\d\d-\d\d)", heading) for heading in headings]
    assert all(found), f"a heading is not '[version] - date': {headings}"
    return [(Version(match[1]), match[2]) for match in found if match]


def test_the_newest_section_of_the_changelog_is_this_version() -> None:
    assert releases()[0][0] == Version(__version__)


def test_sections_descend_by_version_and_date_and_only_the_newest_is_unreleased() -> None:
    versions = [version for version, _ in releases()]
    assert versions == sorted(set(versions), reverse=True)
    dates = [date for _, date in releases()]
    assert "Unreleased" not in dates[1:]
    days = [dt.date.fromisoformat(date) for date in dates if date != "Unreleased"]
    assert days == sorted(days, reverse=True)
    assert all(day <= dt.datetime.now(dt.UTC).date() for day in days)


def test_the_installed_distribution_has_this_version() -> None:
    assert importlib.metadata.version("massive-lab") == __version__


# what may stand in a tracked file

REGISTRY = re.compile(r"pypi\.org|python[h]osted|test\.pypi|registry\.npmjs|deb\.debian\.org|conda\.anaconda")
MACHINE = re.compile(r"(?<![\w.])/(?:(?:work|root|farm|opt)/\w|home/(?!you\b)\w|Users/(?!you\b)\w)")
SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\bAKIA[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{36}"
    r"|\beyJ[\w-]{20,}\.eyJ[\w-]{20,}"
    # The vendor's keys are 32 characters of mixed case and digits.
    r"|(?<![\w/+=-])(?=\w{0,31}[A-Z])(?=\w{0,31}[a-z])(?=\w{0,31}[0-9])[A-Za-z0-9_]{32}(?![\w/+=-])"
)


@pytest.mark.parametrize(
    ("rule", "pattern"),
    [("registry host", REGISTRY), ("path of a machine", MACHINE), ("secret", SECRET)],
    ids=["registry", "machine", "secret"],
)
def test_no_tracked_file_names_a(rule: str, pattern: re.Pattern[str]) -> None:
    found = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in tracked()
        if b"\0" not in (blob := file.read_bytes())
        for number, line in enumerate(blob.decode("utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert not found, f"{rule}: {found}"


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (REGISTRY, "https://" + "pypi." + "org/simple"),
        (MACHINE, "open('/" + "home/someone/data.csv')"),
        (MACHINE, "cd /" + "root/x"),
        (SECRET, "api_key = '" + "aB3" * 10 + "xY'"),
        (SECRET, "-----BEGIN " + "RSA PRIVATE KEY-----"),
    ],
    ids=["host", "home", "root", "key", "pem"],
)
def test_the_patterns_find_what_they_are_for(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.search(text)


@pytest.mark.parametrize("text", ["/v2/aggs/ticker", "~/.cache/massive_lab", "a" * 32, "0" * 32, "not/root/either"])
def test_the_patterns_leave_ordinary_text_alone(text: str) -> None:
    assert not any(pattern.search(text) for pattern in (REGISTRY, MACHINE, SECRET))


def test_a_file_over_400_lines_has_its_reason_in_the_architecture() -> None:
    modules = [file for file in tracked() if file.suffix == ".py" and file.is_relative_to(ROOT / "massive_lab")]
    long = {str(file.relative_to(ROOT)): n for file in modules if (n := file.read_bytes().count(b"\n")) > 400}
    reasons = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert not {name: n for name, n in long.items() if name.removeprefix("massive_lab/") not in reasons}


# dependencies


def test_constraints_hold_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    body = [line for line in lines if not line.startswith("#")]
    assert [line for line in body if not re.fullmatch(r"[\w.-]+==[\w.!+]+", line)] == []
    assert body == sorted(body, key=str.lower)
    assert len(pins()) == len(body)
    assert not {"pip", "setuptools", "wheel", "massive-lab"} & pins().keys()


def test_constraints_satisfy_every_bound_of_the_project() -> None:
    declared = [
        *PROJECT["dependencies"],
        *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
    ]
    requirements = [Requirement(line) for line in declared]
    outside = [
        str(requirement)
        for requirement in requirements
        if requirement.name != "massive-lab"
        and not requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])
    ]
    assert not outside


def test_constraints_cover_all_that_the_extras_bring() -> None:
    missing: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [("massive-lab", frozenset(PROJECT["optional-dependencies"]))]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        if name != "massive-lab" and name not in pins():
            missing.add(name)
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of an extra that the development environment leaves out; its own name is checked above
        for requirement in map(Requirement, requires):
            environments = [{"extra": extra} for extra in extras] or [{"extra": ""}]
            if requirement.marker is None or any(requirement.marker.evaluate(each) for each in environments):
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    assert len(seen) > 50
    assert not missing


def test_a_wheel_carries_every_data_file() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    carried = build["targets"]["wheel"]["force-include"]
    files = [f"data/{file.name}" for file in (ROOT / "data").iterdir() if file.is_file()]
    assert {source: carried.get(source) for source in files} == {
        source: source.replace("data/", "massive_lab/_data/") for source in files
    }


# what is generated, and what a newcomer types


def test_the_reference_page_is_the_schema() -> None:
    check = [sys.executable, "tools/build_docs.py", "--check"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Variables of an outer make (jobs, overrides) would change the inner one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def interpreter_that_fails_on(word: str, folder: Path) -> Path:
    script = folder / "python3"
    script.write_text(f'#!/bin/sh\ncase "$*" in *{word}*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    return script


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("ensurepip", "apt-get install python3-venv"),
        ("version_info", "3.11 or newer"),
        ("import", "apt-get install python3"),
    ],
)
def test_a_machine_that_lacks_something_hears_it_in_one_line(word: str, hint: str, tmp_path: Path) -> None:
    python = interpreter_that_fails_on(word, tmp_path)
    done = make("test", f"VENV={tmp_path / 'venv'}", f"PYTHON={python}")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert hint in done.stderr
    assert not done.stdout
    assert not (tmp_path / "venv").exists()


def test_make_without_a_target_explains_every_target() -> None:
    done = make()
    assert done.returncode == 0
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony is not None
    explained = re.findall(r"^  ([a-z]+) +\S", done.stdout, re.MULTILINE)
    assert explained == phony[1].split()


def test_an_outdated_environment_is_set_up_again(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    plan = make("--dry-run", "lint", f"VENV={tmp_path}")
    assert "pip install" in plan.stdout
    (tmp_path / ".installed").touch()
    assert "pip install" not in make("--dry-run", "lint", f"VENV={tmp_path}").stdout


def test_the_ci_script_parses_and_runs_every_check() -> None:
    script = ROOT / ".ci" / "run"
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text(encoding="utf-8")
    for target in ("lint", "types", "contract", "audit", "test"):
        assert re.search(rf"\b{target}\b", text)
