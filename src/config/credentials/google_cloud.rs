//! Whether this machine is one of Google Cloud, which has a metadata server.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs},
    sync::mpsc,
    time::Duration,
};

use super::application_default::METADATA_SERVER;

/// What the firmware of a virtual machine calls it (Compute Engine documentation, "Detect if a VM is
/// running in Compute Engine").
const PRODUCT_NAME: &str = "/sys/class/dmi/id/product_name";

/// The addresses of the metadata server (Compute Engine documentation, "View and query VM metadata"). Some
/// resolvers answer any name, so that the address has to be looked at.
const ADDRESSES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// How long a resolver may take. In Google Cloud it answers at once; elsewhere it may not answer at all.
const PATIENCE: Duration = Duration::from_secs(3);

/// A machine, or what a test says of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::config) enum Machine {
    /// The one that this process runs on.
    This,
    /// One of Google Cloud.
    #[cfg(test)]
    OfGoogleCloud,
    /// One without a metadata server.
    #[default]
    Elsewhere,
}

impl Machine {
    /// Blocks while it asks the resolver, for a few seconds at most.
    pub(in crate::config) fn is_of_google_cloud(self) -> bool {
        match self {
            Self::This => is_named_so() || is_resolved(),
            #[cfg(test)]
            Self::OfGoogleCloud => true,
            Self::Elsewhere => false,
        }
    }
}

/// Not on Cloud Run, for example, whose sandbox shows no firmware.
fn is_named_so() -> bool {
    fs::read_to_string(PRODUCT_NAME).is_ok_and(|name| name.trim().starts_with("Google"))
}

fn is_resolved() -> bool {
    let (tell, told) = mpsc::channel();
    // A thread of its own, since the resolver cannot be interrupted; it ends when the resolver gives up.
    std::thread::spawn(move || {
        #[expect(clippy::disallowed_methods, reason = "at start, on a thread of its own")]
        let found = (METADATA_SERVER, 80).to_socket_addrs();
        let is_it = found.is_ok_and(|mut found| found.any(|address| ADDRESSES.contains(&address.ip())));
        // Nobody listens when it took too long.
        let _ = tell.send(is_it);
    });
    told.recv_timeout(PATIENCE).unwrap_or(false)
}
