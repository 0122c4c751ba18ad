#!/usr/bin/env python3
"""Issues commands to a new device of a running emulator. Prints the name of the device, then of the operations.

    issue.py EMULATOR_URL CREDENTIALS_FILE TYPE...

Uses Google's client and its bundled discovery document, as another service would. TYPE is the type of a command,
or `TYPE/DURATION`, for example `LOCK/2s`. A RESET_PASSWORD gets a password.
"""

import sys
import uuid

import emulator_discovery


def body(command):
    """The body of issueCommand for a TYPE argument."""
    kind, _, duration = command.partition("/")
    fields = {"type": kind}
    if duration:
        fields["duration"] = duration
    if kind == "RESET_PASSWORD":
        fields["newPassword"] = "correct horse"
    return fields


def main(url, credentials_file, *commands):
    """Issues the commands in order."""
    devices = emulator_discovery.client(url, credentials_file).enterprises().devices()
    device = f"enterprises/LC0clients/devices/{uuid.uuid4().hex}"
    print(device)
    for command in commands:
        print(devices.issueCommand(name=device, body=body(command)).execute()["name"])


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit("usage: issue.py EMULATOR_URL CREDENTIALS_FILE TYPE...")
    main(*sys.argv[1:])
