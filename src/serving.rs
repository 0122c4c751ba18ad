//! The serving state of the process. Health, readiness and waiting calls watch it.

/// Whether the process accepts calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// There is no valid token, at start or temporarily.
    NotReady,
    /// Calls are served.
    Ready,
    /// The process serves calls until `server.drain_delay` has passed. Health and readiness report that it will end, so
    /// that load balancers send their calls elsewhere.
    Leaving,
    /// The process finishes the calls in flight and ends. This state is final.
    Draining,
}
