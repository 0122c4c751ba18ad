//! The calls of the script `gcra.lua`, which the store runs.

use std::{sync::LazyLock, time::Duration};

use redis::{Script, aio::MultiplexedConnection};
use tokio::time::timeout;

use super::{connection::StoreConnection, store_error::StoreError};
use crate::quota::gcra::{Admission, Pace, Remaining, State};

/// The source of the script.
pub(super) const SOURCE: &str = include_str!("../gcra.lua");

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(SOURCE));

/// The time limit of loading the script.
const LOAD_TIMEOUT: Duration = Duration::from_secs(1);

/// The key of a project's hash. An unknown project is the empty one.
pub(super) fn key(project: &str) -> String {
    format!("countermand:quota:{project}")
}

/// An operation of the script.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ScriptCall<'a> {
    /// [`State::admit`].
    Admit { pace: Pace, wanted: [u32; 3] },
    /// [`State::refused`].
    Refused { pace: Pace, hold: f64 },
    /// [`State::probe_answered`].
    ProbeAnswered,
    /// A replica is alive, and has this number of queued queries of each class.
    Heartbeat { replica: &'a str, queued: [u32; 3] },
}

/// A reply of the script.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ScriptReply {
    /// The time of the store, in microseconds.
    pub(super) now: f64,
    /// The state after the operation.
    pub(super) state: State,
    /// The results of the operation.
    results: Vec<f64>,
}

/// The replicas that share a project's budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Census {
    /// The number of replicas, with this one.
    pub(super) replicas: u32,
    /// The number of queries that the other replicas have queued, by class.
    pub(super) queued_elsewhere: [u32; 3],
    /// The number of other replicas that have queued queries, by class.
    pub(super) contenders: [u32; 3],
}

/// Loads the script.
///
/// # Errors
///
/// The store does not accept the script.
pub(super) async fn load_script(connection: &mut StoreConnection) -> Result<(), StoreError> {
    let load = SCRIPT.load_async(&mut connection.commands);
    match timeout(LOAD_TIMEOUT, load).await {
        Ok(loaded) => loaded.map(drop).map_err(|error| StoreError::from(&error)),
        Err(_) => Err(StoreError::Timeout(LOAD_TIMEOUT)),
    }
}

impl ScriptCall<'_> {
    /// The arguments of the script. `remaining` is the state of the caller. The script continues it if the store has no
    /// state, and if the caller `is_return`ing from a time without the store.
    pub(super) fn arguments(&self, is_return: bool, remaining: Remaining) -> Vec<String> {
        let Remaining { tat, factor, hold, probe } = remaining;
        let (name, own) = match *self {
            Self::Admit { pace, wanted } => {
                let mut own = vec![pace.interval.to_string(), pace.burst.to_string()];
                own.extend(wanted.map(|number| number.to_string()));
                ("admit", own)
            }
            Self::Refused { pace, hold } => {
                ("refused", [pace.interval, hold].map(|number| number.to_string()).to_vec())
            }
            Self::ProbeAnswered => ("probe_answered", Vec::new()),
            Self::Heartbeat { replica, queued } => {
                let mut own = vec![replica.to_owned()];
                own.extend(queued.map(|number| number.to_string()));
                ("heartbeat", own)
            }
        };
        let mut arguments = vec![name.to_owned(), u8::from(is_return).to_string()];
        arguments.extend([tat, factor, hold, probe].map(|number| number.to_string()));
        arguments.extend(own);
        arguments
    }

    /// Runs the script, and loads it before if the store does not have it.
    ///
    /// # Errors
    ///
    /// There is no reply, or an error. The operation may have been done.
    pub(super) async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        key: &str,
        is_return: bool,
        remaining: Remaining,
    ) -> Result<ScriptReply, StoreError> {
        let mut invocation = SCRIPT.key(key);
        for argument in self.arguments(is_return, remaining) {
            invocation.arg(argument);
        }
        let reply: Vec<String> =
            invocation.invoke_async(connection).await.map_err(|error| StoreError::from(&error))?;
        ScriptReply::parse(&reply).ok_or(StoreError::Malformed)
    }
}

impl ScriptReply {
    pub(super) fn parse(reply: &[String]) -> Option<Self> {
        let numbers = reply.iter().map(|text| text.parse().ok()).collect::<Option<Vec<f64>>>()?;
        let (&[now, tat, factor, factor_at, hold_until, probe_at], results) = numbers.split_first_chunk()?;
        let state = State { tat, factor, factor_at, hold_until, probe_at };
        numbers.iter().all(|number| number.is_finite()).then(|| Self {
            now,
            state,
            results: results.to_vec(),
        })
    }

    /// The results of [`ScriptCall::Admit`].
    pub(super) fn admission(&self) -> Result<Admission, StoreError> {
        let &[cancels, reads, polls, is_probe, ref wait @ ..] = &*self.results else {
            return Err(StoreError::Malformed);
        };
        let admitted = [cancels, reads, polls].map(|number| number as u32);
        let wait = wait.try_into().map_err(|_| StoreError::Malformed)?;
        Ok(Admission { admitted, is_probe: is_probe != 0.0, wait })
    }

    /// The results of [`ScriptCall::Heartbeat`].
    pub(super) fn census(&self) -> Result<Census, StoreError> {
        let numbers: &[f64; 7] = self.results.as_slice().try_into().map_err(|_| StoreError::Malformed)?;
        let [replicas, queued @ .., cancels, reads, polls] = numbers.map(|number| number as u32);
        Ok(Census { replicas, queued_elsewhere: queued, contenders: [cancels, reads, polls] })
    }
}

#[cfg(test)]
mod tests;
