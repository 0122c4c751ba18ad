mod project;

use std::{path::Path, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use crate::{
    background::Background,
    credentials::{
        Credential, CredentialFileError, Definition, Kind, Origin, Surroundings, TokenSource,
        testing::{
            Reply, Server, UNREACHABLE, authorized_user, bearer, file, load, load_from, service_account,
            surroundings,
        },
    },
    http_client::{LoadedAuthorities, ProxySettings},
};

#[tokio::test]
async fn a_changed_file_may_be_of_another_type() {
    let server = Server::start([Reply::token("ya29.person")]).await;
    let (before, _) =
        load(&service_account(&server.url), None).expect("valid").into_source(surroundings(UNREACHABLE));
    let after = before.reload(authorized_user(&server.url).to_string().as_bytes()).expect("valid");
    assert_eq!((before.chain.kind(), after.chain.kind()), (Kind::ServiceAccount, Kind::AuthorizedUser));
    assert_eq!(bearer(&after.fetch().await.expect("a token")), "Bearer ya29.person");
    server.seen();
}

#[tokio::test]
async fn a_changed_file_does_not_change_the_impersonated_account() {
    let iam = Server::start([Reply::generated("ya29.target")]).await;
    let server = Server::start([Reply::token("ya29.person")]).await;
    let before = load(&service_account(UNREACHABLE), Some("target@p")).expect("valid");
    let (before, _) = before.into_source(surroundings(&iam.url));
    let after = before.reload(authorized_user(&server.url).to_string().as_bytes()).expect("valid");
    assert_eq!(bearer(&after.fetch().await.expect("a token")), "Bearer ya29.target");
    server.seen();
    iam.seen();
}

#[tokio::test]
async fn a_file_that_changes_between_load_and_start_is_reloaded() {
    let server = Server::start([Reply::token("ya29.old"), Reply::token("ya29.new")]).await;
    let file = file(&authorized_user(&server.url).to_string());
    let definition =
        Definition { origin: Origin::File(file.path().to_owned()), impersonate: None, project: None };
    let loaded = definition.load().expect("valid");
    let mut changed = authorized_user(&server.url);
    changed["client_id"] = "new.apps.googleusercontent.com".into();
    std::fs::write(&file, changed.to_string()).expect("written");

    let background = Background::unsupervised();
    let credential = Credential::start("test", loaded, &surroundings(UNREACHABLE), &background);
    let reloaded = async {
        while credential.authorization().await.expect("a token").header() != "Bearer ya29.new" {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), reloaded).await.expect("the change is not reloaded");
    let requests = server.seen();
    assert!(requests[1].body.contains("client_id=new."), "{}", requests[1].body);
}

#[test]
fn an_invalid_change_is_reported_without_its_content() {
    let (source, _) =
        load(&service_account(UNREACHABLE), None).expect("valid").into_source(surroundings(UNREACHABLE));
    for (content, text) in [
        ("{\"private_key\": ~", "the file is not JSON (line 1, column 17)"),
        ("{\"type\": \"~\"}", "its \"type\" must be service_account"),
        ("\"~\"", "the file is no JSON object"),
    ] {
        let Err(error) = source.reload(content.as_bytes()) else { panic!("{content} is no credential") };
        assert!(error.starts_with(text) && !error.contains('~'), "{error}");
    }
}

#[test]
fn an_unreadable_origin_is_an_error() {
    let origin = || Origin::File("/nonexistent/emea.json".into());
    let error = load_from(origin(), None).expect_err("no file");
    assert!(error.to_string().starts_with("cannot read the file: "), "{error}");
    let error = load_from(Origin::MetadataServer { host: "a/b".to_owned() }, None).expect_err("no host");
    assert_eq!(error, CredentialFileError::MetadataHost);
}

#[tokio::test]
async fn broken_authorities_do_not_prevent_a_request_to_a_new_endpoint() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let authority = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate");
    let ca = file(&authority.pem());
    let authorities = LoadedAuthorities::load(Some(ca.path().to_owned()))
        .expect("authorities")
        .start(&Background::unsupervised());
    let surroundings = Arc::new(Surroundings::new(
        authorities,
        ProxySettings::default(),
        UNREACHABLE.parse().expect("a URL"),
    ));
    std::fs::write(&ca, "no certificate").expect("written");
    let server = Server::start([Reply::token("ya29.person")]).await;
    let login = file(&authorized_user(&server.url).to_string());
    let definition =
        Definition { origin: Origin::File(login.path().to_owned()), impersonate: None, project: None };
    let token = definition.load().expect("valid").fetch(&surroundings).await.expect("a token");
    assert_eq!(bearer(&token), "Bearer ya29.person");
    server.seen();
}

#[tokio::test]
async fn credentials_with_the_same_origin_share_one_http_client() {
    let server = Server::start(std::iter::repeat_n(Reply::token("ya29.person"), 500)).await;
    let file = file(&authorized_user(&server.url).to_string());
    let surroundings = surroundings(UNREACHABLE);
    let origin = Origin::File(file.path().to_owned());
    let definition = Definition { origin, impersonate: None, project: None };
    for _ in 0..500 {
        let loaded = definition.load().expect("valid");
        assert_eq!(loaded.file(), Some(Path::new(file.path())));
        loaded.fetch(&surroundings).await.expect("a token");
    }
    assert_eq!((server.seen().len(), surroundings.clients()), (500, 1));
}
