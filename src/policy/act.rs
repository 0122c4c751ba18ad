//! Actions as types, so that a permit for one does not compile where another is wanted.

use super::{Action, Resource};
use crate::name::{DeviceName, OperationName};

/// An action, and what it is done to.
pub trait Act {
    /// What it is done to.
    type Resource: Resource;
    /// Its name.
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

/// [`Action::Wait`].
#[derive(Debug, Clone, Copy)]
pub struct Wait;

impl Act for Cancel {
    type Resource = OperationName;
    const ACTION: Action = Action::Cancel;
}

impl Act for Get {
    type Resource = OperationName;
    const ACTION: Action = Action::Get;
}

impl Act for List {
    type Resource = DeviceName;
    const ACTION: Action = Action::List;
}

impl Act for Wait {
    type Resource = OperationName;
    const ACTION: Action = Action::Wait;
}
