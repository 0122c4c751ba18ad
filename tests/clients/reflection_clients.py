#!/usr/bin/env python3
"""Tests a proxy with grpcurl, buf curl and grpcio-reflection, which get all descriptors by reflection.

    reflection_clients.py BUF PROXY DEVICE

BUF is the path of buf. grpcurl is in the directory of the running Python. Both run the same checks on DEVICE, which
has five operations in pages of two. Each tool cancels one of the first two operations. grpcurl 1.8.6 uses v1alpha of
reflection, and buf prefers v1.
"""

import base64
import json
import pathlib
import subprocess
import sys

import grpc
from google.protobuf import descriptor_pool, json_format
from google.rpc import code_pb2, error_details_pb2
from grpc_reflection.v1alpha import proto_reflection_descriptor_database as database
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from checks import check

SERVICE = "google.longrunning.Operations"
RPCS = ("CancelOperation", "DeleteOperation", "GetOperation", "ListOperations", "WaitOperation")
METHODS = [f"{SERVICE}.{rpc}" for rpc in RPCS]
INVALID_NAME = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "INVALID_NAME",
    "domain": "countermand",
}


def program(*words):
    """Runs a program, and returns the exit code, standard output and standard error."""
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stdout, ended.stderr


def output(*words):
    """Runs a program that must succeed with an empty standard error, and returns the standard output."""
    code, out, error = program(*words)
    if code != 0 or error:
        sys.exit(f"reflection_clients.py: {' '.join(words)}: exit code {code}: {error}")
    return out


class Grpcurl:
    """grpcurl, which prints an error as google.rpc.Status in JSON, its details by their descriptors."""

    def __init__(self, server):
        self.server = server
        self.program = str(pathlib.Path(sys.executable).parent / "grpcurl")

    def methods(self):
        """The methods of the service."""
        return output(self.program, "-plaintext", self.server, "list", SERVICE).split()

    def describe(self, symbol):
        """The exit code of a description."""
        return program(self.program, "-plaintext", self.server, "describe", symbol)[0]

    def call(self, method, request):
        """Calls a method. Returns the response, or the code, the message and the details of an error."""
        words = ["-plaintext", "-format-error", "-d", json.dumps(request), self.server, f"{SERVICE}/{method}"]
        code, out, error = program(self.program, *words)
        if code == 0:
            return json.loads(out)
        status = json.loads(error)
        return code_pb2.Code.Name(status["code"]), status["message"], status["details"]


class Buf:
    """buf curl, which prints an error in the JSON of the Connect protocol, its details as bytes."""

    def __init__(self, server, buf):
        self.words = [buf, "curl", "--protocol", "grpc", "--http2-prior-knowledge"]
        self.url = f"http://{server}"

    def methods(self):
        """The methods of the service."""
        lines = output(*self.words, "--list-methods", self.url).split()
        return [line.replace("/", ".") for line in lines if line.startswith(f"{SERVICE}/")]

    def call(self, method, request):
        """Calls a method. Returns the response, or the code, the message and the details of an error."""
        url = f"{self.url}/{SERVICE}/{method}"
        code, out, error = program(*self.words, "-d", json.dumps(request), url)
        if code == 0:
            return json.loads(out)
        status = json.loads(error)
        return status["code"].upper(), status["message"], [decoded(detail) for detail in status["details"]]


def decoded(detail):
    """A detail of the Connect protocol, in the form that grpcurl prints."""
    message = getattr(error_details_pb2, detail["type"].removeprefix("google.rpc."))()
    # Connect omits the padding. Python ignores extra padding.
    message.ParseFromString(base64.b64decode(detail["value"] + "=="))
    return {"@type": f"type.googleapis.com/{detail['type']}"} | json_format.MessageToDict(message)


def drive(tool, client, device, nth):
    """Runs all checks with one tool, which cancels the nth operation."""
    check(f"{tool}: methods", sorted(client.methods()), METHODS)
    page = client.call("ListOperations", {"name": device})
    check(f"{tool}: list: a page and a token", (len(page["operations"]), "nextPageToken" in page), (2, True))
    following = client.call("ListOperations", {"name": device, "pageToken": page["nextPageToken"]})
    check(f"{tool}: list: the next page", len(following["operations"]), 2)

    listed = page["operations"][nth]
    name, metadata = listed["name"], listed["metadata"]
    check(f"{tool}: metadata: a Struct", metadata["@type"], "type.googleapis.com/google.protobuf.Struct")
    check(f"{tool}: metadata: readable", metadata["value"]["type"], ("WIPE", "RESET_PASSWORD")[nth])
    check(f"{tool}: get: pending", client.call("GetOperation", {"name": name}), listed)
    check(f"{tool}: cancel", client.call("CancelOperation", {"name": name}), {})
    ended = client.call("WaitOperation", {"name": name, "timeout": "30s"})
    check(f"{tool}: wait: cancelled", (ended["done"], ended["error"]["code"]), (True, 1))

    code, message, details = client.call("GetOperation", {"name": "operations/17"})
    check(f"{tool}: error: code", (code, message.partition(":")[0]), ("INVALID_ARGUMENT", "name"))
    info, bad = details
    check(f"{tool}: error: ErrorInfo readable", info, INVALID_NAME)
    check(f"{tool}: error: BadRequest readable", bad["fieldViolations"][0]["field"], "name")
    code, _, _ = client.call("CancelOperation", {"name": name})
    check(f"{tool}: error: a second cancel", code, "FAILED_PRECONDITION")


def lookups(server):
    """Looks up known and unknown names with grpcio-reflection, by its descriptor pool and on one stream."""
    request = reflection_pb2.ServerReflectionRequest
    with grpc.insecure_channel(server) as channel:
        pool = descriptor_pool.DescriptorPool(database.ProtoReflectionDescriptorDatabase(channel))
        check("pool: known", pool.FindServiceByName(SERVICE).full_name, SERVICE)
        for find, name in ((pool.FindMessageTypeByName, "google.rpc.Missing"), (pool.FindFileByName, "missing.proto")):
            try:
                found = find(name).full_name
            except KeyError:
                found = None
            check(f"pool: {name}", found, None)
        extensions = pool.FindAllExtensions(pool.FindMessageTypeByName("google.protobuf.MethodOptions"))
        check("pool: extensions", [extension.number for extension in extensions], [1049])
        requests = (request(file_containing_symbol="google.rpc.Missing"), request(), request(list_services=""))
        stream = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter(requests))
        codes = [response.error_response.error_code for response in stream]
        check("one stream: codes", codes, [code_pb2.NOT_FOUND, code_pb2.INVALID_ARGUMENT, code_pb2.OK])


def main(buf, proxy, device):
    """Runs every check with both tools, and the lookups."""
    lookups(proxy)
    grpcurl = Grpcurl(proxy)
    check("grpcurl: describe: known", grpcurl.describe("google.rpc.Status"), 0)
    check("grpcurl: describe: unknown", grpcurl.describe("google.rpc.Missing") != 0, True)
    drive("grpcurl", grpcurl, device, 0)
    drive("buf curl", Buf(proxy, buf), device, 1)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: reflection_clients.py BUF PROXY DEVICE")
    main(*sys.argv[1:])
