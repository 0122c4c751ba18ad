//! What the audit log keeps of callers who mean it harm, and when it cannot be written.

use serde_json::{Value, json};
use tonic::Code;

use crate::{
    front_door::{
        BEARER, CONSOLE, NAME,
        certificates::{self, wire},
        tokens::{bearer, believes},
        visit::{Door, only},
    },
    support::{
        details::{assert_ours, assert_ours_with_retry},
        issuer::{Key, claims},
        raw_client::{HEADERS, Raw},
        reply::Reply,
        service::Setup,
        soon,
        tls::{Authority, uri},
    },
};

/// Texts that would end a line, or a string in it, for some reader or other, or act on a terminal.
const TEXTS: [&str; 8] = [
    "\n{\"caller\":\"unix:0\",\"decision\":\"allow\"}\n",
    "\r\n\r",
    "\"}\n{\"decision\":\"allow",
    "\\\"}\\n{\\",
    "\u{2028}\u{2029}\u{85}\u{b}\u{c}",
    "\u{1b}[2K\u{1b}]0;x\u{7}",
    "\u{202e}\u{200b}\u{feff}",
    "\0",
];

/// Looks at the log as a file: so many lines, each an object of printable ASCII that has no member twice and
/// none but those that there are.
fn is_sound(log: &str, lines: usize) {
    assert!(log.chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{log}");
    assert_eq!(log.split_terminator('\n').count(), lines, "{log}");
    assert!(log.ends_with('\n'));
    let members = [
        "time",
        "caller",
        "proof",
        "method",
        "name",
        "decision",
        "policies",
        "code",
        "upstream_status",
        "attempts",
        "shared",
        "credential",
        "duration_ms",
        "trace_id",
    ];
    for line in log.lines() {
        assert!(line.len() < 16 * 1024, "{}", line.len());
        let object: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        assert!(object.keys().all(|key| members.contains(&&**key)), "{line}");
        // Within a text each quote has a backslash before it.
        let keys = line.match_indices("\":").filter(|(at, _)| !line[..*at].ends_with('\\'));
        assert_eq!(keys.count(), object.len(), "{line}");
    }
}

#[tokio::test]
async fn nothing_that_a_caller_writes_makes_a_line_more_or_a_line_other() {
    let key = Key::ec();
    let policy = only(&[("bearer", BEARER)]);
    let door = Door::open(|setup| {
        believes(setup, &key)
            .variable("COUNTERMAND_CALLERS_FORWARDED_CLIENT_CERT", "true")
            .variable("COUNTERMAND_CALLERS_LINKERD_CLIENT_ID", "true")
            .policy(&policy)
    })
    .await;
    let wire = door.service.wire().await;
    let mut calls = 0;
    for text in TEXTS {
        let visit = door.call(&wire, "CancelOperation", text, &[]).await;
        assert_eq!((visit.status().code(), visit.line["name"].as_str()), (Code::InvalidArgument, Some(text)));
        let mut claims = claims();
        claims["sub"] = text.into();
        let token = bearer(&key.token(Some("a"), &claims));
        let visit = door.cancel(&wire, &[("authorization", &token)]).await;
        visit.is_denied(&format!("jwt:https://issuer.example#{text}"), "jwt", &[]);
        calls += 2;
    }
    // What HTTP allows in a header, in each that is read.
    let odd = "\"}{\u{2028}\u{85}\\";
    for (header, code) in [
        ("traceparent", Code::PermissionDenied),
        ("grpc-timeout", Code::InvalidArgument),
        ("authorization", Code::PermissionDenied),
        ("x-forwarded-client-cert", Code::Unauthenticated),
        ("l5d-client-id", Code::Unauthenticated),
        ("user-agent", Code::PermissionDenied),
    ] {
        assert_eq!(door.cancel(&wire, &[(header, odd)]).await.status().code(), code, "{header}");
        calls += 1;
    }
    let token = format!("Bearer {odd}");
    door.cancel(&wire, &[("authorization", &token)]).await.is_unauthenticated("INVALID_TOKEN");
    is_sound(&door.service.audit_text(), calls + 1);
}

#[tokio::test]
async fn a_line_break_in_a_header_is_no_header_at_all() {
    let door = Door::open(|setup| setup).await;
    for value in ["a\nb", "a\r\nb", "a\0b"] {
        let mut raw = Raw::open(door.service.address).await;
        let (_, call) = raw.call_with(1, &[("traceparent", value)]);
        raw.send(&call).await;
        let answered = soon("the end", async {
            loop {
                match raw.read().await {
                    Some((HEADERS, _)) => break true,
                    Some(_) => {}
                    None => break false,
                }
            }
        });
        assert!(!answered.await, "{value:?}");
    }
    assert_eq!(door.service.audit_text(), "");
    let mut raw = Raw::open(door.service.address).await;
    let (_, call) = raw.call_with(17, &[("traceparent", "none")]);
    raw.send(&call).await;
    soon("an answer", async { while raw.read().await.unwrap().0 != HEADERS {} }).await;
    is_sound(&door.service.audit_text(), 1);
}

#[tokio::test]
async fn much_makes_a_short_line_or_none() {
    let door = Door::open(|setup| believes(setup, &Key::ec()).policy("")).await;
    let wire = door.service.wire().await;
    let much = |length: usize| "\u{2028}".repeat(length / 3);
    let visit = door.call(&wire, "CancelOperation", &much(60_000), &[]).await;
    assert_eq!(visit.line["name"].as_str().unwrap(), much(1023), "as much as a name may need");
    let visit = door.call(&wire, "CancelOperation", &much(100_000), &[]).await;
    assert_eq!((visit.status().code(), &visit.line["name"]), (Code::InvalidArgument, &Value::Null));
    let token = bearer(&"x".repeat(50_000));
    door.cancel(&wire, &[("authorization", &token)]).await.is_unauthenticated("INVALID_TOKEN");
    let trace = "f".repeat(50_000);
    door.cancel(&wire, &[("traceparent", &trace)]).await.is_denied("anonymous", "none", &[]);
    is_sound(&door.service.audit_text(), 4);
    // It never becomes a call.
    let much = "x".repeat(100_000);
    assert_eq!(wire.start(NAME, &[("x-much", &much)]).await.http_status().await, 431);
    is_sound(&door.service.audit_text(), 4);
}

#[tokio::test]
async fn when_nothing_can_be_recorded_nothing_is_done_and_nobody_is_told_what_would_have_been() {
    let (authority, key) = (Authority::new(), Key::ec());
    let policy = only(&[("console", CONSOLE)]);
    let setup = |setup: Setup| {
        let setup = believes(setup, &key).tls(&authority.server(), Some(&authority)).policy(&policy);
        setup.variable("COUNTERMAND_AUDIT_FILE", "/dev/full")
    };
    let door = Door::open(setup).await;
    let console = wire(&door, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let stranger = wire(&door, &authority, &authority.client(vec![])).await;
    let bad = ("authorization", "Bearer x");
    for (wire, name, headers) in [
        // The first, by which it is found out, is one that would not have been sent either.
        (&stranger, NAME, &[][..]),
        (&console, NAME, &[]),
        (&stranger, NAME, &[]),
        (&console, "none", &[]),
        (&console, NAME, &[bad]),
    ] {
        let status = wire.cancel(name, headers).await.status();
        assert_ours_with_retry(&status, Code::Unavailable, "AUDIT_UNAVAILABLE", 1);
    }
    assert!(door.upstream.seen().is_empty());
    let health = console.start_raw("/grpc.health.v1.Health/Check", &[], &[]).await;
    assert_eq!(health.answer().await.code(), Code::Ok);

    let door = Door::open(|plain| setup(plain).variable("COUNTERMAND_AUDIT_ON_FAILURE", "continue")).await;
    let console = wire(&door, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let stranger = wire(&door, &authority, &authority.client(vec![])).await;
    for _ in 0..3 {
        assert_eq!(console.cancel(NAME, &[]).await.code(), Code::Ok);
        let denied = stranger.cancel(NAME, &[]).await.status();
        assert_ours(&denied, Code::PermissionDenied, "NOT_PERMITTED");
        let unknown = stranger.cancel(NAME, &[bad]).await.status();
        assert_ours(&unknown, Code::Unauthenticated, "INVALID_TOKEN");
    }
    assert_eq!(door.upstream.seen().len(), 3);
}

#[tokio::test]
async fn who_hangs_up_is_recorded_by_name_with_what_came_of_it() {
    let authority = Authority::new();
    let door = certificates::door(&authority).await;
    let console = wire(&door, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let (gone, gate) = Reply::plain_error(404, "NOT_FOUND", "Gone.").held();
    door.upstream.answers([gone]);
    let _never_heard = console.start(NAME, &[]).await;
    door.upstream.has_seen(1).await;
    console.hang_up();
    gate.open();
    let line = door.service.recorded("CancelOperation", "NOT_FOUND").await;
    let told =
        json!([line["caller"], line["proof"], line["policies"], line["upstream_status"], line["attempts"]]);
    assert_eq!(told, json!([CONSOLE, "client-certificate", ["console"], 404, 1]));
    is_sound(&door.service.audit_text(), 1);
}
