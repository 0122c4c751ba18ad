//! What a waiter costs: many calls of WaitOperation on a few operations that stay pending.
//!
//! The upstream is one of this process's own, so that its queries can be counted; tokens come from the
//! other. All waits have the same `timeout` and are held for it. Each must be answered with the latest
//! state and not before its time: a proxy could look frugal by letting its waiters go.

use std::fs;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use crate::accounting::Meter;
use crate::configuration::Configuration;
use crate::files::Paths;
use crate::grpc::{Connection, Head, Pending};
use crate::pinning::Cores;
use crate::target::{self, Target};
use crate::upstream::{OPERATIONS_OF_A_DEVICE, Upstream};
use crate::{Fault, operation, tls};

/// The devices whose operations are awaited.
pub(crate) const DEVICES: u64 = 10;

/// The operations that are awaited.
pub(crate) const OPERATIONS: u64 = DEVICES * OPERATIONS_OF_A_DEVICE;

/// The `timeout` of every wait.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(15);

/// What Countermand's interval between two queries grows to.
pub(crate) const LONGEST_INTERVAL: Duration = Duration::from_secs(2);

/// From the last waiter's coming until every interval has grown: 1 s and 1.5 s, and the jitter.
const GROWTH: Duration = Duration::from_secs(3);

/// Before the first waiter's time is up, watching ends.
const MARGIN: Duration = Duration::from_millis(500);

/// Less than this leaves the queries a second to chance.
const LEAST_WATCHED: Duration = Duration::from_secs(4);

/// The `grpc-timeout` of a wait: far enough away to leave the word to the wait's own `timeout`.
const DEADLINE: Duration = Duration::from_secs(60);

/// By when all are answered, after their time is up.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// On one connection, with room left below the streams that Countermand allows.
const WAITERS_OF_A_CONNECTION: u32 = 1000;

/// Between two looks at the memory.
const MEMORY_SAMPLING: Duration = Duration::from_millis(100);

/// What was seen of Countermand before, under and after its waiters. Memory is in bytes.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) waiters: u32,
    /// Resident while it served nobody.
    pub(crate) before: u64,
    /// The most seen resident while all waited.
    pub(crate) under: u64,
    /// The most ever resident, with the burst in which all were answered.
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
/// When a wait fails, ends before its time, is answered wrongly or not at all; when the waiters take so
/// long to come that there is no time left to watch them.
pub(crate) async fn measure(
    waiters: NonZeroU32,
    paths: &Paths,
    cores: Option<&Cores>,
) -> Result<Held, Fault> {
    let waiters = waiters.get();
    let upstream = Arc::new(Upstream { finished: false, queries: AtomicU64::default() });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    fs::write(paths.settings(), settings(waiters))?;
    let serving = Arc::clone(&upstream).serve(listener, tls::acceptor(paths)?);
    let held = async {
        let configuration = Configuration::with_settings(paths, &paths.settings());
        let (mut countermand, _) =
            target::countermand("countermand wait", paths, address, &configuration, cores).await?;
        match hold(&countermand, waiters, &upstream.queries).await {
            Ok(held) => Ok(held),
            Err(fault) => Err(countermand.child.explain(fault).await),
        }
    };
    tokio::select! {
        held = held => held,
        ended = serving => Err(ended.err().unwrap_or_else(|| "the upstream ended".into())),
    }
}

/// Room for all waiters, and intervals that grow to their longest within the run.
fn settings(waiters: u32) -> String {
    format!(
        "[server]\nmax_concurrent_calls = {}\n[polling]\nmin_interval = \"1s\"\nmax_interval = \"{}s\"\n",
        waiters.saturating_add(100),
        LONGEST_INTERVAL.as_secs()
    )
}

async fn hold(target: &Target, waiters: u32, queries: &AtomicU64) -> Result<Held, Fault> {
    let meter = Meter::of(target.child.id()?)?;
    let before = meter.resident()?;
    let first_sent = Instant::now();
    let mut answers = arrive(target, waiters).await?;
    sleep(GROWTH).await;

    let start = Instant::now();
    let queries_of_arrival = queries.load(Ordering::Relaxed);
    let end = first_sent + TIMEOUT - MARGIN;
    let watched = end.saturating_duration_since(start);
    if watched < LEAST_WATCHED {
        let took = start - first_sent;
        return Err(format!("the waiters took {took:?} to settle, too long for {TIMEOUT:?}").into());
    }
    let mut under = 0;
    let mut look = interval(MEMORY_SAMPLING);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut until = std::pin::pin!(sleep_until(end));
    loop {
        tokio::select! {
            Some(answered) = answers.join_next() => {
                answered??;
                return Err("a waiter was let go before its time".into());
            }
            _ = look.tick() => under = under.max(meter.resident()?),
            () = &mut until => break,
        }
    }
    let queries = queries.load(Ordering::Relaxed) - queries_of_arrival;
    let watched = start.elapsed();

    let all = async {
        while let Some(answered) = answers.join_next().await {
            answered??;
        }
        Ok::<_, Fault>(())
    };
    timeout(MARGIN + GROWTH + ANSWER_LIMIT, all).await.map_err(|_| "waiters are still unanswered")??;
    let peak = meter.peak_resident()?.max(under);
    Ok(Held { waiters, before, under, peak, queries_of_arrival, queries, watched })
}

/// Sends all waits and returns when Countermand has taken them all; what is returned ends with their
/// answers.
async fn arrive(target: &Target, waiters: u32) -> Result<JoinSet<Result<(), Fault>>, Fault> {
    let mut answers = JoinSet::new();
    let numbers: Vec<u64> = (0..u64::from(waiters)).collect();
    for numbers in numbers.chunks(WAITERS_OF_A_CONNECTION as usize) {
        let connection = Connection::open(&target.door).await?;
        let head = connection.head("/google.longrunning.Operations/WaitOperation", DEADLINE)?;
        for number in numbers {
            answers.spawn(wait(&connection, &head, number % OPERATIONS).await?);
        }
        // A connection's calls are begun in their order: once this one is answered, all others wait.
        target::expect_serving(&connection).await?;
    }
    Ok(answers)
}

/// Sends a wait for the operation with this number; what is returned ends with its answer.
async fn wait(
    connection: &Connection,
    head: &Head,
    number: u64,
) -> Result<impl Future<Output = Result<(), Fault>> + use<>, Fault> {
    let name = operation::name(number % DEVICES, number / DEVICES);
    let timeout = prost_types::Duration { seconds: TIMEOUT.as_secs().cast_signed(), nanos: 0 };
    let request = WaitOperationRequest { name: name.clone(), timeout: Some(timeout) };
    let sent = Instant::now();
    let pending = connection.begin(head, &request.encode_to_vec()).await?;
    Ok(answered(pending, name, sent))
}

async fn answered(pending: Pending, name: String, sent: Instant) -> Result<(), Fault> {
    let answer = pending.answer().await.map_err(|fault| format!("a wait for {name}: {fault}"))?;
    let held = sent.elapsed();
    if held < TIMEOUT {
        return Err(format!("a wait for {name} ended after {held:?}, not {TIMEOUT:?}").into());
    }
    if !operation::is(&answer, name.clone(), false) {
        return Err(format!("a wait for {name} was answered wrongly: {answer:?}").into());
    }
    Ok(())
}

/// `google.longrunning.WaitOperationRequest`, kept apart from the generated code of what is measured.
#[derive(Clone, PartialEq, Message)]
struct WaitOperationRequest {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    timeout: Option<prost_types::Duration>,
}
