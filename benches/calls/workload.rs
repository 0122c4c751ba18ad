//! What a row asks of its target, and what it must hear back.

use bytes::Bytes;
use prost::Message;

/// One kind of call. A new row of the benchmark usually starts with one of these.
#[derive(Debug)]
pub(crate) struct Workload {
    /// How the report names it.
    pub(crate) name: &'static str,
    /// The gRPC method, as it stands in `:path`.
    pub(crate) method: &'static str,
    /// The encoded request message of the call with this number. Numbers never repeat in a run.
    pub(crate) request: fn(u64) -> Bytes,
    /// Whether an answer with status OK and this encoded message is right.
    pub(crate) is_right: fn(&[u8]) -> bool,
}

/// Cancels, each of another operation, so that no two can share an upstream call.
pub(crate) const CANCEL: Workload = Workload {
    name: "cancel",
    method: "/google.longrunning.Operations/CancelOperation",
    request: |number| {
        let name = format!("enterprises/LC01bench/devices/d{number}/operations/{number}");
        CancelOperationRequest { name }.encode_to_vec().into()
    },
    is_right: <[u8]>::is_empty,
};

/// `google.longrunning.CancelOperationRequest`, kept apart from the generated code of what is
/// measured: a shared mistake would go unseen.
#[derive(Clone, PartialEq, Message)]
struct CancelOperationRequest {
    #[prost(string, tag = "1")]
    name: String,
}
