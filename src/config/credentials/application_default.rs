//! Application default credentials, in the order that Google documents ("How Application Default
//! Credentials works"): the variable, gcloud's file, the metadata server. Nothing but files and names is
//! looked at, and no token is asked for.

use std::path::PathBuf;

use super::super::{
    environment::{
        CLOUDSDK_CONFIG, Environment, GCE_METADATA_HOST, GOOGLE_APPLICATION_CREDENTIALS, HOME,
    },
    fault::{Faults, Wrong},
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
    found: Option<Result<Option<Found>, Reported>>,
}

#[derive(Clone)]
struct Found {
    origin: credentials::Origin,
    /// The variable that named it, if one did.
    by: Option<Origin>,
}

/// There is something, and it is wrong; the fault is noted.
#[derive(Clone, Copy)]
pub(super) struct Reported;

impl ApplicationDefault {
    /// Takes the variables that say where; Google's libraries take an empty one for none.
    pub(super) fn of(environment: &mut Environment) -> Self {
        let mut path =
            |name| environment.path(name).filter(|given| !given.value.as_os_str().is_empty());
        let (named, metadata_host) = (path(GOOGLE_APPLICATION_CREDENTIALS), path(GCE_METADATA_HOST));
        let home = path(HOME).map(|given| given.value.join(".config/gcloud"));
        let gcloud = path(CLOUDSDK_CONFIG).map(|given| given.value).or(home).map(|room| room.join(FILE));
        Self { named, gcloud, metadata_host, machine: environment.machine(), found: None }
    }

    /// The first that there is, with the place to mend: the variable that names it, else `asked`.
    ///
    /// Blocks while it looks, once, at most a few seconds.
    pub(super) fn find(
        &mut self,
        asked: &Origin,
        faults: &mut Faults,
    ) -> Result<Option<Given<credentials::Origin>>, Reported> {
        if self.found.is_none() {
            self.found = Some(self.look(faults));
        }
        let found = self.found.clone().unwrap_or(Ok(None))?;
        Ok(found.map(|Found { origin, by }| Given { value: origin, origin: by.unwrap_or(asked.clone()) }))
    }

    fn look(&self, faults: &mut Faults) -> Result<Option<Found>, Reported> {
        if let Some(Given { value, origin }) = &self.named {
            let (file, by) = (value.clone(), Some(origin.clone()));
            return Ok(Some(Found { origin: credentials::Origin::File(file), by }));
        }
        if let Some(file) = &self.gcloud
            // One that cannot be looked at is there, and the fault is told when it is read.
            && file.try_exists().unwrap_or(true)
        {
            return Ok(Some(Found { origin: credentials::Origin::File(file.clone()), by: None }));
        }
        if let Some(given) = &self.metadata_host {
            let host = faults.note(&given.origin, valid_host(&given.value.to_string_lossy())).ok_or(Reported)?;
            let by = Some(given.origin.clone());
            return Ok(Some(Found { origin: credentials::Origin::MetadataServer { host }, by }));
        }
        Ok(self.machine.is_of_google_cloud().then(|| {
            let host = METADATA_SERVER.to_owned();
            Found { origin: credentials::Origin::MetadataServer { host }, by: None }
        }))
    }
}

/// `host` or `host:port`.
fn valid_host(text: &str) -> Result<String, Wrong> {
    let is_host = |url: &url::Url| {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        url.host_str().is_some_and(|host| format!("{host}{port}") == text)
    };
    match url::Url::parse(&format!("http://{text}/")) {
        Ok(url) if is_host(&url) => Ok(text.to_owned()),
        _ => Err(Wrong::new(
            format!("{text:?} is not a host"),
            "give the metadata server's host or host:port in lower case, or unset the variable",
        )),
    }
}
