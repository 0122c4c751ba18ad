//! The cost of a waiter: many calls of WaitOperation on a few operations that stay pending.
//!
//! The upstream runs in this process, so that its queries can be counted. The upstream of the other rows issues the
//! tokens. All waits have the same `timeout`. Each must return the latest state at its timeout, so that a target
//! gains nothing from ending waits early.

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

/// The maximum interval between two queries of Countermand.
pub(crate) const MAX_INTERVAL: Duration = Duration::from_secs(2);

/// The time from the last wait until every interval has reached the maximum: 1 s and 1.5 s, and the jitter.
const INTERVAL_GROWTH_TIME: Duration = Duration::from_secs(3);

/// The measurement ends this time before the timeout of the first wait.
const TIMEOUT_MARGIN: Duration = Duration::from_millis(500);

/// The minimum duration of the measurement, for a reliable rate of queries.
const MIN_MEASUREMENT: Duration = Duration::from_secs(4);

/// The `grpc-timeout` of a wait, longer than the wait's own `timeout`.
const CALL_DEADLINE: Duration = Duration::from_secs(60);

/// The time limit for all responses after their timeout.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// The number of waits per connection, which is below Countermand's limit of streams.
const WAITERS_PER_CONNECTION: u32 = 1000;

/// Measurements of Countermand before, during and after the waits. Memory is in bytes.
#[derive(Debug)]
pub(crate) struct WaiterCost {
    /// The resident memory before the first wait.
    pub(crate) before: u64,
    /// The resident memory at the end of the measurement, while all wait.
    pub(crate) during: u64,
    /// The peak of the resident memory, including the time of the responses.
    pub(crate) peak: u64,
    /// The rate of upstream calls at the maximum interval.
    pub(crate) queries_per_second: f64,
}

/// Holds `waiters` waits open until their timeout, and measures their cost.
pub(crate) async fn measure(waiters: u32, files: &Files, cores: Option<&Cores>) -> Result<WaiterCost, Error> {
    let (calls, address) = upstream::start(files).await?;
    let settings = files.directory.join("countermand.toml");
    // The settings allow all waits, and the intervals reach the maximum within the run.
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
    let mut responses = start_waits(target, waiters).await?;
    sleep(INTERVAL_GROWTH_TIME).await;

    let start = Instant::now();
    let calls_before = calls.load(Ordering::Relaxed);
    let end = first_sent + WAIT - TIMEOUT_MARGIN;
    if end.saturating_duration_since(start) < MIN_MEASUREMENT {
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
    timeout(TIMEOUT_MARGIN + INTERVAL_GROWTH_TIME + RESPONSE_TIMEOUT, all)
        .await
        .map_err(|_| "waits without a response")??;
    Ok(WaiterCost { before, during, peak: meter.peak_resident()?, queries_per_second })
}

/// Sends all waits, and returns when Countermand has received them. The tasks end with the responses.
async fn start_waits(target: &Target, waiters: u32) -> Result<JoinSet<Result<(), Error>>, Error> {
    let mut responses = JoinSet::new();
    let numbers: Vec<u64> = (0..u64::from(waiters)).collect();
    for numbers in numbers.chunks(WAITERS_PER_CONNECTION as usize) {
        let connection = Connection::open(&target.endpoint).await?;
        let head = connection.head("/google.longrunning.Operations/WaitOperation", CALL_DEADLINE)?;
        for number in numbers {
            responses.spawn(wait(&connection, &head, number % OPERATIONS).await?);
        }
        // Countermand starts the calls of a connection in order, so all waits have started when this call is answered.
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

/// `google.longrunning.WaitOperationRequest`, independent of Countermand's generated code.
#[derive(Clone, PartialEq, Message)]
struct WaitOperationRequest {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    timeout: Option<prost_types::Duration>,
}
