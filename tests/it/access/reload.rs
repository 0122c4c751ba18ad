//! The TLS, token and policy files change under load.

use std::sync::Arc;

use tonic::Code;

use crate::{
    access::{
        BEARER, CONSOLE, NAME,
        fixture::permit_only,
        jwt::bearer,
        load::{CancelLoop, assert_all_recorded},
        program::{ConfigDir, ConfigFiles, Program},
    },
    support::{
        files::replace,
        grpc::Wire,
        issuer::{Key, claims, key_set},
        process::eventually,
        reply::Reply,
        tls::{Authority, dns, uri},
        tls_client::TlsClient,
        upstream::Upstream,
        with_timeout,
    },
};

/// A broken version of each file, and the log message about it.
const BROKEN: [(&str, &str, &str); 3] = [
    ("policy.cedar", "permit (principal", "policy reload failed; the previous version stays active"),
    ("jwks.json", "{\"keys\": []}", "failed to reload the token keys: the old ones stay active"),
    ("clients.pem", "no PEM", "failed to reload the TLS files: the old ones stay active"),
];
const RELOADED: [&str; 3] =
    ["reloaded policy", "reloaded the token keys", "reloaded the TLS files for new connections"];

async fn code(connection: &Wire, headers: &[(&str, &str)]) -> Code {
    connection.cancel(NAME, headers).await.code()
}

/// Waits for 50 more upstream calls.
async fn wait_for_calls(upstream: &Upstream) {
    upstream.wait_for_requests(upstream.requests().len() + 50).await;
}

#[tokio::test]
async fn no_call_is_lost_while_files_are_reloaded_and_broken_files_are_ignored() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    let (authority, old_clients, new_clients) = (Authority::new(), Authority::new(), Authority::new());
    let (old_key, new_key) = (Key::ec(), Key::ec());
    let (first, second) = (authority.server(), authority.server());
    let (old_jwk, new_jwk) = (old_key.jwk(Some("old")), new_key.jwk(Some("new")));
    let late = "dns:late.corp.example";
    let (console, bearer_caller) = (("console", CONSOLE), ("bearer", BEARER));
    let files = ConfigFiles {
        pair: &first,
        clients: &old_clients,
        keys: &key_set([old_jwk.clone()]),
        policy: &permit_only(&[console, bearer_caller]),
    };
    let program = ConfigDir::new(&upstream, &files).serve().await;
    let Program { process, address, dir } = &program;
    let (address, log) = (*address, &process.stderr);

    let old_client = TlsClient::new(&authority, Some(&old_clients.client(vec![uri(CONSOLE)])));
    let new_client = TlsClient::new(&authority, Some(&new_clients.client(vec![dns("late.corp.example")])));
    let old_token = bearer(&old_key.token(Some("old"), &claims()));
    let new_token = bearer(&new_key.token(Some("new"), &claims()));
    let (open, server) = old_client.open(address).await;
    assert_eq!(server.certificate, first.certificate_der());
    let (open, unix) = (Arc::new(open), Arc::new(program.wire_by_unix().await));
    let on_one_connection = CancelLoop::start("open", {
        let open = Arc::clone(&open);
        move |name| {
            let open = Arc::clone(&open);
            async move { open.cancel(&name, &[]).await.code() }
        }
    });
    let on_new_connections = CancelLoop::start("new", {
        let client = old_client.clone();
        move |name| {
            let client = client.clone();
            async move { client.open(address).await.0.cancel(&name, &[]).await.code() }
        }
    });
    let with_a_token = CancelLoop::start("token", {
        let (unix, token) = (Arc::clone(&unix), old_token.clone());
        move |name| {
            let (unix, token) = (Arc::clone(&unix), token.clone());
            async move { unix.cancel(&name, &[("authorization", &token)]).await.code() }
        }
    });
    wait_for_calls(&upstream).await;

    for (file, broken, _) in BROKEN {
        replace(&dir.file(file), broken);
    }
    for (_, _, message) in BROKEN {
        log.has(message).await;
    }
    wait_for_calls(&upstream).await;
    assert_eq!(code(&unix, &[("authorization", &new_token)]).await, Code::Unauthenticated);
    with_timeout("the handshake to fail", new_client.rejection(address)).await;

    // The files accept old and new callers during the rotation.
    replace(&dir.file("policy.cedar"), &permit_only(&[console, bearer_caller, ("late", late)]));
    replace(&dir.file("jwks.json"), &key_set([old_jwk, new_jwk.clone()]));
    replace(&dir.file("clients.pem"), &(old_clients.pem() + &new_clients.pem()));
    second.write(&dir.file("tls.crt"), &dir.file("tls.key"));
    for message in RELOADED {
        log.has(message).await;
    }
    eventually("the new certificate", async || {
        new_client.try_session(address).await.ok()?;
        (new_client.open(address).await.1.certificate == second.certificate_der()).then_some(())
    })
    .await;
    assert_eq!(code(&new_client.open(address).await.0, &[]).await, Code::Ok);
    assert_eq!(code(&unix, &[("authorization", &new_token)]).await, Code::Ok);
    wait_for_calls(&upstream).await;
    let mut cancelled = on_new_connections.stop().await;
    cancelled.extend(with_a_token.stop().await);

    // The files accept new callers only. An open connection stays open.
    replace(&dir.file("policy.cedar"), &permit_only(&[console]));
    replace(&dir.file("jwks.json"), &key_set([new_jwk]));
    replace(&dir.file("clients.pem"), &new_clients.pem());
    eventually("the old key is rejected", async || {
        (code(&unix, &[("authorization", &old_token)]).await == Code::Unauthenticated).then_some(())
    })
    .await;
    eventually("the bearer is denied", async || {
        (code(&unix, &[("authorization", &new_token)]).await == Code::PermissionDenied).then_some(())
    })
    .await;
    eventually("the old authority is rejected", async || old_client.try_session(address).await.err()).await;
    assert_eq!(code(&new_client.open(address).await.0, &[]).await, Code::PermissionDenied);
    wait_for_calls(&upstream).await;
    cancelled.extend(on_one_connection.stop().await);
    drop((open, unix));
    let audit_log = dir.file("audit.jsonl");
    assert_all_recorded(program, &audit_log, &cancelled).await;
}
