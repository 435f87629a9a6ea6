"""Iceberg as a lake: the SQLite catalogue, and two readers that know nothing of each other."""

import pathlib
import sqlite3
import urllib.parse

import pyarrow as pa
import pyarrow.compute as pc
import pyiceberg
from pyiceberg.catalog.sql import SqlCatalog

from . import duck, spark
from .kinds import Kind
from .lake import word

CATALOG = "lakeward"

WORDS = {
    "bool": "boolean",
    "int16": "int",
    "int32": "int",
    "int64": "long",
    "float32": "float",
    "float64": "double",
    "decimal": "decimal({}, {})",
    "string": "string",
    "binary": "binary",
    "date": "date",
    "time": "time",
    "timestamp": "timestamp",
    "timestamptz": "timestamptz",
    "uuid": "uuid",
}


class PyIceberg:
    """Reads through the catalogue, as a user of PyIceberg would."""

    name = "pyiceberg"
    version = pyiceberg.__version__

    def __init__(self, lake: "Iceberg"):
        self.catalog = SqlCatalog(
            CATALOG,
            uri=f"sqlite:///{lake.database}",
            warehouse=f"file://{lake.folder}",
            init_catalog_tables="false",
        )

    def expected(self, kind: Kind) -> str:
        return word(WORDS, kind, "list<{}>")

    def load(self, table: str):
        return self.catalog.load_table(tuple(table.split(".", 1)))

    def types(self, table: str, _location: str) -> dict[str, str]:
        return {field.name: type_name(field.field_type) for field in self.load(table).schema().fields}

    def rows(self, table: str, _location: str) -> pa.Table:
        return self.load(table).scan().to_arrow()

    def sum(self, table: str, column: str, version: str) -> tuple[int, int]:
        """Rows of a table's version, and the column's sum over them."""
        seen = self.load(table).scan(snapshot_id=int(version), selected_fields=(column,)).to_arrow()
        return seen.num_rows, int(pc.sum(seen.column(column)).as_py() or 0) if seen.num_rows else 0


def type_name(kind) -> str:
    element = getattr(kind, "element_type", None)
    return f"list<{type_name(element)}>" if element is not None else str(kind)


class IcebergDuckDb(duck.DuckDb):
    """Reads the metadata file that the catalogue names, without a catalogue client."""

    def __init__(self, _lake: "Iceberg"):
        super().__init__({"int16": "INTEGER"})

    def scan(self, location: str) -> str:
        return f"iceberg_scan({duck.literal(location)})"


class Iceberg:
    """A warehouse folder with its catalogue."""

    kind = "iceberg"
    readers = {reader.name: reader for reader in (IcebergDuckDb, PyIceberg)}
    on_request = {"spark": spark.SparkIceberg}

    def __init__(self, folder: str):
        self.folder = pathlib.Path(folder)
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

    def versions(self) -> PyIceberg:
        """The reader that can go back to a version."""
        return PyIceberg(self)
