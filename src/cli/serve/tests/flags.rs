//! The command line, over every variable.

use std::path::PathBuf;

use super::{
    credential, load, policy_file, room, tcp,
    variables::{ALL_VARIABLES, of_variables},
};
use crate::config::{ListenAddress, LogFormat};

#[test]
fn a_flag_wins_over_the_variable() {
    let room = room();
    let room = room.directory();
    let line = "--config @/empty.toml --listen 127.0.0.1:5 --listen unix:/tmp/c.sock --admin-listen off \
                --credentials @/key.json --upstream-url https://flag.example --upstream-ca @/ca.pem \
                --policy @/policy.cedar --log-format text";
    let config = load(room, line, &ALL_VARIABLES).unwrap();
    let mut wanted = of_variables(room, &config);
    wanted.server.listen = vec![tcp("127.0.0.1:5"), ListenAddress::Unix(PathBuf::from("/tmp/c.sock"))];
    wanted.admin.listen = None;
    wanted.upstream.ca_certificates = Some(room.join("ca.pem"));
    wanted.credentials = vec![credential("default", room.join("key.json"))];
    wanted.policy = Some(policy_file(room, "policy.cedar"));
    wanted.log_format = LogFormat::Text;
    assert_eq!(config, wanted);
    assert_eq!(config.upstream.url.as_str(), "https://flag.example");
}
