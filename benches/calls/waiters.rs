//! The cost of a waiter: many calls of WaitOperation on a few operations that stay pending.
//!
//! The upstream runs in this process, so that its queries can be counted; the upstream of the other rows serves
//! the tokens. All waits have the same `timeout`. Each must be answered with the latest state and not before its
//! timeout, so that a target cannot save memory by ending waits early.

use std::fs;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prost::Message;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use crate::files::Paths;
use crate::grpc::{Connection, Head, Pending};
use crate::process::{Cores, Meter};
use crate::target::{self, COUNTERMAND, Configuration, Target};
use crate::upstream::{OPERATIONS_OF_A_DEVICE, Upstream};
use crate::{Error, operation};

/// The number of devices.
pub(crate) const DEVICES: u64 = 10;

/// The number of operations.
pub(crate) const OPERATIONS: u64 = DEVICES * OPERATIONS_OF_A_DEVICE;

/// The `timeout` of every wait.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(15);

/// Countermand's interval between two queries grows to this.
pub(crate) const MAX_INTERVAL: Duration = Duration::from_secs(2);

/// From the last waiter's arrival until every interval has grown: 1 s and 1.5 s, and the jitter.
const GROWTH: Duration = Duration::from_secs(3);

/// Watching ends this long before the first waiter's timeout.
const MARGIN: Duration = Duration::from_millis(500);

/// A shorter time gives no reliable rate of queries.
const MIN_WATCHED: Duration = Duration::from_secs(4);

/// The `grpc-timeout` of a wait, longer than the wait's own `timeout`.
const DEADLINE: Duration = Duration::from_secs(60);

/// All waits are answered this long after their timeout.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Below the number of streams that Countermand allows.
const WAITERS_PER_CONNECTION: u32 = 1000;

/// Between two samples of the memory.
const MEMORY_SAMPLING: Duration = Duration::from_millis(100);

/// Measurements of Countermand before, during and after the waits. Memory is in bytes.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) waiters: u32,
    /// Resident before the first wait.
    pub(crate) before: u64,
    /// The most seen resident while all waited.
    pub(crate) during: u64,
    /// The most ever resident, also while all were answered.
    pub(crate) peak: u64,
    /// Upstream calls until all waited and the intervals had grown.
    pub(crate) queries_of_arrival: u64,
    /// Upstream calls while `watched`.
    pub(crate) queries: u64,
    /// How long the waiters were watched.
    pub(crate) watched: Duration,
}

/// Holds `waiters` waits open, and lets them end.
///
/// # Errors
///
/// When a wait fails, ends before its timeout, is answered wrongly or not at all, and when the waiters take too
/// long to arrive.
pub(crate) async fn measure(
    waiters: NonZeroU32,
    paths: &Paths,
    cores: Option<&Cores>,
) -> Result<Held, Error> {
    let waiters = waiters.get();
    let (upstream, address) = Upstream::start(paths, false).await?;
    fs::write(paths.settings(), settings(waiters))?;
    let configuration = Configuration::with_settings(paths, &paths.settings());
    let program = Path::new(COUNTERMAND);
    let (mut countermand, _) =
        target::countermand("countermand wait", program, paths, address, &configuration, cores).await?;
    match hold(&countermand, waiters, &upstream.calls).await {
        Ok(held) => Ok(held),
        Err(error) => Err(countermand.process.explain(error).await),
    }
}

/// Permits for all waiters, and intervals that grow to the longest within the run.
fn settings(waiters: u32) -> String {
    format!(
        "[server]\nmax_concurrent_calls = {}\n[polling]\nmin_interval = \"1s\"\nmax_interval = \"{}s\"\n",
        waiters.saturating_add(100),
        MAX_INTERVAL.as_secs()
    )
}

async fn hold(target: &Target, waiters: u32, queries: &AtomicU64) -> Result<Held, Error> {
    let meter = Meter::of(target.process.id()?)?;
    let before = meter.resident()?;
    let first_sent = Instant::now();
    let mut answers = arrive(target, waiters).await?;
    sleep(GROWTH).await;

    let start = Instant::now();
    let queries_of_arrival = queries.load(Ordering::Relaxed);
    let end = first_sent + TIMEOUT - MARGIN;
    let watched = end.saturating_duration_since(start);
    if watched < MIN_WATCHED {
        let took = start - first_sent;
        return Err(format!("the waiters took {took:?} to settle, too long for {TIMEOUT:?}").into());
    }
    let mut during = 0;
    let mut tick = interval(MEMORY_SAMPLING);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut until = std::pin::pin!(sleep_until(end));
    loop {
        tokio::select! {
            Some(answered) = answers.join_next() => {
                answered??;
                return Err("a wait ended before its timeout".into());
            }
            _ = tick.tick() => during = during.max(meter.resident()?),
            () = &mut until => break,
        }
    }
    let queries = queries.load(Ordering::Relaxed) - queries_of_arrival;
    let watched = start.elapsed();

    let all = async {
        while let Some(answered) = answers.join_next().await {
            answered??;
        }
        Ok::<_, Error>(())
    };
    timeout(MARGIN + GROWTH + ANSWER_TIMEOUT, all).await.map_err(|_| "waiters are still unanswered")??;
    let peak = meter.peak_resident()?.max(during);
    Ok(Held { waiters, before, during, peak, queries_of_arrival, queries, watched })
}

/// Sends all waits, and returns when Countermand has received them all. The tasks end with the answers.
async fn arrive(target: &Target, waiters: u32) -> Result<JoinSet<Result<(), Error>>, Error> {
    let mut answers = JoinSet::new();
    let numbers: Vec<u64> = (0..u64::from(waiters)).collect();
    for numbers in numbers.chunks(WAITERS_PER_CONNECTION as usize) {
        let connection = Connection::open(&target.endpoint).await?;
        let head = connection.head("/google.longrunning.Operations/WaitOperation", DEADLINE)?;
        for number in numbers {
            answers.spawn(wait(&connection, &head, number % OPERATIONS).await?);
        }
        // Countermand starts the calls of a connection in order: once this one is answered, all others wait.
        target::expect_serving(&connection).await?;
    }
    Ok(answers)
}

/// Sends a wait for the operation with this number. The future ends with its answer.
async fn wait(
    connection: &Connection,
    head: &Head,
    number: u64,
) -> Result<impl Future<Output = Result<(), Error>> + use<>, Error> {
    let name = operation::name(number % DEVICES, number / DEVICES);
    let timeout = prost_types::Duration { seconds: TIMEOUT.as_secs().cast_signed(), nanos: 0 };
    let request = WaitOperationRequest { name: name.clone(), timeout: Some(timeout) };
    let sent = Instant::now();
    let pending = connection.begin(head, &request.encode_to_vec()).await?;
    Ok(answered(pending, name, sent))
}

async fn answered(pending: Pending, name: String, sent: Instant) -> Result<(), Error> {
    let answer = pending.answer().await.map_err(|error| format!("a wait for {name}: {error}"))?;
    let held = sent.elapsed();
    if held < TIMEOUT {
        return Err(format!("a wait for {name} ended after {held:?}, not {TIMEOUT:?}").into());
    }
    if !operation::is(&answer, name.clone(), false) {
        return Err(format!("a wait for {name} was answered wrongly: {answer:?}").into());
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
