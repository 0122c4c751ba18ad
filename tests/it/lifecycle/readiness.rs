//! Health and `/readyz` before, during and after the lifetime of a token.

use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};

use crate::lifecycle::{
    caller::{Watcher, cancel, health},
    google::{Google, Token},
    service::Service,
};

const OPERATIONS: &str = "google.longrunning.Operations";

#[tokio::test]
async fn health_is_not_serving_until_the_first_token_arrives() {
    let google = Google::start().await;
    google.answer_token(Token::Held);
    let service = Service::start(&google).await;

    assert_eq!(service.get("/livez").await.0, 200, "alive, though not ready");
    service.not_ready(&["credential default: the first token has not arrived yet"]).await;
    assert_eq!(health(service.address, "").await.unwrap(), NotServing);
    assert_eq!(health(service.address, OPERATIONS).await.unwrap(), NotServing);
    let mut watchers =
        [Watcher::of(service.address, "").await, Watcher::of(service.address, OPERATIONS).await];
    for watcher in &mut watchers {
        assert_eq!(watcher.next().await, Some(NotServing));
    }

    google.answer_token(Token::Granted(3600));
    for watcher in &mut watchers {
        assert_eq!(watcher.next().await, Some(Serving));
    }
    let (status, page) = service.get("/readyz").await;
    assert_eq!(status, 200, "{page}");
    assert!(page.starts_with("ready\ncredential default: valid for "), "{page}");
    assert_eq!(health(service.address, OPERATIONS).await.unwrap(), Serving);
    cancel(service.address, 1).await.unwrap();
}

#[tokio::test]
async fn a_refused_fetch_is_on_readyz_and_is_retried() {
    let google = Google::start().await;
    let refused = r#"{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}"#;
    google.answer_token(Token::Other(400, refused));
    let service = Service::start_with(&google, |command| {
        let file = command.as_std().get_current_dir().unwrap().join("named.toml");
        std::fs::write(file, "[[credentials]]\nname = \"emea\"\nfile = \"key.json\"\n").unwrap();
        command.args(["--config", "named.toml"]).env_remove("COUNTERMAND_CREDENTIALS");
    })
    .await;

    service.not_ready(&["credential emea: ", "HTTP 400: invalid_grant Invalid JWT Signature."]).await;
    assert_eq!(service.get("/livez").await.0, 200);
    let mut watcher = Watcher::of(service.address, "").await;
    assert_eq!(watcher.next().await, Some(NotServing));

    google.answer_token(Token::Granted(3600));
    assert_eq!(watcher.next().await, Some(Serving));
    service.ready().await;
}

#[tokio::test]
async fn readiness_ends_with_the_token_and_returns_with_the_next() {
    let google = Google::start().await;
    google.answer_token(Token::Granted(5));
    let service = Service::start(&google).await;
    let mut watcher = Watcher::of(service.address, "").await;
    watcher.serving().await;
    google.answer_token(Token::Other(503, "<html>"));

    assert_eq!(watcher.next().await, Some(NotServing));
    service.not_ready(&["credential default: no valid token: the token endpoint answered HTTP 503"]).await;
    let refused = cancel(service.address, 1).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(google.seen().authorizations.is_empty(), "no call is sent without a token");

    google.answer_token(Token::Granted(3600));
    assert_eq!(watcher.next().await, Some(Serving));
    service.ready().await;
    cancel(service.address, 2).await.unwrap();
}
