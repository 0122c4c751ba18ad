//! `docs/ARCHITECTURE.md` gives the reason for every dependency.

use std::{fs, path::Path};

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("the file exists")
}

#[test]
fn every_dependency_is_documented() {
    let page = read("docs/ARCHITECTURE.md");
    let (_, chapter) = page.split_once("\n## Dependencies\n").expect("the chapter is there");
    let chapter = chapter.split("\n## ").next().expect("a split has a first part");
    let words: Vec<_> = chapter.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').collect();

    for file in ["Cargo.toml", "crates/countermand-emulator/Cargo.toml"] {
        let manifest: toml::Table = read(file).parse().expect("it is TOML");
        let kinds = ["dependencies", "build-dependencies", "dev-dependencies"];
        let crates: Vec<_> = kinds
            .iter()
            .filter_map(|kind| manifest.get(*kind)?.as_table())
            .flatten()
            // Crates of the workspace need no reason.
            .filter(|(_, dependency)| dependency.get("path").is_none())
            .map(|(name, _)| name)
            .collect();
        assert!(!crates.is_empty());
        let missing: Vec<_> = crates.into_iter().filter(|name| !words.contains(&name.as_str())).collect();
        assert!(missing.is_empty(), "{file}: not in docs/ARCHITECTURE.md: {missing:?}");
    }
}
