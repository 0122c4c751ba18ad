use std::{path::Path, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::Source;
use crate::background::Background;
use crate::credentials::{
    Credential, Definition, Kind, Origin, SourceError, Surroundings, TokenSource, fetch_once,
    testing::{
        Reply, Server, authorised_user, bearer, file, service_account, source, source_of, surroundings,
    },
};
use crate::http_client::LoadedAuthorities;

const NOBODY: &str = "http://127.0.0.1:1";

#[tokio::test]
async fn a_changed_file_may_be_of_another_type() {
    let server = Server::start([Reply::token("ya29.person")]).await;
    let before = source(&service_account(&server.url), None, NOBODY).expect("a source");
    let after = before.reload(authorised_user(&server.url).to_string().as_bytes()).expect("a source");
    assert_eq!((before.kind(), after.kind()), (Kind::ServiceAccount, Kind::AuthorisedUser));
    assert_eq!(before.file(), after.file());
    assert_eq!(bearer(&fetch_once(&after).await.expect("a token")), "Bearer ya29.person");
    server.seen();
}

#[tokio::test]
async fn who_is_impersonated_stays_when_the_file_changes() {
    let iam = Server::start([Reply::generated("ya29.target")]).await;
    let server = Server::start([Reply::token("ya29.person")]).await;
    let before = source(&service_account(NOBODY), Some("target@p"), &iam.url).expect("a source");
    let after = before.reload(authorised_user(&server.url).to_string().as_bytes()).expect("a source");
    assert_eq!(bearer(&fetch_once(&after).await.expect("a token")), "Bearer ya29.target");
    server.seen();
    iam.seen();
}

#[tokio::test]
async fn a_file_that_changes_before_the_credential_is_started_is_taken_up() {
    let server = Server::start([Reply::token("ya29.old"), Reply::token("ya29.new")]).await;
    let file = file(&authorised_user(&server.url).to_string());
    let definition = Definition { origin: Origin::File(file.path().to_owned()), impersonate: None };
    let (source, watch) = Source::watched(&definition, &surroundings(NOBODY)).expect("a source");
    let mut changed = authorised_user(&server.url);
    changed["client_id"] = "new.apps.googleusercontent.com".into();
    std::fs::write(&file, changed.to_string()).expect("written");

    let credential = Credential::start(source, "test".to_owned(), watch, &Background::unsupervised());
    let taken_up = async {
        while credential.authorization().await.expect("a token").header() != "Bearer ya29.new" {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), taken_up).await.expect("the change goes unseen");
    let asked = server.seen();
    assert!(asked[1].body.contains("client_id=new."), "{}", asked[1].body);
}

#[test]
fn a_broken_change_is_told_without_the_content() {
    let source = source(&service_account(NOBODY), None, NOBODY).expect("a source");
    for (content, told) in [
        ("{\"private_key\": ~", "is not JSON (line 1, column 17)"),
        ("{\"type\": \"~\"}", "its \"type\" must be service_account"),
        ("\"~\"", "is no JSON object"),
    ] {
        let Err(fault) = source.reload(content.as_bytes()) else { panic!("{content} is no credential") };
        assert!(fault.starts_with(told) && !fault.contains('~'), "{fault}");
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let origin = || Origin::File("/nonexistent/emea.json".into());
    let error = source_of(origin(), None, NOBODY).map(drop).expect_err("no file");
    assert!(error.to_string().starts_with("/nonexistent/emea.json cannot be read: "), "{error}");
    assert_eq!(Definition { origin: origin(), impersonate: None }.check(), Err(error));
    let origin = Origin::MetadataServer { host: "a/b".to_owned() };
    let error = Definition { origin, impersonate: None }.check();
    assert_eq!(error, Err(SourceError::MetadataHost { host: "a/b".to_owned() }));
}

#[tokio::test]
async fn authorities_that_break_do_not_keep_a_new_endpoint_from_being_asked() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let authority = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate");
    let ca = file(&authority.pem());
    let authorities = LoadedAuthorities::load(Some(ca.path().to_owned()))
        .expect("authorities")
        .start(&Background::unsupervised());
    let surroundings = Arc::new(Surroundings::new(authorities, NOBODY.parse().expect("a URL")));
    std::fs::write(&ca, "no certificate").expect("written");
    let server = Server::start([Reply::token("ya29.person")]).await;
    let login = file(&authorised_user(&server.url).to_string());
    let definition = Definition { origin: Origin::File(login.path().to_owned()), impersonate: None };
    let source = Source::read(&definition, &surroundings).expect("a source");
    assert_eq!(bearer(&fetch_once(&source).await.expect("a token")), "Bearer ya29.person");
    server.seen();
}

#[tokio::test]
async fn five_hundred_credentials_have_one_client() {
    let server = Server::start(std::iter::repeat_n(Reply::token("ya29.person"), 500)).await;
    let file = file(&authorised_user(&server.url).to_string());
    let surroundings = surroundings(NOBODY);
    let origin = Origin::File(file.path().to_owned());
    let definition = Definition { origin, impersonate: None };
    for _ in 0..500 {
        let source = Source::read(&definition, &surroundings).expect("a source");
        assert_eq!(source.file(), Some(Path::new(file.path())));
        fetch_once(&source).await.expect("a token");
    }
    assert_eq!((server.seen().len(), surroundings.clients()), (500, 1));
}
