//! The account of a call while it runs.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{caller::Caller, flight::Flight, policy::Policies};

/// The longest name in a line, in bytes: longer than any valid name, and too short to fill the disk with.
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

    /// Its name in the contract: `CancelOperation`.
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

/// The account of a call while it runs: each fact is noted as soon as it is known. Clones are the same record.
#[derive(Clone, Default)]
pub struct Record(Arc<Mutex<Facts>>);

/// The facts noted so far.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) caller: Option<Caller>,
    pub(super) name: Option<String>,
    pub(super) decision: Option<Decision>,
    pub(super) policies: Option<Policies>,
    /// The upstream call that it started or joined. The flight may outlast the call.
    pub(super) flight: Option<Arc<Flight>>,
    pub(super) is_shared: bool,
    has_disconnected: bool,
    is_closed: bool,
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
    fn lock(&self) -> MutexGuard<'_, Facts> {
        // A panic leaves no fact half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The caller is known.
    pub fn set_caller(&self, caller: &Caller) {
        self.lock().caller = Some(caller.clone());
    }

    /// The name in the request as the caller wrote it, valid or not; cut at 1 KiB.
    pub fn set_name(&self, mut name: String) {
        name.truncate(name.floor_char_boundary(MAX_NAME));
        self.lock().name = Some(name);
    }

    /// These policies permit the call; none when there are no rules.
    pub fn allowed(&self, policies: &Policies) {
        self.decided(Decision::Allow, Some(policies));
    }

    /// These policies forbid the call; none when no policy permits it, or the caller is not authenticated.
    pub fn denied(&self, policies: Option<&Policies>) {
        self.decided(Decision::Deny, policies);
    }

    /// The contract does not allow the request: no policy was evaluated.
    pub fn invalid(&self) {
        self.decided(Decision::Invalid, None);
    }

    fn decided(&self, decision: Decision, policies: Option<&Policies>) {
        let mut facts = self.lock();
        facts.decision = Some(decision);
        facts.policies = policies.cloned();
    }

    /// Whether the call was allowed, denied or found invalid.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.lock().decision.is_some()
    }

    /// The call started this upstream call, or joined it when it `is_shared`.
    pub fn joined(&self, flight: &Arc<Flight>, is_shared: bool) {
        let mut facts = self.lock();
        facts.flight = Some(Arc::clone(flight));
        facts.is_shared = is_shared;
    }

    /// The caller is gone: it reset the call or lost its connection.
    pub fn disconnected(&self) {
        self.lock().has_disconnected = true;
    }

    /// Whether the caller is gone.
    #[must_use]
    pub fn has_disconnected(&self) -> bool {
        self.lock().has_disconnected
    }

    /// All facts, for the one line of the call; `None` the second time.
    pub(super) fn close(&self) -> Option<Facts> {
        let mut facts = self.lock();
        if facts.is_closed {
            return None;
        }
        Some(std::mem::replace(&mut *facts, Facts { is_closed: true, ..Facts::default() }))
    }
}

/// Prints nothing of the call, which other log lines must not repeat.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Record")
    }
}
