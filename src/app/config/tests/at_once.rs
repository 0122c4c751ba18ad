//! What is wrong with one key hides nothing that can be said of others, and is not said twice.

use super::Directory;
use crate::config::Flags;

/// What is told of a file that is wrong.
fn errors(file: &str, variables: &[(&str, &str)]) -> Vec<String> {
    Directory::new().load(file, variables, Flags::default()).expect_err(file)
}

/// Each error begins so, and there is no other.
fn assert_errors(errors: &[String], begins: &[&str]) {
    assert_eq!(errors.len(), begins.len(), "{errors:#?}");
    for (error, begin) in errors.iter().zip(begins) {
        assert!(error.starts_with(begin), "{error}\nshould begin\n{begin}");
    }
}

#[test]
fn a_wrong_name_does_not_hide_what_is_wrong_with_the_rest_of_its_section() {
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
        "credentials.name (line 3): \"a b\" is not a name",
        "credentials.file (line 4): cannot read",
        "credentials.impersonate (line 5): \"x\" is not the email",
        "credentials.enterprises (line 6): this is an integer",
        "credentials.enterprises (line 6): this is a boolean",
        "credentials.enterprises (line 6): \"L*1\" matches no enterprise",
        "credentials.enterprises (line 10): \"LC01\" is served by \"b\" and by \"a b\" (line 6)",
    ];
    assert_errors(&errors(file, &[]), &begins);
}

#[test]
fn an_unknown_key_does_not_hide_a_missing_file_nor_what_two_sections_share() {
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
        "credentials.name (line 8): \"a\" is the name of another credential too (line 3)",
        "credentials.file (line 9): cannot read",
        "credentials.enterprises (line 10): \"LC01\" is served by \"a\" and by \"a\" (line 6)",
        "credentials.name (line 11): this is missing",
        "credentials.enterprises (line 13): \"LC01\" is served by a credential without a name and by \"a\"",
    ];
    assert_errors(&errors(file, &[]), &begins);
}

#[test]
fn what_only_follows_from_a_error_of_a_credential_is_not_told() {
    let good = "[[credentials]]\nname = \"all\"\nfile = \"key.json\"\n";
    for (section, begin) in [
        // Without the enterprises that it means, it would serve all, and so does the other.
        (
            "name = \"a\"\nfile = \"key.json\"\nenterprise = [\"X\"]",
            "credentials.enterprise (line 7): there is no",
        ),
        (
            "name = \"a\"\nfile = \"key.json\"\nenterprises = [\"-\"]",
            "credentials.enterprises (line 7): \"-\"",
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
    let misspelt = good.replace("credentials", "credential");
    assert_errors(
        &errors(&misspelt, &[]),
        &["credential (line 1): there is no such key; did you mean credentials?"],
    );
}

#[test]
fn a_error_that_several_credentials_share_is_told_once() {
    let file = "[[credentials]]\nname = \"a\"\n[[credentials]]\nname = \"b\"\nenterprises = [\"X\"]\n";
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", "/none.json")];
    assert_errors(&errors(file, &variables), &["GOOGLE_APPLICATION_CREDENTIALS: cannot read \"/none.json\""]);
}

#[test]
fn a_section_or_a_key_that_is_misspelt_is_not_missed_too() {
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
fn a_wrong_key_of_the_issuer_does_not_hide_those_that_are_missing() {
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
fn a_filter_of_the_log_that_makes_no_sense_is_told_with_the_rest() {
    let file = "[server]\nlisten = [\"nowhere\"]\n[[credentials]]\nname = \"a\"\nfile = \"key.json\"\n";
    for wrong in ["a=b=c", "countermand=loud"] {
        let errors = errors(file, &[("RUST_LOG", wrong)]);
        assert_errors(&errors, &["RUST_LOG: ", "server.listen (line 2): \"nowhere\" has no port"]);
        assert!(
            errors[0].ends_with("; give levels, such as info,countermand::operations=debug"),
            "{errors:?}"
        );
    }
    for right in ["", "  ", " debug\n", "debug", "info,countermand::operations=debug"] {
        assert_errors(&errors(file, &[("RUST_LOG", right)]), &["server.listen (line 2)"]);
    }
}
