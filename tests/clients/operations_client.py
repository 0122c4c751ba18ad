#!/usr/bin/env python3
"""Tests a proxy with google.api_core's OperationsClient and its futures, which Google's Python libraries use.

    operations_client.py PROXY DEVICE SLOW_PROXY SLOW_DEVICE

DEVICE has five operations, in this order: a WIPE, a RESET_PASSWORD, a LOCK that expires after seconds, and two
more. All stay pending. A page has two operations. Behind SLOW_PROXY, every call takes a second. SLOW_DEVICE has run
a WIPE and a REBOOT.
"""

import sys

import grpc
from google.api_core import exceptions, operation
from google.api_core.operations_v1 import OperationsClient
from google.protobuf import empty_pb2, struct_pb2
from google.rpc import error_details_pb2

from checks import check, plain

GOOGLE = "androidmanagement.googleapis.com"
COMMAND = "type.googleapis.com/google.android.devicemanagement.v1.Command"


def raised(error, call, *args, **kwargs):
    """Makes a call that must fail with this error, and returns the error."""
    try:
        response = call(*args, **kwargs)
    except error as failure:
        return failure
    sys.exit(f"operations_client.py: {args} returned {response!r}, wanted {error.__name__}")


def future(client, name, result_type=empty_pb2.Empty):
    """The future of an operation, as a library creates it."""
    latest = client.get_operation(name)
    return operation.from_gapic(latest, client, result_type, metadata_type=struct_pb2.Struct)


def reads(client, device):
    """Checks list (pages, both forms of the parent) and get. Returns the names in the order of issue."""
    pages = [list(page) for page in client.list_operations(device, "").pages]
    check("list: pages", [len(page) for page in pages], [2, 2, 1])
    listed = sum(pages, [])
    names = [found.name for found in listed]
    with_suffix = client.list_operations(f"{device}/operations", "")
    check("list: the parent with /operations", [found.name for found in with_suffix], names)
    check("get: as listed", client.get_operation(names[0]), listed[0])
    metadata = plain(future(client, names[1]).metadata)
    shown = {key: metadata[key] for key in ("@type", "type", "duration", "newPassword")}
    wanted = {"@type": COMMAND, "type": "RESET_PASSWORD", "duration": "600s", "newPassword": "[redacted]"}
    check("get: metadata", shown, wanted)
    return names


def ends(client, names):
    """Checks cancel, and polling until the operation is done."""
    wipe = future(client, names[0])
    check("future: pending", (wipe.done(), wipe.cancelled()), (False, False))
    check("future: cancel", wipe.cancel(), True)
    ended = raised(exceptions.Cancelled, wipe.result, timeout=30)
    check("future: cancelled", (wipe.cancelled(), ended.grpc_status_code), (True, grpc.StatusCode.CANCELLED))
    expired = raised(exceptions.DeadlineExceeded, future(client, names[2]).result, timeout=30)
    check("future: expired", expired.message, "The command expired before the device ran it.")


def errors(client, device, names):
    """Checks errors: code, reason, domain and every detail."""
    done = raised(exceptions.FailedPrecondition, client.cancel_operation, names[0])
    check("error of Google's: domain", (done.domain, bool(done.reason)), (GOOGLE, True))
    absent = raised(exceptions.NotFound, client.get_operation, f"{device}/operations/1")
    check("error of Google's: message", absent.message, "Requested entity was not found.")
    infos = [detail for detail in absent.details if isinstance(detail, error_details_pb2.ErrorInfo)]
    check("error of Google's: one ErrorInfo", infos, [absent._error_info])
    invalid_name = "enterprises/../devices/d1/operations/1"
    invalid = raised(exceptions.InvalidArgument, client.get_operation, invalid_name)
    check("error of the proxy's", (invalid.reason, invalid.domain), ("INVALID_NAME", "countermand"))
    [bad] = [detail for detail in invalid.details if isinstance(detail, error_details_pb2.BadRequest)]
    check("error of the proxy's: field", [found.field for found in bad.field_violations], ["name"])
    deleted = raised(exceptions.MethodNotImplemented, client.delete_operation, names[0])
    check("delete", (deleted.reason, deleted.domain), ("NOT_SUPPORTED", "countermand"))


def slow(client, device):
    """Checks a short deadline with and without the client's retries, and the results of executed commands."""
    [wipe, reboot] = [found.name for found in client.list_operations(device, "")]
    late = raised(exceptions.DeadlineExceeded, client.get_operation, wipe, retry=None, timeout=0.2)
    check("timeout", late.grpc_status_code, grpc.StatusCode.DEADLINE_EXCEEDED)
    check("timeout: the client's retries", client.get_operation(reboot, timeout=0.2).done, True)
    check("result: Empty if Google returns none", future(client, wipe).result(), empty_pb2.Empty())
    response = plain(future(client, reboot, struct_pb2.Struct).result())
    check("result: Struct", (response["@type"], response["type"]), (COMMAND, "REBOOT"))


def main(proxy, device, slow_proxy, slow_device):
    """Runs every check."""
    with grpc.insecure_channel(proxy) as channel:
        client = OperationsClient(channel)
        names = reads(client, device)
        ends(client, names)
        errors(client, device, names)
    with grpc.insecure_channel(slow_proxy) as channel:
        slow(OperationsClient(channel), slow_device)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: operations_client.py PROXY DEVICE SLOW_PROXY SLOW_DEVICE")
    main(*sys.argv[1:])
