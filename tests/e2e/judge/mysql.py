"""MariaDB and MySQL as a source.

The server prints every value itself, the session pinned to UTC and utf8mb4. A float is asked for as a
double, whose text the server prints exactly. Nothing is changed on it.
"""

import datetime
import decimal
import re
import struct
import urllib.parse

import pyarrow as pa
import pymysql
import pymysql.converters
import pymysql.cursors

from .kinds import Kind, decimal_kind
from .source import Column, Table

BATCH = 10_000
EPOCH = datetime.datetime(1970, 1, 1)
MICROSECOND = datetime.timedelta(microseconds=1)

TABLES = """
SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES
WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')
  AND TABLE_SCHEMA NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')
ORDER BY 1, 2"""

COLUMNS = """
SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, NUMERIC_PRECISION, NUMERIC_SCALE, COLUMN_KEY = 'PRI'
FROM information_schema.COLUMNS
WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND coalesce(GENERATION_EXPRESSION, '') = ''
ORDER BY ORDINAL_POSITION"""

# (type, unsigned) -> kind; every other type becomes the server's text
INTEGERS = {
    ("tinyint", False): "int16",
    ("tinyint", True): "int16",
    ("smallint", False): "int16",
    ("smallint", True): "int32",
    ("mediumint", False): "int32",
    ("mediumint", True): "int32",
    ("int", False): "int32",
    ("int", True): "int64",
    ("bigint", False): "int64",
}

SCALARS = {
    "year": "int16",
    "float": "float32",
    "double": "float64",
    "binary": "binary",
    "varbinary": "binary",
    "tinyblob": "binary",
    "blob": "binary",
    "mediumblob": "binary",
    "longblob": "binary",
    "bit": "binary",
    "geometry": "binary",
    "point": "binary",
    "linestring": "binary",
    "polygon": "binary",
    "multipoint": "binary",
    "multilinestring": "binary",
    "multipolygon": "binary",
    "geometrycollection": "binary",
    "geomcollection": "binary",
    "date": "date",
    "time": "time",
    "datetime": "timestamp",
    "timestamp": "timestamptz",
    "uuid": "uuid",
}


class MySql:
    """An open connection; every read sees one snapshot."""

    def __init__(self, dsn: str):
        at = urllib.parse.urlsplit(dsn)
        self.connection = pymysql.connect(
            host=at.hostname,
            port=at.port,
            user=urllib.parse.unquote(at.username or "root"),
            password=urllib.parse.unquote(at.password or ""),
            charset="utf8mb4",
            conv=pymysql.converters.encoders,
            cursorclass=pymysql.cursors.SSCursor,
        )
        self.ask("SET SESSION time_zone = '+00:00', sql_mode = ''")
        self.ask("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        self.ask("START TRANSACTION WITH CONSISTENT SNAPSHOT")

    def ask(self, query: str, arguments: tuple = ()) -> list[tuple]:
        with self.connection.cursor() as cursor:
            cursor.execute(query, arguments)
            return list(cursor.fetchall())

    def version(self) -> str:
        return self.ask("SELECT VERSION()")[0][0].split("-")[0]

    def tables(self) -> list[Table]:
        return [Table(schema, name, self.columns(schema, name)) for schema, name in self.ask(TABLES)]

    def columns(self, schema: str, name: str) -> tuple[Column, ...]:
        rows = self.ask(COLUMNS, (schema, name))
        return tuple(
            Column(column, kind_of(native, full, precision, scale), key == "1", native)
            for column, native, full, precision, scale, key in rows
        )

    def rows(self, table: Table) -> pa.Table:
        """Every row as canonical text, columns in the source's order."""
        cells = ", ".join(asked(c) for c in table.columns)
        query = f"SELECT {cells} FROM {quote(table.schema)}.{quote(table.name)}"
        printers = [PRINTERS[c.kind.text] for c in table.columns]
        schema = pa.schema([(str(place), pa.string()) for place in range(len(table.columns))])
        batches = []
        with self.connection.cursor() as cursor:
            cursor.execute(query)
            while rows := cursor.fetchmany(BATCH):
                columns = [print_column(values, p) for values, p in zip(zip(*rows), printers, strict=True)]
                batches.append(pa.record_batch(columns, schema=schema))
        return pa.Table.from_batches(batches, schema).rename_columns([c.name for c in table.columns])

    def close(self) -> None:
        self.connection.close()


def quote(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def kind_of(native: str, full: str, precision: str | None, scale: str | None) -> Kind:
    """`full` is the whole type as the server prints it: `bigint(20) unsigned zerofill`."""
    if native == "decimal":
        return decimal_kind(int(precision), int(scale))
    unsigned = "unsigned" in full.split()
    if native == "bigint" and unsigned:
        return decimal_kind(20, 0)
    return Kind(INTEGERS.get((native, unsigned)) or SCALARS.get(native, "string"))


def asked(column: Column) -> str:
    name = quote(column.name)
    return f"CAST({name} AS DOUBLE)" if column.native == "float" else name


def print_column(values: tuple, function) -> pa.Array:
    return pa.array([None if v is None else function(v) for v in values], pa.string())


def print_text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def print_integer(value: str) -> str:
    """Without the zeros of ZEROFILL."""
    return str(int(value))


def print_decimal(value: str) -> str:
    return format(decimal.Decimal(value), "f")


def print_float4(value: str) -> str:
    return struct.pack(">f", float(value)).hex()


def print_float8(value: str) -> str:
    return struct.pack(">d", float(value)).hex()


def print_bytes(value: str | bytes) -> str:
    return "\\x" + (value if isinstance(value, bytes) else value.encode()).hex()


def print_date(value: str) -> str:
    """Days since 1970; a date that no calendar has stays as it is."""
    try:
        return str(datetime.date.fromisoformat(value).toordinal() - EPOCH.toordinal())
    except ValueError:
        return value


def print_time(value: str) -> str:
    """Microseconds, also below zero and past a day."""
    sign, hours, minutes, seconds, _, part = re.fullmatch(r"(-?)(\d+):(\d\d):(\d\d)(\.(\d+))?", value).groups()
    whole = (int(hours) * 60 + int(minutes)) * 60 + int(seconds)
    return str((-1 if sign else 1) * (whole * 1_000_000 + int((part or "").ljust(6, "0"))))


def print_timestamp(value: str) -> str:
    """Microseconds since 1970; a moment that no calendar has stays as it is."""
    whole, _, part = value.partition(".")
    try:
        since = datetime.datetime.fromisoformat(whole) - EPOCH
    except ValueError:
        return value
    return str(since // MICROSECOND + int(part.ljust(6, "0")))


PRINTERS = {
    "text": print_text,
    "uuid": print_text,
    "integer": print_integer,
    "float4": print_float4,
    "float8": print_float8,
    "decimal": print_decimal,
    "bytes": print_bytes,
    "date": print_date,
    "time": print_time,
    "timestamp": print_timestamp,
}
