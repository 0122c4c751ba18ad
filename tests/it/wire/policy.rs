//! Policies: the calls that they permit, and the bytes of a denial.

use countermand::proto::longrunning::{
    CancelOperationRequest, GetOperationRequest, ListOperationsRequest, WaitOperationRequest,
};
use prost::Message;
use serde_json::json;
use tonic::Code;

use crate::{
    support::{
        details::{OUR_DOMAIN, assert_status, error_info},
        reply::Reply,
        service::{Setup, cancel},
        upstream::Upstream,
    },
    wire::NAME,
};

const MESSAGE: &str = "the policy does not permit this call";

/// Permits the user of this test all calls on the unix socket except for the device `d2`, and denies other callers.
fn this_user_only() -> String {
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    format!(
        "permit (principal == Caller::\"unix:{uid}\", action, resource in Enterprise::\"LC01\");\n\
         forbid (principal, action, resource in Device::\"LC01/d2\");"
    )
}

#[tokio::test]
async fn a_call_that_the_policy_does_not_permit_is_denied() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::ok()]);
    let service = Setup::of(&upstream).policy(&this_user_only()).unix().start().await;
    let mut permitted = service.connect_by_unix().await;
    cancel(&mut permitted, NAME).await.unwrap();
    assert_eq!(upstream.requests().len(), 1);

    let denied = |status| {
        assert_status(&status, Code::PermissionDenied, MESSAGE, vec![error_info(OUR_DOMAIN, "NOT_PERMITTED")])
    };
    denied(service.cancel(NAME).await.unwrap_err());
    for elsewhere in
        ["enterprises/LC02/devices/d1/operations/17", "enterprises/LC01/devices/d2/operations/17"]
    {
        denied(cancel(&mut permitted, elsewhere).await.unwrap_err());
    }
    // A name is parsed before the policy decides.
    assert_eq!(service.cancel("operations/1").await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_policy_in_shadow_mode_allows_and_records_what_it_would_have_denied() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::ok(), Reply::ok()]);
    let policy = "@id(\"no-d2\") forbid (principal, action, resource in Device::\"LC01/d2\");\n\
                  @id(\"all\") permit (principal, action, resource in Enterprise::\"LC01\");";
    let setup = Setup::of(&upstream).policy(policy).variable("COUNTERMAND_POLICY_MODE", "shadow");
    let service = setup.start().await;
    let forbidden = "enterprises/LC01/devices/d2/operations/17";
    for (name, would_deny, policies) in [(NAME, false, json!(["all"])), (forbidden, true, json!(["no-d2"]))] {
        service.cancel(name).await.unwrap();
        let line = service.audit_log().pop().unwrap();
        assert_eq!((&line["name"], &line["decision"]), (&json!(name), &json!("allow")));
        assert_eq!((&line["would_deny"], &line["policies"]), (&json!(would_deny), &policies), "{line}");
    }
    // An invalid name has no decision of the policy.
    assert_eq!(service.cancel("operations/1").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(service.audit_log().pop().unwrap().get("would_deny"), None);
}

#[tokio::test]
async fn a_denial_does_not_reveal_whether_the_operation_exists() {
    let upstream = Upstream::start().await;
    let finished = json!({"name": NAME, "done": true, "response": {}});
    upstream.answers([Reply::json(200, &finished)]);
    let service = Setup::of(&upstream).policy(&this_user_only()).unix().start().await;
    // This call puts the operation into the cache.
    let mut permitted = service.connect_by_unix().await;
    let request = GetOperationRequest { name: NAME.to_owned() };
    assert!(permitted.get_operation(request).await.unwrap().into_inner().done);

    let wire = service.wire().await;
    let unknown = "enterprises/LC01/devices/d1/operations/none";
    let mut denials = Vec::new();
    for name in [NAME, unknown, "enterprises/none/devices/none/operations/none"] {
        let (name, device) = (name.to_owned(), name.rsplit_once("/operations").unwrap().0.to_owned());
        for (method, message) in [
            ("CancelOperation", CancelOperationRequest { name: name.clone() }.encode_to_vec()),
            ("GetOperation", GetOperationRequest { name: name.clone() }.encode_to_vec()),
            ("ListOperations", ListOperationsRequest { name: device, ..Default::default() }.encode_to_vec()),
            ("WaitOperation", WaitOperationRequest { name, timeout: None }.encode_to_vec()),
        ] {
            let path = format!("/google.longrunning.Operations/{method}");
            let mut response = wire.start_raw(&path, &[], &message).await.response().await;
            assert_eq!(response.code(), Code::PermissionDenied, "{path}");
            response.trailers.remove("date").expect("the response has a date");
            denials.push(response.trailers);
        }
    }
    for denial in &denials {
        assert_eq!(*denial, denials[0], "all trailers are equal");
    }
    assert_eq!(upstream.requests().len(), 1, "no other call went upstream");
}

#[tokio::test]
async fn a_denied_caller_does_not_join_a_call_in_flight() {
    let upstream = Upstream::start().await;
    let (reply, gate) = Reply::ok().held();
    upstream.answers([reply]);
    let service = Setup::of(&upstream).policy(&this_user_only()).unix().start().await;
    let mut permitted = service.connect_by_unix().await;
    let in_flight = tokio::spawn(async move { cancel(&mut permitted, NAME).await });
    upstream.wait_for_requests(1).await;
    assert_eq!(service.cancel(NAME).await.unwrap_err().code(), Code::PermissionDenied);
    gate.open();
    in_flight.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_empty_policy_denies_every_call() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).policy("// to be written").unix().start().await;
    assert_eq!(service.cancel(NAME).await.unwrap_err().code(), Code::PermissionDenied);
    let mut permitted = service.connect_by_unix().await;
    assert_eq!(cancel(&mut permitted, NAME).await.unwrap_err().code(), Code::PermissionDenied);
}
