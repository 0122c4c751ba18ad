//! One setting at a time.

use std::{path::PathBuf, time::Duration};

use super::{directory, load, polling, tcp};
use crate::{
    app::config::Settings,
    audit::settings::{Destination, OnFailure},
    credentials::Origin,
    operations::guard::GuardLimit,
    telemetry::settings::LogFormat,
};

#[test]
fn each_setting_alone_changes_nothing_else() {
    type Case = (&'static str, &'static [(&'static str, &'static str)], fn(&mut Settings));
    let directory = directory();
    let directory = directory.as_path();
    let cases: [Case; 28] = [
        ("--listen [::1]:1", &[], |c| c.server.listen = vec![tcp("[::1]:1")]),
        ("", &[("COUNTERMAND_LISTEN", "[::1]:1")], |c| c.server.listen = vec![tcp("[::1]:1")]),
        ("--admin-listen off", &[], |c| c.admin.listen = None),
        ("", &[("COUNTERMAND_ADMIN_LISTEN", "off")], |c| c.admin.listen = None),
        ("--upstream-ca @/ca.pem", &[], ca),
        ("", &[("COUNTERMAND_UPSTREAM_CA", "@/ca.pem")], ca),
        ("--policy @/policy.cedar", &[], policy),
        ("", &[("COUNTERMAND_POLICY", "@/policy.cedar")], policy),
        ("--log-format json", &[], |c| c.log.log_format = Some(LogFormat::Json)),
        ("", &[("COUNTERMAND_LOG_FORMAT", "json")], |c| c.log.log_format = Some(LogFormat::Json)),
        ("", &[("COUNTERMAND_DRAIN_TIMEOUT", "1s")], |c| c.server.drain_timeout = Duration::from_secs(1)),
        ("", &[("COUNTERMAND_UPSTREAM_TIMEOUT", "1s")], |c| c.upstream.timeout = Duration::from_secs(1)),
        ("", &[("COUNTERMAND_MAX_CONCURRENT_CALLS", "7")], |c| c.limits.max_concurrent_calls = 7),
        ("", &[("COUNTERMAND_POLLING_MIN_INTERVAL", "20s")], |c| {
            c.polling = polling(20, 20, 240, 2000, 3600)
        }),
        ("", &[("COUNTERMAND_POLLING_MAX_INTERVAL", "1s")], |c| c.polling = polling(1, 1, 240, 2000, 3600)),
        ("", &[("COUNTERMAND_POLLING_MAX_WAIT", "1s")], |c| c.polling = polling(1, 20, 1, 2000, 3600)),
        ("", &[("COUNTERMAND_POLLING_CACHE_ENTRIES", "0")], |c| c.polling = polling(1, 20, 240, 0, 3600)),
        ("", &[("COUNTERMAND_POLLING_CACHE_MAX_AGE", "1s")], |c| c.polling = polling(1, 20, 240, 2000, 1)),
        ("", &[("COUNTERMAND_AUDIT_FILE", "@/a")], |c| {
            c.audit.file = Destination::File(beside_the_key(c, "a"));
        }),
        ("", &[("COUNTERMAND_AUDIT_FILE", "stdout")], |_| {}),
        ("", &[("COUNTERMAND_TELEMETRY_LISTEN", "[::]:9466")], |c| {
            c.telemetry.listen = Some("[::]:9466".parse().unwrap());
        }),
        ("", &[("COUNTERMAND_GUARD_PENDING_WIPES", "50")], |c| {
            c.guard = Some(GuardLimit { pending_wipes: 50, period: Duration::from_secs(600) });
        }),
        ("", &[("COUNTERMAND_AUDIT_ON_FAILURE", "continue")], |c| c.audit.on_failure = OnFailure::Continue),
        ("--allow-unauthenticated", &[], |_| {}),
        ("", &[("COUNTERMAND_ALLOW_UNAUTHENTICATED", "false")], |_| {}),
        ("--listen 0.0.0.0:1 --allow-unauthenticated", &[], open),
        ("--listen 0.0.0.0:1", &[("COUNTERMAND_ALLOW_UNAUTHENTICATED", "1")], open),
        ("--allow-unauthenticated", &[("COUNTERMAND_LISTEN", "0.0.0.0:1")], open),
    ];
    for (flags, variables, change) in cases {
        let mut wanted = load(directory, "--credentials @/key.json", &[]).unwrap();
        change(&mut wanted);
        let found = load(directory, &format!("--credentials @/key.json {flags}"), variables);
        assert_eq!(found.unwrap(), wanted, "{flags} {variables:?}");
    }
}

fn open(settings: &mut Settings) {
    settings.server.listen = vec![tcp("0.0.0.0:1")];
}

fn policy(settings: &mut Settings) {
    settings.policy.file = Some(beside_the_key(settings, "policy.cedar"));
}

fn ca(settings: &mut Settings) {
    settings.upstream.ca_certificates = Some(beside_the_key(settings, "ca.pem"));
}

fn beside_the_key(settings: &Settings, name: &str) -> PathBuf {
    let Origin::File(file) = &settings.credentials[0].definition.origin else { panic!("{settings:?}") };
    file.with_file_name(name)
}
