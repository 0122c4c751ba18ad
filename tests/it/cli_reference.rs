//! `docs/CLI.md` is what the program itself says: every `--help`, in one file.

use std::{fs, path::Path, process::Command};

/// Set to anything, it has the file written rather than compared.
const REWRITE: &str = "UPDATE_CLI_REFERENCE";

const HEAD: &str = "# Command line

What `countermand --help` and the help of each command say. The file is written by the program:
`UPDATE_CLI_REFERENCE=1 cargo test --test it cli_reference`.
";

/// What the program prints for `COMMAND… --help`, in an environment that holds no setting of its own.
fn help(command: &[&str]) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_countermand"));
    let run = program.args(command).arg("--help").env_clear().output().expect("it starts");
    assert!(run.status.success(), "{command:?}: {run:?}");
    assert!(run.stderr.is_empty(), "{command:?}: {run:?}");
    String::from_utf8(run.stdout).expect("help is text")
}

/// The commands that a help lists, but for `help` itself.
fn commands(help: &str) -> Vec<&str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").collect()
}

fn reference() -> String {
    let root = help(&[]);
    let names = commands(&root);
    assert!(names.contains(&"serve") && names.contains(&"cancel"), "the commands are not found: {names:?}");
    let sections = std::iter::once(section("countermand", &root))
        .chain(names.iter().map(|name| section(&format!("countermand {name}"), &help(&[name]))));
    HEAD.to_owned() + &sections.collect::<String>()
}

fn section(title: &str, help: &str) -> String {
    // clap leaves blanks at the ends of lines, which editors take away.
    let help = help.trim_end().lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    format!("\n## {title}\n\n```text\n{help}\n```\n")
}

#[test]
fn the_reference_is_what_the_program_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CLI.md");
    let said = reference();
    if std::env::var_os(REWRITE).is_some() {
        fs::write(&file, said).expect("the reference can be written");
        return;
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    let differs = written.lines().zip(said.lines()).position(|(written, said)| written != said);
    assert!(
        written == said,
        "docs/CLI.md is out of date, first in line {}: run {REWRITE}=1 cargo test --test it cli_reference",
        1 + differs.unwrap_or_else(|| written.lines().count().min(said.lines().count())),
    );
}
