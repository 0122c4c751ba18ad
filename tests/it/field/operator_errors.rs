//! Errors of the API that the operator must correct.

use std::net::SocketAddr;

use countermand::proto::longrunning::operations_client::OperationsClient;
use countermand_emulator::{Denial, Emulator, Kind, Queries, Settings};
use nix::sys::signal::Signal::SIGTERM;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{Code, transport::Endpoint};

use crate::support::{
    account,
    details::{GOOGLE_DOMAIN, assert_status, error_info},
    process::{Ended, Process, countermand, run},
    reply::Reply,
    service::cancel,
    upstream::Upstream,
};

/// A directory with the configuration `c.toml` of a credential `emea`, which serves `enterprises`.
fn configured(upstream_url: &str, credential_file: &str, enterprises: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key.json"), credential_file).unwrap();
    let config = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"off\"\n[upstream]\nurl = \"{upstream_url}\"\n\
         [[credentials]]\nname = \"emea\"\nfile = \"key.json\"\nenterprises = {enterprises:?}\n"
    );
    std::fs::write(dir.path().join("c.toml"), config).unwrap();
    dir
}

/// A 403 in Google's JSON.
fn denied(message: &str, details: Value, errors: Value) -> Reply {
    let error = json!({"code": 403, "status": "PERMISSION_DENIED", "message": message,
        "details": details, "errors": errors});
    Reply::json(403, &json!({ "error": error }))
}

fn info(reason: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"})
}

/// The responses to some cancels of one `serve`, and its log.
async fn cancels(replies: Vec<Reply>) -> (Vec<tonic::Status>, String) {
    let upstream = Upstream::start().await;
    let count = replies.len();
    upstream.answers(replies);
    let dir = configured(upstream.url(), &account::key_file(&upstream.token_url()), &["*"]);
    let process = Process::start(countermand(&["serve", "--config", "c.toml"]).current_dir(&dir));
    let address = process.stderr.see(|log| {
        let (_, rest) = log.split_once(": listening address=")?;
        rest.lines().next()?.parse::<SocketAddr>().ok()
    });
    let endpoint = Endpoint::from_shared(format!("http://{}", address.await)).unwrap();
    let mut client = OperationsClient::new(endpoint.connect().await.unwrap());
    let mut statuses = Vec::new();
    for id in 0..count {
        let name = format!("enterprises/LC01/devices/d1/operations/{id}");
        statuses.push(cancel(&mut client, &name).await.unwrap_err());
    }
    process.signal(SIGTERM);
    let ended = process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    (statuses, ended.stderr)
}

/// The lines that contain all parts.
fn lines<'l>(log: &'l str, parts: &[&str]) -> Vec<&'l str> {
    log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).collect()
}

/// taylorwilsdon/google_workspace_mcp #126: calls fail because an API is disabled in the project of the credential, and
/// only the log of the server shows it. analogdotnow/Analog #296: likewise for a missing scope, in both forms of
/// Google's reason.
#[tokio::test]
async fn a_403_about_the_credential_is_one_warning_with_a_hint() {
    let scope = json!([{"domain": "global", "reason": "insufficientPermissions"}]);
    let disabled = json!([{"domain": "usageLimits", "reason": "accessNotConfigured"}]);
    let cases = [
        (info("SERVICE_DISABLED"), disabled.clone(), "SERVICE_DISABLED", "enable the Android Management API"),
        (info("ACCESS_TOKEN_SCOPE_INSUFFICIENT"), scope, "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "scope"),
        (info("BILLING_DISABLED"), json!([]), "BILLING_DISABLED", "enable billing"),
        (info("CONSUMER_INVALID"), json!([]), "CONSUMER_INVALID", "project"),
        (info("CONSUMER_SUSPENDED"), json!([]), "CONSUMER_SUSPENDED", "project"),
        (info("API_KEY_SERVICE_BLOCKED"), json!([]), "API_KEY_SERVICE_BLOCKED", "sends no API key"),
        (info("ACCOUNT_STATE_INVALID"), json!([]), "ACCOUNT_STATE_INVALID", "account"),
        (info("USER_PROJECT_DENIED"), json!([]), "USER_PROJECT_DENIED", "quota_project_id"),
        (info("IAM_PERMISSION_DENIED"), json!([]), "IAM_PERMISSION_DENIED", "Android Management User"),
        (json!({}), disabled, "accessNotConfigured", "enable the Android Management API"),
    ];
    let replies = cases.iter().flat_map(|(detail, errors, ..)| {
        std::iter::repeat_n(denied("It is so.", json!([detail]), errors.clone()), 3)
    });
    let (statuses, log) = cancels(replies.collect()).await;
    for status in &statuses {
        // The response to the caller does not change.
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "It is so."), "{status:?}");
    }
    for (_, _, reason, hint) in cases {
        let field = format!(" reason=\"{reason}\"");
        let found = lines(&log, &[&field]);
        let [line] = found[..] else { panic!("{reason}: {found:#?}") };
        let parts =
            ["WARN", "countermand::operations", "credential=\"emea\"", "suppressed=0", hint, "It is so."];
        assert_eq!(lines(line, &parts), [line], "should have {parts:?}");
    }
    assert_eq!(lines(&log, &["Google rejected an upstream call"]), [""; 0]);
}

/// google/android-management-api-samples #4: the API answers 403 without a reason for an enterprise that is not the
/// project's, and a caller can name any enterprise.
#[tokio::test]
async fn a_403_without_a_reason_about_the_credential_stays_an_information() {
    let message = "Caller is not authorized to manage project";
    let forbidden = json!([{"domain": "global", "reason": "forbidden"}]);
    let replies = vec![
        denied(message, json!([]), json!([])),
        denied(message, json!([]), forbidden),
        denied(message, json!([info("NEW")]), json!([])),
    ];
    let (statuses, log) = cancels(replies).await;
    assert_eq!(lines(&log, &["INFO", "Google rejected an upstream call", message]).len(), 3, "{log}");
    assert_eq!(lines(&log, &["WARN"]), [""; 0]);
    let wanted = vec![error_info(GOOGLE_DOMAIN, "PERMISSION_DENIED")];
    assert_status(&statuses[0], Code::PermissionDenied, message, wanted);
}

async fn check(emulator: &Emulator, enterprises: &[&str], flags: &[&str]) -> Ended {
    let key = emulator.credential_file(Kind::ServiceAccount);
    let dir = configured(emulator.url(), key.expose(), enterprises);
    let ended = run(countermand(&["check", "--config", "c.toml"]).args(flags).current_dir(&dir)).await;
    for (name, secret) in emulator.control().secrets() {
        assert!(!ended.stdout.contains(&secret) && !ended.stderr.contains(&secret), "{name}: {ended:?}");
    }
    ended
}

/// schorschii/OCO-Server #71: the first call of the API shows that the service account lacks the role. A token can be
/// fetched without it.
#[tokio::test]
async fn check_online_finds_what_a_token_does_not_show() {
    let emulator = Emulator::start("127.0.0.1:0".parse().unwrap(), Settings::default()).await.unwrap();
    for denial in [
        Denial::ServiceDisabled,
        Denial::AccessTokenScopeInsufficient,
        Denial::BillingDisabled,
        Denial::ConsumerInvalid,
        Denial::ConsumerSuspended,
        Denial::UserProjectDenied,
        Denial::ApiKeyServiceBlocked,
        Denial::AccountStateInvalid,
        Denial::IamPermissionDenied,
    ] {
        emulator.control().set_denial(Some(denial));
        assert_eq!(check(&emulator, &["*"], &[]).await.code, Some(0), "without --online");
        let before = emulator.control().queries();
        let ended = check(&emulator, &["*"], &["--online"]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let found =
            lines(&ended.stderr, &["countermand: credential emea: one query, a get of ", denial.reason()]);
        let [line] = found[..] else { panic!("{ended:?}") };
        assert!(line.contains("; "), "{line} should have a hint");
        let after = emulator.control().queries();
        // The emulator counts the request without a token, for `/`, as one of the metadata server.
        let metadata = before.metadata + 1;
        assert_eq!(after, Queries { get: before.get + 1, token: before.token + 1, metadata, ..before });
    }
}

/// As above, for a credential without an error.
#[tokio::test]
async fn check_online_accepts_a_credential_that_the_api_accepts() {
    let emulator = Emulator::start("127.0.0.1:0".parse().unwrap(), Settings::default()).await.unwrap();
    for (enterprises, enterprise) in [(["LC0*", "LC01"], "LC01"), (["LC0*", "LC1*"], "countermand-check")] {
        let ended = check(&emulator, &enterprises, &["--online"]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let name = format!("enterprises/{enterprise}/devices/countermand-check/operations/countermand-check");
        let line = "credential emea: the API accepts the token (one query, a get of ";
        assert_eq!(lines(&ended.stdout, &[line, &name, "HTTP 404, NOT_FOUND"]).len(), 1, "{ended:?}");
    }
    let ended = check(&emulator, &["*"], &[]).await;
    assert_eq!(lines(&ended.stdout, &["one query"]), [""; 0], "without --online");
}

/// google/android-management-api-samples #4: the enterprise in the configuration is not the project's.
#[tokio::test]
async fn check_online_reports_a_configured_enterprise_that_the_account_may_not_read() {
    for (enterprises, code) in [(["LC01"], 1), (["LC0*"], 0)] {
        let upstream = Upstream::start().await;
        let message = "Caller is not authorized to manage project";
        upstream.always_answers(Reply::plain_error(403, "PERMISSION_DENIED", message));
        let dir = configured(upstream.url(), &account::key_file(&upstream.token_url()), &enterprises);
        let ended = run(countermand(&["check", "--online", "--config", "c.toml"]).current_dir(&dir)).await;
        assert_eq!(ended.code, Some(code), "{ended:?}");
        let output = if code == 0 { &ended.stdout } else { &ended.stderr };
        assert_eq!(
            lines(output, &["credential emea: ", "one query, a get of ", message]).len(),
            1,
            "{ended:?}"
        );
    }
}
