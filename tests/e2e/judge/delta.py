"""Delta as a lake: table folders with a log, read by DuckDB's extension and by `deltalake`.

Delta has no time of day and no UUID: such columns are text there, and are compared as what the text says.
"""

import json
import pathlib

import deltalake
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from . import duck, spark
from .kinds import Kind
from .lake import word

WORDS = {
    "bool": "boolean",
    "int16": "short",
    "int32": "integer",
    "int64": "long",
    "float32": "float",
    "float64": "double",
    "decimal": "decimal({},{})",
    "string": "string",
    "binary": "binary",
    "date": "date",
    "time": "string",
    "timestamp": "timestamp_ntz",
    "timestamptz": "timestamp",
    "uuid": "string",
}


class DeltaRs:
    """Reads through `deltalake`'s own query engine: its plain scan refuses deletion vectors."""

    name = "deltalake"
    version = deltalake.__version__

    def __init__(self, _lake: "Delta"):
        pass

    def expected(self, kind: Kind) -> str:
        return word(WORDS, kind, "array<{}>")

    def types(self, _table: str, location: str) -> dict[str, str]:
        fields = json.loads(DeltaTable(location).schema().to_json())["fields"]
        return {field["name"]: type_name(field["type"]) for field in fields}

    def rows(self, _table: str, location: str) -> pa.Table:
        return query("SELECT * FROM seen", DeltaTable(location))

    def sum(self, location: str, column: str, version: str) -> tuple[int, int]:
        """Rows of a table's version, and the column's sum over them."""
        quoted = '"' + column.replace('"', '""') + '"'
        text = f"SELECT count(*) AS n, coalesce(sum({quoted}), 0) AS s FROM seen"
        row = query(text, DeltaTable(location, version=int(version))).to_pylist()[0]
        return row["n"], int(row["s"])


def query(text: str, table: DeltaTable) -> pa.Table:
    return pa.table(QueryBuilder().register("seen", table).execute(text))


def type_name(kind) -> str:
    return kind if isinstance(kind, str) else f"array<{type_name(kind['elementType'])}>"


class DeltaDuckDb(duck.DuckDb):
    """Reads the log by DuckDB's extension."""

    def __init__(self, _lake: "Delta"):
        super().__init__({"time": "VARCHAR", "uuid": "VARCHAR"})

    def scan(self, location: str) -> str:
        return f"delta_scan({duck.literal('file://' + location)})"


class Versions:
    """Goes back to a version, by the table's name."""

    def __init__(self, lake: "Delta"):
        self.locations, self.reader = lake.tables(), DeltaRs(lake)

    def sum(self, table: str, column: str, version: str) -> tuple[int, int]:
        return self.reader.sum(self.locations[table], column, version)


class Delta:
    """A warehouse folder: `namespace/table/_delta_log`."""

    kind = "delta"
    readers = {reader.name: reader for reader in (DeltaDuckDb, DeltaRs)}
    on_request = {"spark": spark.SparkDelta}

    def __init__(self, folder: str):
        self.folder = pathlib.Path(folder)

    def tables(self) -> dict[str, str]:
        """Full name -> folder. The table's own name for itself counts before its folder's."""
        logs = [log for log in sorted(self.folder.glob("*/*/_delta_log")) if any(log.iterdir())]
        folders = [log.parent for log in logs if not log.parent.parent.name.startswith("_")]
        return {full_name(folder): str(folder) for folder in folders}

    def versions(self) -> Versions:
        """The reader that can go back to a version."""
        return Versions(self)


def full_name(folder: pathlib.Path) -> str:
    said = DeltaTable(str(folder)).metadata().name
    return said if said and "." in said else f"{folder.parent.name}.{folder.name}"
