"""Reads tables for the tests: one JSON request a line on stdin, one JSON answer a line on stdout.

DuckDB reads with its own extension, deltalake with its own log and its own query engine.
"""

import datetime
import decimal
import importlib
import json
import pathlib
import sys
import time
import uuid

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, QueryBuilder


def connect():
    connection = duckdb.connect(config={"autoinstall_known_extensions": False})
    for name in ("icu", "json", "parquet", "delta"):
        module = importlib.import_module(f"duckdb_extension_{name}")
        files = sorted(pathlib.Path(module.__path__[0]).rglob(f"{name}.duckdb_extension"))
        connection.execute(f"LOAD '{files[0]}'" if files else f"LOAD {name}")
    connection.execute("SET TimeZone = 'UTC'")
    return connection


DUCK = connect()


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
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, (list, tuple)):
        return [cell(each) for each in value]
    return str(value)


def rows(table):
    return [[cell(row[name]) for name in table.column_names] for row in table.to_pylist()]


def path(request):
    """The folder whose table calls itself by the name that is asked for."""
    wanted = f"{request['namespace']}.{request['table']}"
    for log in pathlib.Path(request["warehouse"]).glob("*/*/_delta_log"):
        for name in sorted(log.glob("*.json")) + [None]:
            if name is None:
                if DeltaTable(str(log.parent)).metadata().name == wanted:
                    return str(log.parent)
                continue
            found = [json.loads(line).get("metaData", {}).get("name") for line in name.open()]
            if wanted in found:
                return str(log.parent)
    raise LookupError(f"no table {wanted}")


def by_duckdb(table, version):
    source = f"delta_scan('{table}')" if version is None else f"delta_scan('{table}', version={version})"
    found = DUCK.execute(f"SELECT * FROM {source}").to_arrow_table()
    return {"columns": found.column_names, "rows": rows(found)}


def by_deltalake(table, version):
    opened = DeltaTable(table, version=version)
    fields = json.loads(opened.schema().to_json())["fields"]
    schema = [[f["name"], f["type"], f["metadata"]["delta.columnMapping.id"]] for f in fields]
    found = QueryBuilder().register("t", opened).execute("SELECT * FROM t").read_all()
    found = pa.table(found)
    return {"columns": found.column_names, "rows": rows(found), "schema": schema}


class Writer:
    """Another writer, by the protocol's letter and nothing more: no field ids in its files, no statistics."""

    def __init__(self, table):
        self.table = pathlib.Path(table)
        self.log = self.table / "_delta_log"

    def version(self):
        return max(int(f.name[:20]) for f in self.log.glob("*.json"))

    def actions(self):
        """All actions so far, oldest first; only for logs whose beginning is there."""
        return [json.loads(line) for f in sorted(self.log.glob("*.json")) for line in f.open()]

    def live(self):
        files = {}
        for f in sorted(self.log.glob("*.json")):
            actions = [json.loads(line) for line in f.open()]
            for action in actions:
                if "remove" in action:
                    files.pop(action["remove"]["path"], None)
            for action in actions:
                if "add" in action:
                    files[action["add"]["path"]] = action["add"]
        return files

    def physical(self):
        schema = [a["metaData"]["schemaString"] for a in self.actions() if "metaData" in a][-1]
        fields = json.loads(schema)["fields"]
        return {f["name"]: f["metadata"]["delta.columnMapping.physicalName"] for f in fields}

    def file(self, table, data_change):
        names = self.physical()
        name = f"{uuid.uuid4().hex[:2]}/part-00000-{uuid.uuid4()}-c000.snappy.parquet"
        (self.table / name).parent.mkdir(exist_ok=True)
        pq.write_table(table.rename_columns([names[n] for n in table.column_names]), self.table / name)
        size = (self.table / name).stat().st_size
        return {"path": name, "partitionValues": {}, "size": size, "modificationTime": 0, "dataChange": data_change}

    def commit(self, operation, actions, parameters=None):
        info = {"timestamp": int(time.time() * 1000), "operation": operation, "operationParameters": parameters or {}}
        lines = [json.dumps(action) for action in [{"commitInfo": info}, *actions]]
        version = self.version() + 1
        with (self.log / f"{version:020}.json").open("x") as file:
            file.write("\n".join(lines) + "\n")
        return version

    def append(self, table):
        return self.commit("WRITE", [{"add": self.file(table, True)}])

    def removals(self, data_change):
        removals = []
        for add in self.live().values():
            remove = {"path": add["path"], "deletionTimestamp": int(time.time() * 1000), "dataChange": data_change}
            if "deletionVector" in add:
                remove["deletionVector"] = add["deletionVector"]
            removals.append({"remove": remove})
        return removals

    def optimize(self):
        """All live rows into one file, and no row changes."""
        opened = DeltaTable(str(self.table))
        found = pa.table(QueryBuilder().register("t", opened).execute("SELECT * FROM t").read_all())
        return self.commit("OPTIMIZE", [*self.removals(False), {"add": self.file(found, False)}])

    def restore(self, version):
        """The files of an older version again."""
        files, now = {}, self.live()
        for number in range(version + 1):
            actions = [json.loads(line) for line in (self.log / f"{number:020}.json").open()]
            for action in actions:
                if "remove" in action:
                    files.pop(action["remove"]["path"], None)
            for action in actions:
                if "add" in action:
                    files[action["add"]["path"]] = action["add"]
        same = {p for p in files if p in now and files[p].get("deletionVector") == now[p].get("deletionVector")}
        removals = [r for r in self.removals(True) if r["remove"]["path"] not in same]
        adds = [{"add": {**add, "dataChange": True}} for path, add in files.items() if path not in same]
        return self.commit("RESTORE", [*removals, *adds], {"version": str(version)})


def answer(request):
    if request["do"] == "execute":
        table = path(request) if request.get("table") else None
        scope = {"path": table, "pa": pa, "pq": pq, "result": None, "json": json, "pathlib": pathlib}
        scope.update(DeltaTable=DeltaTable, writer=Writer(table) if table else None, warehouse=request["warehouse"])
        exec(request["code"], scope)
        return {"result": scope["result"]}
    table, version = path(request), request.get("version")
    found = {"duckdb": by_duckdb(table, version)}
    if request["do"] == "read":
        found["deltalake"] = by_deltalake(table, version)
    return found


def main():
    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(found), flush=True)


main()
