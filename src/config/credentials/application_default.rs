//! Application default credentials, in the order that Google documents ("How Application Default
//! Credentials works"): the variable, gcloud's file, the metadata server. Nothing but files and names is
//! looked at, and no token is asked for.

use std::path::PathBuf;

use super::super::{
    environment::{CLOUDSDK_CONFIG, Environment, GCE_METADATA_HOST, GOOGLE_APPLICATION_CREDENTIALS, HOME},
    source::{Given, Origin},
};
use super::google_cloud::Machine;
use crate::credentials;

/// What gcloud calls the file in its directory.
const FILE: &str = "application_default_credentials.json";

/// The name of the metadata server, in Google Cloud and nowhere else.
pub(super) const METADATA_SERVER: &str = "metadata.google.internal";

/// Where to look.
pub(super) struct ApplicationDefault {
    named: Option<Given<PathBuf>>,
    gcloud: Option<PathBuf>,
    metadata_host: Option<Given<PathBuf>>,
    machine: Machine,
    /// What looking came to: one may be wanted for several credentials.
    found: Option<Option<Found>>,
}

#[derive(Clone)]
struct Found {
    origin: credentials::Origin,
    /// The variable that named it, if one did.
    by: Option<Origin>,
}

impl ApplicationDefault {
    /// Takes the variables that say where; Google's libraries take an empty one for none.
    pub(super) fn of(environment: &mut Environment) -> Self {
        let mut path = |name| environment.path(name).filter(|given| !given.value.as_os_str().is_empty());
        let (named, metadata_host) = (path(GOOGLE_APPLICATION_CREDENTIALS), path(GCE_METADATA_HOST));
        let home = path(HOME).map(|given| given.value.join(".config/gcloud"));
        let gcloud = path(CLOUDSDK_CONFIG).map(|given| given.value).or(home).map(|room| room.join(FILE));
        Self { named, gcloud, metadata_host, machine: environment.machine(), found: None }
    }

    /// The first that there is, not looked into, with the place to mend: the variable that names it, else
    /// `asked`.
    ///
    /// Blocks while it looks, once, at most a few seconds.
    pub(super) fn find(&mut self, asked: &Origin) -> Option<Given<credentials::Origin>> {
        if self.found.is_none() {
            self.found = Some(self.look());
        }
        let Found { origin, by } = self.found.clone().flatten()?;
        Some(Given { value: origin, origin: by.unwrap_or_else(|| asked.clone()) })
    }

    fn look(&self) -> Option<Found> {
        if let Some(Given { value, origin }) = &self.named {
            let (file, by) = (value.clone(), Some(origin.clone()));
            return Some(Found { origin: credentials::Origin::File(file), by });
        }
        if let Some(file) = &self.gcloud
            // One that cannot be looked at is there, and the fault is told when it is read.
            && file.try_exists().unwrap_or(true)
        {
            return Some(Found { origin: credentials::Origin::File(file.clone()), by: None });
        }
        if let Some(Given { value, origin }) = &self.metadata_host {
            let (host, by) = (value.to_string_lossy().into_owned(), Some(origin.clone()));
            return Some(Found { origin: credentials::Origin::MetadataServer { host }, by });
        }
        self.machine.is_of_google_cloud().then(|| {
            let host = METADATA_SERVER.to_owned();
            Found { origin: credentials::Origin::MetadataServer { host }, by: None }
        })
    }
}
