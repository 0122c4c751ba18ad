//! The generated documents: `docs/CLI.md` from every `--help`, and `docs/CONFIGURATION.md` from the settings.

use std::{fs, path::Path, process::Command};

/// If this variable is set, the documents are written instead of compared.
const UPDATE: &str = "UPDATE_DOCUMENTS";

const CLI_HEAD: &str = "# Command line

The output of `countermand --help` and of each command's help. This file is generated:
`UPDATE_DOCUMENTS=1 cargo test --test it generated_documents`.
";

const CONFIGURATION_HEAD: &str = "# Configuration

A setting comes from its flag, otherwise from its variable, otherwise from the TOML file (`--config`), otherwise from its
default. All errors are reported at once, and the exit code is then 78. A relative path in the file starts at the
directory of the file. Files that a setting names are reloaded when they change; a broken new version is reported, and the
old one stays active. `RUST_LOG` filters the log.

This file is generated: `UPDATE_DOCUMENTS=1 cargo test --test it generated_documents`.
";

/// The output of `COMMAND… --help`, in an empty environment.
fn help(command: &[&str]) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_countermand"));
    let run = program.args(command).arg("--help").env_clear().output().expect("the program starts");
    assert!(run.status.success(), "{command:?}: {run:?}");
    assert!(run.stderr.is_empty(), "{command:?}: {run:?}");
    String::from_utf8(run.stdout).expect("help is text")
}

/// The commands in a help text, without `help`.
fn commands(help: &str) -> Vec<&str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").collect()
}

fn cli() -> String {
    let root = help(&[]);
    let names = commands(&root);
    assert!(names.contains(&"serve") && names.contains(&"cancel"), "the commands are not found: {names:?}");
    let sections = std::iter::once(section("countermand", &root))
        .chain(names.iter().map(|name| section(&format!("countermand {name}"), &help(&[name]))));
    CLI_HEAD.to_owned() + &sections.collect::<String>()
}

fn section(title: &str, help: &str) -> String {
    // clap leaves trailing blanks, which editors remove.
    let help = help.trim_end().lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    format!("\n## {title}\n\n```text\n{help}\n```\n")
}

fn compare(name: &str, generated: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&file, generated).expect("the document can be written");
        return;
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    let differs =
        written.lines().zip(generated.lines()).position(|(written, generated)| written != generated);
    assert!(
        written == generated,
        "docs/{name} is out of date, first in line {}: run {UPDATE}=1 cargo test --test it generated_documents",
        1 + differs.unwrap_or_else(|| written.lines().count().min(generated.lines().count())),
    );
}

#[test]
fn the_command_line_reference_is_current() {
    compare("CLI.md", &cli());
}

#[test]
fn the_configuration_reference_is_current() {
    compare("CONFIGURATION.md", &(CONFIGURATION_HEAD.to_owned() + &countermand::app::config::reference()));
}
