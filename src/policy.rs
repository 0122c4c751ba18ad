//! Who may do what: `decide` is the only way to a [`Permit`], and the AMAPI client takes nothing else, so
//! that a call which was not authorised does not compile.

use std::{fmt, sync::Arc};

use crate::{
    caller::Caller,
    name::{DeviceName, OperationName},
};

/// The proof that a caller may do one thing to one resource: an [`OperationName`] or a [`DeviceName`].
#[derive(Debug, Clone)]
pub struct Permit<R> {
    resource: R,
    action: Action,
    policies: Policies,
}

/// What the rules do not permit. It does not say whether the resource exists: nobody has looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    policies: Policies,
}

/// The ids of the policies that decided.
pub type Policies = Arc<[String]>;

/// What a permit can be for.
pub trait Resource: fmt::Display + Clone {}

impl Resource for OperationName {}
impl Resource for DeviceName {}

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

impl Denied {
    /// The policies that forbid it; none when nothing permits it.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }
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
    ///
    /// # Errors
    ///
    /// The rules do not permit it.
    pub fn decide<R: Resource>(
        &self,
        caller: &Caller,
        action: Action,
        resource: R,
    ) -> Result<Permit<R>, Denied> {
        tracing::trace!(%caller, ?action, %resource, "permitted: there is no policy");
        Ok(Permit { resource, action, policies: Policies::default() })
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

    /// The policies that permit it; none when there are no rules.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }
}

impl Permit<OperationName> {
    /// The permit to look for the operation in its device's list: another way to see the same thing, when
    /// several operations of the device are awaited. What else is on the list is shown to nobody.
    #[must_use]
    pub fn by_device(&self) -> Permit<DeviceName> {
        Permit { resource: self.resource.device(), action: self.action, policies: Arc::clone(&self.policies) }
    }
}
