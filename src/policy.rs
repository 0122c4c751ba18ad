//! Who may do what: `decide` is the only way to a [`Permit`], and the AMAPI client takes nothing else, so
//! that a call which was not authorised does not compile.
//!
//! Rules are Cedar policies of a file. [`rules`] is what was loaded and what it says, [`schema`] what it can
//! speak of, [`entities`] how a caller and a resource look to it; `decisions` remembers what it said, and
//! `in_force` takes up the file when it changes.

use std::{fmt, path::Path, sync::Arc};

use arc_swap::ArcSwap;

use crate::{background::Background, caller::Caller};

pub mod act;
mod decisions;
pub mod entities;
pub mod explain;
mod in_force;
mod load;
pub mod mistake;
mod named;
pub mod rules;
pub mod schema;
pub mod settings;
mod source;
#[cfg(test)]
mod tests;
mod validate;

pub use entities::Lineage;

use act::{Act, Get, List, Wait};
use in_force::InForce;
use mistake::Mistakes;
use rules::Verdict;

/// The proof that a caller may do one thing to one resource.
///
/// ```
/// # use std::sync::Arc;
/// # use countermand::{amapi::Api, flight::Flight, policy::{Permit, act}};
/// async fn call_back(amapi: &impl Api, permit: &Permit<act::Cancel>, flight: &Arc<Flight>) {
///     amapi.cancel(permit, flight).await;
/// }
/// ```
///
/// One to read is none to cancel:
///
/// ```compile_fail,E0308
/// # use std::sync::Arc;
/// # use countermand::{amapi::Api, flight::Flight, policy::{Permit, act}};
/// async fn call_back(amapi: &impl Api, permit: &Permit<act::Get>, flight: &Arc<Flight>) {
///     amapi.cancel(permit, flight).await;
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Permit<A: Act> {
    resource: A::Resource,
    /// What the caller asked for, of which this may be a part.
    action: Action,
    policies: Policies,
}

/// What the rules do not permit. It does not say whether the resource exists: nobody has looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    policies: Policies,
}

/// The ids of the policies that decided, in the order of their file.
pub type Policies = Arc<[String]>;

/// What a permit can be for.
pub trait Resource: fmt::Display + Clone {
    /// Where it stands among the resources.
    fn lineage(&self) -> Lineage<'_>;
}

/// What a caller wants to do. The names are those of the policy language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

impl Action {
    /// The id in the policy language.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Get => "get",
            Self::List => "list",
            Self::Wait => "wait",
        }
    }
}

impl Denied {
    /// The policies that forbid it; none when nothing permits it.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }
}

/// The rules in force. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub struct Policy(Option<Arc<ArcSwap<InForce>>>);

impl Policy {
    /// No rules: every caller whom a listener lets in may do all. Listeners let in those of loopback and
    /// unix sockets only, unless the operator said otherwise at start (see `config::server`).
    #[must_use]
    pub fn without_rules() -> Self {
        Self(None)
    }

    /// The rules of a file, whose changes are taken up within seconds by a task that ends with the last
    /// clone. A broken new version is reported, and the old one stays in force.
    ///
    /// Blocks while it reads the file.
    ///
    /// # Errors
    ///
    /// All that is wrong with the file.
    pub fn of_file(file: &Path, background: &Background) -> Result<Self, Mistakes> {
        in_force::follow(file, background).map(|rules| Self(Some(rules)))
    }

    /// Decides whether `caller` may do this to `resource`: once, when the call arrives. What is in
    /// flight when the rules change goes on.
    ///
    /// # Errors
    ///
    /// The rules do not permit it.
    pub fn decide<A: Act>(&self, caller: &Caller, resource: A::Resource) -> Result<Permit<A>, Denied> {
        let action = A::ACTION;
        let Some(rules) = &self.0 else {
            tracing::trace!(%caller, ?action, %resource, "permitted: there is no policy");
            return Ok(Permit { resource, action, policies: Policies::default() });
        };
        match rules.load().decide(caller, action, resource.lineage()) {
            Verdict { allowed: true, policies } => Ok(Permit { resource, action, policies }),
            Verdict { allowed: false, policies } => Err(Denied { policies }),
        }
    }
}

impl<A: Act> Permit<A> {
    /// What may be acted on.
    #[must_use]
    pub fn resource(&self) -> &A::Resource {
        &self.resource
    }

    /// What the caller asked for.
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

impl Permit<Wait> {
    /// The permit to look at the operation, of which a wait is made.
    #[must_use]
    pub fn into_get(self) -> Permit<Get> {
        let Self { resource, action, policies } = self;
        Permit { resource, action, policies }
    }
}

impl Permit<Get> {
    /// The permit to look for the operation in its device's list: another way to see the same thing, when
    /// several operations of the device are awaited. What else is on the list is shown to nobody.
    #[must_use]
    pub fn by_device(&self) -> Permit<List> {
        Permit { resource: self.resource.device(), action: self.action, policies: Arc::clone(&self.policies) }
    }
}
