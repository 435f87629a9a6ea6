"""Spark with each format's own Java library, as a reader and as a foreign writer.

One long-lived worker process for each format, under Spark's own Python environment. A table comes back
as plain Parquet files. Where there is no Java there is no Spark, and a question for it is an error.
"""

import gzip
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import urllib.parse

import pyarrow as pa
import pyarrow.parquet as pq

from .kinds import Kind
from .lake import word

HOME = pathlib.Path(os.environ.get("LAKEWARD_SPARK", ""))
PINNED = json.loads((pathlib.Path(__file__).parent.parent / "spark.json").read_text())
VERSION = PINNED["python"][0].split("==")[1]
PYTHON = HOME / "venv" / "bin" / "python"

WORDS = {
    "bool": "boolean",
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
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


def versions() -> dict:
    """Whether Spark can be asked, and which."""
    if shutil.which("java") is None:
        return {"java": False, "why": "no java"}
    if not PYTHON.exists():
        return {"java": False, "why": "Spark is not installed"}
    return {"java": True, "spark": VERSION}


class SparkError(Exception):
    """What Spark answered instead."""


class Worker:
    """The Spark process of one format. It ends when this process does."""

    running: dict[str, "Worker"] = {}

    def __init__(self, kind: str):
        known = versions()
        if not known["java"]:
            raise RuntimeError(f"no Spark: {known['why']}")
        self.scratch = tempfile.TemporaryDirectory(prefix="lakeward-spark-")
        program = pathlib.Path(__file__).parent / "spark_worker.py"
        self.log = open(HOME / f"{kind}.log", "wb")
        self.process = subprocess.Popen(
            [PYTHON, "-B", program, kind, HOME, self.scratch.name],
            cwd=self.scratch.name,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    @classmethod
    def of(cls, kind: str) -> "Worker":
        if kind not in cls.running:
            cls.running[kind] = cls(kind)
        return cls.running[kind]

    def ask(self, question: dict) -> dict:
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"Spark ended; see {self.log.name}")
        reply = json.loads(line)
        if "error" in reply:
            raise SparkError(reply["error"])
        return reply


class SparkReader:
    """Reads a table into files, and those with Arrow."""

    name = "spark"
    version = VERSION
    differing: dict[str, str] = {}

    def __init__(self, lake):
        self.lake, self.worker, self.seen = lake, Worker.of(lake.kind), {}

    def expected(self, kind: Kind) -> str:
        return word(WORDS | self.differing, kind, "array<{}>")

    def asked(self, table: str, location: str) -> dict:
        return {"folder": str(self.lake.folder), "table": table, "location": location}

    def types(self, table: str, location: str) -> dict[str, str]:
        out = tempfile.mkdtemp(dir=self.worker.scratch.name)
        reply = self.worker.ask({"verb": "read", "out": f"{out}/rows"} | self.asked(table, location))
        self.seen[table] = out
        return reply["types"]

    def rows(self, table: str, _location: str) -> pa.Table:
        out = self.seen.pop(table)
        rows = pq.read_table(f"{out}/rows")
        shutil.rmtree(out)
        return rows


class SparkDelta(SparkReader):
    """Reads with Delta's own library."""


class SparkIceberg(SparkReader):
    """Reads with Iceberg's own library through its JDBC catalogue.

    Spark has no time of day and cannot load a table that has one: it is shown the table without such
    columns, by a copy of the metadata that leaves them out. The data files stay what they are. Its
    row reader, which lists need, refuses such files even so: then lists are left out too.
    """

    differing = {"int16": "int"}

    def blind(self, table) -> dict[str, str]:
        times = {c.name: "Spark has no time of day" for c in table.columns if c.kind.name == "time"}
        lists = {c.name: "Spark reads no lists beside a time of day" for c in table.columns if c.kind.is_list}
        return lists | times if times else {}

    def asked(self, table: str, location: str) -> dict:
        thin = without_times(location, self.worker.scratch.name)
        return super().asked(table, location) | ({"metadata": thin} if thin else {})


def without_times(location: str, folder: str) -> str | None:
    """A copy of the metadata without times of day and lists; none if there are no times of day."""
    path = urllib.parse.urlsplit(location).path
    content = pathlib.Path(path).read_bytes()
    metadata = json.loads(gzip.decompress(content) if path.endswith(".gz.metadata.json") else content)
    current = next(s for s in metadata["schemas"] if s["schema-id"] == metadata["current-schema-id"])
    if not any(has_time(field["type"]) for field in current["fields"]):
        return None
    for schema in metadata["schemas"]:
        schema["fields"] = [f for f in schema["fields"] if isinstance(f["type"], str) and not has_time(f["type"])]
        left = {f["id"] for f in schema["fields"]}
        schema["identifier-field-ids"] = [key for key in schema.get("identifier-field-ids", []) if key in left]
    copy = pathlib.Path(tempfile.mkdtemp(dir=folder)) / "00000-thin.metadata.json"
    copy.write_text(json.dumps(metadata))
    return str(copy)


def has_time(kind) -> bool:
    return kind == "time" or (isinstance(kind, dict) and kind.get("element") == "time")


def rewrite(lake, selected) -> dict:
    """Rewrites each selected table's files, as a foreign maintenance job would: what it said, by table.

    A table that Spark cannot rewrite, or a race that it lost, is said as `refused`.
    """
    worker = Worker.of(lake.kind)
    said = {}
    for name, location in sorted(lake.tables().items()):
        if selected(name):
            question = {"verb": "rewrite", "folder": str(lake.folder), "table": name, "location": location}
            try:
                said[name] = worker.ask(question)["said"]
            except SparkError as error:
                said[name] = {"refused": str(error)[:500]}
    return said
