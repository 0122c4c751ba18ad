import sys

import grpc
from google.api_core import exceptions, operation
from google.api_core.operations_v1 import OperationsClient
from google.protobuf import empty_pb2, struct_pb2

server, name = sys.argv[1:]  # 127.0.0.1:50051 enterprises/LC01/devices/d1/operations/17
with grpc.insecure_channel(server) as channel:
    operations = OperationsClient(channel)
    try:
        operations.cancel_operation(name)
        # Only the finished operation shows whether the cancel came in time.
        latest = operations.get_operation(name)
        end = operation.from_gapic(latest, operations, empty_pb2.Empty, metadata_type=struct_pb2.Struct)
        print("command:", end.metadata["type"])
        end.exception(timeout=60)  # polls; raises TimeoutError when that was not long enough
        print("cancelled" if end.cancelled() else "too late")
    except exceptions.GoogleAPICallError as error:
        sys.exit(f"{error.grpc_status_code.name} ({error.reason} of {error.domain}): {error.message}")
