//! The load: callers that each make one call after another over a few kept connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::Fault;
use crate::grpc::{Connection, Door, Head};
use crate::workload::Workload;

/// What Google's Go client sets unless told otherwise.
const DEADLINE: Duration = Duration::from_secs(10);

/// A round is far shorter; one that takes this long has a call that is never answered.
const ROUND_LIMIT: Duration = Duration::from_secs(120);

/// A workload connected to its target.
#[derive(Debug)]
pub(crate) struct Load {
    workload: &'static Workload,
    head: Head,
    connections: Vec<Connection>,
    in_flight: u32,
    /// The number of the next call, counted through all rounds, so that none repeats.
    next: Arc<AtomicU64>,
}

/// What the callers saw of a round.
#[derive(Debug)]
pub(crate) struct Observed {
    /// From the first call's start to the last one's end.
    pub(crate) elapsed: Duration,
    /// How long each call took, shortest first.
    pub(crate) latencies: Vec<Duration>,
}

impl Load {
    /// Connects `connections` times to `door`.
    ///
    /// # Errors
    ///
    /// When a connection cannot be made.
    pub(crate) async fn connect(
        workload: &'static Workload,
        door: &Door,
        connections: u32,
        in_flight: u32,
    ) -> Result<Self, Fault> {
        let first = Connection::open(door).await?;
        let head = first.head(workload.method, DEADLINE)?;
        let mut connections_made = vec![first];
        for _ in 1..connections {
            connections_made.push(Connection::open(door).await?);
        }
        Ok(Self { workload, head, connections: connections_made, in_flight, next: Arc::default() })
    }

    /// Makes `calls` calls, `in_flight` at a time.
    ///
    /// # Errors
    ///
    /// At the first call that fails or is answered wrongly, and when the calls do not end.
    pub(crate) async fn round(&self, calls: u64) -> Result<Observed, Fault> {
        let limit = self.next.load(Ordering::Relaxed) + calls;
        let start = Instant::now();
        let mut callers = JoinSet::new();
        for connection in self.connections.iter().cycle().take(self.in_flight as usize) {
            callers.spawn(caller(
                self.workload,
                connection.clone(),
                self.head.clone(),
                self.next.clone(),
                limit,
            ));
        }
        let mut latencies = Vec::with_capacity(usize::try_from(calls)?);
        let joined = async {
            while let Some(caller) = callers.join_next().await {
                latencies.extend(caller??);
            }
            Ok::<_, Fault>(())
        };
        tokio::time::timeout(ROUND_LIMIT, joined)
            .await
            .map_err(|_| format!("calls still unanswered after {ROUND_LIMIT:?}"))??;
        let elapsed = start.elapsed();
        // Each caller took one number more than it used.
        self.next.store(limit, Ordering::Relaxed);
        latencies.sort_unstable();
        Ok(Observed { elapsed, latencies })
    }
}

async fn caller(
    workload: &'static Workload,
    connection: Connection,
    head: Head,
    next: Arc<AtomicU64>,
    limit: u64,
) -> Result<Vec<Duration>, Fault> {
    let mut latencies = Vec::new();
    loop {
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
