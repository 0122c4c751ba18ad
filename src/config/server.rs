//! `[server]`: what serves gRPC.

use std::{path::Path, time::Duration};

use super::{
    environment::Environment,
    fault::{Faults, Wrong},
    listen::Guard,
    source::{Given, Origin},
    sources::Sources,
    table::Section,
    tls::Tls,
};
use crate::server::settings::{Limits, ListenAddress, Server, UnixSocket};

impl Server {
    /// `policed` says whether there is a policy, `may_be_open` whether it and TLS may be absent anywhere.
    pub(super) fn read(
        listen: Vec<String>,
        environment: &mut Environment,
        mut section: Section<'_>,
        policed: bool,
        may_be_open: bool,
        faults: &mut Faults,
    ) -> Self {
        let file = &mut section;
        let tls = Tls::read(environment, file, faults);
        let listen = flags(listen)
            .or(environment.texts("COUNTERMAND_LISTEN", faults))
            .or(file.texts("listen", faults));

        let drain_timeout = Sources { environment, file, faults }.time(
            "COUNTERMAND_DRAIN_TIMEOUT",
            "drain_timeout",
            Duration::from_secs(25),
        );

        let unix_socket = UnixSocket::read(environment, file, faults);
        let limits = Limits::read(environment, file, faults);

        let directory = section.directory();
        let unknown = section.finish(faults);
        let guard = Guard { encrypted: tls.is_given || unknown.means("tls"), policed, may_be_open };
        let listen = listen.map_or_else(default_listen, |given| addresses(&given, directory, guard, faults));

        Self { listen, tls: tls.files, unix_socket, drain_timeout, limits }
    }
}

fn default_listen() -> Vec<ListenAddress> {
    vec![ListenAddress::Tcp(([127, 0, 0, 1], 50051).into())]
}

/// `None` when the flag was never given.
fn flags(listen: Vec<String>) -> Option<Given<Vec<Given<String>>>> {
    let origin = Origin::Flag("--listen");
    let each = listen.into_iter().map(|value| Given { value, origin: origin.clone() });
    let value: Vec<_> = each.collect();
    (!value.is_empty()).then_some(Given { value, origin })
}

/// Those of `given` that are right; the others' faults are noted.
fn addresses(
    given: &Given<Vec<Given<String>>>,
    directory: &Path,
    guard: Guard,
    faults: &mut Faults,
) -> Vec<ListenAddress> {
    if given.value.is_empty() {
        faults.add(&given.origin, "the list is empty", r#"give one address at least, or leave it out"#);
    }
    let mut listen: Vec<ListenAddress> = Vec::with_capacity(given.value.len());
    for item in &given.value {
        let relative_to = match item.origin {
            Origin::Key { .. } => directory,
            Origin::Flag(_) | Origin::Variable(_) => "".as_ref(),
        };
        let address = item.parse(faults, |text: &str| {
            let address = ListenAddress::parse(text, relative_to)?;
            if let ListenAddress::Tcp(address) = address {
                guard.check(address)?;
            }
            match listen.iter().find(|earlier| earlier.collides_with(&address)) {
                None => Ok(address),
                Some(_) => Err(Wrong::new(
                    format!("{text:?} collides with an earlier address of the list"),
                    "give each address once",
                )),
            }
        });
        listen.extend(address);
    }
    listen
}
