//! The hints of `check` when a token cannot be fetched. They depend on the service that failed.

use std::time::Duration;

use countermand_emulator::{Condition, Endpoint};

use crate::{
    credentials::{
        holder::Holder,
        service::{emulator, furnish, nothing_in},
    },
    support::process::{countermand, run},
};

/// The endpoint that is in trouble, and what the advice names when it refuses, and when it fails.
const ADVICE: [(Endpoint, &str, &str); 5] = [
    (Endpoint::Token, "the key or login was not revoked", "token_uri in the credential file"),
    (Endpoint::Sts, "audience and subject_token_type", "token_url in the credential file"),
    (Endpoint::SubjectToken, "url and headers of credential_source", "credential_source.url"),
    (Endpoint::Metadata, "give this machine or pod a service account", "GCE_METADATA_HOST"),
    (Endpoint::Iam, "Service Account Token Creator", "upstream.iam_credentials_url"),
];

#[tokio::test(flavor = "multi_thread")]
async fn name_what_the_endpoint_at_fault_goes_by() {
    let emulator = emulator(Duration::from_secs(3600)).await;
    let room = tempfile::tempdir().unwrap();
    furnish(room.path(), &emulator, &Holder::all());
    for (endpoint, refused, failing) in ADVICE {
        for (condition, advice) in [(Condition::Refusing, refused), (Condition::Failing, failing)] {
            emulator.control().set_endpoint(endpoint, condition);
            let mut check = countermand(&["check", "--config", "c.toml"]);
            let check = check.current_dir(&room).env("GCE_METADATA_HOST", emulator.metadata_host());
            let ended = run(check).await;
            emulator.control().set_endpoint(endpoint, Condition::Healthy);
            let troubled = Holder::all().into_iter().filter(|holder| holder.endpoints().contains(&endpoint));
            for holder in troubled {
                let of = format!("credential {}: ", holder.name());
                let lines = ended.stderr.lines().filter(|line| {
                    line.contains(&of) && (line.contains("no token") || line.contains("principal is unknown"))
                });
                let lines: Vec<_> = lines.collect();
                // The metadata server is also asked who it is.
                let times = if endpoint == Endpoint::Metadata { 2 } else { 1 };
                assert_eq!(lines.len(), times, "{of} {endpoint:?}: {ended:?}");
                for line in lines {
                    assert!(line.contains(advice), "{endpoint:?} {condition:?}: {line}");
                    let others = ADVICE.iter().filter(|(other, ..)| *other != endpoint);
                    let others: Vec<_> =
                        others.flat_map(|(_, refused, failing)| [*refused, *failing]).collect();
                    let wrong = others.iter().find(|other| line.contains(**other));
                    assert_eq!(wrong, None, "{endpoint:?} {condition:?}: {line}");
                }
            }
            assert_eq!(ended.code, Some(1), "{ended:?}");
            nothing_in(&emulator, &[], [&*ended.stdout, &*ended.stderr]);
        }
    }
}
