//! What every call of the five RPCs passes, outermost first:
//!
//! 1. [`audit`]: a line in the audit log for every call, also one that is refused by what follows, and also
//!    when its caller hangs up.
//! 2. [`grpc_only`]: what is not gRPC is refused, and is carried out for nobody.
//! 3. [`admission`]: a place among the calls in flight, or OVERLOADED at once, before any work. The place is
//!    the call's until its answer has been sent ([`held`]).
//! 4. [`panics`]: a defect below costs its own call only, which is answered INTERNAL.
//! 5. [`context`]: who calls and until when, read from the connection and the headers; whoever cannot be
//!    told is UNAUTHENTICATED, and whoever lets us wait for the message ([`timely`]) DEADLINE_EXCEEDED.
//! 6. [`explanation`]: what tonic refuses by itself gets an `ErrorInfo`, as every error has.
//!
//! Policy and sharing are no layers: they need the parsed name, and stand in `operations`.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

mod admission;
mod audit;
mod context;
mod explanation;
mod grpc_only;
mod held;
mod panics;
mod timely;

pub use audit::Recorder;
pub(super) use held::Held;

use admission::Admission;
use audit::Audited;
use context::Context;
use explanation::Explanation;
pub(super) use grpc_only::GrpcOnly;
use panics::Panics;

use super::identity::PeerIdentity;

/// The stack around a service.
pub(super) type Guarded<S> = Audited<GrpcOnly<Admission<Panics<Context<Explanation<S>>>>>>;

/// What bounds the calls of a process.
#[derive(Clone)]
pub(super) struct Limits {
    /// The places for calls in flight, over all connections.
    pub(super) places: Arc<Semaphore>,
    /// Every call in flight holds a token of it.
    pub(super) calls: TaskTracker,
    /// The most time until a call's message must have come.
    pub(super) upstream_timeout: Duration,
    /// Who records them.
    pub(super) recorder: Recorder,
}

/// Puts the stack around `service`, for one connection.
pub(super) fn stack<S>(service: S, limits: Limits, identity: PeerIdentity) -> Guarded<S> {
    let Limits { places, calls, upstream_timeout, recorder } = limits;
    let service = Explanation::new(service);
    let service = Context::new(service, identity, upstream_timeout);
    let service = Panics::new(service);
    let service = Admission::new(service, places, calls);
    let service = GrpcOnly::new(service);
    Audited::new(service, recorder)
}
