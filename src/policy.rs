//! Who may do what: `decide` is the only way to a [`Permit`], and the AMAPI client takes nothing else, so
//! that a call which was not authorised does not compile.

use crate::{caller::Caller, name::OperationName};

/// The proof that a caller may do one thing to one operation.
#[derive(Debug)]
pub struct Permit {
    operation: OperationName,
    action: Action,
}

/// What a caller wants to do. The names are those of the policy language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// CancelOperation.
    Cancel,
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

    /// Decides whether `caller` may do `action` to `operation`.
    #[must_use]
    pub fn decide(&self, caller: &Caller, action: Action, operation: OperationName) -> Permit {
        tracing::trace!(%caller, ?action, %operation, "permitted: there is no policy");
        Permit { operation, action }
    }
}

impl Permit {
    /// What may be acted on.
    #[must_use]
    pub fn operation(&self) -> &OperationName {
        &self.operation
    }

    /// What may be done to it.
    #[must_use]
    pub fn action(&self) -> Action {
        self.action
    }
}
