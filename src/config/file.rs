//! The configuration file: TOML, with the line of every key.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    errors::{ConfigErrors, Invalid},
    provenance::{Given, Provenance},
    toml_errors,
    values::READABLE_FILE,
};
use crate::file_watch;

/// A table of the file.
pub(crate) type Table = BTreeMap<String, Located>;

/// A value of the file and its line, from 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Located {
    pub(crate) value: TomlValue,
    pub(crate) line: usize,
}

/// A value of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TomlValue {
    Text(String),
    /// `None` if the number exceeds 64 bits.
    Integer(Option<i64>),
    Boolean(bool),
    List(Vec<Located>),
    Table(Table),
    /// A value of a type that no setting uses.
    Other(&'static str),
}

impl TomlValue {
    /// The type with its article, for example `a string`.
    pub(crate) fn type_name(&self) -> String {
        let name = match self {
            Self::Text(_) => "string",
            Self::Integer(_) => "integer",
            Self::Boolean(_) => "boolean",
            Self::List(_) => "array",
            Self::Table(_) => "table",
            Self::Other(name) => name,
        };
        let article = if name.starts_with(['a', 'i']) { "an" } else { "a" };
        format!("{article} {name}")
    }
}

/// A parsed file, and its directory. Relative paths in the file start at the directory.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    pub(super) table: Table,
    pub(super) directory: PathBuf,
}

impl ConfigFile {
    /// Reads and parses the file at `path`. `None` if it cannot be read. A file that is not TOML has an empty table,
    /// because the parser's recovery may misread the values.
    pub(super) fn read(path: &Given<PathBuf>, errors: &mut ConfigErrors) -> Option<Self> {
        let Given { value: path, origin } = path;
        let content = file_watch::read(path).map_err(|error| cannot_read(&error));
        let content = errors.ok(origin, content)?;
        let text = std::str::from_utf8(&content);
        let text = errors.ok(
            origin,
            text.map_err(|_| Invalid::new("the file is not UTF-8", "give a TOML file in UTF-8")),
        )?;
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        Some(Self { table: parse(text, origin, errors), directory })
    }
}

/// The error of a file that cannot be read. The text does not contain the path, because a secret may have been pasted
/// in place of the path.
pub(crate) fn cannot_read(error: &std::io::Error) -> Invalid {
    Invalid::new(format!("cannot read the file: {error}"), READABLE_FILE)
}

fn parse(text: &str, origin: &Provenance, errors: &mut ConfigErrors) -> Table {
    let lines = LineIndex::new(text);
    let (table, syntax_errors) = DeTable::parse_recoverable(text);
    if syntax_errors.is_empty() {
        return lines.table(table.into_inner());
    }
    for error in toml_errors::independent(text, &syntax_errors) {
        let position = error.span().map_or(String::new(), |span| {
            let (line, column) = lines.line_and_column(span.start);
            format!(" at line {line}, column {column}")
        });
        let problem = format!("not TOML{position}: {}", error.message().replace('\n', ", "));
        errors.add(origin, problem, "correct the file");
    }
    Table::new()
}

/// Parses a value in the syntax of the file.
pub(super) fn parse_value(value: &str) -> Option<TomlValue> {
    let text = format!("value = {value}");
    let mut table = LineIndex::new(&text).table(DeTable::parse(&text).ok()?.into_inner());
    table.remove("value").map(|located| located.value)
}

/// A text and the offsets of its lines.
struct LineIndex<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// The line and the column, both from 1. The column counts characters.
    fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let line = self.line(offset);
        let start = self.starts[line - 1];
        (line, self.text.get(start..offset).unwrap_or_default().chars().count() + 1)
    }

    fn table(&self, table: DeTable<'_>) -> Table {
        let entries = table.into_iter().map(|(key, value)| {
            let line = self.line(key.span().start);
            (key.into_inner().into_owned(), Located { value: self.value(value.into_inner()), line })
        });
        entries.collect()
    }

    fn value(&self, value: DeValue<'_>) -> TomlValue {
        match value {
            DeValue::String(text) => TomlValue::Text(text.into_owned()),
            DeValue::Integer(integer) => {
                TomlValue::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok())
            }
            DeValue::Boolean(value) => TomlValue::Boolean(value),
            DeValue::Array(items) => TomlValue::List(items.into_iter().map(|item| self.item(item)).collect()),
            DeValue::Table(table) => TomlValue::Table(self.table(table)),
            other => TomlValue::Other(other.type_str()),
        }
    }

    fn item(&self, item: Spanned<DeValue<'_>>) -> Located {
        let line = self.line(item.span().start);
        Located { value: self.value(item.into_inner()), line }
    }
}
