//! `[admin]`: the operator's HTTP port.

use std::net::SocketAddr;

use super::{
    environment::Environment,
    fault::{Faults, Wrong},
    listen::{self, refuse_plaintext},
    source::Given,
    table::Section,
};
use crate::server::settings::{ListenAddress, Server};

/// The operator's HTTP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where to listen; `None` (`"off"`) for not at all.
    pub listen: Option<SocketAddr>,
}

impl Admin {
    pub(super) fn read(
        flag: Option<String>,
        environment: &mut Environment,
        file: &mut Section<'_>,
        may_be_open: bool,
        server: &Server,
        faults: &mut Faults,
    ) -> Self {
        let listen = Given::flag("--admin-listen", flag)
            .or(environment.text("COUNTERMAND_ADMIN_LISTEN", faults))
            .or(file.text("listen", faults))
            .and_then(|given| given.parse(faults, |text: &str| address(text, may_be_open, server)))
            .unwrap_or(Some(SocketAddr::from(([127, 0, 0, 1], 9464))));
        Self { listen }
    }
}

fn address(text: &str, may_be_open: bool, server: &Server) -> Result<Option<SocketAddr>, Wrong> {
    let remedy = r#"give host:port, for example 127.0.0.1:9464, or "off""#;
    match text {
        "off" => return Ok(None),
        _ if text.starts_with("unix:") => {
            return Err(Wrong::new("the admin port cannot be a unix socket", remedy));
        }
        _ => {}
    }
    let address = listen::tcp(text).map_err(|wrong| Wrong::new(wrong.problem, remedy))?;
    refuse_plaintext(address, may_be_open)?;
    let as_listener = ListenAddress::Tcp(address);
    match server.listen.iter().find(|served| served.collides_with(&as_listener)) {
        None => Ok(Some(address)),
        Some(served) => Err(Wrong::new(
            format!("{text:?} collides with {served}, on which gRPC is served"),
            r#"give another port, or "off""#,
        )),
    }
}
