//! Every file of the front door changes while callers come and go.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::sys::signal::Signal::SIGTERM;
use serde_json::Value;
use tokio::task::JoinHandle;
use tonic::Code;

use crate::{
    BEARER, CONSOLE, NAME,
    process::eventually,
    program::{Files, Program, Room},
    support::{
        grpc::Wire,
        issuer::{Key, claims, key_set},
        reply::Reply,
        soon,
        tls::{Authority, replace},
        tls_client::TlsClient,
        upstream::Upstream,
    },
    tokens::bearer,
    visit::{dns, only, uri},
};

/// One who cancels one operation after another, each of its own, and hears OK every time.
struct Caller {
    stop: Arc<AtomicBool>,
    calling: JoinHandle<Vec<String>>,
}

impl Caller {
    fn start<F>(series: &'static str, call: impl Fn(String) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Code> + Send,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let calling = tokio::spawn(async move {
            let mut names = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let name = format!("enterprises/LC01/devices/{series}/operations/{}", names.len());
                assert_eq!(call(name.clone()).await, Code::Ok, "{name}");
                names.push(name);
                // Others work on this machine too.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            names
        });
        Self { stop, calling }
    }

    /// The names of the operations that it cancelled.
    async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        soon("the end of the load", self.calling).await.expect("no call was lost")
    }
}

const BROKEN: [(&str, &str, &str); 3] = [
    ("policy.cedar", "permit (principal", "the policy changed and is broken: the old one stays in force"),
    ("jwks.json", "{\"keys\": []}", "are verified with changed and are broken: the old ones stay in use"),
    ("clients.pem", "no PEM", "the TLS files changed and are broken: the old ones stay in use"),
];
const TAKEN_UP: [&str; 3] = [
    "the policy changed: taken up",
    "the keys that tokens are verified with changed: taken up",
    "the TLS files changed: taken up for new connections",
];

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
        let (wire, met) = of_new.open(address).await;
        (met.certificate == second.certificate_der() && wire.try_cancel(NAME).await).then_some(())
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
    eventually("the old authority is forgotten", async || {
        (!of_old.open(address).await.0.try_cancel(NAME).await).then_some(())
    })
    .await;
    assert_eq!(code(&of_new.open(address).await.0, &[]).await, Code::PermissionDenied);
    goes_on(&upstream).await;
    cancelled.extend(stays.stop().await);
    drop((kept, unix));
    let audit_log = room.file("audit.jsonl");
    all_are_recorded(program, &audit_log, &cancelled).await;
}

/// Ends the program: each of these calls then has one line, which says that it was let through.
async fn all_are_recorded(program: Program, audit_log: &std::path::Path, cancelled: &[String]) {
    let Program { process, room: _room, .. } = program;
    process.signal(SIGTERM);
    let ended = process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let log = std::fs::read_to_string(audit_log).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_load = |line: &&Value| line["name"].as_str().is_some_and(|name| name != NAME);
    let recorded: Vec<_> = lines.iter().filter(of_load).map(|line| line["name"].as_str().unwrap()).collect();
    let names: BTreeSet<_> = recorded.iter().copied().collect();
    assert_eq!(names, cancelled.iter().map(|name| &**name).collect());
    assert_eq!(recorded.len(), cancelled.len(), "one line a call");
    for line in lines.iter().filter(of_load) {
        let caller = if line["name"].as_str().unwrap().contains("/token/") { BEARER } else { CONSOLE };
        assert_eq!((&line["caller"], &line["code"]), (&caller.into(), &"OK".into()), "{line}");
    }
}

#[tokio::test]
async fn calls_of_every_outcome_that_a_stop_meets_are_recorded() {
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    let (gone, gone_gate) = Reply::plain_error(404, "NOT_FOUND", "Gone.").held();
    upstream.answers([ok, gone]);
    let (authority, key) = (Authority::new(), Key::ec());
    let policy = only(&[("console", CONSOLE)]);
    let keys = key_set([key.jwk(Some("a"))]);
    let files = Files { pair: &authority.server(), clients: &authority, keys: &keys, policy: &policy };
    let program = Room::new(&upstream, &files).serve().await;
    let client = TlsClient::new(&authority, Some(&authority.client(vec![uri(CONSOLE)])));
    let (console, _) = client.open(program.address).await;
    let unix = program.wire_by_unix().await;
    let waits = console.start(&format!("{NAME}1"), &[]).await;
    upstream.has_seen(1).await;
    let (impatient, _) = client.open(program.address).await;
    let _never_heard = impatient.start(&format!("{NAME}2"), &[]).await;
    upstream.has_seen(2).await;

    program.process.signal(SIGTERM);
    program.process.stderr.has("draining").await;
    impatient.hang_up();
    // Those who are in may still call, until they are told to go.
    let denied = unix.cancel(&format!("{NAME}3"), &[]).await;
    assert_eq!(denied.code(), Code::PermissionDenied);
    let unknown = unix.cancel(&format!("{NAME}4"), &[("authorization", "Bearer x")]).await;
    assert_eq!(unknown.code(), Code::Unauthenticated);
    gate.open();
    gone_gate.open();
    assert_eq!(waits.answer().await.code(), Code::Ok);
    drop((console, unix));
    let audit_log = program.room.file("audit.jsonl");
    let Program { process, room: _room, .. } = program;
    assert_eq!(process.end().await.code, Some(0));
    let log = std::fs::read_to_string(audit_log).unwrap();
    let mut codes: Vec<_> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["code"].as_str().unwrap().to_owned())
        .collect();
    codes.sort_unstable();
    assert_eq!(codes, ["NOT_FOUND", "OK", "PERMISSION_DENIED", "UNAUTHENTICATED"], "{log}");
}
