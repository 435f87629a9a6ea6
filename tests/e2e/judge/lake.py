"""The lake side: the SQLite catalogue, and two readers that know nothing of each other.

Each reader returns Arrow columns as it decoded them. Nothing is written.
"""

import pathlib
import sqlite3
import urllib.parse

import duckdb
import pyarrow as pa
import pyiceberg
from pyiceberg.catalog.sql import SqlCatalog

CATALOG = "lakeward"
EXTENSIONS = ("avro", "iceberg", "icu", "json", "parquet")


class Lake:
    """A warehouse folder with its catalogue."""

    def __init__(self, warehouse: str):
        self.folder = pathlib.Path(warehouse)
        self.database = self.folder / "catalog.db"

    def tables(self) -> dict[str, str]:
        """Full name -> location of the current metadata."""
        if not self.database.exists():
            return {}
        query = "SELECT table_namespace, table_name, metadata_location FROM iceberg_tables WHERE catalog_name = ?"
        connection = sqlite3.connect(f"file:{urllib.parse.quote(str(self.database))}?mode=ro", uri=True, timeout=30)
        try:
            rows = connection.execute(query, (CATALOG,)).fetchall()
        finally:
            connection.close()
        return {f"{namespace}.{name}": location for namespace, name, location in rows}


class PyIceberg:
    """Reads through the catalogue, as a user of PyIceberg would."""

    name = "pyiceberg"
    version = pyiceberg.__version__

    def __init__(self, lake: Lake):
        self.catalog = SqlCatalog(
            CATALOG,
            uri=f"sqlite:///{lake.database}",
            warehouse=f"file://{lake.folder}",
            init_catalog_tables="false",
        )

    def load(self, table: str):
        return self.catalog.load_table(tuple(table.split(".", 1)))

    def types(self, table: str, _location: str) -> dict[str, str]:
        return {field.name: iceberg_type(field.field_type) for field in self.load(table).schema().fields}

    def rows(self, table: str, _location: str, snapshot: int | None = None) -> pa.Table:
        return self.load(table).scan(snapshot_id=snapshot).to_arrow()


def iceberg_type(kind) -> str:
    element = getattr(kind, "element_type", None)
    return f"list<{iceberg_type(element)}>" if element is not None else str(kind)


DUCK_TYPES = {
    "BOOLEAN": "boolean",
    "INTEGER": "int",
    "BIGINT": "long",
    "FLOAT": "float",
    "DOUBLE": "double",
    "VARCHAR": "string",
    "BLOB": "binary",
    "DATE": "date",
    "TIME": "time",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "UUID": "uuid",
}


class DuckDb:
    """Reads the metadata file that the catalogue names, without a catalogue client."""

    name = "duckdb"
    version = duckdb.__version__

    def __init__(self, _lake: Lake):
        self.connection = connect()

    def types(self, _table: str, location: str) -> dict[str, str]:
        rows = self.connection.execute(f"DESCRIBE SELECT * FROM {scan(location)}").fetchall()
        return {row[0]: duck_type(row[1]) for row in rows}

    def rows(self, _table: str, location: str) -> pa.Table:
        described = self.connection.execute(f"DESCRIBE SELECT * FROM {scan(location)}").fetchall()
        cells = [duck_cell(row[0], row[1]) for row in described]
        return self.connection.execute(f"SELECT {', '.join(cells)} FROM {scan(location)}").to_arrow_table()


def connect() -> duckdb.DuckDBPyConnection:
    """A connection with the extensions of the installed wheels; nothing is fetched."""
    connection = duckdb.connect(config={"autoinstall_known_extensions": False})
    for extension in EXTENSIONS:
        load_extension(connection, extension)
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def load_extension(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    module = __import__(f"duckdb_extension_{name}")
    files = sorted(pathlib.Path(module.__path__[0]).rglob(f"{name}.duckdb_extension"))
    if files:
        connection.execute(f"LOAD '{files[0]}'")
    else:
        connection.execute(f"LOAD {name}")


def scan(location: str) -> str:
    return "iceberg_scan('" + location.replace("'", "''") + "')"


def duck_type(name: str) -> str:
    if name.endswith("[]"):
        return f"list<{duck_type(name[:-2])}>"
    if name.startswith("DECIMAL("):
        return "decimal(" + ", ".join(name[8:-1].split(",")) + ")"
    return DUCK_TYPES.get(name, name)


def duck_cell(name: str, kind: str) -> str:
    """UUIDs as text: their Arrow form differs between versions."""
    quoted = '"' + name.replace('"', '""') + '"'
    if kind == "UUID":
        return f"{quoted}::VARCHAR AS {quoted}"
    if kind == "UUID[]":
        return f"{quoted}::VARCHAR[] AS {quoted}"
    return quoted


READERS = {reader.name: reader for reader in (DuckDb, PyIceberg)}
