"""The table that the judge is proved on: made in a source, and as Arrow, once as the lake must hold it.

Each source has a sample of its own; columns of one name hold the same values everywhere. Every tenth
row has NULLs, every eleventh empty texts.
"""

import datetime
import decimal
import math
import uuid

import pyarrow as pa
import pymysql

D = decimal.Decimal
UTC = datetime.timezone.utc


def common(i: int) -> dict:
    return {
        "id": i,
        "small": i % 30000 - 15000,
        "whole": i * 1000,
        "price": D(i).scaleb(-2) - 5,
        "note": "" if i % 11 == 0 else f"row {i}, ünï \\ \"quoted\"\n\ttail 😀",
        "first": f"ann {i}",
        "second": f"bob {i}",
        "raw": bytes([i % 256, 0, 255]) if i % 11 else b"",
        "day": datetime.date(1970, 1, 1) + datetime.timedelta(days=i * 7 - 9000),
        "clock": (datetime.datetime.min + datetime.timedelta(microseconds=i * 43_199_999)).time(),
        "stamp": datetime.datetime(1969, 12, 31) + datetime.timedelta(microseconds=i * 86_399_999_999),
        "moment": datetime.datetime(2026, 3, 29, tzinfo=UTC) + datetime.timedelta(microseconds=i * 1_000_001),
        "mood": "so so" if i % 3 else "happy",
    }


def with_nulls(i: int, full: dict) -> dict:
    return full | {name: None for name in full if name != "id"} if i % 10 == 5 else full


COMMON = {
    "id": pa.int64(),
    "small": pa.int16(),
    "whole": pa.int32(),
    "price": pa.decimal128(12, 2),
    "note": pa.string(),
    "first": pa.string(),
    "second": pa.string(),
    "raw": pa.binary(),
    "day": pa.date32(),
    "clock": pa.time64("us"),
    "stamp": pa.timestamp("us"),
    "moment": pa.timestamp("us", "UTC"),
    "mood": pa.string(),
}


class PostgresSample:
    """What PostgreSQL has more: booleans, NaN and infinity, padded text, UUIDs, arrays, types that become text."""

    DDL = """
    DROP SCHEMA IF EXISTS proof CASCADE;
    CREATE SCHEMA proof;
    CREATE TYPE proof.mood AS ENUM ('happy', 'so so');
    CREATE TABLE proof.sample (
      id bigint PRIMARY KEY, small int2, whole int4, price numeric(12,2), note text, first varchar(40),
      second varchar(40), raw bytea, day date, clock time, stamp timestamp, moment timestamptz, mood proof.mood,
      flag bool, zero float8, ratio float8, part float4, free numeric, code char(6), ref uuid, doc jsonb, marks int4[],
      words text[], ratios float8[], span interval);
    """
    types = COMMON | {
        "flag": pa.bool_(),
        "zero": pa.float64(),
        "ratio": pa.float64(),
        "part": pa.float32(),
        "free": pa.string(),
        "code": pa.string(),
        "ref": pa.uuid(),
        "doc": pa.string(),
        "marks": pa.list_(pa.int32()),
        "words": pa.list_(pa.string()),
        "ratios": pa.list_(pa.float64()),
        "span": pa.string(),
    }

    @staticmethod
    def row(i: int) -> dict:
        more = {
            "flag": i % 2 == 0,
            "zero": -0.0,
            "ratio": [i / 7, -0.0, math.nan, math.inf, 5e-324, 1.7976931348623157e308][i % 6],
            "part": [0.1, -0.0, math.nan, -math.inf, 1e-45, 16777216.0][i % 6],
            "free": ["0.00000000000000000001", "1.500", "NaN", "123456789012345678901234567890", "-7"][i % 5],
            "code": f"c{i % 100}".ljust(6),
            "ref": uuid.UUID(int=i * 0x1234567890ABCDEF1234, version=4),
            "doc": '{"a": [1, null, "x"]}',
            "marks": [i, None, -i] if i % 4 else [],
            "words": [f"w{i}", None, "", 'a,"b"', "NULL"],
            "ratios": [i / 7, None, math.nan],
            "span": "1 day 02:03:04",
        }
        return with_nulls(i, common(i) | more)

    def fill(self, source, rows: list[dict]) -> None:
        connection = source.connection
        connection.execute(self.DDL)
        with connection.cursor() as cursor, cursor.copy("COPY proof.sample FROM STDIN") as copy:
            for row in rows:
                copy.write_row([v.rstrip() if k == "code" and v else v for k, v in row.items()])
        connection.commit()


class MySqlSample:
    """What MariaDB has more: floats without NaN and minus zero, unsigned integers, years, bits, sets, JSON as it was typed."""

    DDL = """
    CREATE TABLE proof.sample (
      id bigint PRIMARY KEY, small smallint, whole int, price decimal(12,2), note text CHARACTER SET utf8mb4,
      first varchar(40), second varchar(40), raw varbinary(20), day date, clock time(6), stamp datetime(6),
      moment timestamp(6) NULL, mood enum('happy', 'so so'), ratio double, part float, huge bigint unsigned,
      wide int unsigned zerofill, born year, bits bit(10), picks set('a', 'b', 'c'), doc json, fixed char(6),
      fixed_raw binary(3), ref uuid, address inet6)
    """
    types = COMMON | {
        "ratio": pa.float64(),
        "part": pa.float32(),
        "huge": pa.decimal128(20, 0),
        "wide": pa.int64(),
        "born": pa.int16(),
        "bits": pa.binary(),
        "picks": pa.string(),
        "doc": pa.string(),
        "fixed": pa.string(),
        "fixed_raw": pa.binary(),
        "ref": pa.uuid(),
        "address": pa.string(),
    }

    @staticmethod
    def row(i: int) -> dict:
        more = {
            "ratio": [i / 7, 0.0, -1e-300, 1.7976931348623157e308, 5e-324, 0.1 + 0.2][i % 6],
            "part": [0.1, 0.0, 1e-38, 16777216.0, 3.4028234663852886e38, i / 7][i % 6],
            "huge": D(2**64 - 1 - i),
            "wide": i,
            "born": 0 if i % 7 == 0 else 1901 + i % 200,
            "bits": (i % 1024).to_bytes(2, "big"),
            "picks": ["", "a", "a,c", "b"][i % 4],
            "doc": '{"b": 1,  "a": [null]}',
            "fixed": f"c{i % 100}",
            "fixed_raw": bytes([i % 256, 0, 0]),
            "ref": uuid.UUID(int=i * 0x1234567890ABCDEF1234, version=4),
            "address": f"fe80::{i % 9 + 1}",
        }
        return with_nulls(i, common(i) | more)

    def fill(self, source, rows: list[dict]) -> None:
        at = source.connection
        writer = pymysql.connect(host=at.host, port=at.port, user=at.user, password=at.password, charset="utf8mb4")
        cells = ", ".join("%s" for _ in self.types)
        with writer, writer.cursor() as cursor:
            for statement in ("SET time_zone = '+00:00'", "DROP DATABASE IF EXISTS proof", "CREATE DATABASE proof"):
                cursor.execute(statement)
            cursor.execute(self.DDL)
            written = [[str(v) if isinstance(v, uuid.UUID) else v for v in row.values()] for row in rows]
            cursor.executemany(f"INSERT INTO proof.sample VALUES ({cells})", written)
            writer.commit()


SAMPLES = {"postgres": PostgresSample(), "mysql": MySqlSample()}


def table_of(rows: list[dict], types: dict[str, pa.DataType]) -> pa.Table:
    columns = []
    for name, kind in types.items():
        values = [row[name] for row in rows]
        if isinstance(kind, pa.UuidType):
            storage = pa.array([None if v is None else v.bytes for v in values], pa.binary(16))
            columns.append(pa.ExtensionArray.from_storage(pa.uuid(), storage))
        else:
            columns.append(pa.array(values, kind))
    return pa.table(columns, list(types))
