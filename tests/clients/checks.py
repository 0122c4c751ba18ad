"""Checks for the test scripts: prints a line for each passed check, and ends at the first failed check."""

import json
import pathlib
import sys

SCRIPT = pathlib.Path(sys.argv[0]).name


def check(what, got, wanted):
    """Prints a line if the values are equal, otherwise ends the run with exit code 1."""
    if got != wanted:
        sys.exit(f"{SCRIPT}: {what}: got {got!r}, wanted {wanted!r}")
    print(f"{SCRIPT}: {what}")


def plain(struct):
    """Converts a google.protobuf.Struct to its JSON object."""
    from google.protobuf import json_format

    return json.loads(json_format.MessageToJson(struct))
