//! The actions of callers, as values and as types.

use super::Resource;
use crate::name::{DeviceName, EnterpriseName, OperationName};

/// An action of a caller. Policies use the same names.
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
    /// Every action.
    pub const ALL: [Self; 4] = [Self::Cancel, Self::Get, Self::List, Self::Wait];

    /// The id in policies.
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

/// An action as a type, so that a permit for one action does not compile where another is required.
pub trait ActionType {
    /// The type of the resources that the action applies to.
    type Resource: Resource;
    /// The action.
    const ACTION: Action;
}

/// [`Action::Cancel`].
#[derive(Debug, Clone, Copy)]
pub struct Cancel;

/// [`Action::Get`].
#[derive(Debug, Clone, Copy)]
pub struct Get;

/// [`Action::List`].
#[derive(Debug, Clone, Copy)]
pub struct List;

/// [`Action::List`] of all devices of an enterprise.
#[derive(Debug, Clone, Copy)]
pub struct ListAllDevices;

/// [`Action::Wait`].
#[derive(Debug, Clone, Copy)]
pub struct Wait;

impl ActionType for Cancel {
    type Resource = OperationName;
    const ACTION: Action = Action::Cancel;
}

impl ActionType for Get {
    type Resource = OperationName;
    const ACTION: Action = Action::Get;
}

impl ActionType for List {
    type Resource = DeviceName;
    const ACTION: Action = Action::List;
}

impl ActionType for ListAllDevices {
    type Resource = EnterpriseName;
    const ACTION: Action = Action::List;
}

impl ActionType for Wait {
    type Resource = OperationName;
    const ACTION: Action = Action::Wait;
}
