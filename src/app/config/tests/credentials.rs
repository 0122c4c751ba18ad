//! The search for credentials, and their errors.

use std::fs;

use super::Directory;
use crate::{
    app::Config,
    config::{Flags, Variables},
    credentials::{Machine, Origin},
};

const METADATA_SERVER: &str = "metadata.google.internal";

/// A file with one section per item. Each section has the key file `key.json` and the lines of the item.
fn sections(more: &[&str]) -> String {
    let section = |lines: &&str| format!("[[credentials]]\nfile = \"key.json\"\n{lines}\n");
    more.iter().map(section).collect()
}

#[test]
fn each_error_names_its_line() {
    let directory = Directory::new();
    for (file, part) in [
        ("[credentials]\nname = \"a\"", "credentials (line 1): this is a table; give a section in double"),
        ("credentials = [1]", "credentials (line 1): this is an integer"),
        (
            "[[credentials]]\nname = \"a\"",
            "credentials.file (line 1): this is missing, and there are no appl",
        ),
        ("[[credentials]]\nname = \"a\"\nfile = \"none.json\"", "credentials.file (line 3): cannot read"),
        (&sections(&[""]), "credentials.name (line 1): this is missing"),
        (&sections(&["name = \"a b\""]), "credentials.name (line 3): this is not a name"),
        (&sections(&["name = \"a\"\nenterprises = []"]), "enterprises (line 4): the list is empty"),
        (&sections(&["name = \"a\"\nenterprises = \"LC\""]), "enterprises (line 4): this is a string"),
        (&sections(&["name = \"a\"\nenterprises = [\n1]"]), "enterprises (line 5): this is an integer"),
        (&sections(&["name = \"a\"\nenterprises = [\"L*1\"]"]), "(line 4): this matches no enterprise"),
        (&sections(&["name = \"a\"\nenterprises = [\"-\"]"]), "(line 4): this matches no enterprise"),
        (&sections(&["name = \"a\"\nenterprise = [\"X\"]"]), "did you mean enterprises?"),
        (&sections(&["name = \"a\"\nimpersonate = \"b\""]), "impersonate (line 4): this is not the email"),
        (
            &sections(&["name = \"a\"\nproject = \"A b\""]),
            "credentials.project (line 4): this is not the id of",
        ),
        (&sections(&["name = \"a\"\nimpersonate = \"a@b.c/../d\""]), "is not the email"),
        (&sections(&["name = \"a\"\nimpersonate = \"a@b@c.d\""]), "is not the email"),
    ] {
        let errors = directory.load(file, &[], Flags::default()).expect_err(file);
        assert_eq!(errors.len(), 1, "{file}: {errors:#?}");
        assert!(errors[0].contains(part), "{file}: {}", errors[0]);
    }
}

#[test]
fn two_credentials_with_the_same_name_or_pattern_are_an_error() {
    let directory = Directory::new();
    let cases: [(&[&str], &str); 7] = [
        (
            &["name = \"a\"\nenterprises = [\"X\"]", "name = \"a\"\nenterprises = [\"Y\"]"],
            "credentials.name (line 7): another credential has this name too (line 3)",
        ),
        (
            &["name = \"a\"\nenterprises = [\"X\", \"Y\"]", "name = \"b\"\nenterprises = [\n\"Y\"]"],
            "credentials.enterprises (line 9): another credential has this pattern too (line 4)",
        ),
        (
            &["name = \"a\"\nenterprises = [\"X*\"]", "name = \"b\"\nenterprises = [\"X*\"]"],
            "credentials.enterprises (line 8): another credential has this pattern too (line 4)",
        ),
        (
            &["name = \"a\"\nenterprises = [\"X*\",\n\"X*\"]"],
            "credentials.enterprises (line 5): this pattern is given twice (line 4)",
        ),
        (
            &["name = \"a\"", "name = \"b\""],
            "credentials (line 4): this credential serves all enterprises that no other does, as another does (line 1)",
        ),
        (
            &["name = \"a\"", "name = \"b\"\nenterprises = [\"*\"]"],
            "credentials.enterprises (line 7): this credential serves all enterprises that no other does, as another does",
        ),
        (
            &["name = \"a\"\nenterprises = [\"*\",\n\"*\"]"],
            "credentials.enterprises (line 5): this pattern is given twice",
        ),
    ];
    for (more, begin) in cases {
        let errors = directory.load(&sections(more), &[], Flags::default()).expect_err(begin);
        assert_eq!(errors.len(), 1, "{more:?}: {errors:#?}");
        assert!(errors[0].starts_with(begin), "{}\nshould begin\n{begin}", errors[0]);
    }
}

#[test]
fn a_more_specific_pattern_beside_a_less_specific_one_is_valid() {
    let more = [
        "name = \"a\"",
        "name = \"b\"\nenterprises = [\"X*\", \"XY*\"]",
        "name = \"c\"\nenterprises = [\"X\", \"XY\", \"XYZ*\"]",
    ];
    let config = Directory::new().load(&sections(&more), &[], Flags::default()).unwrap();
    let names: Vec<_> =
        config.settings.credentials.iter().map(|credential| credential.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn the_flag_replaces_all_sections() {
    let directory = Directory::new();
    let flags = Flags::default().with("--credentials", directory.path("key.json"));
    let sections = sections(&["name = \"a\"", "name = \"b\"\nenterprises = [\"X\"]"]);
    let config = directory.load(&sections, &[], flags).unwrap();
    assert_eq!(shown(&config), ["default * key.json"]);
}

/// The name, the enterprises, and the file name or metadata server of each credential.
fn shown(config: &Config) -> Vec<String> {
    let credentials = config.settings.credentials.iter().map(|credential| {
        let from = match &credential.definition.origin {
            Origin::File(file) => file.file_name().unwrap().to_str().unwrap().to_owned(),
            Origin::MetadataServer { host } => host.clone(),
        };
        let enterprises: Vec<_> = credential.enterprises.iter().map(ToString::to_string).collect();
        format!("{} {} {from}", credential.name, enterprises.join(","))
    });
    credentials.collect()
}

/// An environment with every source of application default credentials, except the first `without` sources.
fn all_but(directory: &Directory, without: usize) -> Variables {
    let gcloud = directory.path("gcloud");
    let home = directory.path("home");
    for parent in [gcloud.clone(), home.join(".config/gcloud")] {
        fs::create_dir_all(&parent).unwrap();
        let file = parent.join("application_default_credentials.json");
        fs::copy(directory.path("key.json"), file).unwrap();
    }
    let variables = [
        ("GOOGLE_APPLICATION_CREDENTIALS", directory.path("key.json")),
        ("CLOUDSDK_CONFIG", gcloud),
        ("HOME", home),
        ("GCE_METADATA_HOST", "127.0.0.1:8080".into()),
    ];
    let left = variables.into_iter().skip(without).map(|(name, value)| (name.into(), value.into()));
    left.collect()
}

#[test]
fn application_default_credentials_are_found_in_googles_order() {
    let directory = Directory::new();
    let flags = Flags::default;
    let gcloud = "application_default_credentials.json";
    for (without, from) in [(0, "key.json"), (1, gcloud), (2, gcloud)] {
        let config =
            directory.load_in(Machine::GoogleCloud, all_but(&directory, without), "", flags()).unwrap();
        assert_eq!(shown(&config), [format!("default * {from}")]);
        let Origin::File(file) = &config.settings.credentials[0].definition.origin else {
            panic!("{config:?}")
        };
        assert_eq!(file.starts_with(directory.path("home")), without == 2, "{file:?}");
    }
    for (without, host) in [(3, "127.0.0.1:8080"), (4, METADATA_SERVER)] {
        // The configuration sends no request to the metadata server.
        let config =
            directory.load_in(Machine::GoogleCloud, all_but(&directory, without), "", flags()).unwrap();
        assert_eq!(shown(&config), [format!("default * {host}")]);
    }
}

#[test]
fn a_section_without_a_file_has_the_application_default_credentials() {
    let directory = Directory::new();
    let file = "[[credentials]]\nname = \"a\"\nenterprises = [\"X\"]\n[[credentials]]\nname = \"b\"\n";
    let config =
        directory.load_in(Machine::GoogleCloud, all_but(&directory, 4), file, Flags::default()).unwrap();
    assert_eq!(shown(&config), [format!("a X {METADATA_SERVER}"), format!("b * {METADATA_SERVER}")]);
}

#[test]
fn an_error_is_reported_at_the_variable_that_named_the_credential() {
    let directory = Directory::new();
    fs::create_dir_all(directory.path("broken")).unwrap();
    fs::write(directory.path("broken/application_default_credentials.json"), "{").unwrap();
    let broken = directory.path("broken");
    for (variable, value, begin) in [
        ("GOOGLE_APPLICATION_CREDENTIALS", "/none.json", "GOOGLE_APPLICATION_CREDENTIALS: cannot read"),
        ("CLOUDSDK_CONFIG", broken.to_str().unwrap(), "credentials: "),
        ("GCE_METADATA_HOST", "http://h", "GCE_METADATA_HOST: this is not the host, or"),
        ("GCE_METADATA_HOST", "h/x", "GCE_METADATA_HOST: this is not the host, or"),
        ("GCE_METADATA_HOST", "me@h", "GCE_METADATA_HOST: this is not the host, or"),
        (
            "CLOUDSDK_CONFIG",
            "/nowhere",
            "credentials: there is no credential; give --credentials FILE, a [[credentials]] section, or \
             application default credentials: the variable GOOGLE_APPLICATION_CREDENTIALS naming a \
             credential file, the file that gcloud auth application-default login writes, or the metadata \
             server of Google Cloud",
        ),
        ("GOOGLE_APPLICATION_CREDENTIALS", "", "credentials: there is no credential"),
    ] {
        let errors = directory.load("", &[(variable, value)], Flags::default()).expect_err(value);
        assert_eq!(errors.len(), 1, "{variable}={value}: {errors:#?}");
        assert!(errors[0].starts_with(begin), "{}\nshould begin\n{begin}", errors[0]);
    }
}
