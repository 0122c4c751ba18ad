//! Authorization. Only [`Policy::decide`] makes a [`Permit`], and the AMAPI client requires one, so an unauthorized
//! call does not compile.
//!
//! [`Rules`] are the Cedar policies of a file. `active` holds the active rules, caches their decisions, and reloads
//! the file when it changes.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwapOption;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    background::Background,
    caller::Caller,
    telemetry::metrics::{DecidedAction, PolicyDecision, PolicyMetrics},
};

pub mod action;
mod active;
mod decision_cache;
mod entities;
mod parse;
mod resource_index;
mod rules;
mod scanner;
pub mod settings;
#[cfg(test)]
mod tests;

pub use action::Action;
pub use active::PolicyFile;
pub use entities::{AttributeValue, Lineage};
pub use parse::PolicyError;
pub use rules::{EvaluationError, Explanation, Rules, Statement};

use action::{ActionType, Get, List, Wait};
use active::ActiveRules;
use rules::Verdict;
use settings::PolicyMode;

/// Evidence that a caller may take one action on one resource.
///
/// ```
/// # use std::sync::Arc;
/// # use countermand::{amapi::Api, flight::Flight, policy::{Permit, action}};
/// async fn call_back(amapi: &impl Api, permit: &Permit<action::Cancel>, flight: &Arc<Flight>) {
///     amapi.cancel(permit, flight).await;
/// }
/// ```
///
/// A permit to read does not permit a cancel:
///
/// ```compile_fail,E0308
/// # use std::sync::Arc;
/// # use countermand::{amapi::Api, flight::Flight, policy::{Permit, action}};
/// async fn call_back(amapi: &impl Api, permit: &Permit<action::Get>, flight: &Arc<Flight>) {
///     amapi.cancel(permit, flight).await;
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Permit<A: ActionType> {
    resource: A::Resource,
    /// The action of the whole call. A permit to get may be part of a call to wait.
    action: Action,
    policies: Policies,
    would_deny: Option<bool>,
}

/// The rules do not permit the action. The resource may or may not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    policies: Policies,
}

/// The ids of the policies that determined a decision, in the order of their file.
pub type Policies = Arc<[String]>;

/// A resource that a permit can be for.
pub trait Resource: fmt::Display + Clone {
    /// Its name and the ids of its ancestors.
    fn lineage(&self) -> Lineage<'_>;
}

impl Denied {
    /// The policies that forbid the action. Empty if no policy permits it.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }
}

/// The active rules. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct Policy {
    /// `None` permits everything.
    active: Arc<ArcSwapOption<ActiveRules>>,
    /// The task that reloads the file of the active rules.
    reload: Arc<Mutex<Option<AbortOnDropHandle<()>>>>,
    metrics: PolicyMetrics,
}

impl Policy {
    /// Permits every action to every caller that a listener accepts. Without a policy, the listeners are on loopback
    /// and unix sockets only, unless the operator gives `--allow-unauthenticated` (see `app::config`).
    #[must_use]
    pub fn without_rules() -> Self {
        Self::counted_by(PolicyMetrics::unregistered())
    }

    /// Makes the rules of `file` active, or permits everything without one. A task reloads the rules within seconds when
    /// the file changes. An invalid version is logged, and the previous one stays active. Decisions are counted in
    /// `metrics`.
    #[must_use]
    pub fn start(file: Option<PolicyFile>, metrics: PolicyMetrics, background: &Background) -> Self {
        let policy = Self::counted_by(metrics);
        policy.replace(file, background);
        policy
    }

    fn counted_by(metrics: PolicyMetrics) -> Self {
        Self { active: Arc::default(), reload: Arc::default(), metrics }
    }

    /// Makes the rules of another file active, as [`Self::start`] does. `None` permits everything.
    pub fn replace(&self, file: Option<PolicyFile>, background: &Background) {
        let mut reload = self.reload.lock().unwrap_or_else(PoisonError::into_inner);
        drop(reload.take());
        match file {
            Some(file) => *reload = Some(active::start(file, &self.active, background)),
            None => self.active.store(None),
        }
    }

    /// Decides whether `caller` may take this action on `resource`. Each call has one decision, made when the call
    /// arrives. A later change of the rules does not affect calls in flight.
    ///
    /// # Errors
    ///
    /// The rules do not permit it, and are enforced.
    pub fn decide<A: ActionType>(&self, caller: &Caller, resource: A::Resource) -> Result<Permit<A>, Denied> {
        self.decide_by(caller, resource, |decision| self.metrics.count(A::ACTION.into(), decision))
    }

    /// The permits for the permitted parts of a call, for example for the devices of a list over all devices. The metrics
    /// do not count each part, because a denied part is no denied call. In shadow mode, they count one decision if any of
    /// the parts would be denied, because the effect of enforcement would be invisible otherwise.
    pub fn decide_parts<A: ActionType>(
        &self,
        caller: &Caller,
        parts: impl IntoIterator<Item = A::Resource>,
    ) -> Vec<Permit<A>> {
        let decisions = parts.into_iter().map(|part| self.decide_by(caller, part, |_| {}));
        let permits: Vec<Permit<A>> = decisions.filter_map(Result::ok).collect();
        if permits.iter().any(|permit| permit.would_deny == Some(true)) {
            self.metrics.count(A::ACTION.into(), PolicyDecision::WouldDeny);
        }
        permits
    }

    fn decide_by<A: ActionType>(
        &self,
        caller: &Caller,
        resource: A::Resource,
        count: impl FnOnce(PolicyDecision),
    ) -> Result<Permit<A>, Denied> {
        let action = A::ACTION;
        let active = self.active.load();
        let Some(rules) = &*active else {
            return Ok(Permit { resource, action, policies: Policies::default(), would_deny: None });
        };
        let Verdict { allowed, policies } = rules.decide(caller, action, resource.lineage(), &self.metrics);
        let decision = match rules.mode() {
            _ if allowed => PolicyDecision::Allow,
            PolicyMode::Enforce => PolicyDecision::Deny,
            PolicyMode::Shadow => PolicyDecision::WouldDeny,
        };
        count(decision);
        match rules.mode() {
            PolicyMode::Enforce if !allowed => Err(Denied { policies }),
            PolicyMode::Enforce => Ok(Permit { resource, action, policies, would_deny: None }),
            PolicyMode::Shadow => Ok(Permit { resource, action, policies, would_deny: Some(!allowed) }),
        }
    }
}

impl From<Action> for DecidedAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Cancel => Self::Cancel,
            Action::Get => Self::Get,
            Action::List => Self::List,
            Action::Wait => Self::Wait,
        }
    }
}

impl<A: ActionType> Permit<A> {
    /// The resource.
    #[must_use]
    pub fn resource(&self) -> &A::Resource {
        &self.resource
    }

    /// The action of the call.
    #[must_use]
    pub fn action(&self) -> Action {
        self.action
    }

    /// The policies that determined the decision. Empty without rules.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// In shadow mode, whether the rules do not permit the action. Otherwise `None`.
    #[must_use]
    pub fn would_deny(&self) -> Option<bool> {
        self.would_deny
    }
}

impl Permit<Wait> {
    /// The permit to get the operation, because a wait consists of gets.
    #[must_use]
    pub fn into_get(self) -> Permit<Get> {
        let Self { resource, action, policies, would_deny } = self;
        Permit { resource, action, policies, would_deny }
    }
}

impl Permit<Get> {
    /// The permit to read the operation in its device's list, for waits on several operations of the device. No caller
    /// receives the rest of the list.
    #[must_use]
    pub fn by_device(&self) -> Permit<List> {
        let Self { resource, action, policies, would_deny } = self.clone();
        Permit { resource: resource.device(), action, policies, would_deny }
    }
}
