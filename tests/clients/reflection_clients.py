#!/usr/bin/env python3
"""Drives a proxy through grpcurl and buf curl, which know of it only what its reflection tells them.

    reflection_clients.py BUF PROXY DEVICE

BUF is the program; grpcurl is found beside the Python that runs this. Both do the same to DEVICE, which has
five operations in pages of two; the first two are theirs to cancel. grpcurl 1.8.6 speaks v1alpha of
reflection, buf prefers v1.
"""

import base64
import json
import pathlib
import subprocess
import sys

from google.protobuf import json_format
from google.rpc import code_pb2, error_details_pb2

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
    """Runs a program to its end: exit code, standard output, standard error."""
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stdout, ended.stderr


def output(*words):
    """The standard output of a program that must succeed without a complaint."""
    code, out, complaint = program(*words)
    if code != 0 or complaint:
        sys.exit(f"reflection_clients.py: {' '.join(words)}: exit code {code}: {complaint}")
    return out


class Grpcurl:
    """grpcurl, which prints an error as google.rpc.Status in JSON, its details by their descriptors."""

    def __init__(self, server):
        self.server = server
        self.program = str(pathlib.Path(sys.executable).parent / "grpcurl")

    def methods(self):
        """The methods of the service."""
        return output(self.program, "-plaintext", self.server, "list", SERVICE).split()

    def call(self, method, request):
        """The answer of a method; the code, the message and the details where it is an error."""
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
        """The answer of a method; the code, the message and the details where it is an error."""
        url = f"{self.url}/{SERVICE}/{method}"
        code, out, error = program(*self.words, "-d", json.dumps(request), url)
        if code == 0:
            return json.loads(out)
        status = json.loads(error)
        return status["code"].upper(), status["message"], [decoded(detail) for detail in status["details"]]


def decoded(detail):
    """A detail of the Connect protocol as grpcurl would print it."""
    message = getattr(error_details_pb2, detail["type"].removeprefix("google.rpc."))()
    # Connect leaves the padding out; too much does not matter.
    message.ParseFromString(base64.b64decode(detail["value"] + "=="))
    return {"@type": f"type.googleapis.com/{detail['type']}"} | json_format.MessageToDict(message)


def drive(tool, client, device, nth):
    """Everything that one tool must be able to do; it cancels the nth operation."""
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


def main(buf, proxy, device):
    """Runs every check with both tools."""
    drive("grpcurl", Grpcurl(proxy), device, 0)
    drive("buf curl", Buf(proxy, buf), device, 1)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: reflection_clients.py BUF PROXY DEVICE")
    main(*sys.argv[1:])
