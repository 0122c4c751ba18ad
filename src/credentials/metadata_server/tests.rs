use super::MetadataServer;
use crate::credentials::{
    FetchErrorKind, Kind, LoadedCredential, Origin,
    testing::{Reply, Server, TARGET, bearer, load_from, surroundings},
};

fn load(server: &Server, impersonate: Option<&str>) -> LoadedCredential {
    let host = server.url.strip_prefix("http://").expect("http").to_owned();
    load_from(Origin::MetadataServer { host }, impersonate).expect("a credential")
}

fn from_google(reply: Reply) -> Reply {
    reply.with("metadata-flavor", "Google")
}

#[tokio::test]
async fn the_request_is_the_one_that_google_documents() {
    let server = Server::start([from_google(Reply::token("ya29.machine"))]).await;
    let token = load(&server, None).fetch(&surroundings(&server.url)).await.expect("a token");
    assert_eq!(bearer(&token), "Bearer ya29.machine");
    let [seen] = &server.seen()[..] else { panic!("one request") };
    assert_eq!(seen.method, "GET");
    assert_eq!(
        seen.path,
        "/computeMetadata/v1/instance/service-accounts/default/token\
         ?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fandroidmanagement"
    );
    assert_eq!(seen.headers["metadata-flavor"], "Google");
}

#[tokio::test]
async fn the_machines_token_can_impersonate() {
    let replies = [from_google(Reply::token("ya29.machine")), Reply::generated("ya29.target")];
    let server = Server::start(replies).await;
    let token = load(&server, Some(TARGET)).fetch(&surroundings(&server.url)).await.expect("a token");
    assert_eq!(bearer(&token), "Bearer ya29.target");
    let [machine, generation] = &server.seen()[..] else { panic!("two requests") };
    assert!(machine.path.ends_with("?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcloud-platform"));
    assert_eq!(generation.headers["authorization"], "Bearer ya29.machine");
}

#[tokio::test]
async fn identify_returns_the_machines_account() {
    let replies = [Reply::new(200, "machine@p.iam.gserviceaccount.com\n"), Reply::new(200, "<a page>")];
    let server = Server::start(replies.map(from_google)).await;
    let (loaded, surroundings) = (load(&server, None), surroundings(&server.url));
    assert_eq!((loaded.kind(), loaded.file()), (Kind::MetadataServer, None));
    assert_eq!(
        loaded.identify(&surroundings).await.expect("an account"),
        "machine@p.iam.gserviceaccount.com"
    );
    let error = loaded.identify(&surroundings).await.expect_err("a page").to_string();
    assert_eq!(error, "the metadata server answered with something that is no account");
    for seen in server.seen() {
        assert_eq!(seen.path, "/computeMetadata/v1/instance/service-accounts/default/email");
    }
}

#[tokio::test]
async fn a_server_without_the_flavor_header_is_refused() {
    let replies = [
        Reply::token("ya29.other"),
        Reply::token("ya29.other").with("metadata-flavor", "Other"),
        Reply::new(404, ""),
    ];
    let server = Server::start(replies).await;
    let (loaded, surroundings) = (load(&server, None), surroundings(&server.url));
    for status in [200, 200, 404] {
        let error = loaded.fetch(&surroundings).await.expect_err("refused");
        let expected = format!("the metadata server answered HTTP {status} without Metadata-Flavor: Google");
        assert!(error.to_string().starts_with(&expected) && !error.is_permanent(), "{error}");
    }
    server.seen();
}

#[tokio::test]
async fn a_machine_without_an_account_is_a_permanent_error() {
    let server = Server::start([from_google(Reply::new(404, "")), from_google(Reply::new(503, ""))]).await;
    let (loaded, surroundings) = (load(&server, None), surroundings(&server.url));
    let error = loaded.fetch(&surroundings).await.expect_err("no account");
    assert_eq!(error.kind, FetchErrorKind::Refused, "{error}");
    assert_eq!(error.to_string(), "the metadata server answered HTTP 404");
    assert!(!loaded.fetch(&surroundings).await.expect_err("unavailable").is_permanent());
    server.seen();
}

#[test]
fn the_address_is_a_host_with_an_optional_port() {
    for host in
        ["metadata.google.internal", "169.254.169.254", "127.0.0.1:8080", "[fd20:ce::254]", "[::1]:80"]
    {
        assert!(MetadataServer::at(host).is_some(), "{host}");
    }
    for host in ["", "a b", "host/", "host/path", "user@host", "host?", "host#", "host:0", "host:http", ":80"]
    {
        assert!(MetadataServer::at(host).is_none(), "{host}");
    }
}

/// The metadata server returns a cached token until the token ends, and rounds its remaining lifetime down.
#[tokio::test]
async fn a_lifetime_of_zero_counts_as_one_second() {
    let body = |seconds: u64| format!(r#"{{"access_token": "ya29.machine", "expires_in": {seconds}}}"#);
    let server = Server::start([3, 0].map(|seconds| from_google(Reply::new(200, body(seconds))))).await;
    let (loaded, surroundings) = (load(&server, None), surroundings(&server.url));
    for seconds in [3, 1] {
        let token = loaded.fetch(&surroundings).await.expect("a token");
        assert_eq!(token.lifetime().as_secs(), seconds);
    }
    server.seen();
}
