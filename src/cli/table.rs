//! Operations as the rows of a table, which grows page by page.

use super::operation::{Command, State, error_text};
use super::output::printable;
use crate::proto::longrunning::Operation;

const HEADER: [&str; 5] = ["NAME", "TYPE", "STATE", "CREATED", "ERROR"];

/// The widths of the columns so far, in characters. They only grow: a later page cannot reach back to the
/// rows that are printed already.
pub(crate) struct Table {
    widths: [usize; HEADER.len()],
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { widths: HEADER.map(str::len) }
    }

    /// The line above all rows, as wide as the rows that `lines` has been given.
    pub(crate) fn header(&self) -> String {
        self.aligned(&HEADER.map(str::to_owned))
    }

    /// One line for each operation, free of anything that acts on a terminal.
    pub(crate) fn lines(&mut self, page: &[Operation]) -> Vec<String> {
        let rows: Vec<_> = page.iter().map(row).collect();
        for (index, width) in self.widths.iter_mut().enumerate() {
            let widest = rows.iter().map(|row| row[index].chars().count()).max();
            *width = widest.unwrap_or(0).max(*width);
        }
        rows.iter().map(|row| self.aligned(row)).collect()
    }

    fn aligned(&self, row: &[String; HEADER.len()]) -> String {
        let cells = row.iter().zip(self.widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }
}

fn row(operation: &Operation) -> [String; HEADER.len()] {
    let Command { kind, created, duration: _, error_code: _ } = Command::of(operation);
    let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        operation.name.clone(),
        known(kind),
        State::of(operation).word().to_owned(),
        known(created),
        error_text(operation).unwrap_or_default(),
    ]
    // Escaped before it is measured: an escape is wider than what it stands for.
    .map(|cell| printable(&cell))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Operation {
        Operation { name: name.to_owned(), ..Operation::default() }
    }

    #[test]
    fn columns_are_as_wide_as_the_widest_so_far() {
        let mut table = Table::new();
        assert_eq!(
            table.lines(&[named("a"), named("a/longer")]),
            ["a         -     pending  -", "a/longer  -     pending  -"]
        );
        assert_eq!(table.header(), "NAME      TYPE  STATE    CREATED  ERROR");
        assert_eq!(table.lines(&[named("b")]), ["b         -     pending  -"]);
        assert_eq!(table.lines(&[named("0123456789")]), ["0123456789  -     pending  -"]);
    }

    #[test]
    fn an_escape_is_measured_as_it_is_printed() {
        let lines = Table::new().lines(&[named("a\u{1b}"), named("0123456")]);
        assert_eq!(lines, ["a\\u001b  -     pending  -", "0123456  -     pending  -"]);
    }
}
