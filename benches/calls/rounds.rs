//! The rows of the benchmark, and the rounds in which they take turns.
//!
//! A row is a workload against a target. Rows take turns round by round (A B A B …), so that whatever
//! else the machine does meanwhile falls on all of them alike, and a ratio is taken within a round.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::Fault;
use crate::accounting::Meter;
use crate::load::Load;
use crate::options::Options;
use crate::target::Target;
use crate::workload::Workload;

/// Between two looks at a target's memory.
const MEMORY_SAMPLING: Duration = Duration::from_millis(25);

/// A workload against a target, with what was measured of it.
#[derive(Debug)]
pub(crate) struct Row {
    /// What the report calls the target.
    pub(crate) target_name: &'static str,
    pub(crate) workload: &'static Workload,
    /// One a round.
    pub(crate) samples: Vec<Sample>,
    /// The most memory ever resident in the target, in bytes.
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
    /// How much of the round the target was on a core: 1.0 is one core, busy throughout.
    pub(crate) busy: f64,
    pub(crate) calls_per_second: f64,
    /// Half of the calls took no longer.
    pub(crate) p50: Duration,
    /// 99 of 100 calls took no longer.
    pub(crate) p99: Duration,
    /// The most memory seen resident in the round, in bytes.
    pub(crate) resident: u64,
}

impl Row {
    /// Connects the load and warms the target up with a round that is not counted.
    ///
    /// # Errors
    ///
    /// As [`measure`].
    pub(crate) async fn prepare(
        target_name: &'static str,
        mut target: Target,
        workload: &'static Workload,
        options: &Options,
    ) -> Result<Self, Fault> {
        let meter = Meter::of(target.child.id()?)?;
        let warm = async {
            let (connections, in_flight) = (options.connections, options.in_flight);
            let load = Load::connect(workload, &target.door, connections, in_flight).await?;
            load.round(options.calls).await?;
            Ok(load)
        };
        let load = match warm.await {
            Ok(load) => load,
            Err(fault) => return Err(target.child.explain(fault).await),
        };
        Ok(Self { target_name, workload, samples: Vec::new(), peak_resident: 0, target, meter, load })
    }

    /// Whether its callers speak TLS, as those of its floor then do.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.target.door.tls.is_some()
    }

    async fn sample(&self, calls: u64) -> Result<Sample, Fault> {
        let mut resident = 0;
        let mut look = interval(MEMORY_SAMPLING);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let before = self.meter.cpu()?;
        let mut round = std::pin::pin!(self.load.round(calls));
        let observed = loop {
            tokio::select! {
                observed = &mut round => break observed?,
                _ = look.tick() => resident = resident.max(self.meter.resident()?),
            }
        };
        let cpu = self.meter.cpu()?.saturating_sub(before);
        let elapsed = observed.elapsed.as_secs_f64();
        Ok(Sample {
            cpu_per_call: cpu.div_f64(calls as f64),
            busy: cpu.as_secs_f64() / elapsed,
            calls_per_second: calls as f64 / elapsed,
            p50: quantile(&observed.latencies, 50),
            p99: quantile(&observed.latencies, 99),
            resident,
        })
    }
}

/// Lets the rows take turns.
///
/// # Errors
///
/// At the first call that fails or is answered wrongly, and when a target dies.
pub(crate) async fn measure(rows: &mut [Row], options: &Options) -> Result<(), Fault> {
    for _ in 0..options.rounds {
        for row in &mut *rows {
            match row.sample(options.calls).await {
                Ok(sample) => row.samples.push(sample),
                Err(fault) => return Err(row.target.child.explain(fault).await),
            }
        }
    }
    for row in rows {
        row.target.child.expect_alive().await?;
        // The kernel's mark may lag behind what it told us last.
        let seen = row.samples.iter().map(|sample| sample.resident);
        row.peak_resident = seen.fold(row.meter.peak_resident()?, u64::max);
    }
    Ok(())
}

/// The value that `percent` of the values, which are sorted and at least one, do not exceed.
fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}
