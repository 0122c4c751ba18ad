//! The front door, over real sockets: who calls, what they may do, and what each call leaves behind. Each test
//! goes through all the rooms that have a part in that: TLS, identity, policy, sharing, the audit log.

mod load;
mod program;
mod visit;

mod audit;
mod certificates;
mod check;
mod examples;
mod forwarded;
mod limits;
mod listeners;
mod precedence;
mod reload;
mod sharing;
mod stop;
mod tokens;

const NAME: &str = "enterprises/LC01/devices/d1/operations/17";

/// A caller by each kind of name.
const CONSOLE: &str = "spiffe://corp.example/ns/mdm/sa/console";
const HOST: &str = "dns:console.corp.example";
const BEARER: &str = "jwt:https://issuer.example#console";

/// The user of these tests, by a unix socket.
fn this_user() -> String {
    format!("unix:{}", nix::unistd::getuid())
}
