"""Reads tables for the tests: one JSON request a line on stdin, one JSON answer a line on stdout.

PyIceberg reads through the catalogue, DuckDB the metadata file that the catalogue names. Nothing is shared between the two.
"""

import datetime
import decimal
import importlib
import json
import pathlib
import sqlite3
import sys

import duckdb
from pyiceberg.catalog.sql import SqlCatalog


def connect():
    connection = duckdb.connect(config={"autoinstall_known_extensions": False})
    for name in ("avro", "icu", "json", "parquet", "iceberg"):
        module = importlib.import_module(f"duckdb_extension_{name}")
        files = sorted(pathlib.Path(module.__path__[0]).rglob(f"{name}.duckdb_extension"))
        connection.execute(f"LOAD '{files[0]}'" if files else f"LOAD {name}")
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def cell(value):
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, datetime.datetime):
        zone = "Z" if value.tzinfo else ""
        return value.replace(tzinfo=None).isoformat(timespec="microseconds") + zone
    if isinstance(value, datetime.time):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, (list, tuple)):
        return [cell(each) for each in value]
    return str(value)


def rows(table):
    return [[cell(row[name]) for name in table.column_names] for row in table.to_pylist()]


class Judge:
    def __init__(self, warehouse):
        self.warehouse = warehouse
        uri = f"sqlite:///{warehouse}/catalog.db"
        self.catalog = SqlCatalog("lakeward", uri=uri, warehouse=f"file://{warehouse}", init_catalog_tables="false")
        self.duck = connect()

    def table(self, request):
        return self.catalog.load_table((request["namespace"], request["table"]))

    def pyiceberg(self, request):
        table = self.table(request)
        schema = [[field.name, str(field.field_type), field.field_id, field.required] for field in table.schema().fields]
        found = table.scan(snapshot_id=request.get("snapshot")).to_arrow()
        return {"columns": found.column_names, "rows": rows(found), "schema": schema}

    def source(self, request):
        connection = sqlite3.connect(f"{self.warehouse}/catalog.db", timeout=30)
        where = (request["namespace"], request["table"])
        query = "SELECT metadata_location FROM iceberg_tables WHERE table_namespace = ? AND table_name = ?"
        location = connection.execute(query, where).fetchone()[0]
        connection.close()
        version = f", snapshot_from_id={request['snapshot']}" if request.get("snapshot") else ""
        return f"iceberg_scan('{location}'{version})"

    def duckdb(self, request):
        source = self.source(request)
        kinds = self.duck.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
        columns = ", ".join(f'"{name}"::VARCHAR AS "{name}"' if kind == "UUID" else f'"{name}"' for name, kind, *_ in kinds)
        found = self.duck.execute(f"SELECT {columns} FROM {source}").to_arrow_table()
        return {"columns": found.column_names, "rows": rows(found)}

    def query(self, request):
        found = self.duck.execute(request["query"].replace("{table}", self.source(request)))
        return [list(row) for row in found.fetchall()]

    def execute(self, request):
        """Another writer: Python that sees `table`, `catalog` and `pa`."""
        import pyarrow as pa

        catalog = self.catalog
        table = None if request.get("table") is None else self.table(request)
        scope = {"table": table, "catalog": catalog, "pa": pa, "result": None}
        exec(request["code"], scope)
        return scope["result"]


def answer(judges, request):
    warehouse = request["warehouse"]
    if warehouse not in judges:
        judges[warehouse] = Judge(warehouse)
    judge = judges[warehouse]
    if request["do"] == "read":
        return {"pyiceberg": judge.pyiceberg(request), "duckdb": judge.duckdb(request)}
    if request["do"] == "pyiceberg":
        return {"pyiceberg": judge.pyiceberg(request)}
    if request["do"] == "query":
        return {"result": judge.query(request)}
    return {"result": judge.execute(request)}


def main():
    judges = {}
    for line in sys.stdin:
        try:
            found = answer(judges, json.loads(line))
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(found), flush=True)


main()
