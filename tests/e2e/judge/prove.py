"""Proves the judge: writes a true copy of a table with PyIceberg, plants one fault at a time, and
demands that each reader finds it. A judge that finds nothing in a damaged copy is worthless.
"""

import datetime
import decimal
import pathlib
import uuid

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog.sql import SqlCatalog

from . import verdict
from .lake import CATALOG, READERS
from .source import Source

D = decimal.Decimal
UTC = datetime.timezone.utc
ROWS = 2000

DDL = """
DROP SCHEMA IF EXISTS proof CASCADE;
CREATE SCHEMA proof;
CREATE TYPE proof.mood AS ENUM ('happy', 'so so');
CREATE TABLE proof.sample (
  id bigint PRIMARY KEY, flag bool, small int2, whole int4, ratio float8, part float4, price numeric(12,2),
  free numeric, note text, code char(6), first varchar(40), second varchar(40), raw bytea, day date, clock time,
  stamp timestamp, moment timestamptz, ref uuid, doc jsonb, mood proof.mood, marks int4[], words text[],
  ratios float8[], span interval);
"""

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64()),
        pa.field("flag", pa.bool_()),
        pa.field("small", pa.int32()),
        pa.field("whole", pa.int32()),
        pa.field("ratio", pa.float64()),
        pa.field("part", pa.float32()),
        pa.field("price", pa.decimal128(12, 2)),
        pa.field("free", pa.string()),
        pa.field("note", pa.string()),
        pa.field("code", pa.string()),
        pa.field("first", pa.string()),
        pa.field("second", pa.string()),
        pa.field("raw", pa.binary()),
        pa.field("day", pa.date32()),
        pa.field("clock", pa.time64("us")),
        pa.field("stamp", pa.timestamp("us")),
        pa.field("moment", pa.timestamp("us", "UTC")),
        pa.field("ref", pa.uuid()),
        pa.field("doc", pa.string()),
        pa.field("mood", pa.string()),
        pa.field("marks", pa.list_(pa.int32())),
        pa.field("words", pa.list_(pa.string())),
        pa.field("ratios", pa.list_(pa.float64())),
        pa.field("span", pa.string()),
    ]
)


def row(i: int) -> dict:
    """Row `i` as the lake must hold it; every tenth has NULLs, every eleventh empty texts."""
    full = {
        "id": i,
        "flag": i % 2 == 0,
        "small": i % 30000 - 15000,
        "whole": i * 1000,
        "ratio": [i / 7, -0.0, float("nan"), float("inf"), 5e-324, 1.7976931348623157e308][i % 6],
        "part": [0.1, -0.0, float("nan"), float("-inf"), 1e-45, 16777216.0][i % 6],
        "price": D(i).scaleb(-2) - 5,
        "free": ["0.00000000000000000001", "1.500", "NaN", "123456789012345678901234567890", "-7"][i % 5],
        "note": "" if i % 11 == 0 else f"row {i}, ünï \\ \"quoted\"\n\ttail",
        "code": f"c{i % 100}".ljust(6),
        "first": f"ann {i}",
        "second": f"bob {i}",
        "raw": bytes([i % 256, 0, 255]) if i % 11 else b"",
        "day": datetime.date(1970, 1, 1) + datetime.timedelta(days=i * 7 - 9000),
        "clock": (datetime.datetime.min + datetime.timedelta(microseconds=i * 43_199_999)).time(),
        "stamp": datetime.datetime(1969, 12, 31) + datetime.timedelta(microseconds=i * 86_399_999_999),
        "moment": datetime.datetime(2026, 3, 29, tzinfo=UTC) + datetime.timedelta(microseconds=i * 1_000_001),
        "ref": uuid.UUID(int=i * 0x1234567890ABCDEF1234),
        "doc": '{"a": [1, null, "x"]}',
        "mood": "so so" if i % 3 else "happy",
        "marks": [i, None, -i] if i % 4 else [],
        "words": [f"w{i}", None, "", "a,\"b\"", "NULL"],
        "ratios": [i / 7, None, float("nan")],
        "span": "1 day 02:03:04",
    }
    if i % 10 == 5:
        return full | {name: None for name in full if name != "id"}
    return full


def source_values(rows: list[dict]):
    for r in rows:
        yield [v.rstrip() if k == "code" and v else v for k, v in r.items()]


def fill(source: Source, rows: list[dict]) -> None:
    connection = source.connection
    connection.execute(DDL)
    with connection.cursor() as cursor, cursor.copy("COPY proof.sample FROM STDIN") as copy:
        for values in source_values(rows):
            copy.write_row(values)
    connection.commit()


def table_of(rows: list[dict], schema: pa.Schema = SCHEMA) -> pa.Table:
    columns = []
    for field in schema:
        values = [r[field.name] for r in rows]
        if isinstance(field.type, pa.UuidType):
            storage = pa.array([None if v is None else v.bytes for v in values], pa.binary(16))
            columns.append(pa.ExtensionArray.from_storage(pa.uuid(), storage))
        else:
            columns.append(pa.array(values, field.type))
    return pa.table(columns, schema=schema)


def changed(rows: list[dict], at: int, **cells) -> list[dict]:
    return [r | cells if i == at else r for i, r in enumerate(rows)]


def widened(rows: list[dict]) -> pa.Table:
    place = SCHEMA.get_field_index("whole")
    return table_of(rows, SCHEMA.set(place, pa.field("whole", pa.int64())))


def swapped(rows: list[dict]) -> list[dict]:
    return [r | {"first": r["second"], "second": r["first"]} for r in rows]


def faults(rows: list[dict]) -> dict[str, pa.Table]:
    """Every fault by name; row 101 is an ordinary one, row 110 has empty texts, row 105 NULLs."""
    hour, micro = datetime.timedelta(hours=1), datetime.timedelta(microseconds=1)
    r = rows[101]
    planted = {
        "changed cell": changed(rows, 101, whole=r["whole"] + 1),
        "lost row": rows[:101] + rows[102:],
        "doubled row": rows + [r],
        "revived row": rows + [row(ROWS + 1)],
        "one lost, another doubled": rows[:101] + rows[102:] + [rows[102]],
        "NULL for empty text": changed(rows, 110, note=None),
        "empty text for NULL": changed(rows, 105, note=""),
        "empty bytes for NULL": changed(rows, 105, raw=b""),
        "zero for NULL": changed(rows, 105, whole=0),
        "timestamp shifted an hour": changed(rows, 101, stamp=r["stamp"] + hour),
        "timestamptz shifted an hour": changed(rows, 101, moment=r["moment"] + hour),
        "microsecond lost": changed(rows, 101, stamp=r["stamp"] - micro),
        "day shifted": changed(rows, 101, day=r["day"] + datetime.timedelta(days=1)),
        "float rounded": changed(rows, 102, ratio=float("%.15g" % rows[102]["ratio"])),
        "minus zero became zero": changed(rows, 103, ratio=0.0),
        "numeric scale": changed(rows, 101, free=rows[101]["free"] + "0"),
        "numeric changed by a cent": changed(rows, 101, price=r["price"] + D("0.01")),
        "columns swapped": swapped(rows),
        "wrong array element": changed(rows, 101, marks=[101, 0, -101]),
        "array order": changed(rows, 101, marks=[-101, None, 101]),
        "NULL for empty array": changed(rows, 104, marks=None),
        "text NULL in array became NULL": changed(rows, 101, words=["w101", None, "", 'a,"b"', None]),
        "text truncated": changed(rows, 101, note=r["note"][:-1]),
        "padding lost": changed(rows, 101, code=r["code"].rstrip()),
        "uuid changed": changed(rows, 101, ref=uuid.UUID(int=r["ref"].int + 1)),
        "bytes changed": changed(rows, 101, raw=r["raw"][:-1]),
        "bool flipped": changed(rows, 101, flag=not r["flag"]),
    }
    return {name: table_of(damaged) for name, damaged in planted.items()} | {"wrong type": widened(rows)}


def write_copy(folder: pathlib.Path, name: str, rows: pa.Table) -> str:
    """A warehouse of its own with one table, written in two appends by PyIceberg."""
    home = folder / name.replace(" ", "-").replace(",", "")
    home.mkdir(parents=True)
    catalog = SqlCatalog(CATALOG, uri=f"sqlite:///{home}/catalog.db", warehouse=f"file://{home}")
    catalog.create_namespace("proof")
    table = catalog.create_table("proof.sample", schema=rows.schema)
    half = rows.num_rows // 2
    table.append(rows.slice(0, half))
    table.append(rows.slice(half))
    return str(home)


def prove(dsn: str, folder: str) -> dict:
    """`{planted, found: {reader: n}, missed: [...]}`; `missed` is empty if the judge is worth its name."""
    rows = [row(i) for i in range(ROWS)]
    source = Source(dsn)
    fill(source, rows)
    source.close()
    home = pathlib.Path(folder)
    missed, found = [], {name: 0 for name in READERS}
    for reader in READERS:
        home_of_truth = write_copy(home / reader, "true copy", table_of(rows))
        truth = verdict.judge(dsn, home_of_truth, ["proof.*"], [reader])
        if not truth["agree"]:
            missed.append({"reader": reader, "fault": "none, yet differences", "said": truth["differences"]})
        for name, damaged in faults(rows).items():
            said = verdict.judge(dsn, write_copy(home / reader, name, damaged), ["proof.*"], [reader])
            found[reader] += not said["agree"]
            if said["agree"]:
                missed.append({"reader": reader, "fault": name})
    return {"planted": len(faults(rows)), "found": found, "missed": missed}
