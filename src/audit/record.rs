//! What is noted of a call while it runs.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    budget::{Budget, Sent},
    caller::Caller,
    policy::Policies,
};

/// The longest name that a line holds, in bytes: longer than any valid one, and short enough that no caller
/// fills the disk by it.
const LONGEST_NAME: usize = 1024;

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
    pub fn named(name: &str) -> Option<Self> {
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

/// What becomes of a call: each part is noted as soon as it is known. Clones are the same record.
#[derive(Clone, Default)]
pub struct Record(Arc<Mutex<Noted>>);

/// What was noted so far.
#[derive(Default)]
pub(super) struct Noted {
    pub(super) caller: Option<Caller>,
    pub(super) name: Option<String>,
    pub(super) decision: Option<Decision>,
    pub(super) policies: Option<Policies>,
    upstream: Upstream,
    /// The call upstream that it takes part in, and which may outlast it.
    flight: Option<Arc<Budget>>,
    has_hung_up: bool,
    is_closed: bool,
}

/// What a call took upstream.
#[derive(Debug, Clone, Default)]
pub struct Upstream {
    /// How many times the request was sent; 0 when nothing was, for this call or one that it joined.
    pub attempts: u32,
    /// The HTTP status of the last answer.
    pub status: Option<u16>,
    /// The name of the credential that it carried.
    pub credential: Option<Arc<str>>,
    /// It was the call of another, which this one joined.
    pub is_shared: bool,
}

/// Whether a call was let through.
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
    fn lock(&self) -> MutexGuard<'_, Noted> {
        // No note is left half-done by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who calls.
    pub fn called_by(&self, caller: &Caller) {
        self.lock().caller = Some(caller.clone());
    }

    /// What it is about, as the caller wrote it, valid or not; cut at 1 KiB.
    pub fn names(&self, mut name: String) {
        name.truncate(name.floor_char_boundary(LONGEST_NAME));
        self.lock().name = Some(name);
    }

    /// These policies permit it; none when there are no rules.
    pub fn allowed(&self, policies: &Policies) {
        self.decided(Decision::Allow, Some(policies));
    }

    /// These policies forbid it; none when nothing permits it, or nobody knows who calls.
    pub fn denied(&self, policies: Option<&Policies>) {
        self.decided(Decision::Deny, policies);
    }

    /// The request is none that the contract allows: no rule was asked.
    pub fn invalid(&self) {
        self.decided(Decision::Invalid, None);
    }

    fn decided(&self, decision: Decision, policies: Option<&Policies>) {
        let mut noted = self.lock();
        noted.decision = Some(decision);
        noted.policies = policies.cloned();
    }

    /// Whether it was decided to let the call through or not.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.lock().decision.is_some()
    }

    /// It takes part in this call upstream, which it began, or joined when it `is_shared`.
    pub fn boarded(&self, flight: &Arc<Budget>, is_shared: bool) {
        let mut noted = self.lock();
        noted.flight = Some(Arc::clone(flight));
        noted.upstream.is_shared = is_shared;
    }

    /// What came of it upstream.
    pub fn carried(&self, upstream: Upstream) {
        self.lock().upstream = upstream;
    }

    /// Nobody waits for the answer any more.
    pub fn hung_up(&self) {
        self.lock().has_hung_up = true;
    }

    /// Whether nobody waits for the answer any more.
    #[must_use]
    pub fn has_hung_up(&self) -> bool {
        self.lock().has_hung_up
    }

    /// All that was noted, for the one line that there is to be: nothing the second time.
    pub(super) fn close(&self) -> Option<Noted> {
        let mut noted = self.lock();
        if noted.is_closed {
            return None;
        }
        Some(std::mem::replace(&mut *noted, Noted { is_closed: true, ..Noted::default() }))
    }
}

impl Noted {
    /// What came of it upstream; of a call that is still under way there, what was sent so far.
    pub(super) fn upstream(&self) -> Upstream {
        match &self.flight {
            Some(flight) if self.upstream.attempts == 0 => {
                let Sent { attempts, credential } = flight.sent();
                Upstream { attempts, credential, ..self.upstream.clone() }
            }
            _ => self.upstream.clone(),
        }
    }
}

/// Nothing of a call that a log line of somebody else should repeat.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Record")
    }
}
