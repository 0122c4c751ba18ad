//! A policy on the wire: whom it lets through, and how little the others are told.

use countermand::proto::longrunning::{
    CancelOperationRequest, GetOperationRequest, ListOperationsRequest, WaitOperationRequest,
};
use prost::Message;
use serde_json::json;
use tonic::Code;

use crate::{
    support::{
        details::{OURS, assert_status, info},
        reply::Reply,
        service::{Setup, cancel},
        upstream::Upstream,
    },
    wire::NAME,
};

const MESSAGE: &str = "the caller may not do this here";

/// Permits the user of this test, by a unix socket, everything but the device `d2`, and others nothing.
fn for_this_user() -> String {
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    format!(
        "permit (principal == Caller::\"unix:{uid}\", action, resource in Enterprise::\"LC01\");\n\
         forbid (principal, action, resource in Device::\"LC01/d2\");"
    )
}

#[tokio::test]
async fn a_caller_may_do_what_the_policy_permits_and_nothing_else() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::ok()]);
    let service = Setup::of(&upstream).policy(&for_this_user()).unix().start().await;
    let mut known = service.connect_by_unix().await;
    cancel(&mut known, NAME).await.unwrap();
    assert_eq!(upstream.seen().len(), 1);

    let denied =
        |status| assert_status(&status, Code::PermissionDenied, MESSAGE, vec![info(OURS, "NOT_PERMITTED")]);
    denied(service.cancel(NAME).await.unwrap_err());
    for elsewhere in
        ["enterprises/LC02/devices/d1/operations/17", "enterprises/LC01/devices/d2/operations/17"]
    {
        denied(cancel(&mut known, elsewhere).await.unwrap_err());
    }
    // A name is read before anybody is asked about it.
    assert_eq!(service.cancel("operations/1").await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_denial_does_not_tell_whether_the_operation_exists() {
    let upstream = Upstream::start().await;
    let finished = json!({"name": NAME, "done": true, "response": {}});
    upstream.answers([Reply::json(200, &finished)]);
    let service = Setup::of(&upstream).policy(&for_this_user()).unix().start().await;
    // Known now to this process, which could answer without asking anybody.
    let mut known = service.connect_by_unix().await;
    let request = GetOperationRequest { name: NAME.to_owned() };
    assert!(known.get_operation(request).await.unwrap().into_inner().done);

    let wire = service.wire().await;
    let unknown = "enterprises/LC01/devices/d1/operations/none";
    let mut answers = Vec::new();
    for name in [NAME, unknown, "enterprises/none/devices/none/operations/none"] {
        let (name, device) = (name.to_owned(), name.rsplit_once("/operations").unwrap().0.to_owned());
        for (method, message) in [
            ("CancelOperation", CancelOperationRequest { name: name.clone() }.encode_to_vec()),
            ("GetOperation", GetOperationRequest { name: name.clone() }.encode_to_vec()),
            ("ListOperations", ListOperationsRequest { name: device, ..Default::default() }.encode_to_vec()),
            ("WaitOperation", WaitOperationRequest { name, timeout: None }.encode_to_vec()),
        ] {
            let path = format!("/google.longrunning.Operations/{method}");
            let mut answer = wire.start_raw(&path, &[], &message).await.answer().await;
            assert_eq!(answer.code(), Code::PermissionDenied, "{path}");
            answer.trailers.remove("date").expect("which tells the time and nothing else");
            answers.push(answer.trailers);
        }
    }
    for answer in &answers {
        assert_eq!(*answer, answers[0], "every header and every trailer, to the byte");
    }
    assert_eq!(upstream.seen().len(), 1, "nobody else was asked");
}

#[tokio::test]
async fn who_may_not_ask_does_not_join_those_who_may() {
    let upstream = Upstream::start().await;
    let (reply, gate) = Reply::ok().held();
    upstream.answers([reply]);
    let service = Setup::of(&upstream).policy(&for_this_user()).unix().start().await;
    let mut known = service.connect_by_unix().await;
    let in_flight = tokio::spawn(async move { cancel(&mut known, NAME).await });
    upstream.has_seen(1).await;
    assert_eq!(service.cancel(NAME).await.unwrap_err().code(), Code::PermissionDenied);
    gate.open();
    in_flight.await.unwrap().unwrap();
}

#[tokio::test]
async fn without_rules_that_permit_nobody_may_anything() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).policy("// to be written").unix().start().await;
    assert_eq!(service.cancel(NAME).await.unwrap_err().code(), Code::PermissionDenied);
    let mut known = service.connect_by_unix().await;
    assert_eq!(cancel(&mut known, NAME).await.unwrap_err().code(), Code::PermissionDenied);
}
