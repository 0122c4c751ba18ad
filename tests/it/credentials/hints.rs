//! The hints of `check` when a token cannot be fetched. They depend on the service that failed.

use std::time::Duration;

use countermand_emulator::{Condition, Endpoint};

use crate::{
    credentials::{
        service::{assert_no_secrets, emulator, write_config},
        test_credential::TestCredential,
    },
    support::process::{countermand, run},
};

/// An endpoint, a part of the hint when the endpoint refuses, and a part of the hint when it fails.
const HINTS: [(Endpoint, &str, &str); 5] = [
    (Endpoint::Token, "the key or login was not revoked", "token_uri in the credential file"),
    (Endpoint::Sts, "audience and subject_token_type", "token_url in the credential file"),
    (Endpoint::SubjectToken, "url and headers of credential_source", "credential_source.url"),
    (Endpoint::Metadata, "give this machine or pod a service account", "GCE_METADATA_HOST"),
    (Endpoint::Iam, "Service Account Token Creator", "upstream.iam_credentials_url"),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_hint_names_the_settings_of_the_endpoint_that_failed() {
    let emulator = emulator(Duration::from_secs(3600)).await;
    let dir = tempfile::tempdir().unwrap();
    write_config(dir.path(), &emulator, &TestCredential::all());
    for (endpoint, refused, failing) in HINTS {
        for (condition, hint) in [(Condition::Refusing, refused), (Condition::Failing, failing)] {
            emulator.control().set_endpoint(endpoint, condition);
            let mut check = countermand(&["check", "--config", "c.toml"]);
            let check = check.current_dir(&dir).env("GCE_METADATA_HOST", emulator.metadata_host());
            let ended = run(check).await;
            emulator.control().set_endpoint(endpoint, Condition::Healthy);
            let affected = TestCredential::all()
                .into_iter()
                .filter(|credential| credential.endpoints().contains(&endpoint));
            for credential in affected {
                let prefix = format!("credential {}: ", credential.name());
                let lines = ended.stderr.lines().filter(|line| {
                    line.contains(&prefix)
                        && (line.contains("no token") || line.contains("principal is unknown"))
                });
                let lines: Vec<_> = lines.collect();
                // The metadata server also gets a request for the principal.
                let times = if endpoint == Endpoint::Metadata { 2 } else { 1 };
                assert_eq!(lines.len(), times, "{prefix} {endpoint:?}: {ended:?}");
                for line in lines {
                    assert!(line.contains(hint), "{endpoint:?} {condition:?}: {line}");
                    let others = HINTS.iter().filter(|(other, ..)| *other != endpoint);
                    let others: Vec<_> =
                        others.flat_map(|(_, refused, failing)| [*refused, *failing]).collect();
                    let unexpected = others.iter().find(|other| line.contains(**other));
                    assert_eq!(unexpected, None, "{endpoint:?} {condition:?}: {line}");
                }
            }
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert_no_secrets(&emulator, &[], [&*ended.stdout, &*ended.stderr]);
        }
    }
}
