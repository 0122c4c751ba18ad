//! Background tasks that run as long as the process, and reports of their exits.
//!
//! A task that refreshes tokens or writes the audit log must not exit unnoticed, because calls depend on it.
//! [`Background::spawn`] starts such a task. [`TaskExits::next`] returns the name of the next task that panicked or
//! returned. A task that is aborted is not reported.
//!
//! Tasks that reload files count their reloads with [`Background::reloads`].

use std::future::Future;

use tokio::{sync::mpsc, task::JoinHandle};

use crate::telemetry::metrics::{ReloadCounter, ReloadKind, ReloadMetrics};

/// Starts background tasks. Clones report to the same [`TaskExits`].
#[derive(Clone, Debug)]
pub struct Background {
    exits: mpsc::UnboundedSender<&'static str>,
    reloads: ReloadMetrics,
}

/// The names of background tasks that ended.
#[derive(Debug)]
pub struct TaskExits(mpsc::UnboundedReceiver<&'static str>);

impl Background {
    /// Returns a starter of tasks, and the receiver of their exits. Reloads are counted in no registry.
    #[must_use]
    pub fn new() -> (Self, TaskExits) {
        Self::with_metrics(ReloadMetrics::unregistered())
    }

    /// As [`Self::new`], with reloads counted in `reloads`.
    #[must_use]
    pub fn with_metrics(reloads: ReloadMetrics) -> (Self, TaskExits) {
        let (exits, receiver) = mpsc::unbounded_channel();
        (Self { exits, reloads }, TaskExits(receiver))
    }

    /// A starter without supervision, for client commands, `check` and tests.
    #[must_use]
    pub fn unsupervised() -> Self {
        Self::new().0
    }

    /// Starts `task`, which must not exit while the process serves. A return and a panic are reported with `name`.
    pub fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let guard = self.guard(name);
        tokio::spawn(async move {
            let mut guard = guard;
            task.await;
            guard.has_returned = true;
        })
    }

    /// Returns a counter of the reloads of one file.
    #[must_use]
    pub fn reloads(&self, kind: ReloadKind) -> ReloadCounter {
        self.reloads.of(kind)
    }

    /// Returns a guard for a thread or a task. A panic that drops the guard is reported with `name`.
    #[must_use]
    pub fn guard(&self, name: &'static str) -> ExitGuard {
        ExitGuard { name, exits: self.exits.clone(), has_returned: false }
    }
}

/// Reports an exit when a panic drops the guard.
#[derive(Debug)]
pub struct ExitGuard {
    name: &'static str,
    exits: mpsc::UnboundedSender<&'static str>,
    has_returned: bool,
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        if self.has_returned || std::thread::panicking() {
            // Without a receiver, the process is ending or the tasks are not supervised.
            let _ = self.exits.send(self.name);
        }
    }
}

impl TaskExits {
    /// Waits for the exit of a task and returns its name.
    pub async fn next(&mut self) -> &'static str {
        match self.0.recv().await {
            Some(name) => name,
            // Every starter was dropped. No task is left.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Background;

    #[tokio::test]
    async fn a_task_that_panics_or_returns_is_reported() {
        let (background, mut exits) = Background::new();
        background.spawn("panics", async { panic!("on purpose") });
        assert_eq!(exits.next().await, "panics");
        background.spawn("returns", async {});
        assert_eq!(exits.next().await, "returns");
    }

    #[tokio::test]
    async fn a_task_that_is_aborted_is_not_reported() {
        let (background, mut exits) = Background::new();
        let aborted = background.spawn("aborted", std::future::pending());
        aborted.abort();
        aborted.await.expect_err("aborted");
        background.spawn("returns", async {});
        assert_eq!(exits.next().await, "returns");
    }
}
