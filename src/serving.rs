//! What the process is ready for, as health, readiness and all who wait are told.

/// Whether calls are welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// Not yet, or not at the moment: there is no token.
    NotReady,
    /// Calls are served.
    Ready,
    /// Never again: the process finishes what it has and ends. No state follows.
    Draining,
}
