//! The errors of `[policy]` and of the policy file.

use std::fs;

use super::Directory;
use crate::{app::Config, config::Flags};

#[test]
fn every_error_of_a_policy_is_reported_with_its_line() {
    let directory = Directory::new();
    fs::write(directory.path("none.cedar"), "").unwrap();
    for (section, part) in [
        ("[policy]\nfile = \"none.cedar\"\nmode = \"off\"", "there is no such value; give enforce or shadow"),
        ("[policy]\nmode = \"shadow\"", "policy.file: this is missing"),
        ("[policy]", "policy.file: this is missing, so no policy would apply; name a Cedar policy"),
        ("[policy]\nfile = true", "policy.file (line 2): this is a boolean"),
        ("[policy]\nfile = \".\"", "policy.file (line 2): "),
        ("[policy]\nfile = \"gone.cedar\"", "policy.file (line 2): cannot read"),
    ] {
        let errors = directory.errors(section);
        assert!(errors[0].contains(part), "{section}: {errors:#?}");
    }
    let policy = "// clean\npermit (principal, action == Action::\"gte\", resource);\n\
                  forbid (principal, action, resource) when { principal.namspace == \"mdm\" };\n";
    fs::write(directory.path("invalid.cedar"), policy).unwrap();
    let errors = directory.errors("[policy]\nfile = \"invalid.cedar\"");
    let [first, second] = &errors[..] else { panic!("{errors:#?}") };
    assert!(first.starts_with("policy.file (line 2): "), "{first}");
    assert!(first.contains("invalid.cedar: line 2, column 30: policy policy0: "), "{first}");
    assert!(first.ends_with("; did you mean `Action::\"get\"`?"), "{first}");
    assert!(second.contains("invalid.cedar: line 3, column 45: policy policy1: "), "{second}");
    assert!(second.ends_with("; did you mean `namespace`?"), "{second}");

    let file = "[policy]\nfile = \"none.cedar\"\n[[credentials]]\nname = \"emea\"\nfile = \"key.json\"\n";
    let config = directory.load(file, &[], Flags::default()).unwrap();
    assert_eq!(
        config.settings.policy.file,
        Some(directory.path("none.cedar")),
        "a file that permits nothing is not an error"
    );
}

#[test]
fn a_mode_without_a_policy_is_an_error() {
    let directory = Directory::new();
    let flags = Flags::default().with("--credentials", directory.path("key.json"));
    let errors = directory.load("", &[("COUNTERMAND_POLICY_MODE", "shadow")], flags).unwrap_err();
    assert_eq!(
        errors,
        [
            "COUNTERMAND_POLICY_MODE: it requires a policy, and there is none; name a policy, or leave the mode out"
        ]
    );
}

#[test]
fn the_policy_alone_ignores_errors_of_other_sections() {
    let directory = Directory::new();
    fs::write(directory.path("p.cedar"), "").unwrap();
    fs::write(directory.path("c.toml"), "[policy]\nfile = \"p.cedar\"\n[server]\nlisten = []\n").unwrap();
    let config = |name: &str| Flags::default().with("--config", directory.path(name));
    let alone = |flags| Config::policy_alone(flags, Default::default());
    assert_eq!(alone(config("c.toml")).unwrap().unwrap().path, directory.path("p.cedar"));
    assert!(alone(Flags::default()).unwrap().is_none());
    assert!(alone(config("none.toml")).is_err());
    fs::write(directory.path("p.cedar"), "permit").unwrap();
    assert!(alone(config("c.toml")).is_err());
}
