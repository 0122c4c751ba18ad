//! The errors of `[server]`, except those of addresses and TLS.

use super::Directory;
use crate::{config::Flags, server::settings::Owner};

#[test]
fn each_error_has_its_text() {
    Directory::new().assert_each_errs([
        ("[server]\ndrain_timeout = \"-5s\"", "is negative"),
        ("[server]\ndrain_timeout = \"soon\"", "is not a duration"),
        ("[server]\ndrain_timeout = \"25\"", "is not a duration"),
        ("[server]\ndrain_timeout = \"1us\"", "is too short"),
        ("[server]\ndrain_timeout = \"99999999999999999999years\"", "is too long"),
        ("[server]\ndrain_timeout = \"2h\"", "is too long"),
        ("[server]\nmax_connections = 0", "0 is out of range; give a number from 1 to 1000000"),
        ("[server]\nmax_request_bytes = 1023", "give a number from 1024 to 4194304"),
        ("[server]\nmax_header_list_bytes = 1048577", "give a number from 1024 to 1048576"),
        ("[server]\nmax_streams_per_connection = 4294967297", "4294967297 is out of range"),
        ("[server]\nhandshake_timeout = \"0s\"", "handshake_timeout (line 2): \"0s\" is too short"),
        ("[server]\nmax_connection_age = \"never\"", "this is not a duration; give a number and its"),
        ("[server]\nmax_connection_age = \"2h\"", "or \"off\""),
        ("[server]\nmax_connection_age_grace = \"off\"", "this is not a duration"),
        ("[server]\nunix_socket_mode = 0o600", "this is an integer; give a string"),
        ("[server]\nunix_socket_mode = \"600!\"", "this is not a file mode"),
        ("[server]\nunix_socket_mode = \"0680\"", "this is not a file mode"),
        ("[server]\nunix_socket_mode = \"1777\"", "this is not a file mode"),
        ("[server]\nunix_socket_owner = \"\"", "this machine has no such user"),
        ("[server]\nunix_socket_owner = \"no-such-user\"", "this machine has no such user"),
        ("[server]\nunix_socket_owner = \"0:no-such-group\"", "this machine has no such group"),
        ("[server]\nunix_socket_owner = \"4294967295\"", "this machine has no such user"),
        ("[server]\nmax_concurrent_calls = \"4\"", "this is a string; give a whole number"),
        ("[server]\nmax_concurrent_calls = -1", "-1 is out of range"),
        ("[server]\nmax_concurrent_calls = 99999999999999999999", "the number is too large"),
    ]);
}

#[test]
fn the_owner_of_a_socket_is_a_name_or_a_number() {
    let directory = Directory::new();
    for (text, user, group) in [
        ("root", Some(0), None),
        ("root:root", Some(0), Some(0)),
        ("12:34", Some(12), Some(34)),
        (":34", None, Some(34)),
        ("12", Some(12), None),
    ] {
        let variables = [("COUNTERMAND_UNIX_SOCKET_OWNER", text)];
        let flags = Flags::default().with("--credentials", directory.path("key.json"));
        let config = directory.load("", &variables, flags).unwrap();
        assert_eq!(config.settings.server.unix_socket_owner, Some(Owner { user, group }), "{text}");
    }
}
