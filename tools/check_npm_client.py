"""The vendor's JavaScript client, unchanged, through a gateway: what it gets is what it gets directly, answer for answer.

    python tools/check_npm_client.py

It needs node and npm, and the npm registry once: the client and what it depends on are installed into a temporary folder
(or into ``--folder``, which is used again when it has them), without running any package's scripts. No part of the suite,
which needs no network.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from massive_lab.gateway.process import GatewayProcess
from massive_lab.sandbox import SandboxProcess

PACKAGE = "@massive.com/client-js"
VERSION = "10.8.0"
SCRIPT = Path(__file__).with_name("npm_client.mjs")
SECOND_KEY = "beside"
TOPICS = {"stocks": "T.AAPL,Q.AAPL,AM.*,A.SPY", "indices": "V.I:SPX,AM.I:VIX", "options": "T.*"}
PLAYED_S = 120.0


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"there is no {name} here: install Node.js, 18 or newer")
    return found


def install(folder: Path) -> None:
    """Put the client into a folder, unless it is there."""
    manifest = folder / "node_modules" / PACKAGE / "package.json"
    if not manifest.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [_program("npm"), "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run([*command, f"{PACKAGE}@{VERSION}"], check=True, stdout=subprocess.DEVNULL)
    found = json.loads(manifest.read_text(encoding="utf-8"))["version"]
    if found != VERSION:
        raise SystemExit(f"{folder} has version {found} of {PACKAGE}, not {VERSION}")
    (folder / SCRIPT.name).write_text(SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")


class Client:
    """One run of the script."""

    def __init__(self, folder: Path, key: str, rest: str, ws: str) -> None:
        asked = json.dumps({"key": key, "rest": rest, "ws": ws, "topics": TOPICS})
        self.child = subprocess.Popen(
            [_program("node"), SCRIPT.name, asked], cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        # Our own address differs, and so do the ids that are drawn for each answer.
        self.base = rest

    def tell(self, text: str) -> None:
        """Give it a line."""
        assert self.child.stdin is not None
        self.child.stdin.write(text + "\n")
        self.child.stdin.flush()

    def read(self) -> Any:
        """Its next line."""
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            raise SystemExit(f"the client ended with code {self.child.wait()}")
        return json.loads(line.replace(self.base, "<base>"))


def _plain(value: Any) -> Any:
    """Without the id of the answer."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items() if name != "request_id"}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def check(folder: Path) -> list[str]:
    """What differs, a line each; prints what was compared."""
    differences: list[str] = []
    with SandboxProcess(seed=7, paused=True) as sandbox, GatewayProcess(sandbox=sandbox.rest_url) as gateway:
        sandbox.control.add_account(SECOND_KEY, plan="advanced")
        through = Client(folder, gateway.token, gateway.url, gateway.ws_url)
        direct = Client(folder, SECOND_KEY, sandbox.rest_url, sandbox.ws_url)
        try:
            ours, theirs = through.read(), direct.read()
            for name, wanted in theirs.items():
                rows = wanted.get("results")
                n = f"{len(rows)} rows" if isinstance(rows, list) else f"HTTP {wanted.get('failed', 200)}"
                same = _plain(ours[name]) == _plain(wanted)
                print(f"SANDBOX  {name:26} {n:>12}  {'equal' if same else 'DIFFERENT'}")
                if not same:
                    differences.append(f"{name}: {str(ours[name])[:300]} instead of {str(wanted)[:300]}")
            for client in (through, direct):
                if client.read() != "live":
                    raise SystemExit("the subscriptions were not confirmed")
            before = _served(sandbox)
            sandbox.control.jump(PLAYED_S)
            after = _served(sandbox)
            # Two connections of each cluster were served the same.
            wanted_n = {cluster: (after[cluster] - before.get(cluster, 0)) // 2 for cluster in TOPICS}
            told = []
            for client in (through, direct):
                client.tell(json.dumps(wanted_n))
                told.append(client.read())
            for cluster in TOPICS:
                got, wanted = (each["events"][cluster] for each in told)
                n_new = len(wanted)
                same = got == wanted and n_new >= wanted_n[cluster] > 0
                print(f"SANDBOX  {'socket ' + cluster:26} {n_new:>5} events  {'equal' if same else 'DIFFERENT'}")
                if not same:
                    differences.append(f"{cluster}: {len(got)} events instead of {n_new}")
        finally:
            for client in (through, direct):
                client.child.kill()
                client.child.communicate()
    return differences


def _served(sandbox: SandboxProcess) -> dict[str, int]:
    return {name: sum(count["topics"].values()) for name, count in sandbox.control.counts()["ws"].items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, help="where the client is, or is to be")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        folder = (folder or Path(temporary)).resolve()
        install(folder)
        differences = check(folder)
    for line in differences:
        print(line, file=sys.stderr)
    return 1 if differences else 0


if __name__ == "__main__":
    raise SystemExit(main())
