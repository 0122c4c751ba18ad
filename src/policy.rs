//! Who may do what: `decide` is the only way to a [`Permit`], and the AMAPI client takes nothing else, so
//! that a call which was not authorised does not compile.

use std::fmt;

use crate::{
    caller::Caller,
    name::{DeviceName, OperationName},
};

/// The proof that a caller may do one thing to one resource: an [`OperationName`] or a [`DeviceName`].
#[derive(Debug, Clone)]
pub struct Permit<R> {
    resource: R,
    action: Action,
}

/// What a caller wants to do. The names are those of the policy language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// CancelOperation.
    Cancel,
    /// GetOperation.
    Get,
    /// ListOperations.
    List,
    /// WaitOperation.
    Wait,
}

/// The rules in force.
#[derive(Debug, Clone, Copy)]
pub struct Policy(());

impl Policy {
    /// No rules: every caller whom a listener lets in may do all. Listeners let in those of loopback and
    /// unix sockets only, unless the operator said otherwise at start (see `config::server`).
    #[must_use]
    pub fn without_rules() -> Self {
        Self(())
    }

    /// Decides whether `caller` may do `action` to `resource`.
    #[must_use]
    pub fn decide<R: fmt::Display>(&self, caller: &Caller, action: Action, resource: R) -> Permit<R> {
        tracing::trace!(%caller, ?action, %resource, "permitted: there is no policy");
        Permit { resource, action }
    }
}

impl<R> Permit<R> {
    /// What may be acted on.
    #[must_use]
    pub fn resource(&self) -> &R {
        &self.resource
    }

    /// What may be done to it.
    #[must_use]
    pub fn action(&self) -> Action {
        self.action
    }
}

impl Permit<OperationName> {
    /// The permit to look for the operation in its device's list: another way to see the same thing, when
    /// several operations of the device are awaited. What else is on the list is shown to nobody.
    #[must_use]
    pub fn by_device(&self) -> Permit<DeviceName> {
        Permit { resource: self.resource.device(), action: self.action }
    }
}
