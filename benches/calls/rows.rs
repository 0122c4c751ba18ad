//! The rows of the benchmark. A row is a workload against a target.
//!
//! Rows take turns round by round (A B A B …), so that other load on the machine affects all rows alike. Ratios are
//! computed within a round. In a round, each caller makes one call after another over a few open connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::grpc::{Connection, Head};
use crate::process::Meter;
use crate::target::Target;
use crate::{CREDENTIALS, Error, Options, account, operation};

/// The `:path` of all rows.
pub(crate) const CANCEL_METHOD: &str = "/google.longrunning.Operations/CancelOperation";

/// The number of open connections to each target.
pub(crate) const CONNECTIONS: usize = 4;

/// The number of concurrent calls, distributed over the connections.
pub(crate) const CALLERS: usize = 100;

/// The interval between two samples of a target's memory.
const MEMORY_SAMPLE_INTERVAL: Duration = Duration::from_millis(25);

/// The deadline of each call, which is the default of Google's Go client.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// The timeout of a round, which is reached only if a call gets no response.
const ROUND_TIMEOUT: Duration = Duration::from_secs(120);

/// A kind of cancels, and the goals of Countermand.
#[derive(Debug)]
pub(crate) struct Workload {
    /// The name in the report.
    pub(crate) name: &'static str,
    /// The operation of the call with this number. Numbers never repeat in a run.
    name_of: fn(u64) -> String,
    /// Whether the callers start their calls together and wait for one another.
    simultaneous: bool,
    /// The goal for the CPU time per call, as a multiple of the baseline's.
    pub(crate) max_cpu: Option<f64>,
    /// The goal for the 99th percentile of the latency, as a multiple of the baseline's.
    pub(crate) max_p99: Option<f64>,
    /// The goal for the resident memory under load, in millions of bytes.
    pub(crate) max_resident: Option<f64>,
}

/// Cancels of distinct operations, so that no two calls share an upstream call.
pub(crate) const CANCEL: Workload = Workload {
    name: "cancel",
    name_of: |number| operation::name(operation::ENTERPRISE, number, number),
    simultaneous: false,
    max_cpu: Some(1.5),
    max_p99: Some(1.25),
    max_resident: Some(20.0),
};

/// The cancels of [`CANCEL`], without goals.
pub(crate) const CANCEL_COMPARED: Workload =
    Workload { max_cpu: None, max_p99: None, max_resident: None, ..CANCEL };

/// The cancels of [`CANCEL`] over mutual TLS: the baseline of [`CANCEL_GUARDED`].
pub(crate) const CANCEL_ENCRYPTED: Workload = Workload { name: "cancel, mutual TLS", ..CANCEL_COMPARED };

/// The cancels of [`CANCEL`] over mutual TLS, with a policy and an audit log in a file.
pub(crate) const CANCEL_GUARDED: Workload =
    Workload { name: "cancel, everything on", max_cpu: Some(1.7), max_resident: Some(24.0), ..CANCEL };

/// The cancels of [`CANCEL_GUARDED`], of which one in a hundred is traced.
pub(crate) const CANCEL_TRACED: Workload =
    Workload { name: "cancel, everything on, traces of 1 %", max_cpu: Some(1.7), ..CANCEL_COMPARED };

/// The cancels of [`CANCEL`], each of which waits for its turn in a quota that is never used up.
pub(crate) const CANCEL_PACED: Workload = Workload { name: "cancel, quota on, local", ..CANCEL_COMPARED };

/// The cancels of [`CANCEL_PACED`], with a quota that replicas share through Valkey.
pub(crate) const CANCEL_PACED_BY_ALL: Workload =
    Workload { name: "cancel, quota on, shared", ..CANCEL_COMPARED };

/// The cancels of [`CANCEL`] over a unix socket. The callers of the baseline use TCP.
pub(crate) const CANCEL_BY_SOCKET: Workload = Workload { name: "cancel, unix socket", ..CANCEL_COMPARED };

/// Cancels that use [`CREDENTIALS`] credentials in turn. In even turns the credential names the enterprise by its id,
/// in odd turns by a prefix. Names are as long as those of [`CANCEL`].
pub(crate) const CANCEL_ROUTED: Workload = Workload {
    name: "cancel, 500 credentials",
    name_of: |number| {
        let account = account(number % CREDENTIALS);
        let suffix = if (number / CREDENTIALS).is_multiple_of(2) { ".main" } else { "-site" };
        operation::name(&(account + suffix), number, number)
    },
    ..CANCEL_COMPARED
};

/// Simultaneous cancels of one operation by all [`CALLERS`], then of the next operation.
///
/// Countermand makes one upstream call for all callers. The relay makes one upstream call per caller, so its cost
/// does not depend on the names, and the baseline is that of [`CANCEL`].
pub(crate) const CANCEL_SHARED: Workload = Workload {
    name: "cancel shared by 100",
    name_of: |number| {
        let operation = number / CALLERS as u64;
        operation::name(operation::ENTERPRISE, operation, operation)
    },
    simultaneous: true,
    ..CANCEL_COMPARED
};

/// A workload against a target, with its measurements.
#[derive(Debug)]
pub(crate) struct Row {
    /// The target and the workload, as the report names them.
    pub(crate) name: String,
    /// "relay", "countermand", …
    pub(crate) target_name: &'static str,
    pub(crate) workload: &'static Workload,
    /// The measurements, one per round.
    pub(crate) samples: Vec<Sample>,
    target: Target,
    meter: Meter,
    head: Head,
    connections: Vec<Connection>,
    /// The number of calls in a round.
    calls: u64,
    /// The number of the next call. Numbers never repeat.
    next: Arc<AtomicU64>,
}

/// One round of one row.
#[derive(Debug)]
pub(crate) struct Sample {
    /// CPU time of the target, user and system, divided by the calls.
    pub(crate) cpu_per_call: Duration,
    pub(crate) calls_per_second: f64,
    /// The 99th percentile of the latencies.
    pub(crate) p99: Duration,
    /// The maximum of the sampled resident memory, in bytes.
    pub(crate) resident: u64,
}

impl Row {
    /// Connects the callers, and warms up the target with a round that is not measured.
    pub(crate) async fn prepare(
        target_name: &'static str,
        target: Target,
        workload: &'static Workload,
        options: &Options,
    ) -> Result<Self, Error> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Connection::open(&target.endpoint).await?);
        }
        let mut row = Self {
            name: format!("{target_name} {}", workload.name),
            target_name,
            workload,
            samples: Vec::new(),
            meter: Meter::of(target.process.id()?)?,
            target,
            head: connections[0].head(CANCEL_METHOD, CALL_DEADLINE)?,
            connections,
            // Callers that start together make equally many calls.
            calls: options.calls.next_multiple_of(CALLERS as u64),
            next: Arc::default(),
        };
        row.sample().await?;
        row.samples.clear();
        Ok(row)
    }

    /// Whether the callers use TLS. The callers of the baseline then use TLS too.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.target.endpoint.tls.is_some()
    }

    /// The number of calls so far, including the warm-up.
    pub(crate) fn calls(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Measures one round. If the target has ended, its exit is the error.
    pub(crate) async fn sample(&mut self) -> Result<(), Error> {
        let before = self.meter.cpu()?;
        let start = Instant::now();
        let mut resident = 0;
        let mut tick = interval(MEMORY_SAMPLE_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let round = {
            let mut round = std::pin::pin!(self.round());
            loop {
                tokio::select! {
                    round = &mut round => break round,
                    _ = tick.tick() => resident = resident.max(self.meter.resident()?),
                }
            }
        };
        let latencies = match round {
            Ok(latencies) => latencies,
            Err(error) => return Err(self.target.process.explain(error).await),
        };
        let elapsed = start.elapsed();
        let cpu = self.meter.cpu()?.saturating_sub(before);
        let calls = self.calls as f64;
        self.samples.push(Sample {
            cpu_per_call: cpu.div_f64(calls),
            calls_per_second: calls / elapsed.as_secs_f64(),
            // There is at least one call.
            p99: latencies[(latencies.len() * 99).div_ceil(100) - 1],
            resident,
        });
        Ok(())
    }

    /// Makes the calls of a round. Returns their latencies, shortest first.
    async fn round(&self) -> Result<Vec<Duration>, Error> {
        let limit = self.calls() + self.calls;
        let together = self.workload.simultaneous.then(|| Arc::new(Barrier::new(CALLERS)));
        let mut callers = JoinSet::new();
        for connection in self.connections.iter().cycle().take(CALLERS) {
            callers.spawn(caller(
                self.workload.name_of,
                connection.clone(),
                self.head.clone(),
                Arc::clone(&self.next),
                limit,
                together.clone(),
            ));
        }
        let mut latencies = Vec::new();
        let joined = async {
            while let Some(caller) = callers.join_next().await {
                latencies.extend(caller??);
            }
            Ok::<_, Error>(())
        };
        tokio::time::timeout(ROUND_TIMEOUT, joined)
            .await
            .map_err(|_| format!("calls without a response after {ROUND_TIMEOUT:?}"))??;
        // Each caller took one unused number.
        self.next.store(limit, Ordering::Relaxed);
        latencies.sort_unstable();
        Ok(latencies)
    }
}

async fn caller(
    name_of: fn(u64) -> String,
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
        let request = CancelOperationRequest { name: name_of(number) }.encode_to_vec();
        let start = Instant::now();
        let message: Bytes = connection.begin(&head, &request).await?.message().await?;
        latencies.push(start.elapsed());
        if !message.is_empty() {
            return Err(
                format!("call {number} was answered with a message that is not Empty: {message:?}").into()
            );
        }
    }
}

/// `google.longrunning.CancelOperationRequest`, independent of Countermand's generated code, so that an error there is
/// detected.
#[derive(Clone, PartialEq, Message)]
struct CancelOperationRequest {
    #[prost(string, tag = "1")]
    name: String,
}
