"""Write ``docs/reference.md``: the columns of every frame, from ``massive_lab/schema/columns.py``.

::

    python tools/build_docs.py            # overwrite docs/reference.md
    python tools/build_docs.py --check    # write nothing; exit 1 if the page would change
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from massive_lab.schema.columns import SCHEMAS, Column, Dtype, Table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference.md"

POLARS: dict[Dtype, str] = {
    "str": "String",
    "f64": "Float64",
    "i64": "Int64",
    "bool": "Boolean",
    "date": "Date",
    "ts": 'Datetime("ns", "UTC")',
    "list_i64": "List(Int64)",
}

INTRODUCTION = """\
# Reference: the columns of every frame

Made from `massive_lab/schema/columns.py` by `make docs`; change the schema, not this page.

Every frame has exactly the columns of its table, in this order, with these types, also when it has no rows.
The key sorts the rows and identifies one. An empty cell under "null" means that the column is never null; NaN
occurs nowhere. Times are nanoseconds in UTC.
"""


def cell(text: str) -> str:
    """Text that cannot break out of a Markdown table cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def row(column: Column) -> str:
    """One line of a table's listing."""
    cells = (f"`{column.name}`", POLARS[column.dtype], column.unit, column.meaning, column.null)
    return f"| {' | '.join(cell(text) for text in cells)} |"


def section(table: Table) -> str:
    """A heading, what the table is, its key and its columns."""
    key = ", ".join(f"`{name}`" for name in table.key)
    lines = [
        f"## {table.name}",
        "",
        table.doc,
        "",
        *([f"Key: {key}.", ""] if key else []),
        "| column | type | unit | meaning | null |",
        "|---|---|---|---|---|",
        *(row(column) for column in table.columns),
    ]
    return "\n".join(lines) + "\n"


def page() -> str:
    """The whole page."""
    tables = SCHEMAS.values()
    contents = "\n".join(f"- [{table.name}](#{table.name.lower()}): {table.doc}" for table in tables)
    return "\n".join([INTRODUCTION, contents + "\n", *(section(table) for table in tables)])


def main(arguments: list[str] | None = None) -> int:
    """Write or check; the exit code is 1 when the check finds a difference."""
    parser = argparse.ArgumentParser(description="Write docs/reference.md from the schema.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page would change")
    options = parser.parse_args(arguments)

    if options.check:
        same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page()
        if not same:
            print("docs/reference.md does not match the schema: run make docs", file=sys.stderr)
        return 0 if same else 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote docs/reference.md: {len(SCHEMAS)} tables")
    return 0


if __name__ == "__main__":
    sys.exit(main())
