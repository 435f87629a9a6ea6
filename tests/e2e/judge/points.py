"""Reads single table versions: what a consistent point names, seen by PyIceberg.

It judges sums only; which sum is right is the caller's law.
"""

import pyarrow.compute as pc

from .lake import Lake, PyIceberg


def sums(warehouse: str, column: str, points: list[dict]) -> list[dict]:
    """For each point the sum of `column` over the tables it names: `{epoch, rows, sum}`."""
    eye = PyIceberg(Lake(warehouse))
    answers = []
    for point in points:
        total, rows = 0, 0
        for table, version in sorted(point["tables"].items()):
            seen = eye.rows(table, "", int(version))
            rows += seen.num_rows
            total += int(pc.sum(seen.column(column)).as_py() or 0) if seen.num_rows else 0
        answers.append({"epoch": point["epoch"], "rows": rows, "sum": total})
    return answers
