"""`python -m judge`: reads one request as a JSON line, answers with a JSON line, until its input ends.

    {"verb": "judge", "source": {"kind", "dsn"}, "lakes": [{"kind", "folder"}], "tables": [...], "readers": [...]}
    {"verb": "sums", "lake": {"kind", "folder"}, "column", "points": [...]}
    {"verb": "prove", "source": {"kind", "dsn"}, "lake": {"kind"}, "folder", "readers": [...]}
    {"verb": "spark.versions"}
    {"verb": "spark.optimize" | "spark.rewrite", "lake": {"kind", "folder"}, "tables": [...]}
"""

import json
import logging
import sys
import traceback
import warnings

from . import points, prove, spark, verdict
from .lake import open_lake


def answer(request: dict) -> dict:
    verb = request["verb"]
    if verb == "judge":
        return verdict.judge(request["source"], request["lakes"], request["tables"], request.get("readers", []))
    if verb == "sums":
        return {"points": points.sums(request["lake"], request["column"], request["points"])}
    if verb == "prove":
        return prove.prove(request["source"], request["lake"]["kind"], request["folder"], request.get("readers", []))
    if verb == "spark.versions":
        return spark.versions()
    if verb in ("spark.optimize", "spark.rewrite"):
        lake = open_lake(request["lake"])
        return {"tables": spark.rewrite(lake, lambda name: verdict.selected(name, request["tables"]))}
    return {"error": f"unknown verb {verb}"}


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
