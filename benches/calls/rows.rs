//! The rows of the benchmark. A row is a workload against a target.
//!
//! Rows take turns round by round (A B A B …): other load on the machine then affects all of them alike, and a
//! ratio is taken within a round. In a round, callers make one call after another over a few kept connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::Error;
use crate::grpc::{Connection, Endpoint, Head};
use crate::options::Options;
use crate::process::Meter;
use crate::target::Target;
use crate::workload::Workload;

/// Between two samples of a target's memory.
const MEMORY_SAMPLING: Duration = Duration::from_millis(25);

/// The deadline of each call, as Google's Go client sets it by default.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// A round is far shorter, unless a call is never answered.
const ROUND_TIMEOUT: Duration = Duration::from_secs(120);

/// A workload against a target, with its measurements.
#[derive(Debug)]
pub(crate) struct Row {
    /// The target's name in the report.
    pub(crate) target_name: &'static str,
    pub(crate) workload: &'static Workload,
    /// One per round.
    pub(crate) samples: Vec<Sample>,
    /// The most memory that was ever resident in the target, in bytes.
    pub(crate) peak_resident: u64,
    target: Target,
    meter: Meter,
    load: Load,
}

/// One round of one row.
#[derive(Debug)]
pub(crate) struct Sample {
    /// CPU time of the target, user and system, divided by the calls.
    pub(crate) cpu_per_call: Duration,
    /// The share of the round that the target was on a core: 1.0 is one core, busy throughout.
    pub(crate) busy: f64,
    pub(crate) calls_per_second: f64,
    /// The 50th percentile of the latencies.
    pub(crate) p50: Duration,
    /// The 99th percentile of the latencies.
    pub(crate) p99: Duration,
    /// The most memory seen resident in the round, in bytes.
    pub(crate) resident: u64,
}

/// The callers of a workload, connected to its target.
#[derive(Debug)]
struct Load {
    workload: &'static Workload,
    head: Head,
    connections: Vec<Connection>,
    callers: usize,
    /// In a round.
    calls: u64,
    /// The number of the next call. It is counted through all rounds, so that no number repeats.
    next: Arc<AtomicU64>,
}

/// The latencies of a round.
#[derive(Debug)]
struct Latencies {
    /// From the first call's start to the last call's end.
    elapsed: Duration,
    /// One per call, shortest first.
    sorted: Vec<Duration>,
}

impl Row {
    /// Connects the callers, and warms the target up with a round that is not counted.
    ///
    /// # Errors
    ///
    /// As [`measure`].
    pub(crate) async fn prepare(
        target_name: &'static str,
        mut target: Target,
        workload: &'static Workload,
        options: &Options,
    ) -> Result<Self, Error> {
        let meter = Meter::of(target.process.id()?)?;
        let warm = async {
            let load = Load::connect(workload, &target.endpoint, options).await?;
            load.round().await?;
            Ok(load)
        };
        let load = match warm.await {
            Ok(load) => load,
            Err(error) => return Err(target.process.explain(error).await),
        };
        Ok(Self { target_name, workload, samples: Vec::new(), peak_resident: 0, target, meter, load })
    }

    /// Whether its callers use TLS. The callers of its baseline then do, too.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.target.endpoint.tls.is_some()
    }

    /// The calls of all rounds and of the warm-up.
    pub(crate) fn calls(&self) -> u64 {
        self.load.next.load(Ordering::Relaxed)
    }

    async fn sample(&self) -> Result<Sample, Error> {
        let mut resident = 0;
        let mut tick = interval(MEMORY_SAMPLING);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let before = self.meter.cpu()?;
        let mut round = std::pin::pin!(self.load.round());
        let latencies = loop {
            tokio::select! {
                latencies = &mut round => break latencies?,
                _ = tick.tick() => resident = resident.max(self.meter.resident()?),
            }
        };
        let cpu = self.meter.cpu()?.saturating_sub(before);
        let elapsed = latencies.elapsed.as_secs_f64();
        let calls = self.load.calls as f64;
        Ok(Sample {
            cpu_per_call: cpu.div_f64(calls),
            busy: cpu.as_secs_f64() / elapsed,
            calls_per_second: calls / elapsed,
            p50: percentile(&latencies.sorted, 50),
            p99: percentile(&latencies.sorted, 99),
            resident,
        })
    }
}

/// Measures the rows in turns.
///
/// # Errors
///
/// At the first call that fails or is answered wrongly, and when a target dies.
pub(crate) async fn measure(rows: &mut [Row], options: &Options) -> Result<(), Error> {
    for _ in 0..options.rounds {
        for row in &mut *rows {
            match row.sample().await {
                Ok(sample) => row.samples.push(sample),
                Err(error) => return Err(row.target.process.explain(error).await),
            }
        }
    }
    for row in rows {
        row.target.process.expect_alive().await?;
        // The kernel's high-water mark may lag behind the last sample.
        let seen = row.samples.iter().map(|sample| sample.resident);
        row.peak_resident = seen.fold(row.meter.peak_resident()?, u64::max);
    }
    Ok(())
}

impl Load {
    async fn connect(
        workload: &'static Workload,
        endpoint: &Endpoint,
        options: &Options,
    ) -> Result<Self, Error> {
        let first = Connection::open(endpoint).await?;
        let head = first.head(workload.method, CALL_DEADLINE)?;
        let mut connections = vec![first];
        for _ in 1..options.connections {
            connections.push(Connection::open(endpoint).await?);
        }
        let callers = workload.simultaneous.unwrap_or(options.in_flight);
        // Callers that start together make equally many calls.
        let calls = match workload.simultaneous {
            Some(callers) => options.calls.next_multiple_of(callers.into()),
            None => options.calls,
        };
        Ok(Self { workload, head, connections, callers: callers as usize, calls, next: Arc::default() })
    }

    /// Makes the calls of a round.
    ///
    /// # Errors
    ///
    /// At the first call that fails or is answered wrongly, and when the calls do not end.
    async fn round(&self) -> Result<Latencies, Error> {
        let limit = self.next.load(Ordering::Relaxed) + self.calls;
        let together = self.workload.simultaneous.map(|_| Arc::new(Barrier::new(self.callers)));
        let start = Instant::now();
        let mut callers = JoinSet::new();
        for connection in self.connections.iter().cycle().take(self.callers) {
            callers.spawn(caller(
                self.workload,
                connection.clone(),
                self.head.clone(),
                self.next.clone(),
                limit,
                together.clone(),
            ));
        }
        let mut sorted = Vec::with_capacity(usize::try_from(self.calls)?);
        let joined = async {
            while let Some(caller) = callers.join_next().await {
                sorted.extend(caller??);
            }
            Ok::<_, Error>(())
        };
        tokio::time::timeout(ROUND_TIMEOUT, joined)
            .await
            .map_err(|_| format!("calls still unanswered after {ROUND_TIMEOUT:?}"))??;
        let elapsed = start.elapsed();
        // Each caller took one number more than it used.
        self.next.store(limit, Ordering::Relaxed);
        sorted.sort_unstable();
        Ok(Latencies { elapsed, sorted })
    }
}

async fn caller(
    workload: &'static Workload,
    connection: Connection,
    head: Head,
    next: Arc<AtomicU64>,
    limit: u64,
    together: Option<Arc<Barrier>>,
) -> Result<Vec<Duration>, Error> {
    let mut latencies = Vec::new();
    loop {
        if let Some(together) = &together {
            together.wait().await;
        }
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= limit {
            return Ok(latencies);
        }
        let request = (workload.request)(number);
        let start = Instant::now();
        let answer = connection.call(&head, &request).await?;
        latencies.push(start.elapsed());
        if !(workload.is_right)(number, &answer) {
            return Err(format!("call {number} was answered wrongly: {answer:?}").into());
        }
    }
}

/// The value that `percent` of `sorted` do not exceed; `sorted` is not empty.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}
