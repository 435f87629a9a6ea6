"""What the judge knows of a lake: its tables, its word for each kind of column, and its readers.

A reader brings Arrow columns as it decoded them. Nothing is written.
"""

from .kinds import Kind


def open_lake(at: dict):
    """Opens `{"kind", "folder"}`."""
    if at["kind"] == "iceberg":
        from .iceberg import Iceberg

        return Iceberg(at["folder"])
    if at["kind"] == "delta":
        from .delta import Delta

        return Delta(at["folder"])
    raise ValueError(f"unknown kind of lake {at['kind']}")


def word(words: dict[str, str], kind: Kind, list_form: str) -> str:
    """A format's or a reader's word for a kind. `{size}` in a word takes a decimal's size."""
    element = words[kind.name]
    if kind.size:
        element = element.format(*kind.size)
    return list_form.format(element) if kind.is_list else element
