//! Access control over real sockets: caller identities, policies and audit lines. Each test uses several modules
//! together: TLS, identity, policy, call sharing and the audit log.

mod fixture;
mod load;
pub(crate) mod program;

mod audit;
mod certificates;
mod check;
mod examples;
mod forwarded;
mod jwt;
mod limits;
mod listeners;
mod precedence;
mod reload;
mod sharing;
mod shutdown;

const NAME: &str = "enterprises/LC01/devices/d1/operations/17";

/// A caller identity of each kind.
const CONSOLE: &str = "spiffe://corp.example/ns/mdm/sa/console";
const HOST: &str = "dns:console.corp.example";
const BEARER: &str = "jwt:https://issuer.example#console";

/// The identity of this user on a unix socket.
fn this_user() -> String {
    format!("unix:{}", nix::unistd::getuid())
}
