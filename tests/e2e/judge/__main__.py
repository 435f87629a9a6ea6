"""`python -m judge`: reads one request as a JSON line, answers with a JSON line, until its input ends.

Requests: {"verb": "judge", "dsn", "warehouse", "tables": [...], "readers": [...]}
          {"verb": "sums", "warehouse", "column", "points": [...]}
          {"verb": "prove", "dsn", "folder"}
"""

import json
import logging
import sys
import traceback
import warnings

from . import points, prove, verdict


def answer(request: dict) -> dict:
    if request["verb"] == "judge":
        readers = request.get("readers") or ["duckdb", "pyiceberg"]
        return verdict.judge(request["dsn"], request["warehouse"], request["tables"], readers)
    if request["verb"] == "sums":
        return {"points": points.sums(request["warehouse"], request["column"], request["points"])}
    if request["verb"] == "prove":
        return prove.prove(request["dsn"], request["folder"])
    return {"error": f"unknown verb {request['verb']}"}


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:  # told to the caller, who fails the test
            reply = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        print(json.dumps(reply, default=str), flush=True)


main()
