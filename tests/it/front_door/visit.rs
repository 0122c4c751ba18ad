//! A call at the front door, and all that it leaves: the answer, a line in the audit log, and a call upstream
//! or none.

use countermand::proto::longrunning::ListOperationsRequest;
use http::header;
use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::{
    front_door::NAME,
    support::{
        details::assert_ours,
        grpc::{Answer, Wire, by_name},
        reply::Reply,
        service::{Service, Setup},
        upstream::Upstream,
    },
};

/// A service, and an upstream that knows every operation as done and says yes to all else.
pub(crate) struct Door {
    pub(crate) service: Service,
    pub(crate) upstream: Upstream,
}

/// What came of a call.
pub(crate) struct Visit {
    pub(crate) answer: Answer,
    /// Its line in the audit log.
    pub(crate) line: Value,
}

impl Door {
    pub(crate) async fn open(setup: impl FnOnce(Setup) -> Setup) -> Self {
        let upstream = Upstream::start().await;
        let done = json!({"done": true, "response": {"@type": "type.googleapis.com/google.protobuf.Empty"}});
        upstream.always_answers(Reply::json(200, &done));
        let service = setup(Setup::of(&upstream)).start().await;
        Self { service, upstream }
    }

    /// Cancels an operation.
    pub(crate) async fn cancel(&self, wire: &Wire, headers: &[(&str, &str)]) -> Visit {
        self.call(wire, "CancelOperation", NAME, headers).await
    }

    /// Calls a method, while nobody else does, and holds what there is to see of it against each other:
    /// one call is one line, which says what the answer says; nothing goes upstream for a call that was not
    /// let through; and what the caller sent to prove itself goes no further for one that was.
    pub(crate) async fn call(
        &self,
        wire: &Wire,
        method: &str,
        name: &str,
        headers: &[(&str, &str)],
    ) -> Visit {
        let (lines, sent) = (self.service.audit_log().len(), self.upstream.seen().len());
        let path = format!("/google.longrunning.Operations/{method}");
        let answer = wire.start_raw(&path, headers, &request(method, name)).await.answer().await;
        let log = self.service.audit_log();
        let [line] = &log[lines..] else { panic!("one call, one line: {:?}", &log[lines..]) };
        assert_eq!((&line["method"], &line["code"]), (&json!(method), &json!(name_of(answer.code()))));
        let sent = &self.upstream.seen()[sent..];
        match line["decision"].as_str() {
            Some("allow") if method == "CancelOperation" => assert_eq!(sent.len(), 1, "{line}"),
            // What is known to be done is not asked for again.
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
        Visit { answer, line: line.clone() }
    }
}

/// The request of a method that is about `name`; for a list it is the device's.
fn request(method: &str, name: &str) -> Vec<u8> {
    match method {
        "ListOperations" => {
            ListOperationsRequest { name: name.to_owned(), ..Default::default() }.encode_to_vec()
        }
        _ => by_name(name),
    }
}

/// A code as the audit log has it.
fn name_of(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    if code == Code::Ok { "OK".to_owned() } else { name }
}

impl Visit {
    pub(crate) fn status(&self) -> Status {
        self.answer.status()
    }

    /// What the line says of the caller: who, by what proof, let through or not, and by which policies.
    fn told(&self) -> Value {
        let line = &self.line;
        json!([line["caller"], line["proof"], line["decision"], line["policies"]])
    }

    /// It was let through, for this caller and by these policies.
    #[track_caller]
    pub(crate) fn is_let_in(&self, caller: &str, proof: &str, policies: &[&str]) {
        assert_eq!(self.answer.code(), Code::Ok, "{} {}", self.answer.message(), self.line);
        assert_eq!(self.told(), json!([caller, proof, "allow", policies]));
    }

    /// It was not, for this caller; by these policies if any forbids it.
    #[track_caller]
    pub(crate) fn is_denied(&self, caller: &str, proof: &str, policies: &[&str]) {
        assert_ours(&self.status(), Code::PermissionDenied, "NOT_PERMITTED");
        let policies = if policies.is_empty() { Value::Null } else { json!(policies) };
        assert_eq!(self.told(), json!([caller, proof, "deny", policies]));
    }

    /// Nobody can say who called, for this reason.
    #[track_caller]
    pub(crate) fn is_unauthenticated(&self, reason: &str) {
        assert_ours(&self.status(), Code::Unauthenticated, reason);
        assert_eq!(self.told(), json!([null, null, "deny", null]));
    }
}

/// Lets each of these callers in, by a policy of that name, and nobody else.
pub(crate) fn only(callers: &[(&str, &str)]) -> String {
    let permit = |(id, caller): &(&str, &str)| {
        format!("@id(\"{id}\") permit (principal == Caller::\"{caller}\", action, resource);\n")
    };
    callers.iter().map(permit).collect()
}
