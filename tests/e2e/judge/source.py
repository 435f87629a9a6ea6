"""What the judge knows of a source: its tables, their columns' kinds, and their rows as canonical text."""

import dataclasses

from . import kinds


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the source. `native` is the source's own word for its type."""

    name: str
    kind: kinds.Kind
    key: bool
    native: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that may be followed. `schema` is its namespace in the lake."""

    schema: str
    name: str
    columns: tuple[Column, ...]

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"


def connect(at: dict):
    """Opens `{"kind", "dsn"}`. Every read of what it returns sees one snapshot; nothing is changed."""
    if at["kind"] == "postgres":
        from .postgres import Postgres

        return Postgres(at["dsn"])
    if at["kind"] == "mysql":
        from .mysql import MySql

        return MySql(at["dsn"])
    raise ValueError(f"unknown kind of source {at['kind']}")
