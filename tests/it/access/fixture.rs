//! A service with its upstream, and calls that check the response, the audit line and the upstream call together.

use countermand::proto::longrunning::ListOperationsRequest;
use http::header;
use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::{
    access::NAME,
    support::{
        details::assert_our_error,
        grpc::{GrpcResponse, Wire, by_name},
        reply::Reply,
        service::{Service, Setup},
        upstream::Upstream,
    },
};

/// A service, and an upstream that reports every operation as done and accepts every cancel.
pub(crate) struct Fixture {
    pub(crate) service: Service,
    pub(crate) upstream: Upstream,
}

/// The response to a call, and its line in the audit log.
pub(crate) struct AuditedCall {
    pub(crate) response: GrpcResponse,
    pub(crate) line: Value,
}

impl Fixture {
    pub(crate) async fn start(setup: impl FnOnce(Setup) -> Setup) -> Self {
        let upstream = Upstream::start().await;
        let done = json!({"done": true, "response": {"@type": "type.googleapis.com/google.protobuf.Empty"}});
        upstream.always_answers(Reply::json(200, &done));
        let service = setup(Setup::of(&upstream)).start().await;
        Self { service, upstream }
    }

    /// Cancels the operation [`NAME`].
    pub(crate) async fn cancel(&self, connection: &Wire, headers: &[(&str, &str)]) -> AuditedCall {
        self.call(connection, "CancelOperation", NAME, headers).await
    }

    /// Calls a method, while no other call runs. Checks that:
    /// - the call has one audit line, with the code of the response;
    /// - a refused call is not sent upstream;
    /// - the caller's credentials are not sent upstream.
    pub(crate) async fn call(
        &self,
        connection: &Wire,
        method: &str,
        name: &str,
        headers: &[(&str, &str)],
    ) -> AuditedCall {
        let (lines, sent) = (self.service.audit_log().len(), self.upstream.requests().len());
        let path = format!("/google.longrunning.Operations/{method}");
        let response = connection.start_raw(&path, headers, &request(method, name)).await.response().await;
        let log = self.service.audit_log();
        let [line] = &log[lines..] else { panic!("one line per call: {:?}", &log[lines..]) };
        assert_eq!((&line["method"], &line["code"]), (&json!(method), &json!(code_name(response.code()))));
        let sent = &self.upstream.requests()[sent..];
        match line["decision"].as_str() {
            Some("allow") if method == "CancelOperation" => assert_eq!(sent.len(), 1, "{line}"),
            // The cache may answer for an operation that is done.
            Some("allow") => assert!(sent.len() <= 1, "{line}"),
            _ => assert_eq!(sent.len(), 0, "{line}"),
        }
        for call in sent {
            let authorization: Vec<_> = call.headers.get_all(header::AUTHORIZATION).iter().collect();
            assert_eq!(authorization, ["Bearer t1"]);
            for header in ["x-forwarded-client-cert", "l5d-client-id"] {
                assert_eq!(call.headers.get(header), None);
            }
        }
        AuditedCall { response, line: line.clone() }
    }
}

/// The request of a method with the name `name`. ListOperations takes the name of a device.
fn request(method: &str, name: &str) -> Vec<u8> {
    match method {
        "ListOperations" => {
            ListOperationsRequest { name: name.to_owned(), ..Default::default() }.encode_to_vec()
        }
        _ => by_name(name),
    }
}

/// A code as the audit log writes it.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    if code == Code::Ok { "OK".to_owned() } else { name }
}

impl AuditedCall {
    pub(crate) fn status(&self) -> Status {
        self.response.status()
    }

    /// The members of the audit line about the caller and the decision.
    fn decision(&self) -> Value {
        let line = &self.line;
        json!([line["caller"], line["proof"], line["decision"], line["policies"]])
    }

    /// Asserts that these policies permitted the call of this caller.
    #[track_caller]
    pub(crate) fn assert_allowed(&self, caller: &str, proof: &str, policies: &[&str]) {
        assert_eq!(self.response.code(), Code::Ok, "{} {}", self.response.message(), self.line);
        assert_eq!(self.decision(), json!([caller, proof, "allow", policies]));
    }

    /// Asserts that the call of this caller was denied, by these policies if any forbids it.
    #[track_caller]
    pub(crate) fn assert_denied(&self, caller: &str, proof: &str, policies: &[&str]) {
        assert_our_error(&self.status(), Code::PermissionDenied, "NOT_PERMITTED");
        let policies = if policies.is_empty() { Value::Null } else { json!(policies) };
        assert_eq!(self.decision(), json!([caller, proof, "deny", policies]));
    }

    /// Asserts that the caller could not be authenticated, for this reason.
    #[track_caller]
    pub(crate) fn assert_unauthenticated(&self, reason: &str) {
        assert_our_error(&self.status(), Code::Unauthenticated, reason);
        assert_eq!(self.decision(), json!([null, null, "deny", null]));
    }
}

/// One policy per id and caller. Each permits its caller every call.
pub(crate) fn permit_only(callers: &[(&str, &str)]) -> String {
    let permit = |(id, caller): &(&str, &str)| {
        format!("@id(\"{id}\") permit (principal == Caller::\"{caller}\", action, resource);\n")
    };
    callers.iter().map(permit).collect()
}
