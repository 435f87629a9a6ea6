"""One verdict over all tables, lakes and readers."""

import fnmatch
import traceback

import pyarrow as pa

from . import compare, source
from .lake import open_lake
from .source import Table


def judge(source_at: dict, lakes_at: list[dict], patterns: list[str], readers: list[str]) -> dict:
    """Compares every table that a pattern selects. `agree` is true if nothing differs anywhere.

    `readers` names those wanted; none named: each lake's own.
    """
    opened = source.connect(source_at)
    try:
        return Verdict(opened, patterns).over([open_lake(at) for at in lakes_at], readers)
    finally:
        opened.close()


class Verdict:
    """What is known so far of one question."""

    def __init__(self, opened, patterns: list[str]):
        self.source, self.patterns = opened, patterns
        self.wanted = [table for table in opened.tables() if selected(table.full_name, patterns)]
        self.rows, self.read_by, self.problems, self.left_out = 0, {}, [], []

    def over(self, lakes: list, readers: list[str]) -> dict:
        views = [view for lake in lakes for view in self.views(lake, readers)]
        for table in self.wanted:
            self.table(table, views)
        if not self.wanted:
            self.problems.append({"problem": "no table of the source matches the patterns"})
        if not views:
            self.problems.append({"problem": "no reader looked"})
        return {
            "agree": not self.problems,
            "tables": len(self.wanted),
            "rows": self.rows,
            "source_version": self.source.version(),
            "readers": self.read_by,
            "differences": self.problems,
            "left_out": self.left_out,
        }

    def views(self, lake, readers: list[str]) -> list[tuple]:
        """The lake's tables with each reader that is to look at them."""
        found = {name: at for name, at in lake.tables().items() if selected(name, self.patterns)}
        names = {table.full_name for table in self.wanted}
        self.problems += [about(name, lake) | {"problem": "not in the lake"} for name in sorted(names - found.keys())]
        self.problems += [about(name, lake) | {"problem": "not in the source"} for name in sorted(found.keys() - names)]
        known = lake.readers | lake.on_request
        kinds = {name: known[name] for name in known if name in (readers or lake.readers)}
        self.read_by |= {name: reader.version for name, reader in kinds.items()}
        return [(lake, reader(lake), found) for reader in kinds.values()] if found else []

    def table(self, table: Table, views: list[tuple]) -> None:
        seen = [(lake, eye, found[table.full_name]) for lake, eye, found in views if table.full_name in found]
        if not seen:
            return
        expected = self.source.rows(table)
        self.rows += expected.num_rows
        for lake, eye, location in seen:
            self.look(lake, eye, table, location, expected)

    def look(self, lake, eye, table: Table, location: str, expected: pa.Table) -> None:
        """One reader's view of one table: types first, then rows."""
        who = about(table.full_name, lake) | {"reader": eye.name}
        try:
            blind = eye.blind(table) if hasattr(eye, "blind") else {}
            self.left_out += [who | {"column": name, "why": why} for name, why in blind.items()]
            columns = [c for c in table.columns if c.name not in blind]
            found = differences(eye, table.full_name, location, columns, expected)
        except Exception as error:  # a reader that cannot read is a finding, not a crash
            found = [{"problem": f"{type(error).__name__}: {error}", "trace": traceback.format_exc(limit=-4)}]
        self.problems += [who | problem for problem in found]


def about(table: str, lake) -> dict:
    return {"table": table, "lake": lake.kind}


def differences(eye, name: str, location: str, columns: list, expected: pa.Table) -> list[dict]:
    wanted = {c.name: eye.expected(c.kind) for c in columns}
    types = eye.types(name, location)
    problems = type_problems(wanted, types)
    if wanted.keys() != types.keys():
        return problems
    rows = eye.rows(name, location)
    seen = pa.table([c.kind.render(rows.column(c.name)) for c in columns], list(wanted))
    found = compare.differences(expected.select(list(wanted)), seen, [c.name for c in columns if c.key])
    return problems + ([{"problem": "rows differ"} | found] if found else [])


def type_problems(wanted: dict[str, str], types: dict[str, str]) -> list[dict]:
    problems = []
    for name in sorted(wanted.keys() | types.keys()):
        if wanted.get(name) != types.get(name):
            said = f"expected {wanted.get(name, 'no column')}, found {types.get(name, 'no column')}"
            problems.append({"problem": "type differs", "column": name, "types": said})
    return problems


def selected(name: str, patterns: list[str]) -> bool:
    """A pattern that starts with `!` takes tables out again."""
    taken = [p for p in patterns if not p.startswith("!")]
    left = [p[1:] for p in patterns if p.startswith("!")]
    hit = any(fnmatch.fnmatchcase(name, p) for p in taken)
    return hit and not any(fnmatch.fnmatchcase(name, p) for p in left)
