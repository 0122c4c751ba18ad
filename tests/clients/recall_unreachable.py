#!/usr/bin/env python3
"""Runs recall.py against a server that cannot read a device and refuses a cancel. It must name both."""

import pathlib
import subprocess
import sys
from concurrent import futures

import grpc
from checks import check
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2, struct_pb2

ENTERPRISE = "enterprises/LC01"


class Operations(operations_pb2_grpc.OperationsServicer):
    """Two WIPEs on two pages. The first one is done before its cancel."""

    def __init__(self):
        self.lists = set()
        self.cancels = []

    def ListOperations(self, request, context):
        """The device of the second page cannot be read."""
        self.lists.add((request.name, request.filter, request.return_partial_success))
        number = 2 if request.page_token else 1
        command = struct_pb2.Struct()
        command.update({"type": "WIPE", "createTime": f"2026-01-0{number}T00:00:00Z"})
        wipe = operations_pb2.Operation(name=f"{ENTERPRISE}/devices/d{number}/operations/1")
        wipe.metadata.Pack(command)
        if self.cancels:
            wipe.done = True
            if number == 2:
                wipe.error.code = grpc.StatusCode.CANCELLED.value[0]
        page = operations_pb2.ListOperationsResponse(operations=[wipe], next_page_token="" if number == 2 else "2")
        page.unreachable.extend([f"{ENTERPRISE}/devices/d3"] if number == 2 else [])
        return page

    def CancelOperation(self, request, context):
        """Cancels the second one."""
        self.cancels.append(request.name)
        if "/d1/" in request.name:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "The operation is done.")
        return empty_pb2.Empty()


def main():
    """Serves, runs the example, and checks its output."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    service = Operations()
    operations_pb2_grpc.add_OperationsServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    example = pathlib.Path(__file__).resolve().parent / "recall.py"
    command = [sys.executable, "-B", str(example), f"127.0.0.1:{port}", "LC01"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    server.stop(None)
    names = [f"{ENTERPRISE}/devices/d{number}/operations/1" for number in (1, 2)]
    name, kind = f"{ENTERPRISE}/devices/-", 'metadata.type = "WIPE"'
    lists = {(name, f"done = false AND {kind}", True), (name, kind, True)}
    check("requests partial success of all devices", service.lists, lists)
    check("cancels the newest first", service.cancels, names[::-1])
    check("prints the outcomes", ended.stdout, f"{names[0]} too late\n{names[1]} cancelled\n")
    errors = f"{names[0]} 400 The operation is done.\nnot listed: {ENTERPRISE}/devices/d3\n"
    check("names what it could not do", (ended.stderr, ended.returncode), (errors, 1))


if __name__ == "__main__":
    if len(sys.argv) != 1:
        sys.exit("usage: recall_unreachable.py")
    main()
