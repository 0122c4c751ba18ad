//! The cost of a waiter: many calls of WaitOperation on a few operations that stay pending.
//!
//! The upstream runs in this process, so that its queries can be counted; the upstream of the other rows serves
//! the tokens. All waits have the same `timeout`. Each must be answered with the latest state and not before its
//! timeout, so that a target cannot save memory by ending waits early.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prost::Message;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::files::Files;
use crate::grpc::{Connection, Head, Pending};
use crate::process::{Cores, Meter};
use crate::target::{self, COUNTERMAND, Configuration, Target};
use crate::upstream::{self, OPERATIONS_OF_A_DEVICE};
use crate::{Error, operation};

pub(crate) const DEVICES: u64 = 10;
pub(crate) const OPERATIONS: u64 = DEVICES * OPERATIONS_OF_A_DEVICE;

/// The `timeout` of every wait.
pub(crate) const WAIT: Duration = Duration::from_secs(15);

/// Countermand's interval between two queries grows to this.
pub(crate) const MAX_INTERVAL: Duration = Duration::from_secs(2);

/// From the last waiter's arrival until every interval has grown: 1 s and 1.5 s, and the jitter.
const GROWTH: Duration = Duration::from_secs(3);

/// Watching ends this long before the first waiter's timeout.
const MARGIN: Duration = Duration::from_millis(500);

/// A shorter time gives no reliable rate of queries.
const MIN_WATCHED: Duration = Duration::from_secs(4);

/// The `grpc-timeout` of a wait, longer than the wait's own `timeout`.
const CALL_DEADLINE: Duration = Duration::from_secs(60);

/// All waits are answered this long after their timeout.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// Below the number of streams that Countermand allows.
const WAITERS_PER_CONNECTION: u32 = 1000;

/// Measurements of Countermand before, during and after the waits. Memory is in bytes.
#[derive(Debug)]
pub(crate) struct WaiterCost {
    /// Resident before the first wait.
    pub(crate) before: u64,
    /// Resident while all wait, at the end.
    pub(crate) during: u64,
    /// The most ever resident, also while all were answered.
    pub(crate) peak: u64,
    /// Upstream calls a second, once the intervals have grown.
    pub(crate) queries_per_second: f64,
}

/// Holds `waiters` waits open, and lets them end.
pub(crate) async fn measure(waiters: u32, files: &Files, cores: Option<&Cores>) -> Result<WaiterCost, Error> {
    let (calls, address) = upstream::start(files).await?;
    let settings = files.directory.join("countermand.toml");
    // Permits for all waiters, and intervals that grow to the longest within the run.
    let text = format!(
        "[server]\nmax_concurrent_calls = {}\n[polling]\nmin_interval = \"1s\"\nmax_interval = \"{}s\"\n",
        waiters.saturating_add(100),
        MAX_INTERVAL.as_secs()
    );
    fs::write(&settings, text)?;
    let configuration = Configuration::with_settings(files, &settings);
    let program = Path::new(COUNTERMAND);
    let (mut countermand, _) =
        target::countermand("countermand wait", program, files, address, &configuration, cores).await?;
    match hold(&countermand, waiters, &calls).await {
        Ok(cost) => Ok(cost),
        Err(error) => Err(countermand.process.explain(error).await),
    }
}

async fn hold(target: &Target, waiters: u32, calls: &AtomicU64) -> Result<WaiterCost, Error> {
    let meter = Meter::of(target.process.id()?)?;
    let before = meter.resident()?;
    let first_sent = Instant::now();
    let mut responses = arrive(target, waiters).await?;
    sleep(GROWTH).await;

    let start = Instant::now();
    let calls_before = calls.load(Ordering::Relaxed);
    let end = first_sent + WAIT - MARGIN;
    if end.saturating_duration_since(start) < MIN_WATCHED {
        let took = start - first_sent;
        return Err(format!("the waiters took {took:?} to settle, too long for {WAIT:?}").into());
    }
    tokio::select! {
        Some(answered) = responses.join_next() => {
            answered??;
            return Err("a wait ended before its timeout".into());
        }
        () = sleep_until(end) => {}
    }
    let during = meter.resident()?;
    let queries = calls.load(Ordering::Relaxed) - calls_before;
    let queries_per_second = queries as f64 / start.elapsed().as_secs_f64();

    let all = async {
        while let Some(answered) = responses.join_next().await {
            answered??;
        }
        Ok::<_, Error>(())
    };
    timeout(MARGIN + GROWTH + RESPONSE_TIMEOUT, all).await.map_err(|_| "waiters are still unanswered")??;
    Ok(WaiterCost { before, during, peak: meter.peak_resident()?, queries_per_second })
}

/// Sends all waits, and returns when Countermand has received them all. The tasks end with the responses.
async fn arrive(target: &Target, waiters: u32) -> Result<JoinSet<Result<(), Error>>, Error> {
    let mut responses = JoinSet::new();
    let numbers: Vec<u64> = (0..u64::from(waiters)).collect();
    for numbers in numbers.chunks(WAITERS_PER_CONNECTION as usize) {
        let connection = Connection::open(&target.endpoint).await?;
        let head = connection.head("/google.longrunning.Operations/WaitOperation", CALL_DEADLINE)?;
        for number in numbers {
            responses.spawn(wait(&connection, &head, number % OPERATIONS).await?);
        }
        // Countermand starts the calls of a connection in order: once this one is answered, all others wait.
        target::expect_serving(&connection).await?;
    }
    Ok(responses)
}

/// Sends a wait for the operation with this number. The future ends with its response.
async fn wait(
    connection: &Connection,
    head: &Head,
    number: u64,
) -> Result<impl Future<Output = Result<(), Error>> + use<>, Error> {
    let name = operation::name(operation::ENTERPRISE, number % DEVICES, number / DEVICES);
    let timeout = prost_types::Duration { seconds: WAIT.as_secs().cast_signed(), nanos: 0 };
    let request = WaitOperationRequest { name: name.clone(), timeout: Some(timeout) };
    let sent = Instant::now();
    let pending = connection.begin(head, &request.encode_to_vec()).await?;
    Ok(answered(pending, name, sent))
}

async fn answered(pending: Pending, name: String, sent: Instant) -> Result<(), Error> {
    let message = pending.message().await.map_err(|error| format!("a wait for {name}: {error}"))?;
    let elapsed = sent.elapsed();
    if elapsed < WAIT {
        return Err(format!("a wait for {name} ended after {elapsed:?}, not {WAIT:?}").into());
    }
    if !operation::is(&message, &name) {
        return Err(format!("a wait for {name} was answered with another operation: {message:?}").into());
    }
    Ok(())
}

/// `google.longrunning.WaitOperationRequest`, declared apart from Countermand's generated code.
#[derive(Clone, PartialEq, Message)]
struct WaitOperationRequest {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    timeout: Option<prost_types::Duration>,
}
