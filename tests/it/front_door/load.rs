//! A load of callers who lose no call, and the lines that they leave.

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
    front_door::{BEARER, CONSOLE, NAME, program::Program},
    support::soon,
};

/// One who cancels one operation after another, each of its own, and hears OK every time.
pub(crate) struct Caller {
    stop: Arc<AtomicBool>,
    calling: JoinHandle<Vec<String>>,
}

impl Caller {
    pub(crate) fn start<F>(series: &'static str, call: impl Fn(String) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Code> + Send,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let calling = tokio::spawn(async move {
            let mut names = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let name = format!("enterprises/LC01/devices/{series}/operations/{}", names.len());
                assert_eq!(call(name.clone()).await, Code::Ok, "{name}");
                names.push(name);
                // Others work on this machine too.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            names
        });
        Self { stop, calling }
    }

    /// The names of the operations that it cancelled.
    pub(crate) async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        soon("the end of the load", self.calling).await.expect("no call was lost")
    }
}

/// Ends the program: each of these calls, and none but those of [`NAME`] beside them, then has one line, which
/// says that it was let through.
pub(crate) async fn all_are_recorded(program: Program, audit_log: &Path, cancelled: &[String]) {
    let Program { process, room: _room, .. } = program;
    process.signal(SIGTERM);
    let ended = process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let log = std::fs::read_to_string(audit_log).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_load = |line: &&Value| line["name"].as_str().is_some_and(|name| name != NAME);
    let recorded: Vec<_> = lines.iter().filter(of_load).map(|line| line["name"].as_str().unwrap()).collect();
    let names: BTreeSet<_> = recorded.iter().copied().collect();
    assert_eq!(names, cancelled.iter().map(|name| &**name).collect());
    assert_eq!(recorded.len(), cancelled.len(), "one line a call");
    for line in lines.iter().filter(of_load) {
        let caller = if line["name"].as_str().unwrap().contains("/token/") { BEARER } else { CONSOLE };
        assert_eq!((&line["caller"], &line["code"]), (&caller.into(), &"OK".into()), "{line}");
    }
}
