import sys
import time

import grpc
from google.api_core import exceptions, grpc_helpers, retry
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import struct_pb2

server, enterprise = sys.argv[1:]  # 127.0.0.1:50051 LC01
transient = retry.if_exception_type(exceptions.ServiceUnavailable, exceptions.DeadlineExceeded)
again = retry.Retry(transient, initial=1, maximum=10, timeout=60)  # not longer, because other cancels wait
quota = retry.Retry(retry.if_exception_type(exceptions.ResourceExhausted), initial=1, maximum=60, timeout=3600)
operations = operations_pb2_grpc.OperationsStub(grpc.insecure_channel(server))
list_page = quota(again.with_timeout(3600)(grpc_helpers.wrap_errors(operations.ListOperations)))
cancel = quota(again(grpc_helpers.wrap_errors(operations.CancelOperation)))
unreachable = set()


def wipes(state=""):
    request = operations_pb2.ListOperationsRequest(return_partial_success=True)
    request.name, request.filter = f"enterprises/{enterprise}/devices/-", state + 'metadata.type = "WIPE"'
    while True:
        page = list_page(request, timeout=60)
        unreachable.update(page.unreachable)
        yield from page.operations
        request.page_token = page.next_page_token
        if not request.page_token:
            return


commands = {wipe.name: struct_pb2.Struct.FromString(wipe.metadata.value) for wipe in wipes("done = false AND ")}
for name in sorted(commands, key=lambda name: commands[name].fields["createTime"].string_value, reverse=True):
    try:
        cancel(operations_pb2.CancelOperationRequest(name=name), timeout=60)
    except exceptions.GoogleAPIError as error:  # for example, the operation is done
        print(name, error, file=sys.stderr)
time.sleep(1)  # a cancel takes effect later
for wipe in wipes():
    if wipe.name in commands:
        print(wipe.name, "cancelled" if wipe.error.code == 1 else "too late" if wipe.done else "pending")
sys.exit(f"not listed: {', '.join(sorted(unreachable))}" if unreachable else 0)
