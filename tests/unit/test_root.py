"""The root package: light, lazy, and without a name that leads nowhere."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import massive_lab

HEAVY = [
    "pandas",
    "polars",
    "numpy",
    "ipywidgets",
    "httpx2",
    "websockets",
    "aiohttp",
    "talib",
    "exchange_calendars",
    "msgspec",
    "asyncio",
    "isal",
    "tqdm",
    "dotenv",
    "pyarrow",
    "matplotlib",
    "IPython",
]

# What is loaded is a property of a fresh interpreter; this one has loaded everything long ago.
CENSUS = """
import json, sys
before = set(sys.modules)
{statement}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def loaded_by(statement: str) -> list[str]:
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + CENSUS.format(statement=statement),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    found: list[str] = json.loads(done.stdout)
    return found


ROOT = Path(massive_lab.__file__).parents[1]


def test_importing_the_library_loads_nothing_heavy() -> None:
    new = loaded_by("import massive_lab")
    assert "massive_lab" in new
    assert {name.partition(".")[0] for name in new} & set(HEAVY) == set()
    assert len(new) <= 60


def test_the_errors_are_light_too() -> None:
    new = loaded_by("import massive_lab; massive_lab.UnknownSymbol; massive_lab.__version__; dir(massive_lab)")
    assert {name.partition(".")[0] for name in new} & set(HEAVY) == set()


def test_a_name_loads_what_it_needs_and_not_the_rest() -> None:
    new = loaded_by("import massive_lab; massive_lab.ema")
    assert "polars" in new
    assert {name.partition(".")[0] for name in new} & {
        "aiohttp",
        "websockets",
        "httpx2",
        "ipywidgets",
    } == set()


@pytest.mark.parametrize("name", massive_lab.__all__)
def test_every_public_name_resolves_to_itself(name: str) -> None:
    value = getattr(massive_lab, name)
    assert value is getattr(massive_lab, name)
    if name in massive_lab._MODULES:
        assert value is importlib.import_module(f"massive_lab.{name}")
    elif name in massive_lab._HOMES:
        home = importlib.import_module(f"massive_lab.{massive_lab._HOMES[name]}")
        assert value is getattr(home, name)
        assert name in home.__all__
    elif name != "__version__":
        assert issubclass(value, massive_lab.errors.MassiveLabError)
        assert value is getattr(massive_lab.errors, name)


def test_names_are_unique_sorted_and_all_accounted_for() -> None:
    assert massive_lab.__all__ == sorted(set(massive_lab.__all__))
    homes, modules, errors = set(massive_lab._HOMES), set(massive_lab._MODULES), set(massive_lab.errors.__all__)
    assert not homes & modules
    assert not (homes | modules) & errors
    assert set(massive_lab.__all__) == homes | modules | errors | {"__version__"}


def test_what_type_checkers_see_is_what_is_loaded() -> None:
    tree = ast.parse(Path(massive_lab.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen: dict[str, str] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom), ast.unparse(node)
        assert node.module is not None
        assert node.level == 0
        for alias in node.names:
            assert alias.asname is None
            assert alias.name not in seen
            seen[alias.name] = node.module
    lazily = {name: f"massive_lab.{home}" for name, home in massive_lab._HOMES.items()}
    lazily |= dict.fromkeys(massive_lab._MODULES, "massive_lab")
    lazily |= dict.fromkeys(massive_lab.errors.__all__, "massive_lab.errors")
    assert seen == lazily


def test_dir_is_the_public_face() -> None:
    assert dir(massive_lab) == sorted(massive_lab.__all__)


def test_star_import_gives_every_name() -> None:
    space: dict[str, object] = {}
    exec("from massive_lab import *", space)
    assert set(massive_lab.__all__) <= set(space)


@pytest.mark.parametrize("name", ["conect", "_secret", "config_", "__wrapped__"])
def test_an_unknown_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'massive_lab' has no attribute '{name}'"):
        getattr(massive_lab, name)
    assert not hasattr(massive_lab, name)


def test_the_docstring_names_what_there_is() -> None:
    import re

    quoted = set(re.findall(r"`([\w.]+)`", (massive_lab.__doc__ or "").replace("``", "")))
    for name in quoted:
        value: object = massive_lab
        for part in name.split("."):
            value = getattr(value, part)
