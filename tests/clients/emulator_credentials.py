#!/usr/bin/env python3
"""Signs in to emulators with google-auth, with a credential file of each kind and with the metadata server.

    emulator_credentials.py METADATA_URL [KIND=URL,FILE]...

`countermand emulate --write-credentials FILE --credentials-kind KIND` wrote FILE, and its emulator is at URL.
METADATA_URL is the URL of one of these emulators. GCE_METADATA_HOST and GCE_METADATA_IP must name it too.

google-auth selects the kind by the type in the file, and uses the URLs in the file, with two exceptions. It has
constants for a person's token endpoint, and for IAM Credentials if a service account impersonates. This script
replaces only these two constants.
"""

import json
import pathlib
import sys
import uuid

import google.auth
from google.auth import compute_engine, iam
from google.auth.credentials import with_scopes_if_required
from google.auth.transport import requests
from google.oauth2 import credentials as person
from googleapiclient import discovery

from checks import check

SCOPE = "https://www.googleapis.com/auth/androidmanagement"

TYPES = {
    "service-account": "service_account",
    "authorized-user": "authorized_user",
    "external-account-file": "external_account",
    "external-account-url": "external_account",
    "external-account-impersonated": "external_account",
    "impersonated-service-account": "impersonated_service_account",
}


def signs_in(kind, url, credentials):
    """Gets a token, and lists the operation of a command with it."""
    credentials.refresh(requests.Request())
    check(f"{kind}: a valid token", credentials.valid, True)
    api = discovery.build(
        "androidmanagement",
        "v1",
        credentials=credentials,
        static_discovery=True,
        client_options={"api_endpoint": url},
    )
    devices = api.enterprises().devices()
    device = f"enterprises/LC0kinds/devices/{uuid.uuid4().hex}"
    issued = devices.issueCommand(name=device, body={"type": "LOCK"}).execute()
    listed = devices.operations().list(name=f"{device}/operations").execute()
    check(f"{kind}: a list", listed["operations"], [issued])


def from_file(kind, url, path):
    """Signs in with a credential file."""
    person._GOOGLE_OAUTH2_TOKEN_ENDPOINT = f"{url}/token"
    iam._IAM_ENDPOINT = f"{url}/v1/projects/-/serviceAccounts/{{}}:generateAccessToken"
    check(f"{kind}: its type", json.loads(pathlib.Path(path).read_text("utf-8"))["type"], TYPES[kind])
    # The scopes are set after loading, because loading with scopes calls Google's Resource Manager for a workload.
    credentials, _ = google.auth.load_credentials_from_file(path)
    credentials = with_scopes_if_required(credentials, [SCOPE])
    signs_in(kind, url, credentials)


def from_metadata(url):
    """Signs in as a virtual machine, which the application default credentials must detect."""
    credentials, project = google.auth.default(scopes=[SCOPE])
    found = (type(credentials), project)
    check("metadata server: found", found, (compute_engine.Credentials, "countermand-emulator"))
    signs_in("metadata server", url, credentials)
    email = "100000000000-compute@developer.gserviceaccount.com"
    check("metadata server: the account", credentials.service_account_email, email)


def main(metadata_url, *files):
    """Runs every check."""
    for argument in files:
        kind, _, rest = argument.partition("=")
        from_file(kind, *rest.split(",", 1))
    from_metadata(metadata_url)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: emulator_credentials.py METADATA_URL [KIND=URL,FILE]...")
    main(*sys.argv[1:])
