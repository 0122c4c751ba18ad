//! SIGHUP: the reload of the configuration file.

use std::{fs, path::Path};

use nix::sys::signal::Signal::SIGHUP;
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::{
    lifecycle::{
        caller::{cancel, cancel_by, connect},
        google::{Google, Token},
        key::Key,
        service::Service,
    },
    support::{files::replace, http_page, process::eventually},
};

/// A service with a configuration file.
struct Reloading {
    dir: TempDir,
    service: Service,
}

impl Reloading {
    /// Starts the service with `sections` beside a credential `emea` for `LC01`, and an audit log in a file.
    async fn start(google: &Google, sections: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("permit.cedar"), "permit (principal, action, resource);").unwrap();
        fs::write(dir.path().join("forbid.cedar"), "forbid (principal, action, resource);").unwrap();
        let file = dir.path().join("countermand.toml");
        fs::write(&file, "").unwrap();
        let service = Service::start_with(google, |command| {
            let key = command.as_std().get_current_dir().unwrap().join("key.json");
            fs::copy(key, dir.path().join("key.json")).unwrap();
            fs::write(&file, configuration(sections)).unwrap();
            command.env_remove("COUNTERMAND_CREDENTIALS").arg("--config").arg(&file);
        })
        .await;
        service.ready().await;
        Self { dir, service }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Replaces the configuration file, and waits for the outcome of its reload.
    async fn reload(&self, sections: &str, outcome: &str) {
        self.reload_file(&configuration(sections), outcome).await;
    }

    /// As [`Self::reload`], with the whole file.
    async fn reload_file(&self, content: &str, outcome: &str) {
        let before = self.service.process.stderr.text().len();
        replace(&self.path().join("countermand.toml"), content);
        self.service.process.signal(SIGHUP);
        self.service.process.stderr.see(|log| log[before..].contains(outcome).then_some(())).await;
    }

    async fn cancel(&self) -> Result<(), Status> {
        cancel(self.service.address, 1).await
    }
}

fn configuration(sections: &str) -> String {
    format!(
        "{sections}\n[audit]\nfile = \"audit.jsonl\"\n\
         [[credentials]]\nname = \"emea\"\nfile = \"key.json\"\nenterprises = [\"LC01*\"]\n"
    )
}

#[tokio::test]
async fn a_changed_policy_setting_is_applied() {
    let google = Google::start().await;
    let running = Reloading::start(&google, "").await;
    running.cancel().await.unwrap();

    let forbid = "[policy]\nfile = \"forbid.cedar\"";
    running.reload(forbid, "reloaded the configuration applied=\"policy.file\"").await;
    assert_eq!(running.cancel().await.unwrap_err().code(), Code::PermissionDenied);

    let shadow = "[policy]\nfile = \"forbid.cedar\"\nmode = \"shadow\"";
    running.reload(shadow, "reloaded the configuration applied=\"policy.mode\"").await;
    running.cancel().await.unwrap();

    running.reload("[policy]\nfile = \"permit.cedar\"", "applied=\"policy.file, policy.mode\"").await;
    running.cancel().await.unwrap();
    // The file of the policy before is no longer watched, and that of the new one is.
    replace(&running.path().join("forbid.cedar"), "permit (principal, action, resource); // changed");
    replace(&running.path().join("permit.cedar"), "forbid (principal, action, resource);");
    eventually("the call is denied", async || {
        (running.cancel().await.err()?.code() == Code::PermissionDenied).then_some(())
    })
    .await;

    running.reload("", "applied=\"policy.file\"").await;
    running.cancel().await.unwrap();
}

#[tokio::test]
async fn a_configuration_with_errors_is_reported_whole_and_the_old_one_stays() {
    let google = Google::start().await;
    let running = Reloading::start(&google, "[policy]\nfile = \"forbid.cedar\"").await;
    let audit_log = running.path().join("audit.jsonl");
    fs::rename(&audit_log, running.path().join("audit.jsonl.1")).unwrap();
    let invalid = "[policy]\nfile = \"none.cedar\"\n[polling]\nmin_interval = \"soon\"";
    running.reload(invalid, "failed to reload the configuration; the old one stays active errors=2").await;
    running.service.process.stderr.has("error=policy.file (line 2): cannot read").await;
    running.service.process.stderr.has("error=polling.min_interval (line 4): this is not a duration").await;
    assert_eq!(running.cancel().await.unwrap_err().code(), Code::PermissionDenied);
    // The audit log was reopened all the same.
    eventually("a line in the new file", async || {
        fs::read_to_string(&audit_log).ok().filter(|log| log.contains("PERMISSION_DENIED"))
    })
    .await;

    running.reload("", "reloaded the configuration applied=\"policy.file\"").await;
    running.cancel().await.unwrap();
}

#[tokio::test]
async fn settings_that_need_a_restart_are_named_and_keep_their_values() {
    let google = Google::start().await;
    let running = Reloading::start(&google, "[server]\ndrain_timeout = \"5s\"").await;
    let changed = "[server]\ndrain_timeout = \"6s\"\nmax_concurrent_calls = 7\n[polling]\nmax_wait = \"1m\"";
    let outcome = "reloaded the configuration; some settings need a restart \
                   applied=\"server.drain_timeout\" needs_restart=\"polling.max_wait, server.max_concurrent_calls\"";
    running.reload(changed, outcome).await;
    // The values before are still in effect, so the same file is reported again.
    let outcome = "some settings need a restart applied=\"\" \
                   needs_restart=\"polling.max_wait, server.max_concurrent_calls\"";
    running.reload(changed, outcome).await;
}

#[tokio::test]
async fn a_policy_stays_while_the_listeners_need_a_restart() {
    let google = Google::start().await;
    let running = Reloading::start(&google, "[policy]\nfile = \"forbid.cedar\"").await;
    // TLS would protect the new listeners, and the old ones are still open.
    let authority = crate::support::tls::Authority::new();
    authority.server().write(&running.path().join("tls.crt"), &running.path().join("tls.key"));
    let changed = "[server.tls]\ncertificate = \"tls.crt\"\nprivate_key = \"tls.key\"";
    running
        .reload(changed, "needs_restart=\"policy.file, server.tls.certificate, server.tls.private_key\"")
        .await;
    assert_eq!(running.cancel().await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn credentials_are_added_and_removed_and_unchanged_ones_keep_their_token() {
    let google = Google::start().await;
    let running = Reloading::start(&google, "").await;
    let cancel_in = async |enterprise: &str| {
        let channel = connect(running.service.address).await.unwrap();
        cancel_by(channel, format!("enterprises/{enterprise}/devices/d1/operations/1")).await
    };
    assert_eq!(cancel_in("LC02").await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(google.seen().assertions.len(), 1);

    let apac = "[[credentials]]\nname = \"apac\"\nfile = \"key.json\"\nenterprises = [\"LC02*\"]";
    // The new credential has no token at first, and the service stays ready.
    google.answer_token(Token::Held);
    running.reload(apac, "reloaded the configuration applied=\"credentials\"").await;
    assert_eq!(running.service.get("/readyz").await.0, 200);
    cancel_in("LC01").await.unwrap();
    google.answer_token(Token::Granted(3600));
    cancel_in("LC02").await.unwrap();
    assert_eq!(google.seen().assertions.len(), 2, "the first credential keeps its token");

    running.reload("", "reloaded the configuration applied=\"credentials\"").await;
    assert_eq!(cancel_in("LC02").await.unwrap_err().code(), Code::FailedPrecondition);
    cancel_in("LC01").await.unwrap();
    assert_eq!(google.seen().assertions.len(), 2);
    assert!(!running.service.get("/readyz").await.1.contains("apac"));

    // The removed credential ended, and the service goes on.
    running.reload(apac, "reloaded the configuration applied=\"credentials\"").await;
    cancel_in("LC02").await.unwrap();
    running.reload("", "reloaded the configuration applied=\"credentials\"").await;
    cancel_in("LC01").await.unwrap();
    assert_eq!(running.service.get("/readyz").await.0, 200);
}

/// Two credentials with their files and enterprises.
fn two_credentials([first, second]: [(&str, &str); 2]) -> String {
    let section = |name, (file, enterprises)| {
        format!("[[credentials]]\nname = \"{name}\"\nfile = \"{file}\"\n{enterprises}\n")
    };
    format!("[audit]\nfile = \"audit.jsonl\"\n{}{}", section("emea", first), section("rest", second))
}

#[tokio::test]
async fn an_enterprise_moves_to_another_credential() {
    let google = Google::start().await;
    let running = Reloading::start(&google, "").await;
    let (only, all) = ("enterprises = [\"LC01*\"]", "");
    for (emea, rest) in [(only, all), (all, only)] {
        let file = two_credentials([("key.json", emea), ("key.json", rest)]);
        running.reload_file(&file, "applied=\"credentials\"").await;
        running.cancel().await.unwrap();
    }
    let log = fs::read_to_string(running.path().join("audit.jsonl")).unwrap();
    let used: Vec<_> = log.lines().map(|line| line.contains("\"credential\":\"emea\"")).collect();
    assert_eq!(used, [true, false], "{log}");
}

#[tokio::test]
async fn the_token_before_stays_until_the_new_definition_of_a_credential_gives_one() {
    let google = Google::start().await;
    let running = Reloading::start(&google, "").await;
    fs::write(running.path().join("new.json"), Key::generate().file(&google.token_url())).unwrap();
    google.answer_token(Token::Other(400, r#"{"error": "invalid_grant", "error_description": "no key"}"#));
    let changed = configuration("").replace("key.json", "new.json");
    running.reload_file(&changed, "applied=\"credentials\"").await;
    running.service.process.stderr.has("gives no token: the one before stays in use").await;
    let (status, page) = running.service.get("/readyz").await;
    assert!(status == 200 && page.contains("no key"), "{page}");
    running.cancel().await.unwrap();

    google.answer_token(Token::Granted(3600));
    running.service.process.stderr.has("the credential's file changed: reloaded").await;
    running.cancel().await.unwrap();
    let seen = google.seen();
    assert_eq!(
        seen.authorizations.last(),
        seen.tokens.last().map(|token| format!("Bearer {token}")).as_ref()
    );
}

#[tokio::test]
async fn a_reload_that_removes_the_only_valid_credential_ends_the_readiness() {
    let google = Google::start().await;
    let running = Reloading::start(&google, "").await;
    google.answer_token(Token::Other(400, r#"{"error": "invalid_grant"}"#));
    let all = "enterprises = [\"*\"]";
    let both = two_credentials([("key.json", "enterprises = [\"LC01*\"]"), ("key.json", all)]);
    running.reload_file(&both, "applied=\"credentials\"").await;
    running.service.process.stderr.has("no valid token: calls to the enterprises").await;
    assert_eq!(running.service.get("/readyz").await.0, 200);
    let (_, rest) = both.split_once("[[credentials]]\nname = \"rest\"").unwrap();
    let rest = format!("[audit]\nfile = \"audit.jsonl\"\n[[credentials]]\nname = \"rest\"{rest}");
    running.reload_file(&rest, "applied=\"credentials\"").await;
    running.service.not_ready(&["rest"]).await;
}

#[tokio::test]
async fn a_policy_waits_for_the_settings_of_callers_that_need_a_restart() {
    let google = Google::start().await;
    let running = Reloading::start(&google, "[policy]\nfile = \"permit.cedar\"").await;
    for section in ["[callers]\nlinkerd_client_id = true", "[server]\nunix_socket_mode = \"0660\""] {
        let changed = format!("[policy]\nfile = \"forbid.cedar\"\n{section}");
        running.reload(&changed, "policy.file").await;
        running.service.process.stderr.has("some settings need a restart applied=\"\"").await;
        running.cancel().await.unwrap();
    }
}

#[tokio::test]
async fn changed_quotas_are_applied_without_a_restart() {
    let google = Google::start().await;
    let running = Reloading::start(&google, "[[quota]]\nproject = \"p\"\nlimit = 100").await;
    assert_eq!(
        quota_settings(&running).await,
        [
            "quota[1].project = p (line 2)",
            "quota[1].limit = 100 (line 3)",
            "quota[1].period = 60s (default)",
            "quota[1].mode = enforce (default)",
        ]
    );
    let changed = "[[quota]]\nlimit = 300\n[[quota]]\nproject = \"p\"\nlimit = 200\nmode = \"shadow\"";
    running.reload(changed, "reloaded the configuration applied=\"quota\"").await;
    assert_eq!(
        quota_settings(&running).await,
        [
            "quota[1].limit = 300 (line 2)",
            "quota[1].period = 60s (default)",
            "quota[1].mode = enforce (default)",
            "quota[2].project = p (line 4)",
            "quota[2].limit = 200 (line 5)",
            "quota[2].period = 60s (default)",
            "quota[2].mode = shadow (line 6)",
        ]
    );
    running.cancel().await.unwrap();

    running.reload("[[quota]]\nburst = 600", "failed to reload the configuration").await;
    running.service.process.stderr.has("error=quota.burst (line 2): a burst of 600 leaves nothing").await;
    assert_eq!(quota_settings(&running).await.len(), 7);

    let shared = format!("{changed}\n[quota_shared]\nurl = \"redis://127.0.0.1:1\"\nreplicas = 2");
    let outcome =
        "some settings need a restart applied=\"\" needs_restart=\"quota_shared.replicas, quota_shared.url\"";
    running.reload(&shared, outcome).await;
    assert_eq!(quota_settings(&running).await.len(), 7);

    let none = "[server]\ndrain_timeout = \"5s\"\n[policy]\nfile = \"permit.cedar\"";
    running.reload(none, "applied=\"policy.file, quota, server.drain_timeout\"").await;
    assert!(quota_settings(&running).await.is_empty());
    running.cancel().await.unwrap();
}

/// The settings of the quota that `/statusz.json` shows, with their sources.
async fn quota_settings(running: &Reloading) -> Vec<String> {
    let host = [("host", "localhost")];
    let (_, _, page) = http_page::send(running.service.admin, "GET", "/statusz.json", &host, "").await;
    let status: serde_json::Value = serde_json::from_str(&page).unwrap();
    let settings = status["configuration"].as_array().unwrap().iter();
    let line = |setting: &serde_json::Value| {
        let [key, value, source] = ["key", "value", "source"].map(|member| setting[member].as_str().unwrap());
        format!("{key} = {value} ({source})")
    };
    settings.map(line).filter(|line| line.starts_with("quota")).collect()
}
