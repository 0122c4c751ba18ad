//! Several credentials in one service: one that fails does not affect the others.

use std::{fs, path::PathBuf};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};

use crate::{
    lifecycle::{
        caller::{Watcher, cancel_by, connect},
        google::{Google, Token},
        key::{ACCOUNT, Key},
        service::Service,
    },
    support::process::eventually,
};

/// A service with one credential per name. Each serves the enterprise of its name, with tokens of its fake Google.
/// Calls go to `api`.
async fn routed(api: &Google, list: &[(&str, &Google)]) -> Service {
    Service::start_with(api, |command| {
        let dir = command.as_std().get_current_dir().unwrap().to_owned();
        let mut sections = String::new();
        for (name, google) in list {
            fs::write(dir.join(format!("{name}.json")), Key::generate().file(&google.token_url())).unwrap();
            let section = "[[credentials]]\nname = \"@\"\nfile = \"@.json\"\nenterprises = [\"@*\"]\n";
            sections += &section.replace('@', name);
        }
        fs::write(dir.join("named.toml"), sections).unwrap();
        command.args(["--config", "named.toml"]).env_remove("COUNTERMAND_CREDENTIALS");
    })
    .await
}

async fn cancel_in(service: &Service, enterprise: &str) -> Result<(), Status> {
    let channel = connect(service.address).await.unwrap();
    cancel_by(channel, format!("enterprises/{enterprise}/devices/d1/operations/17")).await
}

fn file_of(service: &Service, name: &str) -> PathBuf {
    service.key_file().with_file_name(format!("{name}.json"))
}

#[tokio::test]
async fn the_service_is_ready_once_no_credential_is_starting() {
    let (good, refused, hanging) = (Google::start().await, Google::start().await, Google::start().await);
    let revoked = r#"{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}"#;
    refused.answer_token(Token::Other(400, revoked));
    hanging.answer_token(Token::Held);
    let list = [("good", &good), ("revoked", &refused), ("slow", &hanging)];
    let service = routed(&good, &list).await;

    // Calls do not wait for the other credentials, although the service is not ready yet.
    cancel_in(&service, "good").await.unwrap();
    let revoked = "credential revoked: no valid token: the token endpoint answered HTTP 400";
    service.not_ready(&["credential good: valid for ", revoked, "credential slow: the first token"]).await;
    let mut watcher = Watcher::of(service.address, "").await;
    assert_eq!(watcher.next().await, Some(NotServing));

    // The first fetch of the slow credential times out after ten seconds.
    assert_eq!(watcher.next().await, Some(Serving));
    let (status, page) = service.get("/readyz").await;
    assert_eq!(status, 200, "{page}");
    for part in ["ready\n", "credential good: valid for ", revoked, "; to be mended)", "credential slow: no "]
    {
        assert!(page.contains(part), "{page}\nexpected: {part}");
    }
    for enterprise in ["revoked", "slow"] {
        let refusal = cancel_in(&service, enterprise).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unavailable, "{refusal:?}");
    }
    assert_eq!(good.seen().authorizations.len(), 1, "only calls with the good credential are sent");

    // A credential that failed at start is still retried.
    hanging.answer_token(Token::Granted(3600));
    eventually("the slow one is served", async || cancel_in(&service, "slow").await.ok()).await;
    let log = service.process.stderr.text();
    let count =
        |line: &str| log.lines().filter(|l| l.contains(line) && l.contains("credential=\"revoked\"")).count();
    assert!(count("no token could be fetched") > 1, "the fetch is repeated");
    assert_eq!(count("are refused as UNAVAILABLE"), 1, "{log}");
}

#[tokio::test]
async fn readyz_is_json_for_a_client_that_accepts_json() {
    let (good, refused) = (Google::start().await, Google::start().await);
    refused.answer_token(Token::Other(403, "<html>"));
    let service = routed(&good, &[("good", &good), ("revoked", &refused)]).await;
    service.ready().await;
    let (status, page) = service.get_as("/readyz", "application/json").await;
    assert_eq!(status, 200);
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!((&page["ready"], &page["draining"]), (&Value::from(true), &Value::from(false)));
    let [good, revoked] = &page["credentials"].as_array().unwrap()[..] else { panic!("{page}") };
    assert_eq!((&good["name"], &good["state"]), (&Value::from("good"), &Value::from("valid")));
    assert!((3000..=3600).contains(&good["valid_for_s"].as_u64().unwrap()), "{page}");
    assert_eq!((&revoked["state"], &revoked["permanent"]), (&Value::from("without"), &Value::from(true)));
    assert!(revoked["cause"].as_str().unwrap().contains("HTTP 403"), "{page}");
    assert!(revoked["without_for_s"].is_u64(), "{page}");
}

#[tokio::test]
async fn a_changed_key_affects_no_other_credential() {
    let (one, other) = (Google::start().await, Google::start().await);
    let service = routed(&one, &[("one", &one), ("other", &other)]).await;
    service.ready().await;
    let next = Key::generate();
    fs::write(file_of(&service, "one"), next.file(&one.token_url())).unwrap();
    one.saw(|seen| seen.tokens.len() == 2).await;
    assert!(next.signed(one.seen().assertions.last().unwrap()));
    fs::write(file_of(&service, "other"), "{").unwrap();
    service.process.stderr.has("is broken: the old one stays in use").await;

    assert_eq!(service.get("/readyz").await.0, 200);
    cancel_in(&service, "other").await.unwrap();
    assert_eq!(one.seen().authorizations, [format!("Bearer {}", other.seen().tokens[0])]);
    assert_eq!((one.seen().assertions.len(), other.seen().assertions.len()), (2, 1));
    cancel_in(&service, "one").await.unwrap();
}

#[tokio::test]
async fn the_assertion_has_the_claims_of_rfc_7523_and_no_subject() {
    let google = Google::start().await;
    let service = Service::start(&google).await;
    service.ready().await;
    let [assertion] = &google.seen().assertions[..] else { panic!("one request") };
    assert!(service.key.signed(assertion));
    let [header, claims, _] = &assertion.split('.').collect::<Vec<_>>()[..] else { panic!("{assertion}") };
    let json = |part: &str| -> Value {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    assert_eq!(json(header), json!({"alg": "RS256", "typ": "JWT"}));
    let claims = json(claims);
    let mut names: Vec<_> = claims.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["aud", "exp", "iat", "iss", "scope"], "`sub` is absent, not null");
    let seconds = |claim: &str| claims[claim].as_i64().unwrap();
    assert!((0..=3600).contains(&(seconds("exp") - seconds("iat"))), "{claims}");
    assert_eq!((&claims["iss"], &claims["aud"]), (&Value::from(ACCOUNT), &Value::from(google.token_url())));
}
