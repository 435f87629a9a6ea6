"""Compares two tables of canonical text as multisets and names what differs.

It knows no server and no reader: only columns of text.
"""

import duckdb
import pyarrow as pa

SAMPLES = 5
SHOWN = 120


def differences(source: pa.Table, lake: pa.Table, key: list[str]) -> dict | None:
    """`None` if both hold the same rows as often; else counts, columns and samples."""
    places = [f"c{i}" for i in range(source.num_columns)]
    names = dict(zip(places, source.column_names, strict=True))
    left, right = source.rename_columns(places), lake.rename_columns(places)
    connection = duckdb.connect()
    connection.register("source", left)
    connection.register("lake", right)
    missing, extra = surplus(connection)
    if missing.num_rows == 0 and extra.num_rows == 0:
        return None
    keys = [place for place, name in names.items() if name in key]
    return {
        "missing_rows": missing.num_rows,
        "extra_rows": extra.num_rows,
        "source_rows": source.num_rows,
        "lake_rows": lake.num_rows,
        "columns": changed_columns(connection, missing, extra, keys, names),
        "missing": samples(missing, keys, names),
        "extra": samples(extra, keys, names),
    }


def surplus(connection: duckdb.DuckDBPyConnection) -> tuple[pa.Table, pa.Table]:
    """Rows that the source has more often, and rows that the lake has more often, each as often as that."""
    both = "SELECT *, 1 AS more FROM source UNION ALL SELECT *, -1 FROM lake"
    rows = connection.execute(f"SELECT * EXCLUDE more, sum(more) AS more FROM ({both}) GROUP BY ALL HAVING sum(more) <> 0")
    found = rows.to_arrow_table()
    counts = [int(count) for count in found.column("more").to_pylist()]
    found = found.drop_columns(["more"])
    return (repeated(found, counts), repeated(found, [-count for count in counts]))


def repeated(rows: pa.Table, counts: list[int]) -> pa.Table:
    """Each row as often as its count says; not at all below 1."""
    return rows.take(pa.array([row for row, count in enumerate(counts) for _ in range(count)], pa.int64()))


def changed_columns(connection, missing: pa.Table, extra: pa.Table, keys: list[str], names: dict) -> list[str]:
    """Columns in which rows of one key differ; empty without a key or without such rows."""
    if not keys:
        return []
    connection.register("missing", missing)
    connection.register("extra", extra)
    cells = ", ".join(f"bool_or(m.{place} IS DISTINCT FROM x.{place})" for place in names)
    same = " AND ".join(f"m.{place} IS NOT DISTINCT FROM x.{place}" for place in keys)
    row = connection.execute(f"SELECT {cells} FROM missing m JOIN extra x ON {same}").fetchone()
    return [name for name, differs in zip(names.values(), row, strict=True) if differs]


def samples(rows: pa.Table, keys: list[str], names: dict) -> list[dict]:
    ordered = rows.sort_by([(place, "ascending") for place in keys]) if keys else rows
    shown = []
    for row in ordered.slice(0, SAMPLES).to_pylist():
        shown.append({names[place]: shorten(value) for place, value in row.items()})
    return shown


def shorten(value: str | None) -> str | None:
    if value is None or len(value) <= SHOWN:
        return value
    return f"{value[:SHOWN]}… ({len(value)} characters)"
