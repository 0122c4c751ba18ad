import sys
import time

import grpc
from google.api_core import exceptions, retry
from google.api_core.operations_v1 import OperationsClient
from google.protobuf import struct_pb2

server, enterprise = sys.argv[1:]  # 127.0.0.1:50051 LC01
transient = (exceptions.ResourceExhausted, exceptions.ServiceUnavailable, exceptions.DeadlineExceeded)
again = retry.Retry(retry.if_exception_type(*transient), initial=1, maximum=60, timeout=3600)


def created(wipe):
    command = struct_pb2.Struct()
    wipe.metadata.Unpack(command)
    return command["createTime"]


with grpc.insecure_channel(server) as channel:
    operations = OperationsClient(channel)
    pending = 'done = false AND metadata.type = "WIPE"'
    wipes = list(operations.list_operations(f"enterprises/{enterprise}/devices/-", pending, retry=again))
    for wipe in sorted(wipes, key=created, reverse=True):
        operations.cancel_operation(wipe.name, retry=again)
    time.sleep(1)  # a cancel takes effect later
    names = {wipe.name for wipe in wipes}
    for device in sorted({name.split("/operations/")[0] for name in names}):
        for wipe in operations.list_operations(device, "", retry=again):  # one list shows all outcomes
            if wipe.name in names:
                print(wipe.name, "cancelled" if wipe.error.code == 1 else "too late" if wipe.done else "pending")
