//! The errors of `[[quota]]` and `[quota_shared]`.

use std::fs;

use super::Directory;
use crate::config::Flags;

#[test]
fn each_error_has_its_text() {
    Directory::new().assert_each_errs([
        (
            "[quota]\nlimit = 600",
            "quota (line 1): this is a table; give a section in double brackets, [[quota]]",
        ),
        ("quota = 600", "quota (line 1): this is an integer; give a section in double brackets, [[quota]]"),
        ("[[quotas]]", "quotas (line 1): there is no such key; did you mean quota?"),
        ("[[quota]]\nproject = 1", "quota.project (line 2): this is an integer"),
        ("[[quota]]\nproject = \"\"", "quota.project (line 2): this is not the id of a Google project"),
        ("[[quota]]\nproject = \"A b\"", "quota.project (line 2): this is not the id of a Google project"),
        ("[[quota]]\nprojct = \"p\"", "quota.projct (line 2): there is no such key; did you mean project?"),
        (
            "[[quota]]\nrate = 1",
            "quota.rate (line 2): there is no such key; the keys here are project, limit, period, burst, mode",
        ),
        ("[[quota]]\nlimit = 1", "quota.limit (line 2): 1 is out of range; give a number from 2 to"),
        ("[[quota]]\nlimit = \"600\"", "quota.limit (line 2): this is a string; give a whole number"),
        ("[[quota]]\nperiod = 60", "quota.period (line 2): this is an integer; give a string, in quotes"),
        ("[[quota]]\nperiod = \"0s\"", "quota.period (line 2): \"0s\" is too short"),
        ("[[quota]]\nmode = \"off\"", "quota.mode (line 2): there is no such value; give enforce or shadow"),
        ("[[quota]]\nburst = 0", "quota.burst (line 2): 0 is out of range; give a number from 1 to"),
        (
            "[[quota]]\nburst = 600",
            "quota.burst (line 2): a burst of 600 leaves nothing of the limit of 600 for the rate; give less than \
             the limit, or leave it out for 5 % of the limit",
        ),
        ("[[quota]]\nlimit = 10\nburst = 11", "quota.burst (line 3): a burst of 11 leaves nothing"),
        // An invalid limit hides no other error, and causes none.
        ("[[quota]]\nburst = 700\nlimit = 0", "quota.limit (line 3): 0 is out of range"),
        ("[[quota]]\nburst = 700\nlimt = 1000", "quota.limt (line 3): there is no such key"),
    ]);
}

#[test]
fn two_sections_for_one_project_are_an_error_that_names_both() {
    let directory = Directory::new();
    directory.assert_each_errs([
        (
            "[[quota]]\nproject = \"p\"\n[[quota]]\nproject = \"q\"\n[[quota]]\nlimit = 9\nproject = \"p\"",
            "quota.project (line 7): another section is for this project too (line 2); give each project one section",
        ),
        (
            "[[quota]]\nlimit = 9\n[[quota]]\nproject = \"q\"\n[[quota]]",
            "quota (line 5): this section is for each project that no other names, as another is (line 1); give one \
             of the two a project",
        ),
        // An invalid project is not a missing one.
        ("[[quota]]\n[[quota]]\nproject = \"A b\"", "quota.project (line 3): this is not the id"),
        ("[[quota]]\n[[quota]]\nprojct = \"p\"", "quota.projct (line 3): there is no such key"),
    ]);
    let errors =
        directory.errors("[[quota]]\nproject = \"p\"\nburst = 600\n[[quota]]\nproject = \"p\"\nmode = 1");
    let begins = ["quota.burst (line 3): ", "quota.project (line 5): ", "quota.mode (line 6): "];
    assert_eq!(errors.len(), begins.len(), "{errors:#?}");
    for (error, begin) in errors.iter().zip(begins) {
        assert!(error.starts_with(begin), "{errors:#?}");
    }
}

#[test]
fn each_error_of_the_shared_quota_has_its_text() {
    let directory = Directory::new();
    fs::write(directory.path("empty"), "").unwrap();
    let shared = |settings: &str| format!("[[quota]]\n[quota_shared]\n{settings}");
    let with = |settings: &str| shared(&format!("url = \"rediss://valkey\"\nreplicas = 3\n{settings}"));
    directory.assert_each_errs([
        (
            "[quota_shared]\nurl = \"rediss://valkey\"\nreplicas = 3".to_owned(),
            "quota_shared (line 1): there is no quota to share; add a [[quota]] section, or leave this section out",
        ),
        ("[[quota]]\n[[quota_shared]]".to_owned(), "quota_shared (line 2): this is an array; give a section"),
        ("quota_shared = \"rediss://valkey\"\n[[quota]]".to_owned(), "quota_shared (line 1): this is a string; give"),
        ("[[quota]]\n[quota-shared]".to_owned(), "quota-shared (line 2): there is no such key; did you mean quota_shared?"),
        (shared("replicas = 3"), "quota_shared.url: this is missing"),
        (shared("url = \"rediss://valkey\""), "quota_shared.replicas: this is missing"),
        (shared("url = \"rediss://valkey\"\nreplica = 3"), "quota_shared.replica (line 4): there is no such key; did you mean"),
        (shared("url = \"redis://valkey\"\nreplicas = 3"), "quota_shared.url (line 3): redis:// would send the password"),
        (shared("url = \"rediss://a:b@valkey\"\nreplicas = 3"), "quota_shared.url (line 3): the URL holds a user or a"),
        (shared("url = \"rediss://valkey\"\nreplicas = 0"), "quota_shared.replicas (line 4): 0 is out of range"),
        (with("username = \"u\""), "quota_shared.username (line 5): a user requires a password"),
        (with("password = \"p\""), "quota_shared.password (line 5): there is no such key; the keys here are url"),
        (with("password_file = \"none\""), "quota_shared.password_file (line 5): "),
        (with("password_file = \"empty\""), "quota_shared.password_file (line 5): "),
        (with("ca_certificates = \"key.json\""), "quota_shared.ca_certificates (line 5): "),
    ]);
}

#[test]
fn the_files_of_the_shared_quota_are_checked_beside_other_errors() {
    let errors = Directory::new().errors(
        "[[quota]]\n[quota_shared]\nurl = \"valkey\"\npassword_file = \"none\"\nca_certificates = \"key.json\"\nreplica = 3",
    );
    let begins = [
        "quota_shared.url (line 3): this is not a URL",
        "quota_shared.password_file (line 4): cannot read the file",
        "quota_shared.ca_certificates (line 5): ",
        "quota_shared.replica (line 6): there is no such key",
    ];
    assert_eq!(errors.len(), begins.len(), "{errors:#?}");
    for (error, begin) in errors.iter().zip(begins) {
        assert!(error.starts_with(begin), "{errors:#?}");
    }
}

#[test]
fn an_invalid_quota_is_no_missing_one() {
    let shared = "[quota_shared]\nurl = \"rediss://valkey\"\nreplicas = 3";
    Directory::new().assert_each_errs([
        (format!("[quota]\n{shared}"), "quota (line 1): this is a table; give a section in double brackets"),
        (format!("[[qota]]\n{shared}"), "qota (line 1): there is no such key; did you mean quota?"),
        (format!("[[quota]]\nlimit = 1\n{shared}"), "quota.limit (line 2): 1 is out of range"),
    ]);
}

#[test]
fn the_settings_of_each_quota_are_told_apart() {
    let file = "[[credentials]]\nname = \"a\"\nfile = \"key.json\"\n[[quota]]\nlimit = 7\n[[quota]]\nproject = \"p\"\n";
    let config = Directory::new().load(file, &[], Flags::default()).unwrap();
    let of_quota: Vec<_> = config
        .effective
        .iter()
        .filter(|setting| setting.key.starts_with("quota"))
        .map(|setting| (setting.key.as_str(), setting.value.as_str(), setting.source.as_str()))
        .collect();
    assert_eq!(
        of_quota,
        [
            ("quota[1].limit", "7", "line 5"),
            ("quota[1].period", "60s", "default"),
            ("quota[1].mode", "enforce", "default"),
            ("quota[2].project", "p", "line 7"),
            ("quota[2].limit", "600", "default"),
            ("quota[2].period", "60s", "default"),
            ("quota[2].mode", "enforce", "default"),
        ]
    );
}
