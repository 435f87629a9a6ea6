"""The types that both sides share, and the one text that every value is brought to.

A source names a column's `Kind`; a lake names its own type for it. Arrow columns of a reader are
printed here. It reads nothing by itself.
"""

import dataclasses
import decimal
import json
import re
import uuid

import pyarrow as pa
import pyarrow.compute as pc

# the types that a source's column may become, and how their values are printed
TEXTS = {
    "bool": "bool",
    "int16": "integer",
    "int32": "integer",
    "int64": "integer",
    "float32": "float4",
    "float64": "float8",
    "decimal": "decimal",
    "string": "text",
    "binary": "bytes",
    "date": "date",
    "time": "time",
    "timestamp": "timestamp",
    "timestamptz": "timestamp",
    "uuid": "uuid",
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A column's type: a name of `TEXTS`; `size` is a decimal's precision and scale."""

    name: str
    size: tuple[int, int] | None = None
    is_list: bool = False

    @property
    def text(self) -> str:
        return TEXTS[self.name]

    def of_list(self) -> "Kind":
        return dataclasses.replace(self, is_list=True)

    def render(self, column: pa.ChunkedArray) -> pa.Array:
        """The canonical text of every cell of a reader's column."""
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
        return render_list(array, self.text) if self.is_list else render(array, self.text)


def decimal_kind(precision: int, scale: int) -> Kind:
    """A scale below 0 or above the precision still is a decimal of more digits, if they are at most 38."""
    precision, scale = max(precision, scale) + max(-scale, 0), max(scale, 0)
    return Kind("decimal", (precision, scale)) if precision <= 38 else Kind("string")


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


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def print_text(array: pa.Array) -> pa.Array:
    return array.cast(pa.string()) if is_text(array.type) else each(array, repr)


def print_integer(array: pa.Array) -> pa.Array:
    return array.cast(pa.string()) if pa.types.is_integer(array.type) else each(array, repr)


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
    return each(array, lambda value: format(value, "f") if isinstance(value, decimal.Decimal) else repr(value))


def print_bytes(array: pa.Array) -> pa.Array:
    return each(array, lambda value: "\\x" + value.hex() if isinstance(value, bytes) else repr(value))


def print_uuid(array: pa.Array) -> pa.Array:
    """Sixteen bytes, or the text where a lake or a reader has no such type."""
    return each(array, lambda v: str(uuid.UUID(bytes=v)) if isinstance(v, bytes) and len(v) == 16 else str(v))


def print_date(array: pa.Array) -> pa.Array:
    if not pa.types.is_date32(array.type):
        return each(array, repr)
    return array.cast(pa.int32()).cast(pa.string())


def print_time(array: pa.Array) -> pa.Array:
    """Microseconds of the day; where a lake has no such type, of its text."""
    if is_text(array.type):
        return each(array, micros_of_text)
    if not pa.types.is_time64(array.type):
        return each(array, repr)
    return array.cast(pa.time64("us")).cast(pa.int64()).cast(pa.string())


def micros_of_text(text: str) -> str:
    """`HH:MM:SS[.f…]` without trailing zeros and nothing else; another text stays as it is."""
    if not re.fullmatch(r"\d\d:\d\d:\d\d(\.\d{0,5}[1-9])?", text, re.ASCII):
        return repr(text)
    whole, _, part = text.partition(".")
    hours, minutes, seconds = (int(digits) for digits in whole.split(":"))
    return str(((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + int(part.ljust(6, "0")))


def print_timestamp(array: pa.Array) -> pa.Array:
    if not pa.types.is_timestamp(array.type):
        return each(array, repr)
    return array.cast(pa.timestamp("us", array.type.tz)).cast(pa.int64()).cast(pa.string())


PRINTERS = {
    "text": print_text,
    "integer": print_integer,
    "bool": print_bool,
    "float4": print_float(4),
    "float8": print_float(8),
    "decimal": print_decimal,
    "bytes": print_bytes,
    "uuid": print_uuid,
    "date": print_date,
    "time": print_time,
    "timestamp": print_timestamp,
}
