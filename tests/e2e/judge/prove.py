"""Proves the judge: writes a true copy of a table with a foreign writer, plants one fault at a time, and
demands that each reader finds it. A judge that finds nothing in a damaged copy is worthless.
"""

import datetime
import decimal
import pathlib
import uuid

import pyarrow as pa
from deltalake import write_deltalake
from pyiceberg.catalog.sql import SqlCatalog

from . import source, verdict
from .iceberg import CATALOG
from .samples import SAMPLES, table_of

D = decimal.Decimal
ROWS = 300
HOUR = datetime.timedelta(hours=1)
MICROSECOND = datetime.timedelta(microseconds=1)

# name -> the cell that changes: row, column, and what becomes of its value.
# Row 101 is an ordinary one, row 110 has empty texts, row 105 NULLs.
CELLS = {
    "changed cell": (101, "whole", lambda v: v + 1),
    "NULL for empty text": (110, "note", lambda _: None),
    "empty text for NULL": (105, "note", lambda _: ""),
    "empty bytes for NULL": (105, "raw", lambda _: b""),
    "zero for NULL": (105, "whole", lambda _: 0),
    "timestamp shifted an hour": (101, "stamp", lambda v: v + HOUR),
    "moment shifted an hour": (101, "moment", lambda v: v + HOUR),
    "microsecond lost": (101, "stamp", lambda v: v - MICROSECOND),
    "microsecond of a time lost": (101, "clock", lambda v: v.replace(microsecond=v.microsecond - 1)),
    "NULL for midnight": (0, "clock", lambda _: None),
    "day shifted": (101, "day", lambda v: v + datetime.timedelta(days=1)),
    "float rounded": (108, "ratio", lambda v: float(f"{v:.15g}")),
    "least float became zero": (106, "ratio", lambda _: 0.0),
    "small float changed": (102, "part", lambda v: v * 1.000001),
    "decimal changed by a cent": (101, "price", lambda v: v + D("0.01")),
    "text truncated": (101, "note", lambda v: v[:-1]),
    "text of another normal form": (101, "note", lambda v: v.replace("ü", "u\u0308")),
    "bytes changed": (101, "raw", lambda v: v[:-1]),
    "enum changed": (101, "mood", lambda v: "happy" if v == "so so" else "so so"),
    "uuid changed": (101, "ref", lambda v: uuid.UUID(int=v.int + 1)),
    # PostgreSQL's
    "minus zero became zero": (101, "zero", lambda _: 0.0),
    "bool flipped": (101, "flag", lambda v: not v),
    "numeric scale": (101, "free", lambda v: v + "0"),
    "padding lost": (101, "code", str.rstrip),
    "wrong array element": (101, "marks", lambda _: [101, 0, -101]),
    "array order": (101, "marks", lambda v: v[::-1]),
    "NULL for empty array": (104, "marks", lambda _: None),
    "text NULL in array became NULL": (101, "words", lambda v: v[:-1] + [None]),
    # MariaDB's
    "unsigned wrapped": (101, "huge", lambda v: v - 2**64),
    "year changed": (101, "born", lambda v: v - 1900),
    "bit lost": (101, "bits", lambda v: v[1:]),
    "set in another order": (102, "picks", lambda _: "c,a"),
    "padding invented": (101, "fixed", lambda v: v.ljust(6)),
    "zero bytes of the end lost": (101, "fixed_raw", lambda v: v.rstrip(b"\0")),
    "json written anew": (101, "doc", lambda v: v.replace(" ", "")),
}


def faults(rows: list[dict], sample) -> dict[str, pa.Table]:
    """Every fault by name that the sample's columns allow."""
    r = rows[101]
    planted = {
        "lost row": rows[:101] + rows[102:],
        "doubled row": rows + [r],
        "revived row": rows + [sample.row(ROWS + 1)],
        "one lost, another doubled": rows[:101] + rows[102:] + [rows[102]],
        "columns swapped": [row | {"first": row["second"], "second": row["first"]} for row in rows],
    }
    for name, (at, column, change) in CELLS.items():
        if column in sample.types:
            planted[name] = rows[:at] + [rows[at] | {column: change(rows[at][column])}] + rows[at + 1 :]
    tables = {name: table_of(damaged, sample.types) for name, damaged in planted.items()}
    return tables | {"wrong type": table_of(rows, sample.types | {"whole": pa.int64()})}


def write_iceberg(home: pathlib.Path, rows: pa.Table) -> None:
    """Iceberg has no 16-bit integer."""
    rows = converted(rows, pa.types.is_int16, lambda column: column.cast(pa.int32()))
    catalog = SqlCatalog(CATALOG, uri=f"sqlite:///{home}/catalog.db", warehouse=f"file://{home}")
    catalog.create_namespace("proof")
    table = catalog.create_table("proof.sample", schema=rows.schema)
    for half in halves(rows):
        table.append(half)


def write_delta(home: pathlib.Path, rows: pa.Table) -> None:
    """Delta has no time of day and no UUID: both are text."""
    rows = converted(rows, pa.types.is_time, texts(time_text))
    rows = converted(rows, lambda kind: isinstance(kind, pa.UuidType), texts(str))
    for half in halves(rows):
        write_deltalake(str(home / "proof" / "sample"), half, mode="append")


WRITERS = {"iceberg": write_iceberg, "delta": write_delta}


def halves(rows: pa.Table) -> list[pa.Table]:
    half = rows.num_rows // 2
    return [rows.slice(0, half), rows.slice(half)]


def converted(rows: pa.Table, which, convert) -> pa.Table:
    for place, field in enumerate(rows.schema):
        if which(field.type):
            rows = rows.set_column(place, field.name, convert(rows.column(place)))
    return rows


def texts(function):
    return lambda column: pa.array([None if v is None else function(v) for v in column.to_pylist()], pa.string())


def time_text(value: datetime.time) -> str:
    return value.isoformat().rstrip("0").rstrip(".") if value.microsecond else value.isoformat()


def copy_of(folder: pathlib.Path, kind: str, name: str, rows: pa.Table) -> dict:
    """A lake of its own with one table, written in two appends."""
    home = folder / name.replace(" ", "-").replace(",", "")
    home.mkdir(parents=True)
    WRITERS[kind](home, rows)
    return {"kind": kind, "folder": str(home)}


def prove(source_at: dict, kind: str, folder: str, wanted: list[str]) -> dict:
    """`{planted, found: {reader: n}, missed: [...]}`; `missed` is empty if the judge is worth its name.

    Faults in columns that a reader does not see are not asked of it.
    """
    sample = SAMPLES[source_at["kind"]]
    rows = [sample.row(i) for i in range(ROWS)]
    opened = source.connect(source_at)
    sample.fill(opened, rows)
    opened.close()
    home = pathlib.Path(folder)

    def judged(name: str, table: pa.Table) -> dict:
        return verdict.judge(source_at, [copy_of(home, kind, name, table)], ["proof.*"], wanted)

    truth = judged("true copy", table_of(rows, sample.types))
    missed = [{"fault": "none, yet differences", "said": truth["differences"]}] if not truth["agree"] else []
    blind = {(left["reader"], left["column"]) for left in truth["left_out"]}
    planted, found = faults(rows, sample), dict.fromkeys(truth["readers"], 0)
    for name, damaged in planted.items():
        saw = {difference.get("reader") for difference in judged(name, damaged)["differences"]}
        for reader in found:
            found[reader] += reader in saw
            if reader not in saw and (reader, CELLS.get(name, (0, ""))[1]) not in blind:
                missed.append({"reader": reader, "fault": name})
    return {"planted": len(planted), "found": found, "missed": missed}
