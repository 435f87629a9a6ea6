"""One verdict over all tables and all readers."""

import fnmatch
import traceback

import pyarrow as pa

from . import compare
from .lake import READERS, Lake
from .source import Source, Table


def judge(dsn: str, warehouse: str, patterns: list[str], readers: list[str]) -> dict:
    """Compares every table that a pattern selects. `agree` is true if nothing differs anywhere."""
    source, lake = Source(dsn), Lake(warehouse)
    try:
        return verdict(source, lake, patterns, readers)
    finally:
        source.close()


def verdict(source: Source, lake: Lake, patterns: list[str], readers: list[str]) -> dict:
    wanted = [table for table in source.tables() if selected(table.full_name, patterns)]
    found = {name: location for name, location in lake.tables().items() if selected(name, patterns)}
    problems = absent_tables(wanted, found)
    eyes = [READERS[name](lake) for name in readers] if found else []
    rows = 0
    for table in wanted:
        if table.full_name not in found:
            continue
        expected = source.rows(table)
        rows += expected.num_rows
        for eye in eyes:
            problems += look(eye, table, found[table.full_name], expected)
    if not wanted:
        problems.append({"problem": "no table of the source matches the patterns"})
    return {
        "agree": not problems,
        "tables": len(wanted),
        "rows": rows,
        "source_version": source.version(),
        "readers": {name: READERS[name].version for name in readers},
        "differences": problems,
    }


def selected(name: str, patterns: list[str]) -> bool:
    """A pattern that starts with `!` takes tables out again."""
    taken = [p for p in patterns if not p.startswith("!")]
    left = [p[1:] for p in patterns if p.startswith("!")]
    hit = any(fnmatch.fnmatchcase(name, p) for p in taken)
    return hit and not any(fnmatch.fnmatchcase(name, p) for p in left)


def absent_tables(wanted: list[Table], found: dict[str, str]) -> list[dict]:
    names = {table.full_name for table in wanted}
    missing = [{"table": name, "problem": "not in the lake"} for name in sorted(names - found.keys())]
    return missing + [{"table": name, "problem": "not in the source"} for name in sorted(found.keys() - names)]


def look(eye, table: Table, location: str, expected) -> list[dict]:
    """One reader's view of one table: types first, then rows."""
    about = {"table": table.full_name, "reader": eye.name}
    try:
        wanted = {c.name: c.kind.iceberg for c in table.columns}
        types = eye.types(table.full_name, location)
        problems = [about | p for p in type_problems(wanted, types)]
        if wanted.keys() != types.keys():
            return problems
        seen = canonical(eye.rows(table.full_name, location), table)
        key = [c.name for c in table.columns if c.key]
        found = compare.differences(expected, seen, key)
    except Exception as error:  # a reader that cannot read is a finding, not a crash
        return [about | {"problem": f"{type(error).__name__}: {error}", "trace": traceback.format_exc(limit=-4)}]
    return problems + ([about | {"problem": "rows differ"} | found] if found else [])


def type_problems(wanted: dict[str, str], types: dict[str, str]) -> list[dict]:
    problems = []
    for name in sorted(wanted.keys() | types.keys()):
        if wanted.get(name) != types.get(name):
            said = f"expected {wanted.get(name, 'no column')}, found {types.get(name, 'no column')}"
            problems.append({"problem": "type differs", "column": name, "types": said})
    return problems


def canonical(rows, table: Table):
    return pa.table([c.kind.render(rows.column(c.name)) for c in table.columns], [c.name for c in table.columns])
