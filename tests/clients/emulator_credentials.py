#!/usr/bin/env python3
"""Signs in to emulators by google-auth, with a credential file of each kind and by the metadata server.

    emulator_credentials.py METADATA_URL [KIND=URL,FILE]...

FILE was written by `countermand emulate --write-credentials FILE --credentials-kind KIND`, whose emulator is at
URL. METADATA_URL is one of these emulators; GCE_METADATA_HOST and GCE_METADATA_IP must name it too.

google-auth tells a file's kind by its type and follows the URLs in it, with two exceptions. For a person's
token endpoint, and for IAM Credentials when a service account impersonates, it has a constant in place of
what the file says. These two constants, and nothing else, are replaced here.
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
    """Gets a token, and lists a command's operation with it."""
    credentials.refresh(requests.Request())
    check(f"{kind}: a token that is valid", credentials.valid, True)
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
    # The scopes come second: with them, loading asks Google's own Resource Manager for a workload's project.
    credentials, _ = google.auth.load_credentials_from_file(path)
    credentials = with_scopes_if_required(credentials, [SCOPE])
    signs_in(kind, url, credentials)


def from_metadata(url):
    """Signs in as a virtual machine, which application default credentials must find out to be here."""
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
