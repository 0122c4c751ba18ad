//! The file: TOML with the line of every key. Who reads a key takes it, and what is left is unknown.

use std::{
    fs,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    fault::{Faults, Wrong},
    source::{Given, Origin},
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
            super::files::readable(path)?;
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
        for error in errors {
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
struct Place<'a> {
    text: &'a str,
    directory: &'a Path,
}

impl Default for Place<'_> {
    fn default() -> Self {
        Self { text: "", directory: Path::new("") }
    }
}

impl Place<'_> {
    /// Both from 1; the column counts characters.
    fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        (line, column)
    }
}

/// A table of the file.
pub(super) struct Section<'a> {
    /// The dotted name, empty for the whole file.
    name: String,
    table: DeTable<'a>,
    asked: Vec<&'static str>,
    place: Place<'a>,
}

impl<'a> Section<'a> {
    fn new(name: String, table: DeTable<'a>, place: Place<'a>) -> Self {
        Self { name, table, asked: Vec::new(), place }
    }

    fn origin(&self, key: &str, offset: Option<usize>) -> Origin {
        let key = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        let line = offset.map(|offset| self.place.line_and_column(offset).0);
        Origin::Key { key, line }
    }

    /// The place of a key that is not there.
    pub(super) fn missing(&self, key: &str) -> Origin {
        self.origin(key, None)
    }

    /// Whether the key is there, not yet taken.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The directory of the file: what its relative paths are relative to.
    pub(super) fn directory(&self) -> &'a Path {
        self.place.directory
    }

    fn take(&mut self, key: &'static str) -> Option<Given<DeValue<'a>>> {
        self.asked.push(key);
        let (name, value) = self.table.remove_entry(key)?;
        let origin = self.origin(key, Some(name.span().start));
        Some(Given { value: value.into_inner(), origin })
    }

    pub(super) fn text(&mut self, key: &'static str, faults: &mut Faults) -> Option<Given<String>> {
        let Given { value, origin } = self.take(key)?;
        let value = faults.note(&origin, text(&value))?;
        Some(Given { value, origin })
    }

    /// A path; one that is relative is so to the directory of the file.
    pub(super) fn path(&mut self, key: &'static str, faults: &mut Faults) -> Option<Given<PathBuf>> {
        let Given { value, origin } = self.text(key, faults)?;
        Some(Given { value: self.place.directory.join(value), origin })
    }

    pub(super) fn integer(&mut self, key: &'static str, faults: &mut Faults) -> Option<Given<i64>> {
        let Given { value, origin } = self.take(key)?;
        let value = faults.note(
            &origin,
            match &value {
                DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
                    .map_err(|_| Wrong::new(format!("{integer} is too large"), "give a smaller number")),
                other => Err(wrong_type(other, "a whole number, without quotes")),
            },
        )?;
        Some(Given { value, origin })
    }

    /// A list of texts; each keeps its own line.
    pub(super) fn texts(
        &mut self,
        key: &'static str,
        faults: &mut Faults,
    ) -> Option<Given<Vec<Given<String>>>> {
        let Given { value, origin } = self.take(key)?;
        let DeValue::Array(items) = &value else {
            let wrong = wrong_type(&value, r#"a list of strings, ["…"]"#);
            return faults.note(&origin, Err(wrong));
        };
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            let origin = self.origin(key, Some(item.span().start));
            if let Some(value) = faults.note(&origin, text(item.get_ref())) {
                list.push(Given { value, origin });
            }
        }
        (list.len() == items.len()).then_some(Given { value: list, origin })
    }

    /// The table under `key`; an empty one when there is none.
    pub(super) fn section(&mut self, key: &'static str, faults: &mut Faults) -> Section<'a> {
        let table = self.take(key).and_then(|Given { value, origin }| match value {
            DeValue::Table(table) => Some(table),
            other => faults.note(&origin, Err(wrong_type(&other, &format!("a section, [{key}]")))),
        });
        Self::new(key.to_owned(), table.unwrap_or_default(), self.place)
    }

    /// The tables under `[[key]]`, each with the place where it begins.
    pub(super) fn sections(&mut self, key: &'static str, faults: &mut Faults) -> Vec<Given<Section<'a>>> {
        let Some(Given { value, origin }) = self.take(key) else { return Vec::new() };
        let wanted = format!("a section in double brackets, [[{key}]]");
        let DeValue::Array(items) = value else {
            faults.note::<()>(&origin, Err(wrong_type(&value, &wanted)));
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(items.len());
        for item in items {
            let origin = self.origin(key, Some(item.span().start));
            match item.into_inner() {
                DeValue::Table(table) => {
                    let value = Self::new(key.to_owned(), table, self.place);
                    sections.push(Given { value, origin });
                }
                other => {
                    faults.note::<()>(&origin, Err(wrong_type(&other, &wanted)));
                }
            }
        }
        sections
    }

    /// A key of the design that comes later: a fault when it is there.
    pub(super) fn not_yet(&mut self, key: &'static str, faults: &mut Faults) {
        if let Some(given) = self.take(key) {
            faults.not_yet(&given.origin);
        }
    }

    /// What nobody took is unknown.
    pub(super) fn finish(self, faults: &mut Faults) {
        for (key, _) in &self.table {
            let origin = self.origin(&escaped(key), Some(key.span().start));
            let remedy = match nearest(key.get_ref(), &self.asked) {
                Some(known) => format!("did you mean {known}?"),
                None => format!("the keys here are {}", self.asked.join(", ")),
            };
            faults.add(&origin, "there is no such key", remedy);
        }
    }
}

fn text(value: &DeValue<'_>) -> Result<String, Wrong> {
    match value {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        other => Err(wrong_type(other, "a string, in quotes")),
    }
}

fn wrong_type(found: &DeValue<'_>, wanted: &str) -> Wrong {
    let found = found.type_str();
    let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
    Wrong::new(format!("this is {article} {found}"), format!("give {wanted}"))
}

/// A quoted key may hold any character.
fn escaped(key: &Spanned<std::borrow::Cow<'_, str>>) -> String {
    key.get_ref().escape_debug().to_string()
}

/// The known name that is closest to `name`, when one is close enough to be meant.
pub(super) fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let enough = (name.len() / 4).clamp(1, 3);
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), *known))
        .filter(|(distance, _)| *distance <= enough)
        .min()
        .map(|(_, known)| known)
}
