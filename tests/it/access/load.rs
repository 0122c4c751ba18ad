//! Callers that send cancels continuously, and a check that each cancel has its audit line.

use std::{
    collections::BTreeSet,
    future::Future,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::sys::signal::Signal::SIGTERM;
use serde_json::Value;
use tokio::task::JoinHandle;
use tonic::Code;

use crate::{
    access::{BEARER, CONSOLE, NAME, program::Program},
    support::with_timeout,
};

/// A caller that cancels one operation after another. Each cancel must be answered OK.
pub(crate) struct CancelLoop {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<String>>,
}

impl CancelLoop {
    pub(crate) fn start<F>(series: &'static str, call: impl Fn(String) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Code> + Send,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut names = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let name = format!("enterprises/LC01/devices/{series}/operations/{}", names.len());
                assert_eq!(call(name.clone()).await, Code::Ok, "{name}");
                names.push(name);
                // The pause leaves CPU time to the other tests.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            names
        });
        Self { stop, task }
    }

    /// Stops the caller. Returns the names of the cancelled operations.
    pub(crate) async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        with_timeout("the end of the load", self.task).await.expect("no call was lost")
    }
}

/// Ends the program. Asserts that each of these cancels has one audit line with code OK. Calls of [`NAME`] are ignored.
pub(crate) async fn assert_all_recorded(program: Program, audit_log: &Path, cancelled: &[String]) {
    let Program { process, dir: _dir, .. } = program;
    process.signal(SIGTERM);
    let ended = process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let log = std::fs::read_to_string(audit_log).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let is_load = |line: &&Value| line["name"].as_str().is_some_and(|name| name != NAME);
    let recorded: Vec<_> = lines.iter().filter(is_load).map(|line| line["name"].as_str().unwrap()).collect();
    let names: BTreeSet<_> = recorded.iter().copied().collect();
    assert_eq!(names, cancelled.iter().map(|name| &**name).collect());
    assert_eq!(recorded.len(), cancelled.len(), "one line per call");
    for line in lines.iter().filter(is_load) {
        let caller = if line["name"].as_str().unwrap().contains("/token/") { BEARER } else { CONSOLE };
        assert_eq!((&line["caller"], &line["code"]), (&caller.into(), &"OK".into()), "{line}");
    }
}
