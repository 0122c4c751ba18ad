//! Errors of Google that quote our token: the caller gets them without it.

use serde_json::{Value, json};
use tonic::Code;

use crate::{
    support::{reply::Reply, service::Setup, upstream::Upstream},
    wire::NAME,
};

const TOKEN: &str = "ya29.c/AbCdEfGhIj+KlMnOpQrSt/UvWxYz-0123456789_ab==";

/// The token as the text of a JSON response may quote it.
fn quotations() -> Vec<String> {
    let whole = TOKEN.to_owned();
    vec![whole.replace('/', "\\/"), TOKEN[..20].to_owned(), TOKEN[30..].to_owned(), whole]
}

/// Parts of the token that no response may hold.
const PARTS: [&str; 4] = ["abcdefghij", "klmnopqrst", "uvwxyz", "0123456789"];

#[tokio::test]
async fn a_token_is_removed_from_message_and_details() {
    let quotations = quotations();
    let upstream = Upstream::start().await;
    upstream.answers_for_tokens([Reply::token(TOKEN)]);
    upstream.answers(quotations.iter().map(|quoted| {
        let detail = r#""@type": "type.googleapis.com/google.rpc"#;
        let body = format!(
            r#"{{"error": {{"code": 403, "status": "PERMISSION_DENIED", "message": "Not with {quoted}, no.",
            "errors": [{{"reason": "{quoted}"}}], "details": [
            {{{detail}.ErrorInfo", "reason": "R{quoted}", "domain": "d", "metadata": {{"k": "{quoted}", "{quoted}": "v"}}}},
            {{{detail}.Help", "links": [{{"description": "at", "url": "https://h/?t={quoted}"}}]}},
            {{"@type": "type.example/Unknown", "deep": [{{"{quoted}": ["{quoted}"]}}]}}]}}}}"#
        );
        assert!(serde_json::from_str::<Value>(&body).is_ok(), "{body}");
        Reply::new(403, "application/json", body)
    }));
    let service = Setup::of(&upstream).start().await;
    for quoted in &quotations {
        let status = service.cancel(NAME).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "Not with [left out], no."));
        let details = String::from_utf8_lossy(status.details()).to_lowercase();
        for kind in ["errorinfo", "help", "struct"] {
            assert!(details.contains(kind), "{details}");
        }
        assert!(details.matches("[left out]").count() >= 6, "{details}");
        for part in PARTS {
            assert!(!details.contains(part), "{quoted}: {part} in {details}");
        }
    }
}

#[tokio::test]
async fn a_text_without_the_token_is_unchanged() {
    let upstream = Upstream::start().await;
    upstream.answers_for_tokens([Reply::token(TOKEN)]);
    let message = "Not 100% of \\ \u{e9}%20, nor ya29.x.";
    upstream.answers([Reply::error(403, "PERMISSION_DENIED", message, json!([]))]);
    let service = Setup::of(&upstream).start().await;
    assert_eq!(service.cancel(NAME).await.unwrap_err().message(), message);
}
