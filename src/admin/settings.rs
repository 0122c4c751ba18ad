//! The settings of the operator's HTTP port.

use std::{net::SocketAddr, path::Path};

use crate::config::{Invalid, Parsed, Switch, address::tcp_address, settings};

settings! {
    /// `[admin]`: the operator's HTTP port.
    pub struct Admin in "admin" {
        /// Serve /livez, /readyz, /metrics, /statusz and /loglevel here, or "off".
        listen: Option<SocketAddr> = "127.0.0.1:9464", Parsed { form: "host:port, or \"off\"", parse: address },
            env "COUNTERMAND_ADMIN_LISTEN", flag "--admin-listen ADDR";
        /// Drain and end after a POST to /quitquitquit on the admin port, as after SIGTERM. For Kubernetes Jobs, whose
        /// main container ends its sidecars.
        quit: bool = false, Switch, env "COUNTERMAND_ADMIN_QUIT";
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
