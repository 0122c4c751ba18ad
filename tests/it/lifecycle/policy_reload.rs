//! Changes of the policy file while the service runs.

use std::{fs, path::PathBuf};

use tonic::Code;

use crate::{
    lifecycle::{caller::cancel, google::Google, service::Service},
    support::{files::replace, process::eventually},
};

const PERMIT: &str = "@id(\"permit\")\npermit (principal, action, resource);\n";
const FORBID: &str = "@id(\"forbid\")\nforbid (principal, action, resource);\n";

async fn start(google: &Google, policy: &str) -> (tempfile::TempDir, PathBuf, Service) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.cedar");
    fs::write(&file, policy).unwrap();
    let service = Service::start_with(google, |command| _ = command.arg("--policy").arg(&file)).await;
    service.ready().await;
    (dir, file, service)
}

#[tokio::test]
async fn a_changed_policy_is_reloaded_and_cached_decisions_are_dropped() {
    let google = Google::start().await;
    let (_dir, file, service) = start(&google, PERMIT).await;
    service.process.stderr.has("loaded policy").await;
    service.process.stderr.has("policies=1 sha256=\"").await;
    cancel(service.address, 1).await.unwrap();

    replace(&file, FORBID);
    service.process.stderr.has("reloaded policy").await;
    service.process.stderr.has("policy permits nothing; every call is denied").await;
    eventually("the same call is denied", async || {
        let code = cancel(service.address, 1).await.err().map(|status| status.code());
        (code == Some(Code::PermissionDenied)).then_some(())
    })
    .await;

    replace(&file, PERMIT);
    eventually("the same call is permitted again", async || cancel(service.address, 1).await.ok()).await;
}

#[tokio::test]
async fn a_broken_policy_is_reported_once_and_the_old_one_stays() {
    let google = Google::start().await;
    let (_dir, file, service) = start(&google, PERMIT).await;
    for (broken, cause) in [
        ("permit (principal, action", "unexpected end of input"),
        ("permit (principal, action, resource) when { principal.group == \"x\" };", "attribute `group`"),
        (&*"(".repeat(500_000), "nested too deeply"),
    ] {
        replace(&file, broken);
        service.process.stderr.has(cause).await;
        cancel(service.address, 1).await.unwrap();
    }
    replace(&file, FORBID);
    service.process.stderr.has("reloaded policy").await;
    let log = service.process.stderr.text();
    assert_eq!(log.matches("policy reload failed; the previous version stays active").count(), 3, "{log}");
    assert_eq!(cancel(service.address, 1).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_forbid_that_cannot_be_evaluated_denies_and_is_logged_once() {
    let google = Google::start().await;
    let policy = "permit (principal, action, resource);\n\
                  @id(\"overflows\") forbid (principal, action, resource) unless { 9223372036854775807 + 1 > 0 };\n\
                  @id(\"one\") forbid (principal, action, resource == Operation::\"LC01/d1/1\");\n";
    let (_dir, _file, service) = start(&google, policy).await;
    // The policies distinguish the two operations, so each operation has its own cached decision.
    for id in [1, 2] {
        assert_eq!(cancel(service.address, id).await.unwrap_err().code(), Code::PermissionDenied);
    }
    service.process.stderr.has("policy evaluation failed policy=\"overflows\"").await;
    service.process.signal(nix::sys::signal::Signal::SIGTERM);
    let log = service.process.end().await.stderr;
    assert_eq!(log.matches("policy evaluation failed").count(), 1, "{log}");
    assert!(google.seen().authorizations.is_empty());
}
