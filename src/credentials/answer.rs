//! What a token endpoint answers (RFC 6749, sections 5.1 and 5.2), judged before it is used.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use super::token::FetchError;

/// A word longer than this in an error's description is left out of the log: some endpoints quote the
/// assertion that they refuse.
const LONGEST_WORD: usize = 64;

/// How an assertion begins (base64 of `{"`), and one of Google's access tokens: of these, a part is too much.
const SECRETS: [&str; 2] = ["eyJ", "ya29."];

/// The most of a description that is logged, in characters.
const LONGEST_DESCRIPTION: usize = 300;

/// The lifetime of the token in an answer.
///
/// # Errors
///
/// The answer is not 2xx, is not JSON, or lacks a token or its lifetime.
pub(super) fn check(status: StatusCode, body: &[u8]) -> Result<Duration, FetchError> {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    if !status.is_success() {
        let told = json.as_ref().and_then(describe).map(|told| format!(": {told}")).unwrap_or_default();
        let cause = format!("the token endpoint answered HTTP {}{told}", status.as_u16());
        // Of these two a client that is in order may hear at a bad time.
        let passing = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        let refused = status.is_client_error() && !passing;
        return Err(if refused { FetchError::Refused(cause) } else { FetchError::Unusable(cause) });
    }
    let Some(json) = json else {
        return Err(FetchError::Unusable(
            "the token endpoint answered with something that is not JSON".to_owned(),
        ));
    };
    if json.get("access_token").and_then(Value::as_str).is_none() {
        let told = describe(&json).map(|told| format!(": {told}")).unwrap_or_default();
        return Err(FetchError::Unusable(format!(
            "the token endpoint answered without an access_token{told}"
        )));
    }
    let seconds = json.get("expires_in").and_then(Value::as_u64);
    let seconds = seconds.filter(|seconds| *seconds <= u32::MAX.into()).ok_or_else(|| {
        FetchError::Unusable("the token endpoint answered without a sane expires_in".to_owned())
    })?;
    Ok(Duration::from_secs(seconds))
}

/// The error code and its description: `{"error": "…", "error_description": "…"}`, or Google's own
/// `{"error": {"status": "…", "message": "…"}}`.
fn describe(json: &Value) -> Option<String> {
    let error = json.get("error")?;
    let (code, description) = match error {
        Value::String(code) => (code.as_str(), json.get("error_description")),
        other => (other.get("status")?.as_str()?, other.get("message")),
    };
    let description = description.and_then(Value::as_str).unwrap_or_default();
    Some(format!("{} {}", harmless(code), harmless(description)).trim_end().to_owned())
}

/// A text without control characters, and without words that could be a token or an assertion.
fn harmless(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        let long = word.len() > LONGEST_WORD || word.chars().any(char::is_control);
        let secret = SECRETS.iter().any(|begin| word.contains(begin));
        if long || secret { "[left out]" } else { word }
    });
    let mut line = words.collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(LONGEST_DESCRIPTION) {
        line.truncate(end);
    }
    line
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use super::check;

    fn refusal(status: u16, body: &str) -> String {
        let status = StatusCode::from_u16(status).expect("a status");
        check(status, body.as_bytes()).expect_err("a refusal").to_string()
    }

    #[test]
    fn a_token_with_its_lifetime_is_good() {
        let body = br#"{"access_token":"ya29.a","expires_in":3599,"token_type":"Bearer"}"#;
        assert_eq!(check(StatusCode::OK, body).expect("good"), Duration::from_secs(3599));
    }

    #[test]
    fn what_google_says_of_an_error_is_told() {
        let body = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
        let told = refusal(400, body);
        assert_eq!(told, "the token endpoint answered HTTP 400: invalid_grant Invalid JWT Signature.");
        let body = r#"{"error":{"code":500,"message":"Internal error","status":"INTERNAL"}}"#;
        assert_eq!(refusal(500, body), "the token endpoint answered HTTP 500: INTERNAL Internal error");
        assert_eq!(refusal(503, "<html>secret</html>"), "the token endpoint answered HTTP 503");
    }

    #[test]
    fn an_answer_without_a_sane_token_is_refused() {
        for body in [
            "<html>",
            "{}",
            r#"{"access_token":null,"expires_in":3600}"#,
            r#"{"access_token":"x"}"#,
            r#"{"access_token":"x","expires_in":-1}"#,
            r#"{"access_token":"x","expires_in":9223372036854775807}"#,
            r#"{"error":"invalid_scope"}"#,
        ] {
            assert!(!refusal(200, body).is_empty(), "{body}");
        }
        let token_without_success = r#"{"access_token":"x","expires_in":3600}"#;
        assert_eq!(refusal(500, token_without_success), "the token endpoint answered HTTP 500");
    }

    #[test]
    fn a_quoted_assertion_is_left_out() {
        let assertion = format!("eyJ{}", "x".repeat(200));
        let told =
            refusal(400, &format!(r#"{{"error":"invalid_grant","error_description":"bad {assertion}"}}"#));
        assert_eq!(told, "the token endpoint answered HTTP 400: invalid_grant bad [left out]");
        let told = refusal(400, r#"{"error":"invalid_grant","error_description":"of (eyJhbGciOi…) ya29.a"}"#);
        assert_eq!(told, "the token endpoint answered HTTP 400: invalid_grant of [left out] [left out]");
    }
}
