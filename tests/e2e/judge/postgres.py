"""PostgreSQL as a source.

The server prints every value itself, under pinned settings. Nothing is changed on it.
"""

import io

import psycopg
import pyarrow as pa
from pyarrow import csv

from .kinds import Kind, decimal_kind
from .source import Column, Table

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


EPOCH_MICROS = "(extract(epoch FROM {0}) * 1000000)::bigint::text"

# name in pg_type -> kind; every other type becomes the server's text
SCALARS = {
    "bool": "bool",
    "int2": "int16",
    "int4": "int32",
    "int8": "int64",
    "float4": "float32",
    "float8": "float64",
    "bytea": "binary",
    "date": "date",
    "time": "time",
    "timestamp": "timestamp",
    "timestamptz": "timestamptz",
    "uuid": "uuid",
}

# SQL around an expression {0}; what is not listed is printed by the server's output function
SQL = {
    "float4": "CASE WHEN {0} = 'NaN' THEN 'NaN' ELSE encode(float4send({0}), 'hex') END",
    "float8": "CASE WHEN {0} = 'NaN' THEN 'NaN' ELSE encode(float8send({0}), 'hex') END",
    "date": "CASE WHEN isfinite({0}) THEN ({0} - date '1970-01-01')::text ELSE {0}::text END",
    "time": EPOCH_MICROS,
    "timestamp": "CASE WHEN isfinite({0}) THEN " + EPOCH_MICROS + " ELSE {0}::text END",
}


class Postgres:
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
        return tuple(Column(name, kind_of(of, el, mod), key, of) for name, of, el, mod, key in rows)

    def rows(self, table: Table) -> pa.Table:
        """Every row as canonical text, columns in the source's order."""
        cells = ", ".join(printed(c.kind, quote(c.name)) for c in table.columns)
        query = f"COPY (SELECT {cells} FROM ONLY {quote(table.schema)}.{quote(table.name)}) TO STDOUT"
        query += " WITH (FORMAT csv, FORCE_QUOTE *)"
        data = io.BytesIO()
        with self.connection.cursor() as cursor, cursor.copy(query) as copy:
            for block in copy:
                data.write(block)
        return parse(data.getbuffer(), [c.name for c in table.columns])

    def close(self) -> None:
        self.connection.close()


def kind_of(name: str, element_of: str | None, typmod: int) -> Kind:
    """The kind of a column: `name` from pg_type; `element_of` names the element of an array."""
    return scalar(element_of, typmod).of_list() if element_of else scalar(name, typmod)


def scalar(name: str, typmod: int) -> Kind:
    if name == "numeric" and typmod >= 4:
        return decimal_kind((typmod - 4) >> 16, (((typmod - 4) & 0x7FF) ^ 1024) - 1024)
    return Kind(SCALARS.get(name, "string"))


def printed(kind: Kind, expression: str) -> str:
    """The SQL whose text result is the canonical text of `expression`."""
    if not kind.is_list:
        return SQL.get(kind.text, "{0}").format(expression)
    element = SQL.get(kind.text, "CASE WHEN num_nulls(e) = 0 THEN format('%s', e) END").format("e")
    # by subscript: unnest would take composite elements apart
    cells = f"SELECT ({expression})[i] AS e, i FROM generate_subscripts({expression}, 1) i"
    inner = f"SELECT {element} FROM ({cells}) u ORDER BY i"
    return f"CASE WHEN {expression} IS NOT NULL THEN array_to_json(ARRAY({inner}))::text END"


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
