//! All errors are reported at once, and each error is reported once.

use super::Directory;
use crate::config::Flags;

/// The errors of an invalid configuration.
fn errors(file: &str, variables: &[(&str, &str)]) -> Vec<String> {
    Directory::new().load(file, variables, Flags::default()).expect_err(file)
}

/// Asserts that these are the errors, each with its beginning.
fn assert_errors(errors: &[String], begins: &[&str]) {
    assert_eq!(errors.len(), begins.len(), "{errors:#?}");
    for (error, begin) in errors.iter().zip(begins) {
        assert!(error.starts_with(begin), "{error}\nshould begin\n{begin}");
    }
}

#[test]
fn an_invalid_name_hides_no_error_of_its_section() {
    let file = r#"
[[credentials]]
name = "a b"
file = "none.json"
impersonate = "x"
enterprises = [1, "L*1", "LC01", true]
[[credentials]]
name = "b"
file = "key.json"
enterprises = ["LC01"]
"#;
    let begins = [
        "credentials.name (line 3): this is not a name",
        "credentials.file (line 4): cannot read",
        "credentials.impersonate (line 5): this is not the email",
        "credentials.enterprises (line 6): this is an integer",
        "credentials.enterprises (line 6): this matches no enterprise",
        "credentials.enterprises (line 6): this is a boolean",
        "credentials.enterprises (line 10): another credential has this pattern too (line 6)",
    ];
    assert_errors(&errors(file, &[]), &begins);
}

#[test]
fn an_unknown_key_hides_no_other_error() {
    let file = r#"
[[credentials]]
name = "a"
fil = "x"
file = "none.json"
enterprises = ["LC01"]
[[credentials]]
name = "a"
file = "none.json"
enterprises = ["LC01"]
[[credentials]]
file = "key.json"
enterprises = ["LC01"]
"#;
    let begins = [
        "credentials.fil (line 4): there is no such key; did you mean file?",
        "credentials.file (line 5): cannot read",
        "credentials.name (line 8): another credential has this name too (line 3)",
        "credentials.file (line 9): cannot read",
        "credentials.enterprises (line 10): another credential has this pattern too (line 6)",
        "credentials.name (line 11): this is missing",
        "credentials.enterprises (line 13): another credential has this pattern too",
    ];
    assert_errors(&errors(file, &[]), &begins);
}

#[test]
fn consequential_errors_are_not_reported() {
    let good = "[[credentials]]\nname = \"all\"\nfile = \"key.json\"\n";
    for (section, begin) in [
        // Without valid enterprises, this credential would serve all enterprises, as the other credential does.
        (
            "name = \"a\"\nfile = \"key.json\"\nenterprise = [\"X\"]",
            "credentials.enterprise (line 7): there is no",
        ),
        (
            "name = \"a\"\nfile = \"key.json\"\nenterprises = [\"-\"]",
            "credentials.enterprises (line 7): this matches no",
        ),
        ("name = \"a\"\nfile = \"key.json\"\nenterprises = [1]", "credentials.enterprises (line 7): this is"),
        (
            "name = \"a\"\nenterprises = [\"X\"]\nfiel = \"key.json\"",
            "credentials.fiel (line 7): there is no such",
        ),
        ("name = \"a\"\nenterprises = [\"X\"]\nfile = 1", "credentials.file (line 7): this is an integer"),
        (
            "file = \"key.json\"\nenterprises = [\"X\"]\nnmae = \"a\"",
            "credentials.nmae (line 7): there is no such",
        ),
    ] {
        assert_errors(&errors(&format!("{good}[[credentials]]\n{section}\n"), &[]), &[begin]);
    }
    let misspelled = good.replace("credentials", "credential");
    assert_errors(
        &errors(&misspelled, &[]),
        &["credential (line 1): there is no such key; did you mean credentials?"],
    );
}

#[test]
fn an_error_that_several_credentials_share_is_reported_once() {
    let file = "[[credentials]]\nname = \"a\"\n[[credentials]]\nname = \"b\"\nenterprises = [\"X\"]\n";
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", "/none.json")];
    assert_errors(&errors(file, &variables), &["GOOGLE_APPLICATION_CREDENTIALS: cannot read the file"]);
}

#[test]
fn a_misspelled_section_or_key_is_not_also_reported_missing() {
    let listen = "[server]\nlisten = [\"0.0.0.0:1\"]";
    Directory::new().assert_each_errs([
        ("[server.tls]\ncertificat = \"ca.pem\"\nprivate_key = \"ca.key\"", "server.tls.certificat (line 2)"),
        ("[policy]\nfiles = \"p.cedar\"", "policy.files (line 2): there is no such key; did you mean file?"),
        (
            "[callers]\njwt = { issuer = \"i\", audiense = \"a\", jwks = \"https://h\" }",
            "callers.jwt.audiense (line 2): there is no such key; did you mean audience?",
        ),
    ]);
    for (more, begin) in [
        (
            "[server.tsl]\n[policy]\nfile = \"none\"",
            "server.tsl (line 3): there is no such key; did you mean tls?",
        ),
        ("[server.tls]\n[polcy]", "polcy (line 4): there is no such key; did you mean policy?"),
    ] {
        let errors = Directory::new().errors(&format!("{listen}\n{more}"));
        assert!(errors.iter().any(|error| error.starts_with(begin)), "{errors:#?}");
        assert!(!errors.iter().any(|error| error.contains("beyond this machine")), "{errors:#?}");
    }
}

#[test]
fn an_invalid_key_hides_no_missing_one() {
    let file = "[callers]\njwt = { issuer = 1 }";
    let begins = [
        "callers.jwt.audience: this is missing",
        "callers.jwt.jwks: this is missing",
        "callers.jwt.issuer (line 2): this is an integer",
    ];
    assert_errors(&Directory::new().errors(file), &begins);
    let variables = [("COUNTERMAND_CALLERS_JWT_ISSUER", "i")];
    let file = "[[credentials]]\nname = \"a\"\nfile = \"key.json\"\n[callers]\njwt = 1\n";
    assert_errors(&errors(file, &variables), &["callers.jwt (line 5): this is an integer"]);
}

#[test]
fn an_invalid_log_filter_is_reported_with_the_rest() {
    let file = "[server]\nlisten = [\"nowhere\"]\n[[credentials]]\nname = \"a\"\nfile = \"key.json\"\n";
    for invalid in ["a=b=c", "countermand=loud"] {
        let errors = errors(file, &[("RUST_LOG", invalid)]);
        assert_errors(&errors, &["RUST_LOG: ", "server.listen (line 2): the address has no port"]);
        assert!(
            errors[0].ends_with("; give levels, such as info,countermand::operations=debug"),
            "{errors:?}"
        );
    }
    for valid in ["", "  ", " debug\n", "debug", "info,countermand::operations=debug"] {
        assert_errors(&errors(file, &[("RUST_LOG", valid)]), &["server.listen (line 2)"]);
    }
}
