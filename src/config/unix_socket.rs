//! Who may connect to the unix sockets: the mode and the owner of their files.

use nix::unistd::{Group, User};

use super::{
    environment::Environment,
    fault::{Faults, Wrong},
    sources::Sources,
    table::Section,
};
use crate::server::settings::{Owner, UnixSocket};

impl UnixSocket {
    pub(super) fn read(environment: &mut Environment, file: &mut Section<'_>, faults: &mut Faults) -> Self {
        let default = Self::default();
        let mut from = Sources { environment, file, faults };
        let mode = from.read("COUNTERMAND_UNIX_SOCKET_MODE", "unix_socket_mode", mode, default.mode);
        let owner =
            from.read("COUNTERMAND_UNIX_SOCKET_OWNER", "unix_socket_owner", Owner::parse, default.owner);
        Self { mode, owner }
    }
}

/// Three octal digits, with or without a zero before them.
fn mode(text: &str) -> Result<u32, Wrong> {
    let wrong = || {
        Wrong::new(
            format!("{text:?} is no mode"),
            r#"give octal digits in quotes, for example "0600" or "0660""#,
        )
    };
    let is_octal = matches!(text.len(), 3 | 4) && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    if !is_octal {
        return Err(wrong());
    }
    // What a bit beyond these means on a socket, no manual says.
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).ok_or_else(wrong)
}

impl Owner {
    /// Reads `user`, `user:group` or `:group`, by name or by number.
    fn parse(text: &str) -> Result<Self, Wrong> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let user = match user {
            "" if group.is_some() => None,
            user => Some(number("user", user, |name| {
                User::from_name(name).map(|user| user.map(|user| user.uid.as_raw()))
            })?),
        };
        let group = group.map(|group| {
            number("group", group, |name| {
                Group::from_name(name).map(|group| group.map(|group| group.gid.as_raw()))
            })
        });
        Ok(Self { user, group: group.transpose()? })
    }
}

/// The number that `name` is, or that the system's databases have for it.
fn number(
    what: &str,
    name: &str,
    look_up: impl FnOnce(&str) -> nix::Result<Option<u32>>,
) -> Result<u32, Wrong> {
    let remedy = r#"give "user", "user:group" or ":group", each a name that this machine knows or a number"#;
    // The highest number means "leave it" to chown(2).
    if let Ok(number) = name.parse()
        && number != u32::MAX
    {
        return Ok(number);
    }
    match look_up(name) {
        Ok(Some(number)) => Ok(number),
        Ok(None) => Err(Wrong::new(format!("there is no {what} {name:?}"), remedy)),
        Err(error) => Err(Wrong::new(format!("the {what} {name:?} cannot be looked up: {error}"), remedy)),
    }
}
