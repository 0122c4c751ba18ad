//! The outcome of one operation of a recall.

use crate::{
    cli::operation::{OperationState, error_text},
    proto::longrunning::Operation,
};

/// The outcome of a recall for one operation, with the reason where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RecallOutcome {
    /// `error.code` is 1.
    Cancelled,
    /// The operation is done otherwise. The reason is its error, for example that it expired.
    TooLate(Option<String>),
    /// The cancel failed, and the operation is not known to be done.
    Failed(String),
    /// The operation is not known to be done. Its cancel was accepted, or its state cannot be read.
    Unknown(String),
}

impl RecallOutcome {
    /// The outcome for an operation; `None` while it is pending.
    pub(super) fn of(operation: &Operation) -> Option<Self> {
        match OperationState::of(operation) {
            OperationState::Pending => None,
            OperationState::Cancelled => Some(Self::Cancelled),
            OperationState::Done => Some(Self::TooLate(None)),
            OperationState::Failed => Some(Self::TooLate(error_text(operation))),
        }
    }

    /// The outcome of an operation without a cancel of this recall.
    pub(super) fn without_cancel(self) -> Self {
        const REASON: &str = "done before a cancel was sent";
        match self {
            Self::TooLate(None) => Self::TooLate(Some(REASON.to_owned())),
            Self::TooLate(Some(error)) => Self::TooLate(Some(format!("{REASON}: {error}"))),
            other => other,
        }
    }

    /// Whether the operation is done, so that its outcome is permanent.
    pub(super) fn is_permanent(&self) -> bool {
        matches!(self, Self::Cancelled | Self::TooLate(_))
    }

    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Self::Cancelled => None,
            Self::TooLate(reason) => reason.as_deref(),
            Self::Failed(reason) | Self::Unknown(reason) => Some(reason),
        }
    }

    /// The name in the journal and in the report.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Cancelled => "CANCELLED",
            Self::TooLate(_) => "TOO_LATE",
            Self::Failed(_) => "FAILED",
            Self::Unknown(_) => "UNKNOWN",
        }
    }

    /// The outcome of this name and reason; `None` if there is none.
    pub(super) fn parse(name: &str, reason: Option<String>) -> Option<Self> {
        match name {
            "CANCELLED" => Some(Self::Cancelled),
            "TOO_LATE" => Some(Self::TooLate(reason)),
            "FAILED" => Some(Self::Failed(reason.unwrap_or_default())),
            "UNKNOWN" => Some(Self::Unknown(reason.unwrap_or_default())),
            _ => None,
        }
    }

    /// The name in a text.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::TooLate(_) => "too late",
            Self::Failed(_) => "failed",
            Self::Unknown(_) => "unknown",
        }
    }
}
