//! What a row asks of its target, and what it must hear back.

use bytes::Bytes;
use prost::Message;

use crate::operation;

/// One kind of call. A new row of the benchmark usually starts with one of these.
#[derive(Debug)]
pub(crate) struct Workload {
    /// How the report names it.
    pub(crate) name: &'static str,
    /// The gRPC method, as it stands in `:path`. Rows of one method have one floor.
    pub(crate) method: &'static str,
    /// The encoded request message of the call with this number. Numbers never repeat in a run.
    pub(crate) request: fn(u64) -> Bytes,
    /// Whether an answer with status OK and this encoded message is right for the call with this number.
    pub(crate) is_right: fn(u64, &[u8]) -> bool,
    /// The most CPU a call, as a multiple of the floor's, that Countermand aims at; `None` without an aim.
    pub(crate) cpu_aim: Option<f64>,
    /// The most memory resident under load that Countermand aims at, in millions of bytes; `None` without an aim.
    pub(crate) memory_aim: Option<f64>,
}

/// How many credentials [`CANCEL_ROUTED`] is spread over.
pub(crate) const CREDENTIALS: u64 = 500;

/// Cancels, each of another operation, so that no two can share an upstream call.
pub(crate) const CANCEL: Workload = Workload {
    name: "cancel",
    method: "/google.longrunning.Operations/CancelOperation",
    request: |number| by_name(operation::name(number, number)),
    is_right: |_, answer| answer.is_empty(),
    cpu_aim: Some(1.5),
    memory_aim: Some(20.0),
};

/// Cancels in the enterprises of [`CREDENTIALS`] credentials in turn: first in the one that a credential names
/// by its id, next time round in one that it has by a prefix. Names are as long as those of [`CANCEL`].
pub(crate) const CANCEL_ROUTED: Workload = Workload {
    name: "cancel, 500 credentials",
    request: |number| {
        let enterprise = match number / CREDENTIALS % 2 {
            0 => format!("{}.main", account(number % CREDENTIALS)),
            _ => format!("{}-site", account(number % CREDENTIALS)),
        };
        by_name(operation::name_in(&enterprise, number, number))
    },
    cpu_aim: None,
    memory_aim: None,
    ..CANCEL
};

/// The cancels of [`CANCEL`] over mutual TLS: the floor of [`CANCEL_GUARDED`].
pub(crate) const CANCEL_ENCRYPTED: Workload =
    Workload { name: "cancel, mutual TLS", cpu_aim: None, memory_aim: None, ..CANCEL };

/// The cancels of [`CANCEL`] over mutual TLS, with a policy and an audit log in a file.
pub(crate) const CANCEL_GUARDED: Workload =
    Workload { name: "cancel, everything on", cpu_aim: Some(1.7), memory_aim: None, ..CANCEL };

/// Gets, each of another finished operation, so that none is known when it is asked for.
///
/// The floor carries the same call, as gRPC on both sides: the upstream answers it with the message that
/// Countermand makes from the JSON. What Countermand costs beyond it is reading, checking and translating.
pub(crate) const GET: Workload = Workload {
    name: "get",
    method: "/google.longrunning.Operations/GetOperation",
    request: |number| by_name(operation::name(number, number)),
    is_right: |number, answer| operation::is(answer, operation::name(number, number), true),
    cpu_aim: None,
    memory_aim: None,
};

/// Gets of a few finished operations again and again, which Countermand answers from what it remembers.
///
/// Its floor is that of [`GET`]: a relay remembers nothing, so the ratio shows what remembering saves.
pub(crate) const GET_CACHED: Workload = Workload {
    name: "get cached",
    method: GET.method,
    request: |number| by_name(one_of_few(number)),
    is_right: |number, answer| operation::is(answer, one_of_few(number), true),
    cpu_aim: None,
    memory_aim: None,
};

/// The account of one of the many credentials.
pub(crate) fn account(number: u64) -> String {
    format!("e{number:03}")
}

/// The account whose token must come with a call about `enterprise`. An enterprise is named after it.
pub(crate) fn account_of(enterprise: &str) -> &str {
    enterprise.split(['.', '-']).next().unwrap_or(enterprise)
}

fn one_of_few(number: u64) -> String {
    operation::name(number % 8, 0)
}

/// The requests of `CancelOperation` and `GetOperation` (`google.longrunning`) have this one field, kept
/// apart from the generated code of what is measured: a shared mistake would go unseen.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ByName {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

fn by_name(name: String) -> Bytes {
    ByName { name }.encode_to_vec().into()
}
