use super::MetadataServer;
use crate::credentials::{
    FetchError, Kind, Origin, Source, fetch_once,
    testing::{Reply, Server, TARGET, bearer, source_of},
};

fn source(server: &Server, impersonate: Option<&str>) -> Source {
    let host = server.url.strip_prefix("http://").expect("http").to_owned();
    source_of(Origin::MetadataServer { host }, impersonate, &server.url).expect("a source")
}

fn of_google(reply: Reply) -> Reply {
    reply.with("metadata-flavor", "Google")
}

#[tokio::test]
async fn it_is_asked_as_google_says() {
    let server = Server::start([of_google(Reply::token("ya29.machine"))]).await;
    let token = fetch_once(&source(&server, None)).await.expect("a token");
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
async fn its_token_can_impersonate() {
    let answers = [of_google(Reply::token("ya29.machine")), Reply::generated("ya29.target")];
    let server = Server::start(answers).await;
    let token = fetch_once(&source(&server, Some(TARGET))).await.expect("a token");
    assert_eq!(bearer(&token), "Bearer ya29.target");
    let [machine, generation] = &server.seen()[..] else { panic!("two requests") };
    assert!(machine.path.ends_with("?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcloud-platform"));
    assert_eq!(generation.headers["authorization"], "Bearer ya29.machine");
}

#[tokio::test]
async fn it_tells_the_account_when_it_is_asked() {
    let answers = [Reply::new(200, "machine@p.iam.gserviceaccount.com\n"), Reply::new(200, "<a page>")];
    let server = Server::start(answers.map(of_google)).await;
    let source = source(&server, None);
    assert_eq!((source.kind(), source.principal(), source.file()), (Kind::MetadataServer, None, None));
    assert_eq!(source.identify().await.expect("an account"), "machine@p.iam.gserviceaccount.com");
    let error = source.identify().await.expect_err("a page").to_string();
    assert_eq!(error, "the metadata server answered with something that is no account");
    for seen in server.seen() {
        assert_eq!(seen.path, "/computeMetadata/v1/instance/service-accounts/default/email");
    }
}

#[tokio::test]
async fn something_else_that_answers_is_not_taken_for_it() {
    let strangers = [
        Reply::token("ya29.stranger"),
        Reply::token("ya29.stranger").with("metadata-flavor", "Other"),
        Reply::new(404, ""),
    ];
    let server = Server::start(strangers).await;
    let source = source(&server, None);
    for status in [200, 200, 404] {
        let error = fetch_once(&source).await.expect_err("refused");
        let told = format!("the metadata server answered HTTP {status} without Metadata-Flavor: Google");
        assert!(error.to_string().starts_with(&told) && !error.is_for_good(), "{error}");
    }
    server.seen();
}

#[tokio::test]
async fn a_machine_without_an_account_stays_without() {
    let server = Server::start([of_google(Reply::new(404, "")), of_google(Reply::new(503, ""))]).await;
    let source = source(&server, None);
    let error = fetch_once(&source).await.expect_err("no account");
    assert!(matches!(error, FetchError::Refused(..)), "{error:?}");
    assert_eq!(error.to_string(), "the metadata server answered HTTP 404");
    assert!(!fetch_once(&source).await.expect_err("in trouble").is_for_good());
    server.seen();
}

#[test]
fn its_name_is_a_host_and_no_more() {
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
