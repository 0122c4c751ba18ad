//! Every file of the front door changes while callers come and go.

use std::sync::Arc;

use tonic::Code;

use crate::{
    front_door::{
        BEARER, CONSOLE, NAME,
        load::{Caller, all_are_recorded},
        program::{Files, Program, Room},
        tokens::bearer,
        visit::only,
    },
    support::{
        files::replace,
        grpc::Wire,
        issuer::{Key, claims, key_set},
        process::eventually,
        reply::Reply,
        soon,
        tls::{Authority, dns, uri},
        tls_client::TlsClient,
        upstream::Upstream,
    },
};

const BROKEN: [(&str, &str, &str); 3] = [
    ("policy.cedar", "permit (principal", "the policy changed and is broken: the old one stays in use"),
    ("jwks.json", "{\"keys\": []}", "failed to reload the token keys: the old ones stay active"),
    ("clients.pem", "no PEM", "failed to reload the TLS files: the old ones stay active"),
];
const TAKEN_UP: [&str; 3] =
    ["the policy changed: reloaded", "reloaded the token keys", "reloaded the TLS files for new connections"];

async fn code(wire: &Wire, headers: &[(&str, &str)]) -> Code {
    wire.cancel(NAME, headers).await.code()
}

/// Waits until so many calls more have come upstream.
async fn goes_on(upstream: &Upstream) {
    upstream.has_seen(upstream.seen().len() + 50).await;
}

#[tokio::test]
async fn no_call_is_lost_while_all_that_is_believed_changes_and_what_is_broken_changes_nothing() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    let (authority, old_clients, new_clients) = (Authority::new(), Authority::new(), Authority::new());
    let (old_key, new_key) = (Key::ec(), Key::ec());
    let (first, second) = (authority.server(), authority.server());
    let (old_jwk, new_jwk) = (old_key.jwk(Some("old")), new_key.jwk(Some("new")));
    let late = "dns:late.corp.example";
    let (console, bearer_too) = (("console", CONSOLE), ("bearer", BEARER));
    let files = Files {
        pair: &first,
        clients: &old_clients,
        keys: &key_set([old_jwk.clone()]),
        policy: &only(&[console, bearer_too]),
    };
    let program = Room::new(&upstream, &files).serve().await;
    let Program { process, address, room } = &program;
    let (address, log) = (*address, &process.stderr);

    let of_old = TlsClient::new(&authority, Some(&old_clients.client(vec![uri(CONSOLE)])));
    let of_new = TlsClient::new(&authority, Some(&new_clients.client(vec![dns("late.corp.example")])));
    let by_old = bearer(&old_key.token(Some("old"), &claims()));
    let by_new = bearer(&new_key.token(Some("new"), &claims()));
    let (kept, met) = of_old.open(address).await;
    assert_eq!(met.certificate, first.certificate_der());
    let (kept, unix) = (Arc::new(kept), Arc::new(program.wire_by_unix().await));
    let stays = Caller::start("kept", {
        let kept = Arc::clone(&kept);
        move |name| {
            let kept = Arc::clone(&kept);
            async move { kept.cancel(&name, &[]).await.code() }
        }
    });
    let comes_and_goes = Caller::start("new", {
        let client = of_old.clone();
        move |name| {
            let client = client.clone();
            async move { client.open(address).await.0.cancel(&name, &[]).await.code() }
        }
    });
    let shows_a_token = Caller::start("token", {
        let (unix, token) = (Arc::clone(&unix), by_old.clone());
        move |name| {
            let (unix, token) = (Arc::clone(&unix), token.clone());
            async move { unix.cancel(&name, &[("authorization", &token)]).await.code() }
        }
    });
    goes_on(&upstream).await;

    for (file, broken, _) in BROKEN {
        replace(&room.file(file), broken);
    }
    for (_, _, told) in BROKEN {
        log.has(told).await;
    }
    goes_on(&upstream).await;
    assert_eq!(code(&unix, &[("authorization", &by_new)]).await, Code::Unauthenticated);
    soon("a refusal", of_new.refused(address)).await;

    // Old and new, for as long as it takes everybody to change over.
    replace(&room.file("policy.cedar"), &only(&[console, bearer_too, ("late", late)]));
    replace(&room.file("jwks.json"), &key_set([old_jwk, new_jwk.clone()]));
    replace(&room.file("clients.pem"), &(old_clients.pem() + &new_clients.pem()));
    second.write(&room.file("tls.crt"), &room.file("tls.key"));
    for told in TAKEN_UP {
        log.has(told).await;
    }
    eventually("the new certificate", async || {
        of_new.try_to_enter(address).await.ok()?;
        (of_new.open(address).await.1.certificate == second.certificate_der()).then_some(())
    })
    .await;
    assert_eq!(code(&of_new.open(address).await.0, &[]).await, Code::Ok);
    assert_eq!(code(&unix, &[("authorization", &by_new)]).await, Code::Ok);
    goes_on(&upstream).await;
    let mut cancelled = comes_and_goes.stop().await;
    cancelled.extend(shows_a_token.stop().await);

    // The old alone is no longer enough, but for those who are in.
    replace(&room.file("policy.cedar"), &only(&[console]));
    replace(&room.file("jwks.json"), &key_set([new_jwk]));
    replace(&room.file("clients.pem"), &new_clients.pem());
    eventually("the old key is forgotten", async || {
        (code(&unix, &[("authorization", &by_old)]).await == Code::Unauthenticated).then_some(())
    })
    .await;
    eventually("the bearer is denied", async || {
        (code(&unix, &[("authorization", &by_new)]).await == Code::PermissionDenied).then_some(())
    })
    .await;
    eventually("the old authority is forgotten", async || of_old.try_to_enter(address).await.err()).await;
    assert_eq!(code(&of_new.open(address).await.0, &[]).await, Code::PermissionDenied);
    goes_on(&upstream).await;
    cancelled.extend(stays.stop().await);
    drop((kept, unix));
    let audit_log = room.file("audit.jsonl");
    all_are_recorded(program, &audit_log, &cancelled).await;
}
