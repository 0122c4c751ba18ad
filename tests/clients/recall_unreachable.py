#!/usr/bin/env python3
"""Runs recall.py against a server that cannot read a device and refuses cancels. It must name them."""

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
    """Three WIPEs on two pages. The first one is done before its cancel, and the last one cannot be cancelled."""

    def __init__(self):
        self.lists = set()
        self.cancels = []

    def ListOperations(self, request, context):
        """The device of the second page cannot be read."""
        self.lists.add((request.name, request.filter, request.return_partial_success))
        page = operations_pb2.ListOperationsResponse(next_page_token="" if request.page_token else "2")
        for number in (2, 3) if request.page_token else (1,):
            command = struct_pb2.Struct()
            command.update({"type": "WIPE", "createTime": f"2026-01-0{number}T00:00:00Z"})
            wipe = page.operations.add(name=f"{ENTERPRISE}/devices/d{number}/operations/1")
            wipe.metadata.Pack(command)
            wipe.done = bool(self.cancels) and number != 3
            if wipe.done and number == 2:
                wipe.error.code = grpc.StatusCode.CANCELLED.value[0]
        page.unreachable.extend([f"{ENTERPRISE}/devices/d4"] if request.page_token else [])
        return page

    def CancelOperation(self, request, context):
        """Cancels the second one. The device of the last one is always UNAVAILABLE."""
        self.cancels.append(request.name)
        if "/d1/" in request.name:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "The operation is done.")
        if "/d3/" in request.name:
            context.abort(grpc.StatusCode.UNAVAILABLE, "The device is away.")
        return empty_pb2.Empty()


def main():
    """Serves, runs the example, and checks its output."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    service = Operations()
    operations_pb2_grpc.add_OperationsServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    example = pathlib.Path(__file__).resolve().parent / "recall.py"
    program = example.read_text(encoding="utf-8").replace("timeout=60)", "timeout=2)")
    command = [sys.executable, "-c", program, f"127.0.0.1:{port}", "LC01"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    server.stop(None)
    names = [f"{ENTERPRISE}/devices/d{number}/operations/1" for number in (1, 2, 3)]
    name, kind = f"{ENTERPRISE}/devices/-", 'metadata.type = "WIPE"'
    lists = {(name, f"done = false AND {kind}", True), (name, kind, True)}
    check("requests partial success of all devices", service.lists, lists)
    check("cancels the newest first", list(dict.fromkeys(service.cancels)), names[::-1])
    check("retries UNAVAILABLE", service.cancels.count(names[2]) > 1, True)
    check("prints the outcomes", ended.stdout, f"{names[0]} too late\n{names[1]} cancelled\n{names[2]} pending\n")
    errors = f"{names[2]} Timeout of 2.0s exceeded, last exception: 503 The device is away.\n"
    errors += f"{names[0]} 400 The operation is done.\nnot listed: {ENTERPRISE}/devices/d4\n"
    check("names what it could not do", (ended.stderr, ended.returncode), (errors, 1))


if __name__ == "__main__":
    if len(sys.argv) != 1:
        sys.exit("usage: recall_unreachable.py")
    main()
