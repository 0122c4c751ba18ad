//! The audit log when a drain ends with thousands of calls in flight.

use std::{collections::BTreeSet, path::Path};

use countermand::proto::longrunning::{
    CancelOperationRequest, DeleteOperationRequest, WaitOperationRequest, operations_client::OperationsClient,
};
use nix::sys::signal::Signal::SIGTERM;
use serde_json::Value;
use tokio::task::JoinSet;
use tonic::{Request, Status, transport::Channel};

use crate::{
    lifecycle::{
        caller::{connect, operation},
        google::Google,
        service::Service,
    },
    support::{
        metrics::Scrape,
        process::{Ended, eventually},
    },
};

/// The calls in flight at the end of the drain. The calls of a method are about one operation, so they share one
/// upstream call.
const WAITS: usize = 500;
const CANCELS: usize = 3500;

/// `server.max_concurrent_calls`: more than the calls of a test.
const MAX_CONCURRENT_CALLS: &str = "10000";

/// The number of calls on one connection.
const CALLS_PER_CONNECTION: usize = 250;

/// The callers that send one call after another number their calls from multiples of this number.
const FIRST_OF_LOAD: usize = 1_000_000;

async fn start(google: &Google, audit_log: &Path, drain_timeout: &str) -> Service {
    let service = Service::start_with(google, |command| {
        command
            .env("COUNTERMAND_AUDIT_FILE", audit_log)
            .env("COUNTERMAND_DRAIN_TIMEOUT", drain_timeout)
            .env("COUNTERMAND_MAX_CONCURRENT_CALLS", MAX_CONCURRENT_CALLS);
    })
    .await;
    service.ready().await;
    service
}

fn trace_id(id: usize) -> String {
    format!("{:032x}", id + 1)
}

/// A request whose audit line has the trace ID of `id`.
fn traced<T>(id: usize, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let parent = format!("00-{}-00000000000000ff-00", trace_id(id));
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    request
}

/// Whether the service answered. Each of its errors has details. An error of the connection has none.
fn is_answered<T>(result: &Result<T, Status>) -> bool {
    !matches!(result, Err(status) if status.details().is_empty())
}

/// Starts [`WAITS`] and [`CANCELS`] calls, and waits until the service counts them as in flight. The result of each is
/// whether the service answered it.
async fn begin_calls(google: &Google, service: &Service) -> JoinSet<bool> {
    google.hold();
    let mut calls = JoinSet::new();
    for first in (0..WAITS + CANCELS).step_by(CALLS_PER_CONNECTION) {
        let client = OperationsClient::new(connect(service.address).await.unwrap());
        for id in first..first + CALLS_PER_CONNECTION {
            let mut client = client.clone();
            calls.spawn(async move {
                if id < WAITS {
                    // A wait is answered when the drain starts, if its connection is not closed before.
                    let wait = WaitOperationRequest { name: operation(1), timeout: None };
                    is_answered(&client.wait_operation(traced(id, wait)).await)
                } else {
                    let cancel = CancelOperationRequest { name: operation(2) };
                    let result = client.cancel_operation(traced(id, cancel)).await;
                    assert!(result.is_err());
                    is_answered(&result)
                }
            });
        }
    }
    eventually("all calls are in flight", async || {
        let page = Scrape::of(service.admin).await;
        let in_flight = |method| page.value("countermand_calls_in_flight", &[method]);
        let is_complete = in_flight("rpc_method=\"google.longrunning.Operations/WaitOperation\"")
            == WAITS as f64
            && in_flight("rpc_method=\"google.longrunning.Operations/CancelOperation\"") == CANCELS as f64;
        is_complete.then_some(())
    })
    .await;
    calls
}

/// Sends one call after another, until a connection breaks. Returns the IDs of the answered calls.
async fn send_calls(channel: Channel, first: usize) -> Vec<usize> {
    let mut client = OperationsClient::new(channel);
    let mut answered = Vec::new();
    for id in first.. {
        let result = client.delete_operation(traced(id, DeleteOperationRequest { name: operation(3) })).await;
        if !is_answered(&result) {
            break;
        }
        answered.push(id);
    }
    answered
}

/// Asserts that no trace ID is in two lines, that the calls in flight have a line, and that the `answered` calls have
/// one.
fn assert_recorded(audit_log: &Path, answered: &[usize], ended: &Ended) {
    let log = std::fs::read_to_string(audit_log).unwrap();
    let trace_id_of =
        |line| serde_json::from_str::<Value>(line).unwrap()["trace_id"].as_str().unwrap().to_owned();
    let recorded: Vec<String> = log.lines().map(trace_id_of).collect();
    let distinct: BTreeSet<&str> = recorded.iter().map(|id| &**id).collect();
    assert_eq!(distinct.len(), recorded.len(), "one line per call");
    let missing = |id: &usize| !distinct.contains(&*trace_id(*id));
    let missing_in_flight = (0..WAITS + CANCELS).filter(missing).count();
    let missing_answered = answered.iter().copied().filter(missing).count();
    assert_eq!((missing_in_flight, missing_answered), (0, 0), "calls without a line: {}", ended.stderr);
}

#[tokio::test]
async fn each_call_that_the_drain_timeout_cuts_has_one_line() {
    let google = Google::start().await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("audit.jsonl");
    let service = start(&google, &log, "3s").await;
    let calls = begin_calls(&google, &service).await;
    service.process.signal(SIGTERM);
    let ended = service.process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("drain timed out with calls in flight"), "{ended:?}");
    assert_recorded(&log, &[], &ended);
    let answered = calls.join_all().await.into_iter().filter(|is_answered| *is_answered).count();
    // On a busy machine, the process may not send all responses before its end.
    assert!(answered > WAITS, "{answered}");
}

#[tokio::test]
async fn each_call_that_a_second_signal_cuts_has_one_line() {
    let google = Google::start().await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("audit.jsonl");
    let service = start(&google, &log, "10m").await;
    let calls = begin_calls(&google, &service).await;
    let mut load = JoinSet::new();
    for first in (FIRST_OF_LOAD..).step_by(FIRST_OF_LOAD).take(8) {
        load.spawn(send_calls(connect(service.address).await.unwrap(), first));
    }
    eventually("the load is answered", async || {
        std::fs::read_to_string(&log).unwrap().contains("DeleteOperation").then_some(())
    })
    .await;
    service.process.signal(SIGTERM);
    service.process.stderr.has("draining").await;
    service.process.signal(SIGTERM);
    let ended = service.process.end().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let answered = load.join_all().await.concat();
    assert_recorded(&log, &answered, &ended);
    calls.join_all().await;
}
