//! The errors of the store.

use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// The reason why the store does not answer. No text holds a secret, so it may be logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum StoreError {
    /// No connection.
    #[error("cannot connect to {address}: {cause}")]
    Connect { address: String, cause: String },
    /// No reply in time.
    #[error("no reply within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The store rejects the user or the password.
    #[error("it rejects the login ({code}){}", login_hint(code))]
    Login { code: String },
    /// The store requires a password, and none is set.
    #[error("it requires a password, and there is no password_file")]
    NoPassword,
    /// The store rejects a command, or closed the connection.
    #[error("{0}")]
    Command(String),
    /// No sentinel knows the master, or no master that a sentinel reports can be used.
    #[error("no sentinel reports a usable address of the master {master}: {cause}")]
    Sentinels { master: String, cause: String },
    /// The reply is not that of the script.
    #[error("the reply of the script is malformed")]
    Malformed,
}

fn login_hint(code: &str) -> &'static str {
    // The text of the server may quote the password, because it quotes the arguments of a command that it does not know.
    if code == "ERR" { ", and may have no users or no password" } else { "" }
}

impl StoreError {
    /// The error of a login. The text of the server is not used.
    pub(super) fn of_login(error: &RedisError) -> Self {
        match error.code() {
            Some(code) => Self::Login { code: code.to_owned() },
            None => Self::from(error),
        }
    }

    /// Whether another password may help.
    pub(super) fn is_login(&self) -> bool {
        matches!(self, Self::Login { .. })
    }
}

/// The error of a command whose arguments are no secrets.
impl From<&RedisError> for StoreError {
    fn from(error: &RedisError) -> Self {
        match (error.kind(), error.code()) {
            (_, Some("NOAUTH")) => Self::NoPassword,
            (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => {
                Self::Command("it is a read-only replica (READONLY)".to_owned())
            }
            (_, Some(code)) => Self::Command(format!("{code} {}", error.detail().unwrap_or_default())),
            (_, None) if error.is_connection_dropped() => {
                Self::Command("it closed the connection".to_owned())
            }
            (_, None) => Self::Command(error.to_string()),
        }
    }
}
