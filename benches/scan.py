"""Scans a lake table with DuckDB, every column of every row, and prints the CPU seconds of each scan as JSON.

It compares nothing: who reads a table rightly is for the judges of the laws to say.
"""

import json
import pathlib
import sys
import time

import duckdb


def connect() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"autoinstall_known_extensions": False})
    for name in ("avro", "iceberg", "delta", "icu", "json", "parquet"):
        module = __import__(f"duckdb_extension_{name}")
        files = sorted(pathlib.Path(module.__path__[0]).rglob(f"{name}.duckdb_extension"))
        connection.execute(f"LOAD '{files[0]}'" if files else f"LOAD {name}")
    connection.execute("SET enable_external_file_cache = false")
    return connection


def main() -> None:
    kind, location, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    scan = "delta_scan" if kind == "delta" else "iceberg_scan"
    relation = f"{scan}('{location}')"
    connection = connect()
    columns = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()]
    sums = ", ".join(f'bit_xor(hash("{name}"))' for name in columns)
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        rows = connection.execute(f"SELECT count(*), {sums} FROM {relation}").fetchone()[0]
        seconds.append(time.process_time() - start)
    print(json.dumps({"rows": rows, "cpu_seconds": seconds}))


main()
