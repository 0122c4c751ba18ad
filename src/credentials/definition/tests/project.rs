//! The Google project of a credential.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    background::Background,
    credentials::{
        Credential, Definition, Origin,
        testing::{
            Reply, Server, TARGET, UNREACHABLE, authorized_user, external_account, file, load, load_from,
            service_account, surroundings,
        },
    },
};

/// `credential` with these members too.
fn with(mut credential: Value, members: Value) -> Value {
    let Value::Object(members) = members else { panic!("an object") };
    credential.as_object_mut().expect("an object").extend(members);
    credential
}

fn impersonating(email: &str) -> Value {
    let url = format!("{UNREACHABLE}/v1/projects/-/serviceAccounts/{email}:generateAccessToken");
    json!({"service_account_impersonation_url": url})
}

/// An impersonated account, whose source credential has a project of its own.
fn impersonated(email: &str) -> Value {
    let projects = json!({"project_id": "of-source", "quota_project_id": "quota-of-source"});
    let source = with(service_account(UNREACHABLE), projects);
    with(json!({"type": "impersonated_service_account", "source_credentials": source}), impersonating(email))
}

#[test]
fn each_kind_of_file_has_its_project() {
    let account = || service_account(UNREACHABLE);
    let workload = || external_account(UNREACHABLE, "/none".as_ref());
    let scoped = "proxy@my-project.example.com.iam.gserviceaccount.com";
    let id = || json!({"project_id": "of-file"});
    let both = || json!({"project_id": "of-file", "quota_project_id": "quota"});
    let cases = [
        (account(), None, None),
        (with(account(), id()), None, Some("of-file")),
        (with(account(), both()), None, Some("quota")),
        (with(account(), json!({"project_id": "", "quota_project_id": ""})), None, None),
        // No request needs the member, so a value that is no id is no error of the file.
        (with(account(), json!({"project_id": 7})), None, None),
        (with(account(), json!({"project_id": "a b"})), None, None),
        (with(account(), id()), Some(TARGET), Some("p")),
        (with(account(), id()), Some(scoped), Some("example.com:my-project")),
        (with(account(), both()), Some(TARGET), Some("quota")),
        (with(account(), id()), Some("1-compute@developer.gserviceaccount.com"), Some("of-file")),
        (authorized_user(UNREACHABLE), None, None),
        (with(authorized_user(UNREACHABLE), json!({"quota_project_id": "quota"})), None, Some("quota")),
        (authorized_user(UNREACHABLE), Some(TARGET), Some("p")),
        (workload(), None, None),
        (with(workload(), json!({"quota_project_id": "quota"})), None, Some("quota")),
        (with(workload(), impersonating(TARGET)), None, Some("p")),
        (with(workload(), impersonating(scoped)), None, Some("example.com:my-project")),
        (with(with(workload(), impersonating(TARGET)), both()), None, Some("quota")),
        (with(workload(), impersonating("other@q.iam.gserviceaccount.com")), Some(TARGET), Some("p")),
        (impersonated(TARGET), None, Some("p")),
        (with(impersonated(TARGET), both()), None, Some("quota")),
        // The source credential's project is not that of the calls.
        (impersonated("proxy@example.com"), None, None),
        (impersonated("other@q.iam.gserviceaccount.com"), Some(TARGET), Some("p")),
    ];
    for (credential, impersonate, project) in cases {
        let loaded = load(&credential, impersonate).expect("valid");
        assert_eq!(loaded.project().as_deref(), project, "{:?} {impersonate:?}", loaded.kind());
    }
}

#[test]
fn only_an_impersonated_account_of_the_metadata_server_has_a_known_project() {
    let origin = || Origin::MetadataServer { host: "localhost".to_owned() };
    assert_eq!(load_from(origin(), None).expect("valid").project(), None);
    assert_eq!(load_from(origin(), Some(TARGET)).expect("valid").project().as_deref(), Some("p"));
}

#[test]
fn the_setting_wins_over_the_file() {
    let content = with(service_account(UNREACHABLE), json!({"quota_project_id": "quota"}));
    let file = file(&content.to_string());
    let origin = Origin::File(file.path().to_owned());
    let definition = Definition { origin, impersonate: None, project: Some("set".to_owned()) };
    assert_eq!(definition.load().expect("valid").project().as_deref(), Some("set"));
}

/// Waits until `is_met`.
async fn until(what: &str, is_met: impl Fn() -> bool) {
    let met = async {
        while !is_met() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), met).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn the_project_changes_together_with_the_token() {
    let refusal = Reply::new(400, r#"{"error": "invalid_grant"}"#);
    let replies = [Reply::token("ya29.old"), refusal, Reply::token("ya29.new"), Reply::token("ya29.set")];
    let server = Server::start(replies).await;
    let quota = |project: &str| with(authorized_user(&server.url), json!({"quota_project_id": project}));
    let file = file(&quota("old").to_string());
    let definition =
        Definition { origin: Origin::File(file.path().to_owned()), impersonate: None, project: None };
    let (loaded, background) = (definition.load().expect("valid"), Background::unsupervised());
    let credential = Credential::start("test", loaded, &surroundings(UNREACHABLE), &background);
    assert_eq!(credential.project().as_deref(), Some("old"), "before the first token");
    credential.authorization().await.expect("a token");

    std::fs::write(&file, quota("new").to_string()).expect("written");
    until("the new file is refused", || credential.status().changed_file().is_some()).await;
    assert_eq!(credential.project().as_deref(), Some("old"));
    until("the new file is active", || credential.project().as_deref() == Some("new")).await;
    assert_eq!(credential.authorization().await.expect("a token").header(), "Bearer ya29.new");

    let redefined = Definition { project: Some("set".to_owned()), ..definition };
    credential.redefine(redefined.load().expect("valid"));
    until("the setting is active", || credential.project().as_deref() == Some("set")).await;
    assert_eq!(credential.authorization().await.expect("a token").header(), "Bearer ya29.set");
    let shared = credential.project().expect("a project");
    assert!(Arc::ptr_eq(&shared, &credential.project().expect("a project")), "no call allocates");
    server.seen();
}

#[tokio::test]
async fn the_project_changes_at_once_without_a_token() {
    let quota = |project: &str| with(authorized_user(UNREACHABLE), json!({"quota_project_id": project}));
    let file = file(&quota("old").to_string());
    let origin = Origin::File(file.path().to_owned());
    let loaded = load_from(origin, None).expect("valid");
    let background = Background::unsupervised();
    let credential = Credential::start("test", loaded, &surroundings(UNREACHABLE), &background);
    std::fs::write(&file, quota("new").to_string()).expect("written");
    until("the new file is active", || credential.project().as_deref() == Some("new")).await;
}
