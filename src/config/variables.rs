//! The environment variables.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use super::{
    errors::ConfigErrors,
    provenance::{Given, Provenance},
    suggestions::{PREFIX, bare, nearest_variable},
};

/// The environment. It is a parameter, so that tests do not depend on the environment of their process.
#[derive(Clone, Default)]
pub struct Variables {
    values: BTreeMap<String, OsString>,
    known: Vec<&'static str>,
}

impl Variables {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// Removes and returns the variable `name`, and records the name as known.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Given<OsString>> {
        self.known.push(name);
        let value = self.values.remove(name)?;
        Some(Given { value, origin: Provenance::Variable(name.to_owned()) })
    }

    /// The path in the variable `name`. `None` if it is empty.
    pub(crate) fn path(&mut self, name: &'static str) -> Option<Given<PathBuf>> {
        let Given { value, origin } = self.take(name)?;
        (!value.is_empty()).then(|| Given { value: value.into(), origin })
    }

    /// Adds an error for each unknown `COUNTERMAND_…` variable that resembles a known one. Returns the names of the
    /// other unknown variables. They are no errors, because they may belong to a newer version that was rolled back.
    pub(crate) fn finish(self, other_commands: &[&'static str], errors: &mut ConfigErrors) -> Vec<String> {
        let Self { values, known } = self;
        let mut unknown = Vec::new();
        for (name, value) in values.into_iter().filter(|(name, _)| name.starts_with(PREFIX)) {
            if other_commands.contains(&name.as_str()) || is_service_link(&name, &value) {
                continue;
            }
            match nearest_variable(&name, &known, other_commands) {
                Some(known) => {
                    let origin = Provenance::Variable(name);
                    errors.add(&origin, "there is no such variable", format!("did you mean {known}?"));
                }
                None => unknown.push(name),
            }
        }
        unknown
    }
}

impl FromIterator<(OsString, OsString)> for Variables {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        let named = variables.into_iter().map(|(name, value)| (name.to_string_lossy().into_owned(), value));
        Self { values: named.collect(), known: Vec::new() }
    }
}

/// Whether Kubernetes sets this variable for a Service named `countermand`. Such a variable must not be an error.
///
/// Kubernetes sets `{SERVICE}_SERVICE_HOST`, `_SERVICE_PORT[_{NAME}]` and `_PORT[_…]` (a `tcp://` address and its
/// parts) in every pod of the namespace ("Accessing the Service", Kubernetes documentation).
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let rest = format!("_{}", bare(name));
    let is_address = value
        .to_str()
        .is_some_and(|value| ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme)));
    let has_number_after_port = rest.match_indices("_PORT_").any(|(at, found)| {
        let mut parts = rest[at + found.len()..].split('_');
        parts.next().is_some_and(|number| number.parse::<u16>().is_ok())
            && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
    });
    rest.ends_with("_SERVICE_HOST")
        || rest.ends_with("_SERVICE_PORT")
        || rest.contains("_SERVICE_PORT_")
        || (rest.ends_with("_PORT") && is_address)
        || has_number_after_port
}
