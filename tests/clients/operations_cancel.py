#!/usr/bin/env python3
"""Calls commands back through a running Countermand with Google's own gRPC client of operations.

    python3 operations_cancel.py SERVER URL CREDENTIALS_FILE

SERVER is the proxy's host:port. URL and the file are those of the emulator that it stands before
(`countermand emulate --write-credentials FILE`). Needs the packages google-api-core, grpcio, grpcio-status
and, to issue the commands, google-api-python-client and google-auth. Exits with 0 when every answer is what
the client's user may expect, and with 1 at the first that is not.
"""

import sys
import uuid

import grpc
from google.api_core import exceptions
from google.api_core.operations_v1 import OperationsClient

from emulator_discovery import check, client

GOOGLE, OURS = "androidmanagement.googleapis.com", "countermand"


def refused(call, name):
    """The kind, the reason and the domain of the error with which a call must end."""
    try:
        call(name)
    except exceptions.GoogleAPICallError as error:
        return type(error).__name__, error.reason, error.domain
    sys.exit(f"operations_cancel: {name} was answered OK, wanted an error")


def main(server, url, credentials_file):
    """Runs every check."""
    devices = client(url, credentials_file).enterprises().devices()
    device = f"enterprises/LC0python/devices/{uuid.uuid4().hex}"
    name = devices.issueCommand(name=device, body={"type": "WIPE", "duration": "90s"}).execute()["name"]
    operations = OperationsClient(grpc.insecure_channel(server))

    check("cancel", operations.cancel_operation(name), None)
    after = devices.operations().get(name=name).execute()
    check("the command", (after["done"], after["error"]["code"]), (True, 1))
    seen = operations.get_operation(name)
    check("what get says", (seen.name, seen.done, seen.error.code), (name, True, 1))

    again = refused(operations.cancel_operation, name)
    check("second cancel", again, ("FailedPrecondition", "FAILED_PRECONDITION", GOOGLE))
    unknown = refused(operations.cancel_operation, f"{device}/operations/1")
    check("unknown operation", unknown, ("NotFound", "NOT_FOUND", GOOGLE))
    malformed = refused(operations.cancel_operation, "operations/1")
    check("malformed name", malformed, ("InvalidArgument", "INVALID_NAME", OURS))
    check("delete", refused(operations.delete_operation, name), ("MethodNotImplemented", "NOT_SUPPORTED", OURS))
    print("operations_cancel: all as expected")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: operations_cancel.py SERVER URL CREDENTIALS_FILE")
    main(*sys.argv[1:])
