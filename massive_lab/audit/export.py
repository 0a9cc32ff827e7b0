"""Execute the audit notebook without a browser, and write what it measured: all of it, or nothing."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from massive_lab.audit.leaks import refuse_secrets, secrets_of
from massive_lab.audit.report import page
from massive_lab.errors import ConfigError, InvalidRequest, MassiveLabError

__all__ = ["MIME", "AuditFailed", "export", "find_notebook", "inject", "prepare_folder", "run_notebook", "write_report"]

MIME = "application/vnd.massive-lab.audit+json"
"""Under this type the notebook hands its document over; other readers show the HTML beside it."""
NOTEBOOK = "90_audit.ipynb"
ENDPOINTS = "MASSIVE_LAB_AUDIT_ENDPOINTS"
"""Environment variable by which a kernel learns where the sandbox listens: addresses change from run to run and have no
place in a notebook that is to be the same each time."""
DENSITY = 2.0
"""How lively the market of an audited sandbox is: enough for every part of the stream, and quickly made."""
FILES = ("audit.html", "audit.json", "audit.ipynb")


class AuditFailed(MassiveLabError):
    """The notebook stopped before it had measured everything; nothing was written."""


def find_notebook() -> Path:
    """The audit notebook: the checkout's, else the one packed with the library.

    Raises
    ------
    ConfigError
        When neither is there.
    """
    checkout = Path(__file__).resolve().parents[2] / "notebooks" / NOTEBOOK
    if checkout.is_file():
        return checkout
    packed = Path(str(files("massive_lab"))) / "_notebooks" / NOTEBOOK
    if packed.is_file():
        return packed
    raise ConfigError(f"The notebook {NOTEBOOK} is missing.", hint="Install massive_lab again.")


def prepare_folder(out: Path) -> Path:
    """Make sure, before any work, that a folder can be written beside `out` and moved there.

    Raises
    ------
    ConfigError
        When a part of the path is a file, or is not writable.
    """
    out = Path(os.path.abspath(out.expanduser()))  # noqa: PTH100  resolve() would follow a link that may point nowhere
    if out.exists() and not out.is_dir():
        raise ConfigError(f"The output {out} is a file.", hint="Name a folder with -o.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".audit-"):
            pass
        if out.exists():
            with tempfile.TemporaryFile(dir=out):
                pass
    except OSError as error:
        raise ConfigError(
            f"The output folder {out} cannot be written ({error.strerror or type(error).__name__}).",
            hint="Name another one with -o.",
        ) from error
    return out


def inject(notebook: Any, parameters: Mapping[str, object]) -> Any:
    """Put values into the cell tagged ``parameters``: names it sets, in its order, with new values.

    Raises
    ------
    InvalidRequest
        When there is no such cell, or it does not set one of the names.
    """
    cell = next((c for c in notebook.cells if "parameters" in c.metadata.get("tags", ())), None)
    if cell is None:
        raise InvalidRequest("The notebook has no cell tagged 'parameters'.")
    left = dict(parameters)
    lines = []
    for line in cell.source.splitlines():
        name, equals, rest = line.partition(" = ")
        if equals and name in left:
            _, hash_, comment = rest.partition("  # ")
            line = f"{name} = {left.pop(name)!r}{hash_}{comment}"  # noqa: PLW2901  the line with its value replaced
        lines.append(line)
    if left:
        raise InvalidRequest(f"The notebook has no parameter {', '.join(left)}.")
    cell.source = "\n".join(lines)
    return notebook


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run_notebook(
    path: Path, parameters: Mapping[str, object], *, environ: Mapping[str, str] | None = None, timeout_s: float = 600
) -> Any:
    """Execute a notebook in a fresh kernel of this very interpreter.

    Parameters
    ----------
    path : Path
    parameters : mapping
        Written into the cell tagged ``parameters``; never a secret.
    environ : mapping, optional
        Added to the kernel's environment.
    timeout_s : float
        Bound for one cell.

    Returns
    -------
    nbformat.NotebookNode
        The executed notebook, free of execution times.

    Raises
    ------
    ConfigError
        When the packages that execute notebooks are missing.
    AuditFailed
        When a cell raises or takes too long; the text is the error's own.
    """
    try:
        import nbformat
        from jupyter_client.kernelspec import KernelSpec
        from jupyter_client.manager import AsyncKernelManager
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    except ImportError as error:
        raise ConfigError(
            f"Executing notebooks needs a package that is missing: {error.name}.",
            hint="Install it with: pip install 'massive-lab[notebook]'",
        ) from error

    notebook = inject(nbformat.read(path, as_version=4), parameters)  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory(prefix="massive_lab-audit-") as scratch:
        # Folders of its own: start-up files and settings of the user must not change what is measured.
        own = dict.fromkeys(("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"), scratch)
        with _environment({**own, "PYDEVD_DISABLE_FILE_VALIDATION": "1", **(environ or {})}):
            manager = AsyncKernelManager(kernel_name="python3")
            # The registered kernel may belong to another interpreter.
            manager._kernel_spec = KernelSpec(
                argv=[
                    sys.executable,
                    "-Wignore::DeprecationWarning",
                    "-m",
                    "ipykernel_launcher",
                    # Otherwise it warns that it listens on loopback TCP, which is where it is meant to.
                    "--log-level=ERROR",
                    "-f",
                    "{connection_file}",
                ],
                display_name="Python 3",
                language="python",
            )
            client = NotebookClient(
                notebook, km=manager, timeout=int(timeout_s), record_timing=False, store_widget_state=False
            )
            try:
                client.execute(cleanup_kc=True)  # the manager is ours, so it must be told
            except CellExecutionError as error:
                raise AuditFailed(f"The audit stopped: {error.ename}: {_first_line(error.evalue)}") from error
            except (CellTimeoutError, DeadKernelError) as error:
                raise AuditFailed(f"The audit stopped: {_first_line(str(error))}") from error
    return notebook


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), text)


def document_of(notebook: Any) -> dict[str, Any]:
    """The audit document that an executed notebook displayed last.

    Raises
    ------
    AuditFailed
        When it displayed none.
    """
    for cell in reversed(notebook.cells):
        for output in reversed(cell.get("outputs", ())):
            document = output.get("data", {}).get(MIME)
            if document is not None:
                return dict(document)
    raise AuditFailed("The notebook came to its end without a result: its last cell must call audit.finish().")


def to_json(document: Mapping[str, Any]) -> str:
    """The document as text: sorted keys, so that equal documents are equal bytes."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_report(out: Path, document: Mapping[str, Any], notebook: Any, *, secrets: tuple[str, ...] = ()) -> None:
    """Write the three files: first to a folder beside `out`, then moved into place, each whole.

    Raises
    ------
    SecretFound
        When one of them would hold a key or token.
    """
    import nbformat

    texts = {
        "audit.html": page(document),
        "audit.json": to_json(document),
        "audit.ipynb": nbformat.writes(notebook) + "\n",  # type: ignore[no-untyped-call]
    }
    refuse_secrets(texts, secrets)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".audit-") as scratch:
        for name, text in texts.items():
            (Path(scratch) / name).write_text(text, encoding="utf-8", newline="\n")
        out.mkdir(exist_ok=True)
        for name in FILES:
            shutil.move(Path(scratch) / name, out / name)


def export(
    out: Path,
    *,
    parameters: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
    secrets: tuple[str, ...] = (),
    timeout_s: float = 600,
) -> dict[str, Any]:
    """Run the audit notebook and write its report to `out`.

    Returns
    -------
    dict
        The audit document.
    """
    started = dt.datetime.now(dt.UTC)
    notebook = run_notebook(find_notebook(), parameters, environ=environ, timeout_s=timeout_s)
    document = document_of(notebook)
    elapsed = (dt.datetime.now(dt.UTC) - started).total_seconds()
    document["timings"]["run"] = {"started": started.isoformat(timespec="seconds"), "elapsed_s": round(elapsed, 1)}
    write_report(out, document, notebook, secrets=secrets_of(os.environ, *secrets))
    return document
