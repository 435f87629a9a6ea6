"""Reads single table versions: what a consistent point names, seen by a reader that can go back.

It judges sums only; which sum is right is the caller's law.
"""

from .lake import open_lake


def sums(lake: dict, column: str, points: list[dict]) -> list[dict]:
    """For each point the sum of `column` over the tables it names: `{epoch, rows, sum}`."""
    reader = open_lake(lake).versions()
    answers = []
    for point in points:
        seen = [reader.sum(table, column, str(version)) for table, version in sorted(point["tables"].items())]
        rows, total = sum(n for n, _ in seen), sum(s for _, s in seen)
        answers.append({"epoch": point["epoch"], "rows": rows, "sum": total})
    return answers
