use serde_json::{Value, json};

use super::SubjectToken;
use crate::credentials::credential_file::members;
use crate::credentials::{
    FetchError, FetchErrorKind,
    testing::{Reply, Server, UNREACHABLE, file, surroundings},
};

fn parse(source: &Value) -> Result<SubjectToken, String> {
    members(source).and_then(SubjectToken::new).map_err(|error| error.to_string())
}

async fn read(source: &Value) -> Result<String, FetchError> {
    let token = parse(source).expect("a source").read(&surroundings(UNREACHABLE)).await;
    token.map(|token| token.as_ref().to_owned())
}

#[tokio::test]
async fn a_file_is_read_for_each_token() {
    let token_file = file("first~token\n");
    let source = json!({"file": token_file.path()});
    assert_eq!(read(&source).await.expect("a token"), "first~token");
    std::fs::write(&token_file, "second~token").expect("written");
    assert_eq!(read(&source).await.expect("a token"), "second~token");
}

#[tokio::test]
async fn a_json_file_has_the_token_in_a_member() {
    let token_file = file(r#"{"id_token": "json~token"}"#);
    let format = json!({"type": "json", "subject_token_field_name": "id_token"});
    let source = json!({"file": token_file.path(), "format": format});
    assert_eq!(read(&source).await.expect("a token"), "json~token");
}

#[tokio::test]
async fn a_url_is_requested_with_its_headers() {
    let server =
        Server::start([Reply::new(200, "text~token"), Reply::new(200, r#"{"t": "json~token"}"#)]).await;
    let url = format!("{}/token?audience=a%2Fb", server.url);
    let mut source = json!({"url": url, "headers": {"Metadata": "True", "authorization": "Bearer x~"}});
    assert_eq!(read(&source).await.expect("a token"), "text~token");
    source["format"] = json!({"type": "json", "subject_token_field_name": "t"});
    assert_eq!(read(&source).await.expect("a token"), "json~token");
    for seen in server.seen() {
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/token?audience=a%2Fb"));
        assert_eq!(seen.headers["metadata"], "True");
        assert_eq!(seen.headers["authorization"], "Bearer x~");
    }
}

#[tokio::test]
async fn a_content_without_a_token_is_reported_and_not_quoted() {
    let format = json!({"type": "json", "subject_token_field_name": "id_token"});
    for (content, format, expected) in [
        ("", json!(null), "is empty, or no plain text"),
        (" \n", json!(null), "is empty, or no plain text"),
        ("~a\n~b", json!(null), "is empty, or no plain text"),
        ("~", format.clone(), "is no JSON object with a text as its member \"id_token\""),
        ("{\"~\": 1}", format.clone(), "is no JSON object with a text"),
        ("{\"id_token\": 1}", format.clone(), "is no JSON object with a text"),
    ] {
        let token_file = file(content);
        let error = read(&json!({"file": token_file.path(), "format": format})).await.expect_err("no token");
        assert_eq!(error.kind, FetchErrorKind::NoSubjectToken);
        let error = format!("{error} {error:?}");
        assert!(error.contains(expected) && !error.contains('~'), "{error}");
    }
    let long = file(&"~".repeat(64 * 1024 + 1));
    let folder = tempfile::tempdir().expect("a folder");
    for (path, expected) in [
        (long.path(), "is too long for a token"),
        (folder.path(), "cannot be read: it is not a regular file"),
        (&folder.path().join("none"), "cannot be read: No such file"),
        ("/dev/zero".as_ref(), "it is not a regular file"),
    ] {
        let error = read(&json!({"file": path})).await.expect_err("no token");
        assert!(error.to_string().contains(expected) && !error.is_permanent(), "{error}");
    }
}

#[tokio::test]
async fn a_refusal_is_reported_with_its_status_only() {
    let server =
        Server::start([Reply::new(403, "~secret~"), Reply::new(302, "").with("location", "/~")]).await;
    let source = json!({"url": format!("{}/~path", server.url)});
    let error = read(&source).await.expect_err("refused");
    assert_eq!(error.to_string(), "the source of the subject token answered HTTP 403");
    assert!(error.is_permanent());
    let error = read(&source).await.expect_err("not followed");
    assert_eq!(error.to_string(), "the source of the subject token answered HTTP 302");
    server.seen();
}

#[tokio::test]
async fn the_description_of_an_error_is_not_repeated() {
    let refused = json!({"error": "~header", "error_description": "bad key ~header at /~path?k=~query"});
    let transient = json!({"error": "temporarily_unavailable", "error_description": "~header"});
    let server =
        Server::start([Reply::new(401, refused.to_string()), Reply::new(400, transient.to_string())]).await;
    let source = json!({"url": format!("{}/~path?k=~query", server.url), "headers": {"x-key": "~header"}});
    for (status, permanent) in [(401, true), (400, false)] {
        let error = read(&source).await.expect_err("refused");
        let expected = format!("the source of the subject token answered HTTP {status}");
        assert_eq!((error.to_string(), error.is_permanent()), (expected, permanent));
    }
    server.seen();
}

#[test]
fn an_invalid_source_is_reported_by_its_member() {
    for (source, expected) in [
        (json!({}), r#"its "file" is missing, and so is url"#),
        (json!({"file": "a", "url": "https://a/"}), r#"its "url" is one too many"#),
        (json!({"executable": {"command": "~"}}), r#"its "executable" is not supported"#),
        (json!({"environment_id": "aws1"}), r#"its "environment_id" means AWS, which is not supported"#),
        (json!({"certificate": {}}), r#"its "certificate" is not supported"#),
        (json!({"url": "http://10.0.0.1/~"}), r#"its "url" must be an https URL, or http on a loopback"#),
        (json!({"file": "a", "format": {"type": "xml~"}}), r#"its "format.type" must be text or json"#),
        (json!({"file": "a", "format": {"type": "json"}}), r#""format.subject_token_field_name" is missing"#),
        (json!({"url": "https://a/", "headers": {"a b": "~"}}), r#"its "headers" must be an object of"#),
        (json!({"url": "https://a/", "headers": {"a": "~\n"}}), r#"its "headers" must be an object of"#),
        (json!({"url": "https://a/", "headers": {"a": 1}}), r#"its "headers" must be an object of"#),
    ] {
        let Err(error) = parse(&source) else { panic!("{source} is valid") };
        assert!(error.contains(expected) && !error.contains('~'), "{error}\nexpected: {expected}");
    }
}

#[test]
fn a_link_local_metadata_server_may_use_plain_http() {
    let azure = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01";
    assert!(parse(&json!({"url": azure, "headers": {"Metadata": "True"}})).is_ok());
}
