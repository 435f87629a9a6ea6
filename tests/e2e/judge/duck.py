"""DuckDB, which reads both formats: its connection, its words for types, and how a scan becomes Arrow."""

import functools
import pathlib

import duckdb
import pyarrow as pa

from .kinds import Kind
from .lake import word

EXTENSIONS = ("avro", "iceberg", "delta", "icu", "json", "parquet")

WORDS = {
    "bool": "BOOLEAN",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "decimal": "DECIMAL({},{})",
    "string": "VARCHAR",
    "binary": "BLOB",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
    "uuid": "UUID",
}


class DuckDb:
    """A reader of whatever `scan` names. `differing` are the format's types that DuckDB must see instead of a kind's own."""

    name = "duckdb"
    version = duckdb.__version__

    def __init__(self, differing: dict[str, str]):
        self.words = WORDS | differing
        self.connection = connect()

    def expected(self, kind: Kind) -> str:
        return word(self.words, kind, "{}[]")

    def scan(self, location: str) -> str:
        raise NotImplementedError

    def types(self, _table: str, location: str) -> dict[str, str]:
        return dict(self.described(location))

    def rows(self, _table: str, location: str) -> pa.Table:
        cells = ", ".join(cell(name, kind) for name, kind in self.described(location))
        return self.connection.execute(f"SELECT {cells} FROM {self.scan(location)}").to_arrow_table()

    def described(self, location: str) -> list[tuple[str, str]]:
        rows = self.connection.execute(f"DESCRIBE SELECT * FROM {self.scan(location)}").fetchall()
        return [(row[0], row[1]) for row in rows]


@functools.cache
def connect() -> duckdb.DuckDBPyConnection:
    """The process's connection, with the extensions of the installed wheels; nothing is fetched or kept."""
    connection = duckdb.connect(config={"autoinstall_known_extensions": False})
    for extension in EXTENSIONS:
        load_extension(connection, extension)
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_external_file_cache = false")
    return connection


def load_extension(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    module = __import__(f"duckdb_extension_{name}")
    files = sorted(pathlib.Path(module.__path__[0]).rglob(f"{name}.duckdb_extension"))
    if files:
        connection.execute(f"LOAD '{files[0]}'")
    else:
        connection.execute(f"LOAD {name}")


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def cell(name: str, kind: str) -> str:
    """UUIDs as text: their Arrow form differs between versions."""
    quoted = '"' + name.replace('"', '""') + '"'
    if kind == "UUID":
        return f"{quoted}::VARCHAR AS {quoted}"
    if kind == "UUID[]":
        return f"{quoted}::VARCHAR[] AS {quoted}"
    return quoted
