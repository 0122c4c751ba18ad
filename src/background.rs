//! Background tasks that live as long as the process, and the notice of their death.
//!
//! A task that refreshes tokens or writes the audit log must not end unnoticed: calls would go on without it.
//! [`Background::spawn`] starts such a task; [`Deaths::next`] returns the name of the first one that panicked or
//! returned. A task that is aborted was ended on purpose and is not reported.

use std::future::Future;

use tokio::{sync::mpsc, task::JoinHandle};

/// Starts background tasks. Clones report to the same [`Deaths`].
#[derive(Clone, Debug)]
pub struct Background {
    deaths: mpsc::UnboundedSender<&'static str>,
}

/// The names of background tasks that ended.
#[derive(Debug)]
pub struct Deaths(mpsc::UnboundedReceiver<&'static str>);

impl Background {
    /// A starter of tasks, and the receiver of their deaths.
    #[must_use]
    pub fn new() -> (Self, Deaths) {
        let (deaths, receiver) = mpsc::unbounded_channel();
        (Self { deaths }, Deaths(receiver))
    }

    /// A starter without supervision, for client commands, `check` and tests.
    #[must_use]
    pub fn unsupervised() -> Self {
        Self::new().0
    }

    /// Starts `task`, which must not end while the process serves. Its return and its panic are both reported,
    /// under `name`.
    pub fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let watch = self.watch(name);
        tokio::spawn(async move {
            let mut watch = watch;
            task.await;
            watch.has_returned = true;
        })
    }

    /// Watches a thread or a task that holds the returned guard: a panic that drops the guard is reported.
    #[must_use]
    pub fn watch(&self, name: &'static str) -> Watch {
        Watch { name, deaths: self.deaths.clone(), has_returned: false }
    }
}

/// Reports the end of its holder when a panic drops it.
#[derive(Debug)]
pub struct Watch {
    name: &'static str,
    deaths: mpsc::UnboundedSender<&'static str>,
    has_returned: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.has_returned || std::thread::panicking() {
            // Without a receiver the process is ending, or its tasks are not supervised.
            let _ = self.deaths.send(self.name);
        }
    }
}

impl Deaths {
    /// Waits for the end of a task and returns its name.
    pub async fn next(&mut self) -> &'static str {
        match self.0.recv().await {
            Some(name) => name,
            // Every starter is gone, and so is every task.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Background;

    #[tokio::test]
    async fn a_task_that_panics_or_returns_is_reported() {
        let (background, mut deaths) = Background::new();
        background.spawn("panics", async { panic!("on purpose") });
        assert_eq!(deaths.next().await, "panics");
        background.spawn("returns", async {});
        assert_eq!(deaths.next().await, "returns");
    }

    #[tokio::test]
    async fn a_task_that_is_aborted_is_not_reported() {
        let (background, mut deaths) = Background::new();
        let aborted = background.spawn("aborted", std::future::pending());
        aborted.abort();
        aborted.await.expect_err("aborted");
        background.spawn("returns", async {});
        assert_eq!(deaths.next().await, "returns");
    }
}
