#!/usr/bin/env python3
"""Issues commands to a new device of a running emulator; prints the device's name, then the operations'.

    issue.py EMULATOR_URL CREDENTIALS_FILE TYPE...

As another service would, by Google's own client and its bundled discovery document. A TYPE is a command's
type, or `TYPE/DURATION`: `LOCK/2s`. A RESET_PASSWORD gets a password.
"""

import sys
import uuid

import emulator_discovery


def body(command):
    """The body of issueCommand for a command of the command line."""
    kind, _, duration = command.partition("/")
    fields = {"type": kind}
    if duration:
        fields["duration"] = duration
    if kind == "RESET_PASSWORD":
        fields["newPassword"] = "correct horse"
    return fields


def main(url, credentials_file, *commands):
    """Issues the commands, in their order."""
    devices = emulator_discovery.client(url, credentials_file).enterprises().devices()
    device = f"enterprises/LC0clients/devices/{uuid.uuid4().hex}"
    print(device)
    for command in commands:
        print(devices.issueCommand(name=device, body=body(command)).execute()["name"])


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit("usage: issue.py EMULATOR_URL CREDENTIALS_FILE TYPE...")
    main(*sys.argv[1:])
