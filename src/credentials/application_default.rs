//! Application default credentials, in the order that Google documents ("How Application Default Credentials works"):
//! the variable, gcloud's file, the metadata server. The search looks up files and host names, and requests no token.

use std::path::PathBuf;

use super::{Origin, google_cloud::Machine};
use crate::config::{self, Given, Variables};

/// The name of gcloud's file in its configuration directory.
const GCLOUD_FILE: &str = "application_default_credentials.json";

/// The name of the metadata server, which only resolves in Google Cloud.
pub(super) const METADATA_SERVER: &str = "metadata.google.internal";

/// The candidates of the search, and its result.
pub(super) struct ApplicationDefault {
    variable: Option<Given<PathBuf>>,
    gcloud_file: Option<PathBuf>,
    metadata_host: Option<Given<PathBuf>>,
    machine: Machine,
    /// The result of the search, kept because several credentials may need it.
    found: Option<Option<Found>>,
}

#[derive(Clone)]
struct Found {
    origin: Origin,
    /// The variable that named the origin, if one did.
    variable: Option<config::Provenance>,
}

impl ApplicationDefault {
    pub(super) fn new(variables: &mut Variables, machine: Machine) -> Self {
        let variable = variables.path("GOOGLE_APPLICATION_CREDENTIALS");
        let metadata_host = variables.path("GCE_METADATA_HOST");
        let home = variables.path("HOME").map(|given| given.value.join(".config/gcloud"));
        let directory = variables.path("CLOUDSDK_CONFIG").map(|given| given.value).or(home);
        let gcloud_file = directory.map(|directory| directory.join(GCLOUD_FILE));
        Self { variable, gcloud_file, metadata_host, machine, found: None }
    }

    /// The first candidate that exists, not read yet. Its provenance is the variable that names it, otherwise
    /// `wanted_by`. The first call may block for a few seconds.
    pub(super) fn find(&mut self, wanted_by: &config::Provenance) -> Option<Given<Origin>> {
        if self.found.is_none() {
            self.found = Some(self.look());
        }
        let Found { origin, variable } = self.found.clone().flatten()?;
        Some(Given { value: origin, origin: variable.unwrap_or_else(|| wanted_by.clone()) })
    }

    fn look(&self) -> Option<Found> {
        if let Some(Given { value, origin }) = &self.variable {
            return Some(Found { origin: Origin::File(value.clone()), variable: Some(origin.clone()) });
        }
        if let Some(file) = &self.gcloud_file
            // A file whose existence cannot be checked is reported when it is read.
            && file.try_exists().unwrap_or(true)
        {
            return Some(Found { origin: Origin::File(file.clone()), variable: None });
        }
        if let Some(Given { value, origin }) = &self.metadata_host {
            let host = value.to_string_lossy().into_owned();
            return Some(Found { origin: Origin::MetadataServer { host }, variable: Some(origin.clone()) });
        }
        self.machine.is_in_google_cloud().then(|| {
            let host = METADATA_SERVER.to_owned();
            Found { origin: Origin::MetadataServer { host }, variable: None }
        })
    }
}
