//! Who calls.

use std::fmt;

/// The identity of a caller, as the audit log and the policy name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A process on this machine, by the user that the kernel says it runs as.
    Unix {
        /// The user's number.
        uid: u32,
    },
    /// Nobody in particular.
    Anonymous,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { uid } => write!(f, "unix:{uid}"),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}
