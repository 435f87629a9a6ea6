"""The source side: what tables PostgreSQL has and the canonical text of their rows.

The server prints every value itself, under pinned settings. Nothing is changed on it.
"""

import dataclasses
import io

import psycopg
import pyarrow as pa
from pyarrow import csv

from . import kinds

SETTINGS = {
    "datestyle": "ISO",
    "timezone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "intervalstyle": "postgres",
}

TABLES = """
SELECT n.nspname, c.relname, c.oid::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND NOT c.relispartition
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
ORDER BY 1, 2"""

# a domain is seen as its base type, as a column and as an array's element
COLUMNS = """
WITH RECURSIVE chain AS (
  SELECT oid AS domain, typbasetype AS base, typtypmod AS typmod FROM pg_type WHERE typtype = 'd'
  UNION ALL
  SELECT c.domain, t.typbasetype, greatest(c.typmod, t.typtypmod)
  FROM chain c JOIN pg_type t ON t.oid = c.base WHERE t.typtype = 'd'
), domains AS (
  SELECT c.domain, c.base, c.typmod FROM chain c JOIN pg_type t ON t.oid = c.base WHERE t.typtype <> 'd'
)
SELECT a.attname, t.typname, b.typname, greatest(a.atttypmod, d.typmod, l.typmod),
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey))
FROM pg_attribute a
LEFT JOIN domains d ON d.domain = a.atttypid
JOIN pg_type t ON t.oid = coalesce(d.base, a.atttypid)
LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
LEFT JOIN domains l ON l.domain = e.oid
LEFT JOIN pg_type b ON b.oid = coalesce(l.base, e.oid)
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY a.attnum"""


@dataclasses.dataclass(frozen=True)
class Column:
    name: str
    kind: kinds.Kind
    key: bool


@dataclasses.dataclass(frozen=True)
class Table:
    schema: str
    name: str
    columns: tuple[Column, ...]

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"


class Source:
    """An open connection; every read sees one snapshot."""

    def __init__(self, dsn: str):
        self.connection = psycopg.connect(dsn, autocommit=False)
        self.connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        for name, value in SETTINGS.items():
            self.connection.execute("SELECT set_config(%s, %s, false)", (name, value))

    def version(self) -> str:
        full = self.connection.execute("SHOW server_version").fetchone()[0]
        return full.split()[0]

    def tables(self) -> list[Table]:
        found = self.connection.execute(TABLES).fetchall()
        return [Table(schema, name, self.columns(oid)) for schema, name, oid in found]

    def columns(self, oid: int) -> tuple[Column, ...]:
        rows = self.connection.execute(COLUMNS, (oid,)).fetchall()
        return tuple(Column(name, kinds.of_column(of, el, mod), key) for name, of, el, mod, key in rows)

    def rows(self, table: Table) -> pa.Table:
        """Every row as canonical text, columns in the source's order."""
        cells = ", ".join(c.kind.sql(quote(c.name)) for c in table.columns)
        query = f"COPY (SELECT {cells} FROM ONLY {quote(table.schema)}.{quote(table.name)}) TO STDOUT"
        query += " WITH (FORMAT csv, FORCE_QUOTE *)"
        data = io.BytesIO()
        with self.connection.cursor() as cursor, cursor.copy(query) as copy:
            for block in copy:
                data.write(block)
        return parse(data.getbuffer(), [c.name for c in table.columns])

    def close(self) -> None:
        self.connection.close()


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def parse(data, names: list[str]) -> pa.Table:
    """CSV in which every value is quoted and NULL is not."""
    if len(data) == 0:
        return pa.table({name: pa.array([], pa.string()) for name in names})
    places = [str(place) for place in range(len(names))]
    table = csv.read_csv(
        pa.BufferReader(pa.py_buffer(data)),
        read_options=csv.ReadOptions(column_names=places, block_size=max(len(data) + 1, 1 << 20)),
        parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(
            column_types={place: pa.string() for place in places},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    return table.rename_columns(names)
