//! A policy file that changes under a running service.

use std::{fs, path::PathBuf};

use tonic::Code;

use crate::{
    lifecycle::{caller::cancel, google::Google, service::Service},
    support::{files::replace, process::eventually},
};

const ANYBODY: &str = "@id(\"anybody\")\npermit (principal, action, resource);\n";
const NOBODY: &str = "@id(\"nobody\")\nforbid (principal, action, resource);\n";

async fn start(google: &Google, policy: &str) -> (tempfile::TempDir, PathBuf, Service) {
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("policy.cedar");
    fs::write(&file, policy).unwrap();
    let service = Service::start_with(google, |command| _ = command.arg("--policy").arg(&file)).await;
    service.ready().await;
    (room, file, service)
}

#[tokio::test]
async fn a_changed_policy_is_taken_up_and_what_was_decided_is_forgotten() {
    let google = Google::start().await;
    let (_room, file, service) = start(&google, ANYBODY).await;
    service.process.stderr.has("the policy is in force").await;
    // sha256sum of the file.
    service.process.stderr.has("policies=1 sha256=\"").await;
    cancel(service.address, 1).await.unwrap();

    replace(&file, NOBODY);
    service.process.stderr.has("the policy changed: taken up").await;
    service.process.stderr.has("the policy permits nothing: every call is denied").await;
    eventually("the same call is denied", async || {
        let code = cancel(service.address, 1).await.err().map(|status| status.code());
        (code == Some(Code::PermissionDenied)).then_some(())
    })
    .await;

    replace(&file, ANYBODY);
    eventually("and permitted again", async || cancel(service.address, 1).await.ok()).await;
}

#[tokio::test]
async fn a_broken_policy_is_reported_once_and_the_old_one_stays() {
    let google = Google::start().await;
    let (_room, file, service) = start(&google, ANYBODY).await;
    for (broken, cause) in [
        ("permit (principal, action", "unexpected end of input"),
        ("permit (principal, action, resource) when { principal.group == \"x\" };", "attribute `group`"),
        (&*"(".repeat(500_000), "nested too deeply"),
    ] {
        replace(&file, broken);
        service.process.stderr.has(cause).await;
        cancel(service.address, 1).await.unwrap();
    }
    replace(&file, NOBODY);
    service.process.stderr.has("the policy changed: taken up").await;
    let log = service.process.stderr.text();
    assert_eq!(
        log.matches("the policy changed and is broken: the old one stays in force").count(),
        3,
        "{log}"
    );
    assert_eq!(cancel(service.address, 1).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_policy_that_cannot_be_evaluated_is_told_once_and_denies_where_it_forbids() {
    let google = Google::start().await;
    let policy = "permit (principal, action, resource);\n\
                  @id(\"overflows\") forbid (principal, action, resource) unless { 9223372036854775807 + 1 > 0 };\n\
                  @id(\"one\") forbid (principal, action, resource == Operation::\"LC01/d1/1\");\n";
    let (_room, _file, service) = start(&google, policy).await;
    // Two operations that the policies can tell apart, so that each is asked about.
    for id in [1, 2] {
        assert_eq!(cancel(service.address, id).await.unwrap_err().code(), Code::PermissionDenied);
    }
    service.process.stderr.has("a policy cannot be evaluated policy=\"overflows\"").await;
    service.process.signal(nix::sys::signal::Signal::SIGTERM);
    let log = service.process.end().await.stderr;
    assert_eq!(log.matches("a policy cannot be evaluated").count(), 1, "{log}");
    assert!(google.seen().authorizations.is_empty());
}
