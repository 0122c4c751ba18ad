//! The facts of a call for its audit line.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use crate::{
    caller::Caller,
    flight::{Flight, Member},
    policy::Policies,
    telemetry::traces::{Span, Trace},
};

/// The maximum length of a name in a line, in bytes. It exceeds the length of any valid name. Longer names are cut,
/// so that invalid names cannot fill the disk.
const MAX_NAME: usize = 1024;

/// One of the contract's five methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// CancelOperation.
    Cancel,
    /// GetOperation.
    Get,
    /// ListOperations.
    List,
    /// WaitOperation.
    Wait,
    /// DeleteOperation.
    Delete,
}

impl Method {
    const ALL: [Self; 5] = [Self::Cancel, Self::Get, Self::List, Self::Wait, Self::Delete];

    /// The method by its name in the contract.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// The name in the contract, for example `CancelOperation`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cancel => "CancelOperation",
            Self::Get => "GetOperation",
            Self::List => "ListOperations",
            Self::Wait => "WaitOperation",
            Self::Delete => "DeleteOperation",
        }
    }
}

/// Collects the facts of a call while it runs. Clones share the facts.
#[derive(Clone, Default)]
pub struct Record(Arc<RecordInner>);

#[derive(Default)]
struct RecordInner {
    trace: Trace,
    is_of_poll: bool,
    facts: Mutex<Facts>,
}

/// The facts of a call.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) caller: Option<Caller>,
    pub(super) name: Option<String>,
    pub(super) decision: Option<Decision>,
    pub(super) policies: Option<Policies>,
    /// In shadow mode, whether the policy would have denied the call or a part of it.
    pub(super) would_deny: Option<bool>,
    /// The upstream call that the call started or joined. The flight may end after the call.
    pub(super) flight: Option<Arc<Flight>>,
    pub(super) is_shared: bool,
    /// The span of the call, if traces are exported.
    pub(super) span: Option<Span>,
    /// The use of `flight` by the call.
    member: Option<Arc<Member>>,
    has_disconnected: bool,
    is_closed: bool,
}

/// The use of an upstream call by the call of a record, or by a poll. It ends when this is dropped, or when the caller
/// disconnects.
#[derive(Debug)]
#[must_use]
pub struct Membership(Arc<Member>);

impl Drop for Membership {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Facts {
    fn decide(&mut self, decision: Decision, policies: Option<&Policies>) {
        self.decision = Some(decision);
        self.policies = policies.cloned();
    }
}

/// The decision on a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Allow,
    Deny,
    Invalid,
}

impl Decision {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Invalid => "invalid",
        }
    }
}

impl Record {
    /// The record of a call in this trace. `span` is the span of the call, which ends with its line.
    #[must_use]
    pub fn new(trace: Trace, span: Option<Span>) -> Self {
        let facts = Mutex::new(Facts { span, ..Facts::default() });
        Self(Arc::new(RecordInner { trace, is_of_poll: false, facts }))
    }

    /// The record of polls, which serve several calls and have no line. Their queries are those of `caller`, which is the
    /// caller of one of the calls.
    #[must_use]
    pub fn of_poll(trace: Trace, caller: Option<Caller>) -> Self {
        let facts = Mutex::new(Facts { caller, ..Facts::default() });
        Self(Arc::new(RecordInner { trace, is_of_poll: true, facts }))
    }

    /// Whether this is the record of polls.
    #[must_use]
    pub fn is_of_poll(&self) -> bool {
        self.0.is_of_poll
    }

    /// The trace of the call.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.0.trace
    }

    /// Starts an upstream call for this call, or for these polls, which waits until `deadline`.
    #[must_use]
    pub fn start_flight(&self, deadline: Instant) -> Arc<Flight> {
        let (caller, trace) = (self.caller(), self.0.trace.clone());
        match self.0.is_of_poll {
            true => Flight::polled_for(caller, trace, deadline),
            false => Flight::started_by(caller, trace, deadline),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        // A panic cannot leave the facts in an inconsistent state.
        self.0.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the caller.
    pub fn set_caller(&self, caller: &Caller) {
        self.lock().caller = Some(caller.clone());
    }

    /// The caller, if it is known.
    #[must_use]
    pub fn caller(&self) -> Option<Caller> {
        self.lock().caller.clone()
    }

    /// Records the name in the request, valid or not. A longer name is cut at 1 KiB.
    pub fn set_name(&self, mut name: String) {
        name.truncate(name.floor_char_boundary(MAX_NAME));
        self.lock().name = Some(name);
    }

    /// Records that the call is allowed, and the policies that determined it. The list is empty without rules.
    /// `would_deny` is whether a policy in shadow mode would have denied the call, `None` without one.
    pub fn allowed(&self, policies: &Policies, would_deny: Option<bool>) {
        let mut facts = self.lock();
        facts.decide(Decision::Allow, Some(policies));
        facts.would_deny = would_deny;
    }

    /// Records that a policy in shadow mode would have denied a part of the call.
    pub fn would_deny_part(&self) {
        self.lock().would_deny = Some(true);
    }

    /// Records that these policies forbid the call. The list is empty when no policy permits the call. It is `None`
    /// when the caller is not authenticated.
    pub fn denied(&self, policies: Option<&Policies>) {
        self.lock().decide(Decision::Deny, policies);
    }

    /// Records that the request is invalid. No policy was evaluated.
    pub fn invalid(&self) {
        self.lock().decide(Decision::Invalid, None);
    }

    /// Whether the call was allowed, denied or invalid.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.lock().decision.is_some()
    }

    /// Records the upstream call that the call started, or joined if it `is_shared`.
    pub fn joined(&self, flight: &Arc<Flight>, is_shared: bool) -> Membership {
        let member = Arc::new(Member::of(flight));
        let mut facts = self.lock();
        facts.flight = Some(Arc::clone(flight));
        facts.is_shared = is_shared;
        if facts.has_disconnected {
            member.leave();
        }
        facts.member = Some(Arc::clone(&member));
        Membership(member)
    }

    /// Records that the caller has disconnected: it reset the call, or its connection was lost.
    pub fn disconnected(&self) {
        let mut facts = self.lock();
        facts.has_disconnected = true;
        if let Some(member) = &facts.member {
            member.leave();
        }
    }

    /// Whether the caller has disconnected.
    #[must_use]
    pub fn has_disconnected(&self) -> bool {
        self.lock().has_disconnected
    }

    /// Takes all facts for the line of the call. Returns `None` after the first time.
    pub(super) fn close(&self) -> Option<Facts> {
        let mut facts = self.lock();
        if facts.is_closed {
            return None;
        }
        Some(std::mem::replace(&mut *facts, Facts { is_closed: true, ..Facts::default() }))
    }
}

/// Prints no facts, because other log lines must not have them.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Record")
    }
}
