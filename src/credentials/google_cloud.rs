//! Detects whether this machine is in Google Cloud, which has a metadata server.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs},
    sync::mpsc,
    time::Duration,
};

use super::application_default::METADATA_SERVER;

/// The product name in the firmware of a virtual machine (Compute Engine documentation, "Detect if a VM is
/// running in Compute Engine").
const PRODUCT_NAME: &str = "/sys/class/dmi/id/product_name";

/// The addresses of the metadata server (Compute Engine documentation, "View and query VM metadata"). The address is
/// compared because some resolvers return an address for any name.
const ADDRESSES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// The time limit of the lookup. In Google Cloud the resolver answers at once; elsewhere it may never answer.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);

/// The machine whose metadata server may be used. Tests choose a variant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Machine {
    /// The machine of this process.
    This,
    /// A machine in Google Cloud.
    GoogleCloud,
    /// A machine without a metadata server.
    #[default]
    Elsewhere,
}

impl Machine {
    /// Whether the machine is in Google Cloud. Blocks for the lookup, a few seconds at most.
    pub(super) fn is_in_google_cloud(self) -> bool {
        match self {
            Self::This => has_product_name() || has_metadata_server(),
            Self::GoogleCloud => true,
            Self::Elsewhere => false,
        }
    }
}

/// Whether the firmware names Google. The sandbox of Cloud Run, for example, shows no firmware.
fn has_product_name() -> bool {
    fs::read_to_string(PRODUCT_NAME).is_ok_and(|name| name.trim().starts_with("Google"))
}

fn has_metadata_server() -> bool {
    let (sender, result) = mpsc::channel();
    // The lookup has its own thread because the resolver cannot be interrupted. The thread ends with the lookup.
    std::thread::spawn(move || {
        #[expect(clippy::disallowed_methods, reason = "at start, on its own thread")]
        let found = (METADATA_SERVER, 80).to_socket_addrs();
        let is_found = found.is_ok_and(|mut found| found.any(|address| ADDRESSES.contains(&address.ip())));
        // The receiver is dropped after the timeout.
        let _ = sender.send(is_found);
    });
    result.recv_timeout(RESOLVE_TIMEOUT).unwrap_or(false)
}
