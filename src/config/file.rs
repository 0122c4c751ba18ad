//! The file: TOML, with the line of every key.

use std::{
    fs,
    path::{Path, PathBuf},
};

use toml::de::DeTable;

use super::{
    fault::{Faults, Wrong},
    files, slips,
    source::{Given, Origin},
    table::Section,
};

/// The text of the configuration file and where it lies.
pub(super) struct Text {
    text: String,
    origin: Origin,
    directory: PathBuf,
}

/// The parsed file.
pub(super) struct File<'a> {
    pub(super) root: Section<'a>,
}

impl<'a> File<'a> {
    /// Reads the file that `path` names.
    pub(super) fn read(path: &Given<PathBuf>, faults: &mut Faults) -> Option<Text> {
        let text = path.parse(faults, |path: &Path| {
            files::readable(path)?;
            fs::read_to_string(path).map_err(|error| {
                Wrong::new(format!("cannot read {path:?}: {error}"), "give a TOML file in UTF-8")
            })
        })?;
        let directory = path.value.parent().unwrap_or(Path::new("")).to_owned();
        Some(Text { text, origin: path.origin.clone(), directory })
    }

    /// No file: every key has its default.
    pub(super) fn empty() -> Self {
        Self { root: Section::new(String::new(), DeTable::new(), Place::default()) }
    }

    /// Parses the text. One that is not TOML yields its faults and no key, since what a broken text seems
    /// to say is not to be believed.
    pub(super) fn parse(text: &'a Text, faults: &mut Faults) -> Self {
        let Text { text, origin, directory } = text;
        let place = Place { text, directory };
        let (table, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            return Self { root: Section::new(String::new(), table.into_inner(), place) };
        }
        for error in slips::of(text, &errors) {
            let at = error.span().map_or(String::new(), |span| {
                let (line, column) = place.line_and_column(span.start);
                format!(" at line {line}, column {column}")
            });
            let problem = format!("not TOML{at}: {}", error.message().replace('\n', ", "));
            faults.add(origin, problem, "correct the file");
        }
        Self::empty()
    }
}

/// What a section needs to say where its values stand.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    text: &'a str,
    pub(super) directory: &'a Path,
}

impl Default for Place<'_> {
    fn default() -> Self {
        Self { text: "", directory: Path::new("") }
    }
}

impl Place<'_> {
    /// Both from 1; the column counts characters.
    pub(super) fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        (line, column)
    }
}
