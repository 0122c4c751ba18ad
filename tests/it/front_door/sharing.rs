//! Calls at the same time for one operation: they share what goes upstream, never the right to ask for it.

use tonic::Code;

use crate::{
    front_door::{
        CONSOLE, HOST, NAME,
        certificates::{door, wire},
    },
    support::{
        details::assert_ours,
        grpc::{CANCEL, GET, WAIT, by_name},
        reply::Reply,
        tls::{Authority, dns, uri},
    },
};

#[tokio::test]
async fn who_is_denied_gets_nothing_of_the_call_of_who_is_not() {
    let authority = Authority::new();
    let door = door(&authority).await;
    let console = wire(&door, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let stranger = wire(&door, &authority, &authority.client(vec![dns("other.corp.example")])).await;
    for (nth, path) in [CANCEL, GET, WAIT].into_iter().enumerate() {
        let name = format!("{NAME}{nth}");
        let (reply, gate) = Reply::json(200, &serde_json::json!({"done": true, "response": {}})).held();
        door.upstream.answers([reply]);
        let sent = door.upstream.seen().len();
        let allowed = console.start_raw(path, &[], &by_name(&name)).await;
        door.upstream.has_seen(sent + 1).await;
        // It is answered while the other still waits.
        let denied = stranger.start_raw(path, &[], &by_name(&name)).await.answer().await;
        assert_ours(&denied.status(), Code::PermissionDenied, "NOT_PERMITTED");
        gate.open();
        assert_eq!(allowed.answer().await.code(), Code::Ok);
        // Nor of what is known from it.
        let denied = stranger.start_raw(path, &[], &by_name(&name)).await.answer().await;
        assert_eq!(denied.code(), Code::PermissionDenied, "{path}");
        assert_eq!(door.upstream.seen().len(), sent + 1, "{path}");
    }
    for line in door.service.audit_log() {
        let is_console = line["caller"] == CONSOLE;
        assert_eq!(line["decision"], if is_console { "allow" } else { "deny" }, "{line}");
        if !is_console {
            assert_eq!(
                [&line["upstream_status"], &line["attempts"], &line["shared"]],
                [&serde_json::Value::Null; 3]
            );
        }
    }
}

#[tokio::test]
async fn those_who_share_a_call_are_each_recorded_as_themselves() {
    let authority = Authority::new();
    let door = door(&authority).await;
    let console = wire(&door, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let host = wire(&door, &authority, &authority.client(vec![dns("console.corp.example")])).await;
    let (reply, gate) = Reply::plain_error(404, "NOT_FOUND", "Gone.").held();
    door.upstream.answers([reply]);
    let first = console.start(NAME, &[]).await;
    door.upstream.has_seen(1).await;
    let second = host.start(NAME, &[]).await;
    host.taken_up().await;
    gate.open();
    for call in [first, second] {
        assert_eq!(call.answer().await.code(), Code::NotFound);
    }
    assert_eq!(door.upstream.seen().len(), 1);
    for (caller, policy, shared) in [(CONSOLE, "console", None), (HOST, "host", Some(true))] {
        let log = door.service.audit_log();
        let line = log.iter().find(|line| line["caller"] == caller && line["code"] == "NOT_FOUND").unwrap();
        assert_eq!(line["policies"], serde_json::json!([policy]));
        assert_eq!((line["shared"].as_bool(), &line["upstream_status"]), (shared, &404.into()));
    }
}
