//! The operations of the test server. The name selects the state.

use std::time::Duration;

use countermand::proto::longrunning::{
    ListOperationsRequest, ListOperationsResponse, Operation, WaitOperationRequest,
    operation::Result as Outcome,
};
use prost::Message;
use prost_types::{Any, Struct, Value, value::Kind};
use tonic::Status;
use tonic_types::pb;

/// The metadata of a command of this type, as the service returns it.
fn command(kind: &str) -> Any {
    let fields = [
        ("@type", "type.googleapis.com/google.android.devicemanagement.v1.Command"),
        ("type", kind),
        ("createTime", "2026-01-02T03:04:05.678Z"),
        ("duration", "600s"),
    ];
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = fields.map(|(name, value)| (name.to_owned(), text(value))).into();
    Any {
        type_url: "type.googleapis.com/google.protobuf.Struct".to_owned(),
        value: Struct { fields }.encode_to_vec(),
    }
}

fn error(code: i32, message: &str) -> Option<Outcome> {
    Some(Outcome::Error(pb::Status { code, message: message.to_owned(), details: Vec::new() }))
}

/// The response of GetOperation.
pub(crate) fn named(name: &str) -> Result<Operation, Status> {
    let pending =
        Operation { name: name.to_owned(), metadata: Some(command("LOCK")), ..Operation::default() };
    let ended = |result| Operation { done: true, result, ..pending.clone() };
    let empty = Any { type_url: "type.googleapis.com/google.protobuf.Empty".to_owned(), value: Vec::new() };
    Ok(match name.rsplit('/').next().unwrap() {
        "pending" | "late-pending" => pending,
        "device-done" | "late-done" => ended(Some(Outcome::Response(empty))),
        "cancelled" | "late-cancelled" => ended(error(1, "")),
        "expired" => ended(error(4, "The command expired.")),
        "hostile" => Operation {
            metadata: Some(command("\u{1b}[2J\u{202e}")),
            ..ended(error(13, "\u{1b}]0;owned\u{7}\r\nnext line"))
        },
        "bare" => Operation { metadata: None, ..pending },
        _ => return Err(Status::not_found("Requested entity was not found.")),
    })
}

/// The response of the server's `nth` WaitOperation, from 0.
pub(crate) async fn waited(nth: usize, request: WaitOperationRequest) -> Result<Operation, Status> {
    let WaitOperationRequest { name, timeout } = request;
    let as_pending = |name: &str| named(&name.replace(name.rsplit('/').next().unwrap(), "pending"));
    match name.rsplit('/').next().unwrap() {
        "no-wait" => Err(Status::unimplemented("wait")),
        "hang" => std::future::pending().await,
        // The server closes the connection before the response.
        "breaks" if nth == 0 => std::future::pending().await,
        // The server holds the call for its timeout, as the service does.
        "hold" => {
            let timeout = timeout.unwrap();
            let seconds = Duration::from_secs(timeout.seconds.try_into().unwrap());
            tokio::time::sleep(seconds + Duration::from_nanos(timeout.nanos.try_into().unwrap())).await;
            as_pending(&name)
        }
        "second-response" if nth == 0 => as_pending(&name),
        "third-try" if nth < 2 => Err(Status::unavailable("draining")),
        "second-response" | "third-try" | "breaks" => {
            named(&name.replace(name.rsplit('/').next().unwrap(), "device-done"))
        }
        _ => named(&name),
    }
}

/// The response of ListOperations: five operations in pages of two, unless the device's name selects another response.
pub(crate) fn page(request: &ListOperationsRequest) -> Result<ListOperationsResponse, Status> {
    let ListOperationsRequest { name, filter, page_size, page_token, return_partial_success: _ } = request;
    let device = name.strip_suffix("/operations").unwrap_or(name);
    let of_device = |states: &[&str]| -> Vec<Operation> {
        states.iter().map(|state| named(&format!("{device}/operations/{state}")).unwrap()).collect()
    };
    let response = |states: &[&str], next: &str| {
        let (operations, next_page_token) = (of_device(states), next.to_owned());
        Ok(ListOperationsResponse { operations, next_page_token, unreachable: Vec::new() })
    };
    match (device.rsplit('/').next().unwrap(), page_token.as_str()) {
        ("echo", _) => Err(Status::invalid_argument(format!("{name} {filter} {page_size}"))),
        ("none", _) => response(&[], ""),
        ("stuck", _) => response(&["pending"], "again"),
        ("breaks", "") => response(&["pending"], "2"),
        ("hostile", _) => response(&["hostile"], ""),
        (_, "") => response(&["pending", "device-done"], "2"),
        ("d1", "2") => response(&[], "3"),
        ("d1", "3") => response(&["cancelled", "expired"], "4"),
        ("d1", "4") => response(&["bare"], ""),
        _ => Err(Status::unavailable("no more of it")),
    }
}
