use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header::DATE};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::credentials::{
    request::TokenResponse,
    token::{FetchError, TokenService},
};

const HOUR: Duration = Duration::from_secs(3600);

fn response(status: u16, body: &str) -> TokenResponse {
    TokenResponse {
        service: TokenService::TokenEndpoint,
        name: "the token endpoint".into(),
        status: StatusCode::from_u16(status).expect("a status"),
        headers: HeaderMap::new(),
        body: body.as_bytes().to_vec(),
        secrets: vec!["1//refresh".to_owned().into()],
    }
}

fn refusal(status: u16, body: &str) -> String {
    response(status, body).granted(0).expect_err("a refusal").to_string()
}

#[test]
fn a_token_has_the_lifetime_of_the_response() {
    let token =
        response(200, r#"{"access_token":"ya29.a","expires_in":3599,"token_type":"Bearer"}"#).granted(0);
    assert_eq!(token.expect("good").lifetime(), Duration::from_secs(3599));
}

#[test]
fn a_token_needs_no_type() {
    for beside in ["", r#","token_type":null"#, r#","token_type":"bearer""#] {
        let body = format!(r#"{{"access_token":"ya29.a","expires_in":3599{beside}}}"#);
        assert!(response(200, &body).granted(0).is_ok(), "{body}");
    }
}

#[test]
fn the_description_of_an_error_is_repeated() {
    let body = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
    let error = refusal(400, body);
    assert_eq!(error, "the token endpoint answered HTTP 400: invalid_grant Invalid JWT Signature.");
    let body = r#"{"error":{"code":500,"message":"Internal error","status":"INTERNAL"}}"#;
    assert_eq!(refusal(500, body), "the token endpoint answered HTTP 500: INTERNAL Internal error");
    assert_eq!(refusal(503, "<html>secret</html>"), "the token endpoint answered HTTP 503");
}

#[test]
fn a_response_without_a_valid_token_is_refused() {
    for (body, expected) in [
        ("<html>", "answered with something that is not JSON"),
        ("[]", "answered without an access_token"),
        ("{}", "answered without an access_token"),
        (r#"{"access_token":null,"expires_in":3600}"#, "answered without an access_token"),
        (r#"{"access_token":"","expires_in":3600}"#, ": the token is empty"),
        (r#"{"access_token":"a\nb","expires_in":3600}"#, ": the token is empty, or has characters"),
        (r#"{"access_token":"x"}"#, "answered without a sane expires_in"),
        (r#"{"access_token":"x","expires_in":-1}"#, "answered without a sane expires_in"),
        (r#"{"access_token":"x","expires_in":0}"#, ": the token has a lifetime of 0 s"),
        (r#"{"access_token":"x","expires_in":9223372036854775807}"#, "answered without a sane expires_in"),
        (r#"{"access_token":"x","expires_in":3600,"token_type":"mac"}"#, "that is no bearer token"),
        (r#"{"access_token":"x","expires_in":3600,"token_type":7}"#, "that is no bearer token"),
        (r#"{"error":"invalid_scope"}"#, "answered without an access_token: invalid_scope"),
        (
            r#"{"access_token":"x","expires_in":3600,"error":"invalid_scope"}"#,
            "answered a token and an error: invalid_scope",
        ),
    ] {
        let error = refusal(200, body);
        assert!(error.contains(expected), "{body}: {error}");
    }
    let token_without_success = r#"{"access_token":"x","expires_in":3600}"#;
    assert_eq!(refusal(500, token_without_success), "the token endpoint answered HTTP 500");
    assert_eq!(refusal(302, token_without_success), "the token endpoint answered HTTP 302");
}

#[test]
fn only_a_permanent_error_is_a_refusal() {
    let is_permanent =
        |status, body| response(status, body).granted(0).expect_err("a refusal").is_permanent();
    for (status, body) in [
        (400, r#"{"error":"invalid_grant"}"#),
        (401, r#"{"error":"invalid_client"}"#),
        (403, r#"{"error":{"code":403,"message":"Permission denied.","status":"PERMISSION_DENIED"}}"#),
        (404, r#"{"error":{"code":404,"message":"Unknown service account","status":"NOT_FOUND"}}"#),
        (403, "<html>"),
    ] {
        assert!(is_permanent(status, body), "{status} {body}");
    }
    for (status, body) in [
        (200, "{}"),
        (302, ""),
        (408, ""),
        (429, r#"{"error":{"status":"RESOURCE_EXHAUSTED"}}"#),
        (400, r#"{"error":"internal_failure"}"#),
        (400, r#"{"error":"temporarily_unavailable"}"#),
        (403, r#"{"error":"rate_limit_exceeded"}"#),
        (403, r#"{"error":{"code":403,"message":"Quota","status":"RESOURCE_EXHAUSTED"}}"#),
        (503, r#"{"error":"invalid_grant"}"#),
    ] {
        assert!(!is_permanent(status, body), "{status} {body}");
    }
}

#[test]
fn a_quoted_secret_is_removed() {
    let assertion = format!("eyJ{}", "x".repeat(200));
    let error =
        refusal(400, &format!(r#"{{"error":"invalid_grant","error_description":"bad {assertion}"}}"#));
    assert_eq!(error, "the token endpoint answered HTTP 400: invalid_grant bad [left out]");
    let error = refusal(400, r#"{"error":"invalid_grant","error_description":"of (eyJhbGciOi…) ya29.a"}"#);
    assert_eq!(error, "the token endpoint answered HTTP 400: invalid_grant of [left out] [left out]");
    let error = refusal(400, r#"{"error":"invalid_grant","error_description":"Bad '1//refresh'"}"#);
    assert_eq!(error, "the token endpoint answered HTTP 400: invalid_grant Bad '[left out]'");
}

#[test]
fn a_word_that_could_be_another_secret_is_removed() {
    for (description, expected) in [
        ("key=AIzaSyA-1234567890abcdefghijklmnopqrs in use", "[left out] in use"),
        ("got MIIEvQIBADANBgkqhkiG9w0BAQEFAASC here", "got MIIEvQIBADANBgkqhkiG9w0BAQEFAASC here"),
        ("got MIIEvQIBADANBgkqhkiG9w0BAQEFAASCB here", "got [left out] here"),
        (
            "Permission 'iam.serviceAccounts.getAccessToken' denied",
            "Permission 'iam.serviceAccounts.getAccessToken' denied",
        ),
        (
            "of robot@some-project-of-ours.iam.gserviceaccount.com",
            "of robot@some-project-of-ours.iam.gserviceaccount.com",
        ),
    ] {
        let body =
            serde_json::json!({"error": "invalid_grant", "error_description": description}).to_string();
        assert_eq!(
            refusal(400, &body),
            format!("the token endpoint answered HTTP 400: invalid_grant {expected}")
        );
    }
}

/// The part of the error text that quotes `description`.
fn quoted(description: &str) -> String {
    let body = serde_json::json!({"error": "invalid_grant", "error_description": description}).to_string();
    let error = refusal(400, &body);
    error.strip_prefix("the token endpoint answered HTTP 400: invalid_grant ").expect("the prefix").to_owned()
}

#[test]
fn a_long_name_that_an_operator_needs_stays() {
    for description in [
        "Enable it by visiting https://console.developers.google.com/apis/api/iamcredentials.googleapis.com/\
         overview?project=123456789012 then retry.",
        "Permission 'iam.serviceAccounts.getAccessToken' denied on resource //iam.googleapis.com/projects/-/\
         serviceAccounts/countermand-proxy-emea-prod@mdm-operations-production-eu.iam.gserviceaccount.com (or it may \
         not exist).",
        "denied on projects/-/serviceAccounts/countermand-proxy@mdm-operations-production.iam.gserviceaccount.com.",
        "Gaia id not found for email countermand-proxy-emea-prod@mdm-operations-production-eu.iam.\
         gserviceaccount.com",
        "The audience in ID Token [https://iam.googleapis.com/projects/123456789012/locations/global/\
         workloadIdentityPools/mdm-pool/providers/kubernetes-prod] does not match the expected audience.",
        "not match: [https://oidc.eks.eu-west-1.amazonaws.com/id/EEEEEE0123456789ABCDEF0123456789].",
    ] {
        assert_eq!(quoted(description), description);
    }
}

#[test]
fn a_long_name_that_may_contain_a_secret_is_removed() {
    let digits = "0123456789".repeat(4);
    let short = "abcdefgh.0123456789".repeat(5);
    for word in [
        format!("https://idp.example/token/{digits}/of/a/path/that/is/long/enough/to/be/left/out"),
        format!("https://idp.example/token?key={digits}&more=of-a-path-that-is-long-enough"),
        format!("https://idp.example/token?key={short}"),
        format!("https://idp.example/token#key={short}"),
        format!("https://robot:{short}@idp.example/"),
        format!("//iam.googleapis.com/projects/-/serviceAccounts/{digits}@p.iam.gserviceaccount.com"),
        "//iam.googleapis.com/projects/-/serviceAccounts/ya29.abc@p.iam.gserviceaccount.com/and/more"
            .to_owned(),
        format!("robot@{digits}.iam.gserviceaccount.com"),
        format!("robot@{short}@gserviceaccount.com"),
        short.clone(),
        "abcdefgh/0123456789/".repeat(5),
    ] {
        assert_eq!(quoted(&format!("of {word} here")), "of [left out] here", "{word}");
    }
    let name = "//iam.googleapis.com/projects/-/serviceAccounts/of-a-project/with/a/long/name/and/1//refresh";
    assert!(!quoted(name).contains("refresh"), "{}", quoted(name));
}

fn generated(body: &str) -> Result<Duration, FetchError> {
    // 2026-01-01T00:00:00Z
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    response(200, body).generated(now, HOUR).map(|token| token.lifetime())
}

#[test]
fn a_generated_token_is_valid_until_its_expiry_or_the_requested_lifetime() {
    for (expires, lifetime) in [
        ("2026-01-01T00:59:59Z", 3599),
        ("2026-01-01T00:59:59.25Z", 3599),
        ("2026-01-01T00:10:00+00:00", 600),
        ("2026-01-01T02:10:00+02:00", 600),
        ("2025-12-31t19:10:00.25-05:00", 600),
        ("2026-01-01T05:40:00+05:30", 600),
        ("2026-01-01T02:00:00Z", 3600),
    ] {
        let body = format!(r#"{{"accessToken":"ya29.a","expireTime":"{expires}"}}"#);
        assert_eq!(generated(&body).expect("good").as_secs(), lifetime, "{expires}");
    }
}

#[test]
fn the_lifetime_of_a_generated_token_does_not_depend_on_this_machines_clock() {
    let mut response = response(200, r#"{"accessToken":"ya29.a","expireTime":"2026-01-01T00:10:00Z"}"#);
    for hour in ["2025-12-31T12:00:00Z", "2026-01-01T00:00:00Z", "2026-01-01T12:00:00Z"] {
        let now = OffsetDateTime::parse(hour, &Rfc3339).expect("a time").into();
        response.headers.insert(DATE, "Thu, 01 Jan 2026 00:00:00 GMT".parse().expect("a header"));
        let token = response.generated(now, HOUR).expect("a token");
        assert_eq!(token.lifetime(), Duration::from_secs(600), "{hour}");

        response.headers.insert(DATE, "Thu, 01 Jan 2026 00:10:01 GMT".parse().expect("a header"));
        let error = response.generated(now, HOUR).expect_err("expired").to_string();
        assert!(error.ends_with("answered an expireTime that is over, by its own Date"), "{error}");
    }
}

#[test]
fn a_generated_response_without_a_valid_token_is_refused() {
    for (body, expected) in [
        (r#"{"access_token":"x","expires_in":3600}"#, "answered without an accessToken"),
        (r#"{"accessToken":"x"}"#, "answered without a sane expireTime"),
        (r#"{"accessToken":"x","expireTime":3600}"#, "answered without a sane expireTime"),
        (r#"{"accessToken":"x","expireTime":"soon"}"#, "answered without a sane expireTime"),
        (r#"{"accessToken":"x","expireTime":"2026-01-01T00:10:00"}"#, "answered without a sane expireTime"),
        (
            r#"{"accessToken":"x","expireTime":"2026-01-01T00:10:00+0200"}"#,
            "answered without a sane expireTime",
        ),
        (r#"{"accessToken":"x","expireTime":"2026-13-01T00:10:00Z"}"#, "answered without a sane expireTime"),
        (r#"{"accessToken":"x","expireTime":"2026-01-01Tää:00:00ZZ"}"#, "answered without a sane expireTime"),
        (r#"{"accessToken":"x","expireTime":"2025-12-31T23:59:59Z"}"#, "that is over, by the clock here"),
        (r#"{"accessToken":"x","expireTime":"2026-01-01T00:00:00.9Z"}"#, ": the token has a lifetime of 0 s"),
        (r#"{"accessToken":"x","expireTime":"2099-01-01T00:00:00Z"}"#, ": the token has a lifetime of"),
        (r#"{"accessToken":"","expireTime":"2026-01-01T01:00:00Z"}"#, ": the token is empty"),
    ] {
        let error = generated(body).expect_err("refused").to_string();
        assert!(error.contains(expected), "{body}: {error}");
    }
}
