//! The quota of a Google project: turns, refusals, holds and shadow mode.

use std::{ops::RangeInclusive, time::Duration};

use countermand::proto::longrunning::WaitOperationRequest;
use prost::Message;
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{
    details::{OUR_DOMAIN, decode},
    grpc::{GET, WAIT, Wire, by_name},
    metrics::{Scrape, scrape_until},
    reply::Reply,
    service::Service,
};

mod deadlines;
mod disconnects;
mod lists;
mod polls;
mod refusals;
mod shadow;
mod shared;
mod turns;

const SECOND: Duration = Duration::from_secs(1);

/// The quota of tests in which few queries leave: after a burst, one every 20 seconds. Polls have one query of the burst,
/// reads two, and cancels three.
const ONE_IN_20_SECONDS: &str = "limit = 4\nperiod = \"20s\"\nburst = 3";

/// As [`ONE_IN_20_SECONDS`], for tests in which no query that must wait leaves.
const ONE_IN_200_SECONDS: &str = "limit = 4\nperiod = \"200s\"\nburst = 3";

/// A quota that no test spends.
const PLENTY: &str = "limit = 100000\nperiod = \"60s\"";

/// The operation with this id.
fn name(id: usize) -> String {
    format!("enterprises/LC01/devices/d{id}/operations/{id}")
}

/// Google's response to a get of an operation that is not done.
fn pending() -> Reply {
    Reply::json(
        200,
        &json!({"name": name(1), "metadata": {"@type": "type.googleapis.com/x", "type": "LOCK"}}),
    )
}

/// The headers of a call with this timeout.
fn timeout(timeout: Duration) -> [(&'static str, String); 1] {
    [("grpc-timeout", format!("{}m", timeout.as_millis()))]
}

/// Calls GetOperation with this timeout, and returns its status.
async fn get(wire: &Wire, id: usize, limit: Duration) -> Status {
    let [(header, value)] = timeout(limit);
    wire.start_raw(GET, &[(header, &value)], &by_name(&name(id))).await.response().await.status()
}

/// The message of a WaitOperation for at most `limit`.
fn wait_message(id: usize, limit: Duration) -> Vec<u8> {
    let timeout = Some(limit.try_into().unwrap());
    WaitOperationRequest { name: name(id), timeout }.encode_to_vec()
}

/// Calls WaitOperation for at most `limit`, and returns its status.
async fn wait(wire: &Wire, id: usize, limit: Duration) -> Status {
    wire.start_raw(WAIT, &[], &wait_message(id, limit)).await.response().await.status()
}

/// The number of queries of a class with this decision.
async fn decisions(service: &Service, class: &str, decision: &str) -> f64 {
    let labels = [format!("class=\"{class}\""), format!("decision=\"{decision}\"")];
    let page = Scrape::of(service.admin).await;
    page.find("countermand_quota_queries_total", &[&labels[0], &labels[1]]).unwrap_or_default()
}

/// The number of turns that queries of a class have had.
async fn turns(service: &Service, class: &str) -> f64 {
    decisions(service, class, "immediate").await + decisions(service, class, "delayed").await
}

/// Waits until a poll waits for its turn.
async fn a_poll_waits(service: &Service) {
    scrape_until("a poll waits", service.admin, |page| {
        page.find("countermand_quota_queued_queries", &["class=\"poll\""]) == Some(1.0)
    })
    .await;
}

/// Asserts that a call was refused for the budget of the tests' project, with its turn in a time of this range.
#[track_caller]
fn assert_over_budget(status: &Status, turn_in: RangeInclusive<Duration>) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!((&*info.reason, &*info.domain), ("QUOTA_BUDGET", OUR_DOMAIN));
    let delay = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(turn_in.contains(&delay), "{delay:?} is not in {turn_in:?}");
    let violations = status.get_details_quota_failure().unwrap().violations;
    assert_eq!(violations.len(), 1);
    assert!(violations[0].subject.starts_with("project:"), "{violations:?}");
    assert_eq!(decode(status).details.len(), 3);
}
