//! Which credentials are found, and what is said of those that are wrong.

use std::fs;

use crate::{
    config::{Config, Environment, Overrides, tests::Room},
    credentials::Origin,
};

const METADATA_SERVER: &str = "metadata.google.internal";

/// A file of sections with the key file `key.json`, each with these lines more.
fn sections(more: &[&str]) -> String {
    let section = |lines: &&str| format!("[[credentials]]\nfile = \"key.json\"\n{lines}\n");
    more.iter().map(section).collect()
}

#[test]
fn each_fault_says_what_is_wrong_and_where() {
    let room = Room::new();
    for (file, part) in [
        ("[credentials]\nname = \"a\"", "credentials (line 1): this is a table; give a section in double"),
        ("credentials = [1]", "credentials (line 1): this is an integer"),
        (
            "[[credentials]]\nname = \"a\"",
            "credentials.file (line 1): this is missing, and there are no appl",
        ),
        ("[[credentials]]\nname = \"a\"\nfile = \"none.json\"", "credentials.file (line 3): cannot read"),
        (&sections(&[""]), "credentials.name (line 1): this is missing"),
        (&sections(&["name = \"a b\""]), "credentials.name (line 3): \"a b\" is not a name"),
        (&sections(&["name = \"a\"\nenterprises = []"]), "enterprises (line 4): the list is empty"),
        (&sections(&["name = \"a\"\nenterprises = \"LC\""]), "enterprises (line 4): this is a string"),
        (&sections(&["name = \"a\"\nenterprises = [\n1]"]), "enterprises (line 5): this is an integer"),
        (&sections(&["name = \"a\"\nenterprises = [\"L*1\"]"]), "(line 4): \"L*1\" matches no enterprise"),
        (&sections(&["name = \"a\"\nenterprises = [\"-\"]"]), "(line 4): \"-\" matches no enterprise"),
        (&sections(&["name = \"a\"\nenterprise = [\"X\"]"]), "did you mean enterprises?"),
        (&sections(&["name = \"a\"\nimpersonate = \"b\""]), "impersonate (line 4): \"b\" is not the email"),
        (&sections(&["name = \"a\"\nimpersonate = \"a@b.c/../d\""]), "is not the email"),
        (&sections(&["name = \"a\"\nimpersonate = \"a@b@c.d\""]), "is not the email"),
    ] {
        let faults = room.load(file, &[], Overrides::default()).expect_err(file);
        assert_eq!(faults.len(), 1, "{file}: {faults:#?}");
        assert!(faults[0].contains(part), "{file}: {}", faults[0]);
    }
}

#[test]
fn credentials_that_cannot_be_told_apart_are_faults_that_name_both() {
    let room = Room::new();
    let cases: [(&[&str], &str); 7] = [
        (
            &["name = \"a\"\nenterprises = [\"X\"]", "name = \"a\"\nenterprises = [\"Y\"]"],
            "credentials.name (line 7): \"a\" is the name of another credential too (line 3)",
        ),
        (
            &["name = \"a\"\nenterprises = [\"X\", \"Y\"]", "name = \"b\"\nenterprises = [\n\"Y\"]"],
            "credentials.enterprises (line 9): \"Y\" is served by \"b\" and by \"a\" (line 4)",
        ),
        (
            &["name = \"a\"\nenterprises = [\"X*\"]", "name = \"b\"\nenterprises = [\"X*\"]"],
            "credentials.enterprises (line 8): \"X*\" is served by \"b\" and by \"a\" (line 4)",
        ),
        (
            &["name = \"a\"\nenterprises = [\"X*\",\n\"X*\"]"],
            "credentials.enterprises (line 5): \"X*\" is given twice (line 4)",
        ),
        (
            &["name = \"a\"", "name = \"b\""],
            "credentials (line 4): \"b\" serves all enterprises that no other does, and so does \"a\" (line 1)",
        ),
        (
            &["name = \"a\"", "name = \"b\"\nenterprises = [\"*\"]"],
            "credentials.enterprises (line 7): \"b\" serves all enterprises that no other does, and so",
        ),
        (
            &["name = \"a\"\nenterprises = [\"*\",\n\"*\"]"],
            "credentials.enterprises (line 5): \"*\" is given twice",
        ),
    ];
    for (more, begin) in cases {
        let faults = room.load(&sections(more), &[], Overrides::default()).expect_err(begin);
        assert_eq!(faults.len(), 1, "{more:?}: {faults:#?}");
        assert!(faults[0].starts_with(begin), "{}\nshould begin\n{begin}", faults[0]);
    }
}

#[test]
fn the_more_specific_beside_the_less_specific_is_right() {
    let more = [
        "name = \"a\"",
        "name = \"b\"\nenterprises = [\"X*\", \"XY*\"]",
        "name = \"c\"\nenterprises = [\"X\", \"XY\", \"XYZ*\"]",
    ];
    let config = Room::new().load(&sections(&more), &[], Overrides::default()).unwrap();
    let names: Vec<_> = config.credentials.iter().map(|credential| credential.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn a_flag_takes_the_place_of_all_sections_and_serves_all() {
    let room = Room::new();
    let overrides = Overrides { credentials: Some(room.path("key.json")), ..Overrides::default() };
    let sections = sections(&["name = \"a\"", "name = \"b\"\nenterprises = [\"X\"]"]);
    let config = room.load(&sections, &[], overrides).unwrap();
    assert_eq!(shown(&config), ["default * key.json"]);
}

/// Each credential: its name, its enterprises, and its file's name or its metadata server.
fn shown(config: &Config) -> Vec<String> {
    let credentials = config.credentials.iter().map(|credential| {
        let from = match &credential.loaded.definition().origin {
            Origin::File(file) => file.file_name().unwrap().to_str().unwrap().to_owned(),
            Origin::MetadataServer { host } => host.clone(),
        };
        let enterprises: Vec<_> = credential.enterprises.iter().map(ToString::to_string).collect();
        format!("{} {} {from}", credential.name, enterprises.join(","))
    });
    credentials.collect()
}

/// An environment with all that application default credentials could come from, less the first `without`.
fn all_but(room: &Room, without: usize) -> Environment {
    let gcloud = room.path("gcloud");
    let home = room.path("home");
    for directory in [gcloud.clone(), home.join(".config/gcloud")] {
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("application_default_credentials.json");
        fs::copy(room.path("key.json"), file).unwrap();
    }
    let variables = [
        ("GOOGLE_APPLICATION_CREDENTIALS", room.path("key.json")),
        ("CLOUDSDK_CONFIG", gcloud),
        ("HOME", home),
        ("GCE_METADATA_HOST", "127.0.0.1:8080".into()),
    ];
    let left = variables.into_iter().skip(without).map(|(name, value)| (name.into(), value.into()));
    left.collect::<Environment>().on_google_cloud()
}

#[test]
fn application_default_credentials_are_found_in_googles_order() {
    let room = Room::new();
    let overrides = Overrides::default;
    let gcloud = "application_default_credentials.json";
    for (without, from) in [(0, "key.json"), (1, gcloud), (2, gcloud)] {
        let config = room.load_in(all_but(&room, without), "", overrides()).unwrap();
        assert_eq!(shown(&config), [format!("default * {from}")]);
        let Origin::File(file) = &config.credentials[0].loaded.definition().origin else {
            panic!("{config:?}")
        };
        assert_eq!(file.starts_with(room.path("home")), without == 2, "{file:?}");
    }
    for (without, host) in [(3, "127.0.0.1:8080"), (4, METADATA_SERVER)] {
        // The metadata server may be asked only when the service runs.
        let config = room.load_in(all_but(&room, without), "", overrides()).unwrap();
        assert_eq!(shown(&config), [format!("default * {host}")]);
    }
}

#[test]
fn a_section_without_a_file_has_the_application_default_credentials() {
    let room = Room::new();
    let file = "[[credentials]]\nname = \"a\"\nenterprises = [\"X\"]\n[[credentials]]\nname = \"b\"\n";
    let config = room.load_in(all_but(&room, 4), file, Overrides::default()).unwrap();
    assert_eq!(shown(&config), [format!("a X {METADATA_SERVER}"), format!("b * {METADATA_SERVER}")]);
}

#[test]
fn what_is_wrong_with_them_is_a_fault_of_what_named_them() {
    let room = Room::new();
    fs::create_dir_all(room.path("broken")).unwrap();
    fs::write(room.path("broken/application_default_credentials.json"), "{").unwrap();
    let broken = room.path("broken");
    for (variable, value, begin) in [
        ("GOOGLE_APPLICATION_CREDENTIALS", "/none.json", "GOOGLE_APPLICATION_CREDENTIALS: cannot read"),
        ("CLOUDSDK_CONFIG", broken.to_str().unwrap(), "credentials: "),
        ("GCE_METADATA_HOST", "http://h", "GCE_METADATA_HOST: \"http://h\" is not the host, or"),
        ("GCE_METADATA_HOST", "h/x", "GCE_METADATA_HOST: \"h/x\" is not the host, or"),
        ("GCE_METADATA_HOST", "me@h", "GCE_METADATA_HOST: \"me@h\" is not the host, or"),
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
        let faults = room.load("", &[(variable, value)], Overrides::default()).expect_err(value);
        assert_eq!(faults.len(), 1, "{variable}={value}: {faults:#?}");
        assert!(faults[0].starts_with(begin), "{}\nshould begin\n{begin}", faults[0]);
    }
}
