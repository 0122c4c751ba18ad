//! The settings of the operator's HTTP port.

use std::{net::SocketAddr, path::Path};

use crate::config::{Invalid, Parsed, address::tcp_address, settings};

settings! {
    /// `[admin]`: the operator's HTTP port.
    pub struct Admin in "admin" {
        /// Serve /livez, /readyz and /metrics here, or "off".
        listen: Option<SocketAddr> = "127.0.0.1:9464", Parsed { form: "host:port, or \"off\"", parse: address },
            env "COUNTERMAND_ADMIN_LISTEN", flag "--admin-listen ADDR";
    }
}

fn address(text: &str, _: &Path) -> Result<Option<SocketAddr>, Invalid> {
    let hint = r#"give host:port, for example 127.0.0.1:9464, or "off""#;
    match text {
        "off" => Ok(None),
        _ if text.starts_with("unix:") => Err(Invalid::new("the admin port cannot be a unix socket", hint)),
        _ => tcp_address(text, hint).map(Some),
    }
}
