//! Which core a process runs on: what is measured has one to itself, the rest share the others.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::Fault;

/// The cores we may use, shared out.
#[derive(Debug)]
pub(crate) struct Cores {
    /// The number of the core that the targets run on.
    pub(crate) target: usize,
    alone: CpuSet,
    others: CpuSet,
}

/// The calling thread, and what it starts from now on.
const THIS_THREAD: Pid = Pid::from_raw(0);

impl Cores {
    /// Keeps the last core for targets and moves the calling thread to the others. `None` with fewer
    /// than two cores.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub(crate) fn share_out() -> Result<Option<Self>, Fault> {
        let mut others = sched_getaffinity(THIS_THREAD)?;
        let mut ours = Vec::new();
        for core in 0..CpuSet::count() {
            if others.is_set(core)? {
                ours.push(core);
            }
        }
        let &[_, .., target] = ours.as_slice() else {
            return Ok(None);
        };
        others.unset(target)?;
        let mut alone = CpuSet::new();
        alone.set(target)?;
        sched_setaffinity(THIS_THREAD, &others)?;
        Ok(Some(Self { target, alone, others }))
    }

    /// Runs `start` on the targets' core, which a process that it starts inherits.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub(crate) fn on_target<T>(&self, start: impl FnOnce() -> T) -> Result<T, Fault> {
        sched_setaffinity(THIS_THREAD, &self.alone)?;
        let started = start();
        sched_setaffinity(THIS_THREAD, &self.others)?;
        Ok(started)
    }
}
