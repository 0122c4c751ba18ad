//! What the client commands print: lines for a person, or JSON for a program. Only this room writes to
//! the terminal, and nothing passes through it that could act there.

use std::{
    fmt::Write as _,
    io::{self, ErrorKind, Write as _},
};

use super::exit::Exit;

/// The form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For a person: the outcome on standard output, an error as one line on standard error.
    #[default]
    Text,
    /// For a program: JSON, one object a line.
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

/// Prints a heading to standard output: bold where the terminal can and the user has not said `NO_COLOR`.
pub(crate) fn heading(line: &str) -> Exit {
    written(writeln!(anstream::stdout(), "\x1b[1m{}\x1b[0m", printable(line)))
}

fn written(result: io::Result<()>) -> Exit {
    match result {
        Ok(()) => return Exit::Ok,
        // Whoever read has seen enough (`| head`), and knows it.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        Err(error) => complain(&format!("the output cannot be written: {error}")),
    }
    Exit::Failed
}

/// Prints a line to standard error, with the program's name before it.
pub(crate) fn complain(line: &str) {
    to_stderr(&format!("countermand: {line}"));
}

/// Prints a line to standard error. When even that fails, only the exit code is left to tell.
pub(crate) fn to_stderr(line: &str) {
    let _ = writeln!(io::stderr(), "{}", printable(line));
}

/// Puts `line` in the place of what stands in the terminal's last line; standard error must be one.
pub(crate) fn over_last_line(line: &str) {
    // Return to the margin; erase to the end (ECMA-48, CR and EL). It only decorates: no harm if it fails.
    let _ = write!(io::stderr(), "\r\x1b[K{}", printable(line));
}

/// `text` with each character that would act on a terminal, or hide, as a `\u` escape of JSON: what is
/// printed may come from a server, and within JSON the escape means the character itself.
pub(crate) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        let acts = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        match c {
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            _ if acts => {
                // All of these are below U+10000, so that four digits are enough.
                let _ = write!(safe, "\\u{:04x}", u32::from(c));
            }
            _ => safe.push(c),
        }
    }
    safe
}
