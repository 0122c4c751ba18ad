//! Google errors that contain our token. The token is removed from the error in every encoding.

use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    support::{reply::Reply, service::Setup, upstream::Upstream},
    wire::NAME,
};

/// A token with characters that most encodings escape.
const TOKEN: &str = r#"ya29.c/AbCdEfGhIj+KlMnOpQrSt/UvWxYz"0123456789\ab=="#;

/// The token in the encodings that may occur in a JSON body.
fn encodings() -> Vec<String> {
    let json = |text: &str| Value::from(text).to_string().trim_matches('"').to_owned();
    let percent = utf8_percent_encode(TOKEN, NON_ALPHANUMERIC).to_string();
    vec![
        json(TOKEN),
        json(TOKEN).replace('/', "\\/"),
        json(&json(TOKEN)).replace('/', "\\\\/"),
        TOKEN.bytes().map(|byte| format!("\\u{byte:04x}")).collect(),
        percent.to_lowercase(),
        percent,
        form_urlencoded::byte_serialize(TOKEN.as_bytes()).collect(),
        BASE64_STANDARD.encode(TOKEN),
        BASE64_STANDARD.encode(TOKEN).replace('/', "\\/"),
        BASE64_URL_SAFE_NO_PAD.encode(format!("Bearer {TOKEN}")),
        json(&TOKEN[..TOKEN.len() - 2]),
    ]
}

/// Parts of the token that every encoding keeps, and parts of its base64 form at each of the three alignments.
fn secret_parts() -> Vec<String> {
    let base64 = (0..3).map(|skipped| BASE64_STANDARD.encode(&TOKEN[skipped..][..12]));
    let plain = ["abcdefghij", "klmnopqrst", "uvwxyz", "0123456789"].map(str::to_owned);
    base64.map(|part| part.to_lowercase()).chain(plain).collect()
}

#[tokio::test]
async fn a_token_is_removed_from_message_and_details() {
    let encodings = encodings();
    let upstream = Upstream::start().await;
    upstream.answers_for_tokens([Reply::token(TOKEN)]);
    upstream.answers(encodings.iter().map(|quoted| {
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
    for quoted in &encodings {
        let status = service.cancel(NAME).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "Not with [left out], no."));
        let details = String::from_utf8_lossy(status.details()).to_lowercase();
        for kind in ["errorinfo", "help", "struct"] {
            assert!(details.contains(kind), "{details}");
        }
        assert!(details.matches("[left out]").count() >= 6, "{details}");
        for part in secret_parts() {
            assert!(!details.contains(&part), "{quoted}: {part} in {details}");
        }
    }
}

#[tokio::test]
async fn an_error_without_the_token_is_unchanged() {
    let upstream = Upstream::start().await;
    upstream.answers_for_tokens([Reply::token(TOKEN)]);
    let message = "Not 100% of \\ \u{e9}%20, nor ya29.x.";
    upstream.answers([Reply::error(403, "PERMISSION_DENIED", message, json!([]))]);
    let service = Setup::of(&upstream).start().await;
    assert_eq!(service.cancel(NAME).await.unwrap_err().message(), message);
}
