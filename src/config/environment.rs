//! The environment, as far as it is ours: who reads a variable takes it, and what is left is a typo.

pub(crate) mod known;

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use super::{
    credentials::google_cloud::Machine,
    fault::{Faults, Wrong},
    source::{Given, Origin},
};
use crate::telemetry;

const PREFIX: &str = "COUNTERMAND_";

/// The filter of the log.
pub(super) const RUST_LOG: &str = telemetry::FILTER;

/// Those of application default credentials.
pub(super) const GOOGLE_APPLICATION_CREDENTIALS: &str = "GOOGLE_APPLICATION_CREDENTIALS";
pub(super) const CLOUDSDK_CONFIG: &str = "CLOUDSDK_CONFIG";
pub(super) const HOME: &str = "HOME";
pub(super) const GCE_METADATA_HOST: &str = "GCE_METADATA_HOST";

/// The variables without our prefix that are read.
const OF_OTHERS: [&str; 5] =
    [RUST_LOG, GOOGLE_APPLICATION_CREDENTIALS, CLOUDSDK_CONFIG, HOME, GCE_METADATA_HOST];

/// The variables that can hold a setting, and the machine. Injected, so that tests never touch the
/// process's own.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
    asked: Vec<&'static str>,
    machine: Machine,
}

impl Environment {
    /// The variables of this process that concern the service.
    #[must_use]
    pub fn of_process() -> Self {
        Self { machine: Machine::This, ..std::env::vars_os().collect() }
    }

    /// The same on a machine of Google Cloud.
    #[cfg(test)]
    pub(super) fn on_google_cloud(self) -> Self {
        Self { machine: Machine::OfGoogleCloud, ..self }
    }

    pub(super) fn machine(&self) -> Machine {
        self.machine
    }

    fn take(&mut self, name: &'static str) -> Option<Given<OsString>> {
        self.asked.push(name);
        let value = self.variables.remove(name)?;
        Some(Given { value, origin: Origin::Variable(name.to_owned()) })
    }

    pub(super) fn path(&mut self, name: &'static str) -> Option<Given<PathBuf>> {
        self.take(name).map(|given| given.map(PathBuf::from))
    }

    pub(super) fn text(&mut self, name: &'static str, faults: &mut Faults) -> Option<Given<String>> {
        let Given { value, origin } = self.take(name)?;
        match value.into_string() {
            Ok(value) => Some(Given { value, origin }),
            Err(_) => {
                faults.add(&origin, "the value is not UTF-8", "give plain text");
                None
            }
        }
    }

    pub(super) fn integer(&mut self, name: &'static str, faults: &mut Faults) -> Option<Given<i64>> {
        self.text(name, faults)?.parsed(faults, |text: &str| {
            text.trim()
                .parse()
                .map_err(|_| Wrong::new(format!("{text:?} is not a whole number"), "give digits only"))
        })
    }

    pub(super) fn flag(&mut self, name: &'static str, faults: &mut Faults) -> bool {
        self.boolean(name, faults).is_some_and(|given| given.value)
    }

    pub(super) fn boolean(&mut self, name: &'static str, faults: &mut Faults) -> Option<Given<bool>> {
        self.text(name, faults)?.parsed(faults, |text: &str| match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(Wrong::new(format!("{text:?} is neither true nor false"), "give true or false")),
        })
    }

    /// A list of texts, separated by commas.
    pub(super) fn texts(
        &mut self,
        name: &'static str,
        faults: &mut Faults,
    ) -> Option<Given<Vec<Given<String>>>> {
        let Given { value, origin } = self.text(name, faults)?;
        let texts =
            value.split(',').map(|text| Given { value: text.trim().to_owned(), origin: origin.clone() });
        Some(Given { value: texts.collect(), origin })
    }

    /// A variable that nothing read and that resembles a known one is an error. The other variables that nothing read
    /// are returned: they may belong to a newer version, after a rollback. No value is shown: it may be meant for
    /// another program.
    pub(super) fn finish(self, faults: &mut Faults) -> Vec<String> {
        let mut unknown = Vec::new();
        let others = [&OF_OTHERS[..], &known::OF_OTHER_COMMANDS].concat();
        for (name, value) in &self.variables {
            if others.contains(&name.as_str()) || known::is_service_link(name, value) {
                continue;
            }
            match known::nearest(name, &self.asked) {
                Some(known) => {
                    let origin = Origin::Variable(name.clone());
                    faults.add(&origin, "there is no such variable", format!("did you mean {known}?"));
                }
                None => unknown.push(name.clone()),
            }
        }
        unknown
    }
}

/// Keeps what begins with `COUNTERMAND_`, and those of others that are read. The machine is one without a
/// metadata server.
impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
            .filter(|(name, _)| name.starts_with(PREFIX) || OF_OTHERS.contains(&name.as_str()))
            .collect();
        Self { variables, ..Self::default() }
    }
}
