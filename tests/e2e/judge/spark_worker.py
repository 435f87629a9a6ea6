"""A Spark session with one format's library, run by Spark's own Python environment.

    spark_worker.py iceberg|delta HOME SCRATCH

Reads one request as a JSON line, answers with a JSON line, until its input ends. It judges nothing.
"""

import json
import os
import pathlib
import sys

from pyspark.sql import SparkSession

CATALOG = "lakeward"

SETTINGS = {
    "spark.master": "local[1]",
    "spark.driver.memory": "1g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.databricks.delta.snapshotPartitions": "1",
}

FORMATS = {
    "iceberg": {
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
    },
    "delta": {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    },
}


def open_session(kind: str, home: pathlib.Path, scratch: str) -> SparkSession:
    """Jars that were fetched, or else Spark fetches them itself."""
    settings = SETTINGS | FORMATS[kind] | {"spark.local.dir": scratch, "spark.sql.warehouse.dir": scratch}
    jars = sorted(str(jar) for jar in (home / "jars" / kind).glob("*.jar"))
    if jars:
        settings["spark.jars"] = ",".join(jars)
    else:
        pinned = json.loads((pathlib.Path(__file__).parent.parent / "spark.json").read_text())
        settings["spark.jars.packages"] = ",".join(pinned["jars"][kind])
        settings["spark.jars.ivy"] = str(home / "ivy")
    builder = SparkSession.builder
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


class Delta:
    """Tables by their folders."""

    def __init__(self, session: SparkSession, _scratch: str):
        self.session = session

    def frame(self, request: dict):
        return self.session.read.format("delta").load(request["location"])

    def rewrite(self, request: dict) -> dict:
        row = self.session.sql(f"OPTIMIZE delta.`{request['location']}`").first()
        return {"added": row["metrics"]["numFilesAdded"], "removed": row["metrics"]["numFilesRemoved"]}


class Iceberg:
    """Tables by Iceberg's JDBC catalogue; each warehouse has a session of its own, as the catalogue's name is given."""

    def __init__(self, session: SparkSession, scratch: str):
        self.root, self.scratch, self.sessions, self.copies = session, scratch, {}, 0

    def session(self, folder: str) -> SparkSession:
        if folder not in self.sessions:
            session = self.root.newSession()
            add_catalog(session, CATALOG, folder)
            add_catalog(session, "thin", self.scratch)
            self.sessions[folder] = session
        return self.sessions[folder]

    def frame(self, request: dict):
        session = self.session(request["folder"])
        if "metadata" in request:
            return session.table(self.registered(session, request["metadata"]))
        return session.table(quoted(CATALOG, request["table"]))

    def registered(self, session: SparkSession, metadata: str) -> str:
        self.copies += 1
        name = f"shown.copy_{self.copies}"
        session.sql("CREATE NAMESPACE IF NOT EXISTS thin.shown")
        session.sql(f"CALL thin.system.register_table(table => '{name}', metadata_file => 'file://{metadata}')").collect()
        return f"thin.{name}"

    def rewrite(self, request: dict) -> dict:
        name = quoted("", request["table"])
        call = f"CALL {CATALOG}.system.rewrite_data_files(table => '{name}', options => map('rewrite-all', 'true'))"
        row = self.session(request["folder"]).sql(call).first()
        return {"added": row["added_data_files_count"], "removed": row["rewritten_data_files_count"]}


def add_catalog(session: SparkSession, name: str, folder: str) -> None:
    prefix = f"spark.sql.catalog.{name}"
    session.conf.set(prefix, "org.apache.iceberg.spark.SparkCatalog")
    settings = {
        "catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
        "uri": f"jdbc:sqlite:{folder}/catalog.db?busy_timeout=30000",
        "jdbc.schema-version": "V1",
        "warehouse": f"file://{folder}",
        "cache-enabled": "false",
    }
    for key, value in settings.items():
        session.conf.set(f"{prefix}.{key}", value)


def quoted(catalog: str, table: str) -> str:
    namespace, _, name = table.partition(".")
    return ".".join(f"`{part}`" for part in (catalog, namespace, name) if part)


def answer(lake, request: dict) -> dict:
    if request["verb"] == "rewrite":
        return {"said": lake.rewrite(request)}
    frame = lake.frame(request)
    frame.coalesce(1).write.parquet("file://" + request["out"])
    return {"types": dict(frame.dtypes)}


def main(kind: str, home: str, scratch: str) -> None:
    # what Java prints must not come between the answers
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    lake = {"delta": Delta, "iceberg": Iceberg}[kind](open_session(kind, pathlib.Path(home), scratch), scratch)
    for line in sys.stdin:
        try:
            reply = answer(lake, json.loads(line))
        except Exception as error:  # told to the judge
            reply = {"error": f"{type(error).__name__}: {error}"[:3000]}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


main(*sys.argv[1:])
