#!/usr/bin/env python3
"""Tests a running emulator with Google's Python client and its bundled discovery document.

    python3 emulator_discovery.py URL CREDENTIALS_FILE

URL and CREDENTIALS_FILE are those of `countermand emulate --write-credentials FILE`. Requires the packages
google-api-python-client and google-auth. The exit code is 0 if every response is as expected of the API, and 1 at
the first other response. Commands must stay pending for some seconds, and the quota must allow a few dozen calls.
"""

import json
import sys
import uuid

from google.oauth2 import service_account
from googleapiclient import discovery
from googleapiclient.errors import HttpError

SCOPE = "https://www.googleapis.com/auth/androidmanagement"
COMMAND = "type.googleapis.com/google.android.devicemanagement.v1.Command"


def check(what, got, wanted):
    """Ends the run unless the values are equal."""
    if got != wanted:
        sys.exit(f"emulator_discovery: {what}: got {got!r}, wanted {wanted!r}")


def refused(request):
    """Sends a request that must fail, and returns the HTTP status and the error."""
    try:
        response = request.execute()
    except HttpError as error:
        return error.resp.status, json.loads(error.content)["error"]
    sys.exit(f"emulator_discovery: {request.methodId} returned {response!r}, wanted an error")


def client(url, credentials_file):
    """A client for url that signs in with the credential file."""
    credentials = service_account.Credentials.from_service_account_file(credentials_file, scopes=[SCOPE])
    return discovery.build(
        "androidmanagement",
        "v1",
        credentials=credentials,
        static_discovery=True,
        client_options={"api_endpoint": url},
    )


def issued(devices, device):
    """Issues five commands to a device, checks the responses, and returns the operations."""
    issue = lambda body: devices.issueCommand(name=device, body=body).execute()
    wipe = issue({"type": "WIPE", "duration": "90s", "wipeParams": {"wipeDataFlags": ["WIPE_ESIMS"]}})
    metadata = wipe["metadata"]
    check("name", wipe["name"].rpartition("/")[0], f"{device}/operations")
    check("metadata's type", metadata["@type"], COMMAND)
    check("command", (metadata["type"], metadata["duration"]), ("WIPE", "90s"))
    check("parameters", metadata["wipeParams"], {"wipeDataFlags": ["WIPE_ESIMS"]})
    check("a pending operation's end", [key for key in ("done", "error", "response") if key in wipe], [])
    implied = issue({"newPassword": "correct horse"})
    check("implied type", implied["metadata"]["type"], "RESET_PASSWORD")
    check("default duration", implied["metadata"]["duration"], "600s")
    return [wipe, implied] + [issue({"type": "LOCK"}) for _ in range(3)]


def listed(operations, parent):
    """Lists all operations in pages of two, and returns them with the number of pages."""
    found, pages = [], 0
    request = operations.list(name=parent, pageSize=2)
    while request is not None:
        page = request.execute()
        found += page["operations"]
        pages += 1
        request = operations.list_next(request, page)
    return found, pages


def main(url, credentials_file):
    """Runs every check."""
    devices = client(url, credentials_file).enterprises().devices()
    operations = devices.operations()
    device = f"enterprises/LC0python/devices/{uuid.uuid4().hex}"

    all_issued = issued(devices, device)
    name = all_issued[0]["name"]
    check("get", operations.get(name=name).execute(), all_issued[0])
    check("list", listed(operations, f"{device}/operations"), (all_issued, 3))

    check("cancel", operations.cancel(name=name).execute(), {})
    after = operations.get(name=name).execute()
    check("cancelled", (after["done"], after["error"]["code"]), (True, 1))
    check("cancelled command", after["metadata"], all_issued[0]["metadata"])

    status, error = refused(operations.cancel(name=name))
    check("second cancel", (status, error["code"], error["status"]), (400, 400, "FAILED_PRECONDITION"))
    status, error = refused(operations.get(name=f"{device}/operations/1"))
    check("unknown", (status, error["status"]), (404, "NOT_FOUND"))
    check("its message", error["message"], "Requested entity was not found.")
    status, error = refused(devices.issueCommand(name=device, body={"type": "DANCE"}))
    check("wrong command", (status, error["status"]), (400, "INVALID_ARGUMENT"))
    detail = error["details"][0]
    check("detail", detail["@type"], "type.googleapis.com/google.rpc.BadRequest")
    check("its field", detail["fieldViolations"][0]["field"], "type")
    print("emulator_discovery: all as expected")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: emulator_discovery.py URL CREDENTIALS_FILE")
    main(*sys.argv[1:])
