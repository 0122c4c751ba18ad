//! All flags, with every variable.

use std::path::PathBuf;

use super::{
    credential, directory, load, tcp,
    variables::{ALL_VARIABLES, of_variables},
};
use crate::{server::settings::ListenAddress, telemetry::settings::LogFormat};

#[test]
fn a_flag_wins_over_the_variable() {
    let directory = directory();
    let directory = directory.as_path();
    let line = "--config @/empty.toml --listen 127.0.0.1:5 --listen unix:/tmp/c.sock --admin-listen off \
                --credentials @/key.json --upstream-url https://flag.example --upstream-ca @/ca.pem \
                --policy @/policy.cedar --log-format text";
    let config = load(directory, line, &ALL_VARIABLES).unwrap();
    let mut wanted = of_variables(directory, &config);
    wanted.server.listen = vec![tcp("127.0.0.1:5"), ListenAddress::Unix(PathBuf::from("/tmp/c.sock"))];
    wanted.admin.listen = None;
    wanted.upstream.ca_certificates = Some(directory.join("ca.pem"));
    wanted.credentials = vec![credential("default", directory.join("key.json"))];
    wanted.policy.file = Some(directory.join("policy.cedar"));
    wanted.log.log_format = Some(LogFormat::Text);
    // Only the file has these sections.
    wanted.quota = Vec::new();
    wanted.quota_shared = None;
    assert_eq!(config, wanted);
    assert_eq!(config.upstream.url.as_str(), "https://flag.example");
}
