//! Listeners that anybody on the network can reach, as the configuration was told to allow.

use super::finding::Finding;
use crate::{app::config::Settings, loopback::is_loopback, server::settings::ListenAddress};

/// One for each TCP address beyond loopback that is without TLS or a policy.
pub(super) fn findings(settings: &Settings) -> Vec<Finding> {
    let lacks = match (&settings.tls, &settings.policy) {
        (Some(_), Some(_)) => return Vec::new(),
        (None, Some(_)) => "in plaintext",
        (Some(_), None) => "with no policy on who may do what",
        (None, None) => "in plaintext and by anyone",
    };
    let beyond = settings.server.listen.iter().filter(|address| match address {
        ListenAddress::Tcp(address) => !is_loopback(*address),
        ListenAddress::Unix(_) => false,
    });
    let warning = |address| {
        let finding = format!("{address} can be reached from beyond this machine, {lacks}");
        Finding::warning("server.listen", finding, "see that a mesh encrypts and authorises what comes there")
    };
    beyond.map(warning).collect()
}
