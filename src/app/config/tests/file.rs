//! The errors of the file as a whole.

use super::Directory;
use crate::{app::Config, config::Flags, credentials::Machine};

#[test]
fn each_error_has_its_text() {
    Directory::new().assert_each_errs([
        ("server = 1", "server (line 1): this is an integer; give a section, [server]"),
        ("[sever]\nlisten = []", "sever (line 1): there is no such key; did you mean server?"),
        ("\"a\\tb\" = 1", "(not printed) (line 1): there is no such key"),
    ]);
}

#[test]
fn a_syntax_error_has_a_line_and_a_column_and_the_other_sources_are_still_checked() {
    let flags = Flags::default().with("--listen", "nowhere".to_owned());
    let errors = Directory::new().load("[server]\nlisten = [\n[admin\n", &[], flags).unwrap_err();
    assert!(errors.iter().any(|error| error.starts_with("--config: not TOML at line ")), "{errors:#?}");
    assert!(errors.iter().any(|error| error.contains("column ")), "{errors:#?}");
    assert!(errors.iter().any(|error| error.starts_with("--listen: the address has no port")), "{errors:#?}");
    assert!(!errors.iter().any(|error| error.contains("no credential")), "{errors:#?}");
}

#[test]
fn a_missing_file_is_an_error_of_the_variable_that_named_it() {
    let variables = [("COUNTERMAND_CONFIG".into(), "/nowhere/c.toml".into())];
    let errors = Config::load(Flags::default(), variables.into_iter().collect(), Machine::Elsewhere)
        .unwrap_err()
        .to_string();
    assert!(errors.starts_with("COUNTERMAND_CONFIG: cannot read the file"), "{errors}");
}

#[test]
fn each_syntax_error_is_reported_once() {
    let directory = Directory::new();
    let good = "[admin]\nlisten = \"off\"\n[polling]\nmax_wait = \"1m\"\n";
    for (invalid, lines) in [
        ("[server]\nlisten = [\n", &[3][..]),
        ("[server]\nlisten = [\"a\"\ndrain_timeout = \"5s\"\n", &[3]),
        ("[server]\nlisten = ['a\", \"b\"]\n", &[2]),
        ("[server]\nlisten = [\n  \"a\"\n  \"b\",\n]\ndrain_timeout = 5s\n", &[4, 6]),
        ("[server\ndrain_timeout = \"5s\"\n", &[1]),
        ("[server]\ndrain_timeout = 25s\nlisten = 127.0.0.1:1\n", &[2, 3]),
        ("[server]\ndrain_timeout = \"25s\n", &[2]),
        ("[callers]\njwt = { issuer = \"a\"\n", &[3]),
        ("server:\n  listen: a\n  drain_timeout: b\n", &[1]),
        ("[server]\ndrain_timeout = \"\\q\"\n[audit]\nfile = \"a\"\nfile = \"b\"\n", &[2, 5]),
        ("[server]\ndrain_timeout = \"\"\"\n", &[7]),
    ] {
        let errors = directory.load(&format!("{invalid}{good}"), &[], Flags::default()).expect_err(invalid);
        assert_eq!(errors.len(), lines.len(), "{invalid}: {errors:#?}");
        for (error, line) in errors.iter().zip(lines) {
            assert!(
                error.starts_with(&format!("--config: not TOML at line {line}, column ")),
                "{invalid}: {error}, not line {line}"
            );
        }
    }
}
