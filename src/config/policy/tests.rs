//! Which faults a policy can be.

use std::fs;

use crate::config::{Config, Overrides, tests::Room};

#[test]
fn every_mistake_of_a_policy_is_a_fault_with_its_place() {
    let room = Room::new();
    fs::write(room.path("none.cedar"), "").unwrap();
    for (section, part) in [
        ("[policy]", "policy.file: this is missing, so that nothing says who may call; name a Cedar policy"),
        ("[policy]\nfile = true", "policy.file (line 2): this is a boolean"),
        ("[policy]\nfile = \".\"", "policy.file (line 2): "),
        ("[policy]\nfile = \"gone.cedar\"", "policy.file (line 2): cannot read"),
    ] {
        let faults = room.faults(section);
        assert!(faults[0].contains(part), "{section}: {faults:#?}");
    }
    let policy = "// clean\npermit (principal, action == Action::\"gte\", resource);\n\
                  forbid (principal, action, resource) when { principal.namspace == \"mdm\" };\n";
    fs::write(room.path("wrong.cedar"), policy).unwrap();
    let faults = room.faults("[policy]\nfile = \"wrong.cedar\"");
    let [first, second] = &faults[..] else { panic!("{faults:#?}") };
    assert!(first.starts_with("policy.file (line 2): "), "{first}");
    assert!(first.contains("wrong.cedar: line 2, column 30: policy policy0: "), "{first}");
    assert!(first.ends_with("; did you mean `Action::\"get\"`?"), "{first}");
    assert!(second.contains("wrong.cedar: line 3, column 45: policy policy1: "), "{second}");
    assert!(second.ends_with("; did you mean `namespace`?"), "{second}");

    let file = "[policy]\nfile = \"none.cedar\"\n[[credentials]]\nname = \"emea\"\nfile = \"key.json\"\n";
    let config = room.load(file, &[], Overrides::default()).unwrap();
    let policy = config.policy.map(|file| file.path);
    assert_eq!(policy, Some(room.path("none.cedar")), "a file that permits nothing is no fault");
}

#[test]
fn the_policy_alone_needs_nothing_else_to_be_right() {
    let room = Room::new();
    fs::write(room.path("p.cedar"), "").unwrap();
    fs::write(room.path("c.toml"), "[policy]\nfile = \"p.cedar\"\n[server]\nlisten = []\n").unwrap();
    let config = |name: &str| Overrides { config: Some(room.path(name)), ..Overrides::default() };
    let alone = |overrides| Config::policy_alone(overrides, Default::default());
    let policy = alone(config("c.toml")).unwrap().expect("there is one");
    assert_eq!(policy.path, room.path("p.cedar"));
    assert_eq!(alone(Overrides::default()), Ok(None));
    assert!(alone(config("none.toml")).is_err());
    fs::write(room.path("p.cedar"), "permit").unwrap();
    assert!(alone(config("c.toml")).is_err());
}
