//! The faults of the file as a whole.

use crate::config::{Config, Overrides, tests::Room};

#[test]
fn each_fault_says_what_is_wrong() {
    Room::new().tells([
        ("server = 1", "server (line 1): this is an integer; give a section, [server]"),
        ("[sever]\nlisten = []", "sever (line 1): there is no such key; did you mean server?"),
        ("\"a\\tb\" = 1", "a\\tb (line 1): there is no such key"),
    ]);
}

#[test]
fn what_is_not_toml_has_a_line_and_a_column_and_the_other_sources_are_still_checked() {
    let overrides = Overrides { listen: vec!["nowhere".to_owned()], ..Overrides::default() };
    let faults = Room::new().load("[server]\nlisten = [\n[admin\n", &[], overrides).unwrap_err();
    assert!(faults.iter().any(|fault| fault.starts_with("--config: not TOML at line ")), "{faults:#?}");
    assert!(faults.iter().any(|fault| fault.contains("column ")), "{faults:#?}");
    assert!(faults.iter().any(|fault| fault.starts_with("--listen: \"nowhere\"")), "{faults:#?}");
    assert!(!faults.iter().any(|fault| fault.contains("no credential")), "{faults:#?}");
}

#[test]
fn a_config_that_is_not_there_is_a_fault_of_what_named_it() {
    let variables = [("COUNTERMAND_CONFIG".into(), "/nowhere/c.toml".into())];
    let faults = Config::load(Overrides::default(), variables.into_iter().collect()).unwrap_err().to_string();
    assert!(faults.starts_with("COUNTERMAND_CONFIG: cannot read \"/nowhere/c.toml\""), "{faults}");
}

#[test]
fn each_slip_in_the_toml_is_one_fault() {
    let room = Room::new();
    let good = "[admin]\nlisten = \"off\"\n[polling]\nmax_wait = \"1m\"\n";
    for (slips, lines) in [
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
        let faults = room.load(&format!("{slips}{good}"), &[], Overrides::default()).expect_err(slips);
        assert_eq!(faults.len(), lines.len(), "{slips}: {faults:#?}");
        for (fault, line) in faults.iter().zip(lines) {
            assert!(
                fault.starts_with(&format!("--config: not TOML at line {line}, column ")),
                "{slips}: {fault}, not line {line}"
            );
        }
    }
}
