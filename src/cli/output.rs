//! The output of the commands. Only this module writes to the terminal, and it escapes control characters.

use std::{
    env,
    fmt::Write as _,
    io::{self, ErrorKind, IsTerminal, Write as _},
};

use super::exit::Exit;

/// The output format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Text: the result on standard output, an error as one line on standard error
    #[default]
    Text,
    /// JSON, one object a line
    Json,
}

/// Prints a line to standard output.
pub(crate) fn to_stdout(line: &str) -> Exit {
    written(writeln!(io::stdout(), "{}", printable(line)))
}

/// Prints lines to standard output, up to the first that cannot be written.
pub(crate) fn all_to_stdout(lines: &[String]) -> Exit {
    lines.iter().map(|line| to_stdout(line)).find(|&exit| exit != Exit::Ok).unwrap_or(Exit::Ok)
}

/// Prints a heading to standard output, in bold on a terminal that supports it, unless `NO_COLOR` is set.
pub(crate) fn heading(line: &str) -> Exit {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_plain = env::var_os("TERM").is_none_or(|term| term == "dumb") || is_set("NO_COLOR");
    if is_plain || !io::stdout().is_terminal() {
        return to_stdout(line);
    }
    written(writeln!(io::stdout(), "\x1b[1m{}\x1b[0m", printable(line)))
}

fn written(result: io::Result<()>) -> Exit {
    match result {
        Ok(()) => return Exit::Ok,
        // The reader closed the pipe (`| head`) and needs no message.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        Err(error) => complain(&format!("cannot write to standard output: {error}")),
    }
    Exit::Failed
}

/// Prints a line to standard error, with the program's name before it.
pub(crate) fn complain(line: &str) {
    to_stderr(&format!("countermand: {line}"));
}

/// Prints a line to standard error. A failure is ignored, because the exit code still reports the error.
pub(crate) fn to_stderr(line: &str) {
    let _ = writeln!(io::stderr(), "{}", printable(line));
}

/// Replaces the last line of the terminal on standard error.
pub(crate) fn replace_line(line: &str) {
    // Carriage return, then erase to the end of the line (ECMA-48, CR and EL). A failure is ignored, because the line
    // is only progress.
    let _ = write!(io::stderr(), "\r\x1b[K{}", printable(line));
}

/// Replaces the last line of the terminal on standard error with a line that may be longer than the terminal is wide.
/// The terminal cuts it, because a line that wraps cannot be replaced.
pub(crate) fn replace_line_cut(line: &str) {
    // DECAWM off and on again around the text. A failure is ignored, because the line is only progress.
    let _ = write!(io::stderr(), "\r\x1b[K\x1b[?7l{}\x1b[?7h", printable(line));
}

/// Prints text without an end of line to standard error, for a question. A failure is ignored.
pub(crate) fn prompt(text: &str) {
    let _ = write!(io::stderr(), "{}", printable(text));
}

/// Whether a line on standard error can be replaced: it is a terminal that knows the control sequences.
pub(crate) fn is_replaceable() -> bool {
    io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Escapes control and invisible characters, because the text may come from a server. The escapes are those of JSON,
/// so that JSON output keeps its meaning.
pub(crate) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        let is_unsafe = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        match c {
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            _ if is_unsafe => {
                // These characters are below U+10000, so four digits are enough.
                let _ = write!(safe, "\\u{:04x}", u32::from(c));
            }
            _ => safe.push(c),
        }
    }
    safe
}
