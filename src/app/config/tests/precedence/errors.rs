//! The source in the text of an error.

use super::{directory, load};

#[test]
fn an_error_names_the_source_that_won() {
    let directory = directory();
    let directory = directory.as_path();
    for (line, variable, key) in [
        ("--listen nowhere", ("COUNTERMAND_LISTEN", "127.0.0.1:1"), "--listen"),
        ("", ("COUNTERMAND_LISTEN", "127.0.0.1:1,"), "COUNTERMAND_LISTEN"),
        ("", ("COUNTERMAND_LISTEN", ""), "COUNTERMAND_LISTEN"),
        ("--admin-listen 192.0.2.1:1", ("COUNTERMAND_ALLOW_UNAUTHENTICATED", "false"), "--admin-listen"),
        ("", ("COUNTERMAND_ALLOW_UNAUTHENTICATED", "yes"), "COUNTERMAND_ALLOW_UNAUTHENTICATED"),
        ("--admin-listen 0.0.0.0:1", ("COUNTERMAND_ADMIN_LISTEN", "off"), "--admin-listen"),
        ("--upstream-url x", ("COUNTERMAND_UPSTREAM_URL", "https://h"), "--upstream-url"),
        ("--upstream-ca @/key.json", ("COUNTERMAND_UPSTREAM_CA", "@/ca.pem"), "--upstream-ca"),
        (
            "",
            ("COUNTERMAND_UPSTREAM_IAM_CREDENTIALS_URL", "http://h"),
            "COUNTERMAND_UPSTREAM_IAM_CREDENTIALS_URL",
        ),
        ("", ("COUNTERMAND_UPSTREAM_TIMEOUT", "0s"), "COUNTERMAND_UPSTREAM_TIMEOUT"),
        ("", ("COUNTERMAND_MAX_CONCURRENT_CALLS", "many"), "COUNTERMAND_MAX_CONCURRENT_CALLS"),
        ("", ("COUNTERMAND_POLLING_MIN_INTERVAL", "2h"), "COUNTERMAND_POLLING_MIN_INTERVAL"),
        ("", ("COUNTERMAND_POLLING_MAX_WAIT", "x"), "COUNTERMAND_POLLING_MAX_WAIT"),
        ("", ("COUNTERMAND_POLLING_CACHE_ENTRIES", "x"), "COUNTERMAND_POLLING_CACHE_ENTRIES"),
        ("", ("COUNTERMAND_AUDIT_FILE", "@/none/a"), "COUNTERMAND_AUDIT_FILE"),
        ("", ("COUNTERMAND_AUDIT_ON_FAILURE", ""), "COUNTERMAND_AUDIT_ON_FAILURE"),
        ("", ("COUNTERMAND_CREDENTIALS", "@/none.json"), "COUNTERMAND_CREDENTIALS"),
        ("--credentials @/none.json", ("COUNTERMAND_CREDENTIALS", "@/key.json"), "--credentials"),
        ("--policy @/none.cedar", ("COUNTERMAND_POLICY", "@/policy.cedar"), "--policy"),
        ("", ("COUNTERMAND_POLICY", "q"), "COUNTERMAND_POLICY"),
    ] {
        let line = format!("--config @/full.toml {line}");
        let errors = load(directory, &line, &[variable]).expect_err(&line);
        let keys: Vec<_> = errors.iter().map(|error| error.key.as_str()).collect();
        assert_eq!(keys, [key], "{line} {variable:?}: {errors}");
    }
}
