//! The user and the password of the store, re-read when its file changes.

use std::path::PathBuf;

use crate::file_watch::FileWatch;

/// The number of passwords that are tried: the newest, and the two before, in case of two quick changes.
const MAX_PASSWORDS: usize = 3;

/// A password. It has no `Debug`, so that it cannot be logged.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Password(String);

/// The user and the password.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) username: Option<String>,
    /// The passwords to try, the newest first. The file and the server do not change at the same time.
    pub(super) passwords: Vec<Password>,
}

/// The login, and its file.
pub(super) struct LoadedLogin {
    pub(super) login: Login,
    pub(super) file: Option<(PathBuf, FileWatch)>,
}

impl Password {
    fn parse(content: Vec<u8>) -> Result<Self, String> {
        let text = String::from_utf8(content).map_err(|_| "the file is not UTF-8".to_owned())?;
        let password = text.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            return Err("the file holds no password".to_owned());
        }
        Ok(Self(password.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl LoadedLogin {
    /// Reads the password, if there is a file. Blocks. The error is the problem of the file.
    pub(super) fn load(username: Option<String>, file: Option<PathBuf>) -> Result<Self, String> {
        let Some(file) = file else {
            return Ok(Self { login: Login { username, passwords: Vec::new() }, file: None });
        };
        let (watch, content) =
            FileWatch::open(&file).map_err(|error| format!("cannot read the file: {error}"))?;
        let passwords = vec![Password::parse(content)?];
        Ok(Self { login: Login { username, passwords }, file: Some((file, watch)) })
    }
}

impl Login {
    /// The password that the store accepted is the only one from now on, unless a newer one is not accepted yet.
    pub(super) fn accepted(&mut self, number: usize) {
        self.passwords.truncate(number + 1);
    }

    /// Adds the new content of the file, to be tried first.
    pub(super) fn reload(&mut self, content: Vec<u8>) -> Result<(), String> {
        self.passwords.insert(0, Password::parse(content)?);
        self.passwords.truncate(MAX_PASSWORDS);
        Ok(())
    }
}
