"""Shared by the drivers: a line for each check that holds, an end at the first that does not."""

import json
import pathlib
import sys

SCRIPT = pathlib.Path(sys.argv[0]).name


def check(what, got, wanted):
    """Prints a line for what holds; ends the run with 1 unless what was got is what was wanted."""
    if got != wanted:
        sys.exit(f"{SCRIPT}: {what}: got {got!r}, wanted {wanted!r}")
    print(f"{SCRIPT}: {what}")


def plain(struct):
    """A google.protobuf.Struct as the JSON object that it stands for."""
    from google.protobuf import json_format

    return json.loads(json_format.MessageToJson(struct))
