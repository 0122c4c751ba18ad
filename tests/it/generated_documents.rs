//! The documents that are generated, `docs/CLI.md`, `docs/CONFIGURATION.md` and `docs/METRICS.md`, and the one that is
//! compared with the code.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

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

SIGHUP reloads the configuration file. `[policy]`, `[[credentials]]`, `[[quota]]`, `[guard]`, `server.drain_timeout`,
`server.drain_delay` and `server.max_calls_per_caller` change at once. The log names other changed settings, which need a
restart. While `server.listen`, `[server.tls]`, `server.unix_socket_…` or `[callers]` need one, `[policy]` waits for it
too. A file with errors changes nothing.

This file is generated: `UPDATE_DOCUMENTS=1 cargo test --test it generated_documents`.
";

const METRICS_HEAD: &str = "# Metrics

`/metrics` of the admin port (`admin.listen`) and of the telemetry listener (`telemetry.listen`) has these metrics, in
Prometheus' text format, or in OpenMetrics 1.0.0 if the client prefers it. In OpenMetrics, the name of a counter has no
`_total`, and histograms of calls have exemplars with trace ids.

The values of labels are closed sets. No text of a caller, an enterprise, a device or an operation is one. A histogram has
the series `_bucket`, `_sum` and `_count`, from its first value on. A counter exists from the start, with the value 0.

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

#[test]
fn the_metrics_reference_is_current() {
    compare("METRICS.md", &(METRICS_HEAD.to_owned() + &countermand::telemetry::metrics::reference()));
}

fn read(file: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(file).expect("it is in the tree")
}

/// Whether a text may be the reason of an `ErrorInfo`.
fn is_reason(text: &str) -> bool {
    text.len() > 3 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

#[test]
fn the_error_reference_has_every_reason() {
    let sources = ["src/operations.rs", "src/operations/status.rs"].map(read).concat();
    let statements = sources.lines().filter(|line| {
        let line = line.trim_start();
        // The table of code names, and comments.
        !line.starts_with("(Code::") && !line.starts_with("//")
    });
    let quoted = statements.flat_map(|line| line.split('"').skip(1).step_by(2));
    let in_code: BTreeSet<_> = quoted.filter(|text| is_reason(text) && *text != "UNKNOWN").collect();

    let page = read("docs/CALLING.md");
    let (_, section) = page.split_once("\n## Errors\n").expect("the section");
    let section = section.split("\n## ").next().expect("a split has a first part");
    let reasons = section.lines().filter_map(|line| line.split('|').nth(2));
    let quoted = reasons.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    // The reason of tonic's own error is the name of its code.
    let is_other = |text: &str| matches!(text, "UNIMPLEMENTED" | "HTTP_");
    let in_document: BTreeSet<_> = quoted.filter(|text| is_reason(text) && !is_other(text)).collect();
    assert_eq!(in_code, in_document);

    let mut in_metrics = BTreeSet::from(countermand::telemetry::metrics::ERROR_REASONS);
    assert!(in_metrics.remove("_OTHER") && in_metrics.remove("UNIMPLEMENTED"));
    assert_eq!(in_code, in_metrics);
}

#[test]
fn the_guide_for_operators_has_every_reason_and_every_alert() {
    let page = read("docs/OPERATING.md");
    let (alerts, reasons) = page.split_once("\n## Error reasons\n").expect("the section");
    let rows = reasons.lines().filter(|line| line.starts_with("| `"));
    let described: Vec<Vec<_>> =
        rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
    assert!(described.iter().all(|cells| cells.len() == 4 && cells.iter().all(|cell| !cell.is_empty())));
    let described: BTreeSet<_> = described.iter().map(|cells| cells[0].trim_matches('`')).collect();
    let mut in_code = BTreeSet::from(countermand::telemetry::metrics::ERROR_REASONS);
    assert!(in_code.remove("_OTHER"));
    assert_eq!(described, in_code);

    let sections: BTreeSet<_> = alerts.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let rules = read("deploy/prometheus/alerts.yaml");
    let names: BTreeSet<_> =
        rules.lines().filter_map(|line| line.trim_start().strip_prefix("- alert: ")).collect();
    assert!(!names.is_empty());
    assert_eq!(sections, names);
}
