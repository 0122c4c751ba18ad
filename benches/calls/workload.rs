//! The kinds of calls that rows make, and the answers that they expect.

use bytes::Bytes;
use prost::Message;

use crate::operation;

/// One kind of call. A new row of the benchmark usually starts with one of these.
#[derive(Debug)]
pub(crate) struct Workload {
    /// Its name in the report.
    pub(crate) name: &'static str,
    /// The gRPC method, as it stands in `:path`. Rows of one method have one baseline.
    pub(crate) method: &'static str,
    /// The encoded request message of the call with this number. Numbers never repeat in a run.
    pub(crate) request: fn(u64) -> Bytes,
    /// Whether an answer with status OK and this encoded message is right for the call with this number.
    pub(crate) is_right: fn(u64, &[u8]) -> bool,
    /// How many callers start their calls together and wait for one another; `None` when callers are independent.
    pub(crate) simultaneous: Option<u32>,
    pub(crate) aims: Aims,
}

/// Upper limits that Countermand aims at; each figure may have several or none.
#[derive(Debug)]
pub(crate) struct Aims {
    /// CPU per call, as a multiple of the baseline's.
    pub(crate) cpu: &'static [f64],
    /// The 99th percentile of the latency, as a multiple of the baseline's.
    pub(crate) p99: &'static [f64],
    /// Memory resident under load, in millions of bytes.
    pub(crate) resident: &'static [f64],
}

const NO_AIMS: Aims = Aims { cpu: &[], p99: &[], resident: &[] };

/// The number of credentials of [`CANCEL_ROUTED`].
pub(crate) const CREDENTIALS: u64 = 500;

/// Cancels, each of another operation, so that no two can share an upstream call.
pub(crate) const CANCEL: Workload = Workload {
    name: "cancel",
    method: "/google.longrunning.Operations/CancelOperation",
    request: |number| by_name(operation::name(number, number)),
    is_right: |_, answer| answer.is_empty(),
    simultaneous: None,
    aims: Aims { cpu: &[1.5, 1.7], p99: &[1.25], resident: &[20.0] },
};

/// Cancels in the enterprises of [`CREDENTIALS`] credentials in turn. In even turns the credential names the
/// enterprise by its id, in odd turns by a prefix. Names are as long as those of [`CANCEL`].
pub(crate) const CANCEL_ROUTED: Workload = Workload {
    name: "cancel, 500 credentials",
    request: |number| {
        let enterprise = match number / CREDENTIALS % 2 {
            0 => format!("{}.main", account(number % CREDENTIALS)),
            _ => format!("{}-site", account(number % CREDENTIALS)),
        };
        by_name(operation::name_in(&enterprise, number, number))
    },
    aims: NO_AIMS,
    ..CANCEL
};

/// The cancels of [`CANCEL`] over mutual TLS: the baseline of [`CANCEL_GUARDED`].
pub(crate) const CANCEL_ENCRYPTED: Workload =
    Workload { name: "cancel, mutual TLS", aims: NO_AIMS, ..CANCEL };

/// The cancels of [`CANCEL`] over mutual TLS, with a policy and an audit log in a file.
pub(crate) const CANCEL_GUARDED: Workload = Workload {
    name: "cancel, everything on",
    aims: Aims { cpu: &[1.7], p99: &[1.25], resident: &[24.0] },
    ..CANCEL
};

/// The cancels of [`CANCEL`] for a target that has no aims.
pub(crate) const CANCEL_COMPARED: Workload = Workload { aims: NO_AIMS, ..CANCEL };

/// The callers of one operation in [`CANCEL_SHARED`].
const SHARING_CALLERS: u32 = 100;

/// Cancels of one operation by [`SHARING_CALLERS`] callers at the same time, then of the next one.
///
/// Countermand makes one upstream call for all of them. A relay makes one for each, so its cost does not depend
/// on the names, and the baseline is that of [`CANCEL`].
pub(crate) const CANCEL_SHARED: Workload = Workload {
    name: "cancel shared by 100",
    request: |number| {
        let operation = number / u64::from(SHARING_CALLERS);
        by_name(operation::name(operation, operation))
    },
    simultaneous: Some(SHARING_CALLERS),
    aims: NO_AIMS,
    ..CANCEL
};

/// Gets, each of another finished operation, so that none is cached yet.
///
/// The baseline relays the same call, as gRPC on both sides: the upstream answers it with the message that
/// Countermand makes from the JSON. Countermand also reads, checks and translates the JSON.
pub(crate) const GET: Workload = Workload {
    name: "get",
    method: "/google.longrunning.Operations/GetOperation",
    request: |number| by_name(operation::name(number, number)),
    is_right: |number, answer| operation::is(answer, operation::name(number, number), true),
    simultaneous: None,
    aims: Aims { cpu: &[1.5], ..NO_AIMS },
};

/// Gets of a few finished operations, which Countermand answers from its cache.
///
/// The baseline is that of [`GET`]: a relay has no cache, so the ratio shows what the cache saves.
pub(crate) const GET_CACHED: Workload = Workload {
    name: "get cached",
    request: |number| by_name(cached_name(number)),
    is_right: |number, answer| operation::is(answer, cached_name(number), true),
    aims: Aims { cpu: &[0.8], ..NO_AIMS },
    ..GET
};

/// The account of one of the [`CREDENTIALS`].
pub(crate) fn account(number: u64) -> String {
    format!("e{number:03}")
}

/// The account whose token a call about `enterprise` must carry. An enterprise is named after its account.
pub(crate) fn account_of(enterprise: &str) -> &str {
    enterprise.split(['.', '-']).next().unwrap_or(enterprise)
}

fn cached_name(number: u64) -> String {
    operation::name(number % 8, 0)
}

/// The requests of `CancelOperation` and `GetOperation` (`google.longrunning`) have this one field. It is
/// declared apart from Countermand's generated code, so that no error is common to both.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ByName {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

fn by_name(name: String) -> Bytes {
    ByName { name }.encode_to_vec().into()
}
