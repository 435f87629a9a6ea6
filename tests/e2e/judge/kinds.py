"""What each PostgreSQL type must become in the lake, and the one text both sides are brought to.

A column's `Kind` knows the Iceberg type, the SQL that makes the source print a value, and how an
Arrow column of the reader is printed the same way. It reads nothing by itself.
"""

import dataclasses
import json
import uuid

import pyarrow as pa
import pyarrow.compute as pc

EPOCH_MICROS = "(extract(epoch FROM {0}) * 1000000)::bigint::text"

# name in pg_type -> (iceberg type, kind of text)
SCALARS = {
    "bool": ("boolean", "bool"),
    "int2": ("int", "integer"),
    "int4": ("int", "integer"),
    "int8": ("long", "integer"),
    "float4": ("float", "float4"),
    "float8": ("double", "float8"),
    "bytea": ("binary", "bytea"),
    "date": ("date", "date"),
    "time": ("time", "time"),
    "timestamp": ("timestamp", "timestamp"),
    "timestamptz": ("timestamptz", "timestamp"),
    "uuid": ("uuid", "uuid"),
}

# SQL around an expression {0}; what is not listed is printed by the server's output function
SQL = {
    "float4": "CASE WHEN {0} = 'NaN' THEN 'NaN' ELSE encode(float4send({0}), 'hex') END",
    "float8": "CASE WHEN {0} = 'NaN' THEN 'NaN' ELSE encode(float8send({0}), 'hex') END",
    "date": "CASE WHEN isfinite({0}) THEN ({0} - date '1970-01-01')::text ELSE {0}::text END",
    "time": EPOCH_MICROS,
    "timestamp": "CASE WHEN isfinite({0}) THEN " + EPOCH_MICROS + " ELSE {0}::text END",
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """One column's type, seen from both sides."""

    iceberg: str
    text: str
    is_list: bool = False

    def sql(self, expression: str) -> str:
        """The SQL whose text result is the canonical text of `expression`."""
        if not self.is_list:
            return SQL.get(self.text, "{0}").format(expression)
        element = SQL.get(self.text, "CASE WHEN num_nulls(e) = 0 THEN format('%s', e) END").format("e")
        # by subscript: unnest would take composite elements apart
        cells = f"SELECT ({expression})[i] AS e, i FROM generate_subscripts({expression}, 1) i"
        inner = f"SELECT {element} FROM ({cells}) u ORDER BY i"
        return f"CASE WHEN {expression} IS NOT NULL THEN array_to_json(ARRAY({inner}))::text END"

    def render(self, column: pa.ChunkedArray) -> pa.Array:
        """The canonical text of every cell of a reader's column."""
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
        return render_list(array, self.text) if self.is_list else render(array, self.text)


def of_column(name: str, element_of: str | None, typmod: int) -> Kind:
    """The kind of a column: `name` from pg_type; `element_of` names the element of an array."""
    if element_of:
        iceberg, text = scalar(element_of, typmod)
        return Kind(f"list<{iceberg}>", text, True)
    return Kind(*scalar(name, typmod))


def scalar(name: str, typmod: int) -> tuple[str, str]:
    if name == "numeric" and typmod >= 4:
        return numeric((typmod - 4) >> 16, (((typmod - 4) & 0x7FF) ^ 1024) - 1024)
    return SCALARS.get(name, ("string", "text"))


def numeric(precision: int, scale: int) -> tuple[str, str]:
    """A scale below 0 or above the precision still is a decimal of more digits, if they are at most 38."""
    precision, scale = max(precision, scale) + max(-scale, 0), max(scale, 0)
    return (f"decimal({precision}, {scale})", "decimal") if precision <= 38 else ("string", "text")


def render(array: pa.Array, text: str) -> pa.Array:
    """Prints scalars; NULL stays NULL."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), pa.string())
    return PRINTERS[text](array)


def render_list(array: pa.Array, text: str) -> pa.Array:
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), pa.string())
    cells = []
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        return each(array, str)
    offsets = array.offsets.to_pylist()
    elements = render(array.values, text).to_pylist()
    for row, valid in enumerate(array.is_valid().to_pylist()):
        values = elements[offsets[row] : offsets[row + 1]]
        cells.append(json.dumps(values, ensure_ascii=False, separators=(",", ":")) if valid else None)
    return pa.array(cells, pa.string())


def each(array: pa.Array, function) -> pa.Array:
    return pa.array([None if v is None else function(v) for v in array.to_pylist()], pa.string())


def print_text(array: pa.Array) -> pa.Array:
    return array.cast(pa.string()) if is_text(array.type) else each(array, repr)


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def print_integer(array: pa.Array) -> pa.Array:
    return array.cast(pa.string())


def print_bool(array: pa.Array) -> pa.Array:
    if not pa.types.is_boolean(array.type):
        return each(array, repr)
    return pc.if_else(array, "t", "f")


def print_float(width: int):
    """Prints the bits: no rounding can hide, and -0 is not 0."""

    def print_bits(array: pa.Array) -> pa.Array:
        if not pa.types.is_floating(array.type) or array.type.bit_width != width * 8:
            return each(array, repr)
        bits = array.view(pa.uint32() if width == 4 else pa.uint64()).to_pylist()
        nan = pc.is_nan(array).to_pylist()
        form = f"0{width * 2}x"
        texts = [None if b is None else "NaN" if n else format(b, form) for b, n in zip(bits, nan, strict=True)]
        return pa.array(texts, pa.string())

    return print_bits


def print_decimal(array: pa.Array) -> pa.Array:
    return each(array, lambda value: format(value, "f") if hasattr(value, "as_tuple") else repr(value))


def print_bytes(array: pa.Array) -> pa.Array:
    return each(array, lambda value: "\\x" + value.hex() if isinstance(value, bytes) else repr(value))


def print_uuid(array: pa.Array) -> pa.Array:
    return each(array, lambda v: str(uuid.UUID(bytes=v)) if isinstance(v, bytes) and len(v) == 16 else str(v))


def print_date(array: pa.Array) -> pa.Array:
    if not pa.types.is_date32(array.type):
        return each(array, repr)
    return array.cast(pa.int32()).cast(pa.string())


def print_micros(check, unit_type):
    def print_time(array: pa.Array) -> pa.Array:
        if not check(array.type):
            return each(array, repr)
        return array.cast(unit_type(array.type)).cast(pa.int64()).cast(pa.string())

    return print_time


PRINTERS = {
    "text": print_text,
    "integer": print_integer,
    "bool": print_bool,
    "float4": print_float(4),
    "float8": print_float(8),
    "decimal": print_decimal,
    "bytea": print_bytes,
    "uuid": print_uuid,
    "date": print_date,
    "time": print_micros(pa.types.is_time64, lambda _: pa.time64("us")),
    "timestamp": print_micros(pa.types.is_timestamp, lambda kind: pa.timestamp("us", kind.tz)),
}
