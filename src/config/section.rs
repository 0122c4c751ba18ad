//! A section of the configuration. Each setting comes from its flag, its variable or its key in the file.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    effective::{self, EffectiveSetting},
    errors::{ConfigErrors, Invalid},
    file::{ConfigFile, Located, Table, TomlValue, parse_value},
    flags::Flags,
    provenance::{Given, Provenance},
    suggestions::nearest,
    values::{Arity, RawValue, ReadContext, ValueKind, type_error},
    variables::Variables,
};

/// The sources of all settings, and the errors found so far.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) flags: Flags,
    pub(crate) variables: Variables,
    pub(crate) errors: ConfigErrors,
    /// The settings read so far, in the order of the reference. All are valid if there is no error.
    pub(crate) effective: Vec<EffectiveSetting>,
    directory: PathBuf,
}

/// The names of a setting.
pub(crate) struct Names {
    /// The key in its section of the file.
    pub(crate) key: &'static str,
    /// The environment variable.
    pub(crate) variable: Option<&'static str>,
    /// The flag, with its dashes and the name of its value: `--listen ADDR`.
    pub(crate) flag: Option<&'static str>,
}

/// A section of the file.
#[derive(Debug)]
pub(crate) struct Section {
    /// The dotted name. Empty for the root.
    name: String,
    /// The line of the header, for a section in double brackets.
    line: Option<usize>,
    table: Table,
    /// The keys that were read.
    known: Vec<&'static str>,
    /// The sources of the given values, by key.
    origins: BTreeMap<&'static str, Origins>,
}

/// The source of a value, and the sources of its items if it is a list.
#[derive(Debug)]
struct Origins {
    whole: Provenance,
    items: Vec<Provenance>,
}

impl Sources {
    pub(crate) fn new(flags: Flags, variables: Variables) -> Self {
        Self { flags, variables, ..Self::default() }
    }

    /// Reads the file at `path` and returns its root section. `None` if the file cannot be read. The root is empty if
    /// the file is not TOML.
    pub(crate) fn open(&mut self, path: &Given<PathBuf>) -> Option<Section> {
        let ConfigFile { table, directory } = ConfigFile::read(path, &mut self.errors)?;
        self.directory = directory;
        Some(Section::new(String::new(), None, table))
    }
}

/// Reads sections in double brackets with `read`. Their effective settings have the number of the section, from 1, in
/// their keys.
pub(crate) fn read_numbered<T>(
    sections: Vec<Section>,
    sources: &mut Sources,
    mut read: impl FnMut(Section, &mut Sources) -> T,
) -> Vec<T> {
    let mut number = 0;
    let read = |section: Section| {
        number += 1;
        let (name, before) = (section.name.clone(), sources.effective.len());
        let value = read(section, sources);
        effective::number(&mut sources.effective[before..], &name, number);
        value
    };
    sections.into_iter().map(read).collect()
}

impl Section {
    fn new(name: String, line: Option<usize>, table: Table) -> Self {
        Self { name, line, table, known: Vec::new(), origins: BTreeMap::new() }
    }

    /// A section without keys in the file.
    pub(crate) fn empty(name: &str) -> Self {
        Self::new(name.to_owned(), None, Table::new())
    }

    /// Reads the value of a setting. `None` if it is absent or invalid. An error is added if it is invalid.
    pub(crate) fn read<K: ValueKind>(
        &mut self,
        names: &Names,
        kind: &K,
        sources: &mut Sources,
    ) -> Option<K::Value> {
        let in_file = self.take(names.key);
        let variable = names.variable.and_then(|variable| sources.variables.take(variable));
        let flag = names.flag.and_then(|flag| sources.flags.take(flag));
        let (raw, origin) = match (flag, variable, in_file) {
            (Some(Given { value, origin }), _, _) => {
                (RawValue::Arguments { values: value, separator: None }, origin)
            }
            (None, Some(Given { value, origin }), _) => {
                (RawValue::Arguments { values: vec![value], separator: Some(',') }, origin)
            }
            (None, None, Some(Given { value, origin })) => (RawValue::Toml(value), origin),
            (None, None, None) => return None,
        };
        let nowhere = PathBuf::new();
        let is_in_file = matches!(origin, Provenance::Key { .. });
        let directory = if is_in_file { &sources.directory } else { &nowhere };
        sources.effective.push(EffectiveSetting::given(self.dotted(names.key), &raw, &origin));
        let mut context =
            ReadContext { origin: &origin, directory, errors: &mut sources.errors, items: Vec::new() };
        let value = kind.read(raw, &mut context);
        let items = context.items;
        self.origins.insert(names.key, Origins { whole: origin, items });
        value
    }

    /// Reads the value of a setting, otherwise returns `default`. The default is in the syntax of the file.
    pub(crate) fn read_or<K: ValueKind>(
        &mut self,
        names: &Names,
        kind: &K,
        default: &str,
        sources: &mut Sources,
    ) -> K::Value {
        self.read(names, kind, sources).unwrap_or_else(|| {
            sources.effective.push(EffectiveSetting::default(self.dotted(names.key), default));
            let origin = Provenance::missing(names.key);
            let mut errors = ConfigErrors::default();
            let mut context = ReadContext {
                origin: &origin,
                directory: "".as_ref(),
                errors: &mut errors,
                items: Vec::new(),
            };
            let value = parse_value(default).and_then(|value| kind.read(RawValue::Toml(value), &mut context));
            value.unwrap_or_else(|| panic!("the default of {} is invalid: {default}", names.key))
        })
    }

    /// The source of a given value.
    pub(crate) fn origin(&self, key: &str) -> Option<&Provenance> {
        self.origins.get(key).map(|origins| &origins.whole)
    }

    /// The sources of the valid items of a list.
    pub(crate) fn items(&self, key: &str) -> &[Provenance] {
        self.origins.get(key).map_or(&[], |origins| &origins.items)
    }

    /// Whether any setting read so far was given, valid or not.
    pub(crate) fn is_given(&self) -> bool {
        !self.origins.is_empty()
    }

    /// The source of this section. It has a line if the section is in double brackets.
    pub(crate) fn section_origin(&self) -> Provenance {
        Provenance::Key { key: self.name.clone(), line: self.line }
    }

    /// The source of a missing key.
    pub(crate) fn missing(&self, key: &str) -> Provenance {
        Provenance::Key { key: self.dotted(key), line: self.line }
    }

    /// Whether the file has the key and no setting read it yet.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The source of a key that the file has and that no setting read yet.
    pub(crate) fn unread(&self, key: &str) -> Option<Provenance> {
        let Located { line, .. } = self.table.get(key)?;
        Some(Provenance::Key { key: self.dotted(key), line: Some(*line) })
    }

    /// Whether a key was read and is absent. An unknown key that is a misspelling counts as present, because it is an
    /// error already.
    pub(crate) fn lacks(&self, key: &str) -> bool {
        !self.origins.contains_key(key)
            && !self.table.keys().any(|unknown| nearest(unknown, &self.known) == Some(key))
    }

    fn dotted(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn take(&mut self, key: &'static str) -> Option<Given<TomlValue>> {
        self.known.push(key);
        let Located { value, line } = self.table.remove(key)?;
        Some(Given { value, origin: Provenance::Key { key: self.dotted(key), line: Some(line) } })
    }

    /// The section `[key]`. It is empty if the file has none.
    pub(crate) fn section(&mut self, key: &'static str, errors: &mut ConfigErrors) -> Section {
        let table = self.take(key).and_then(|Given { value, origin }| match value {
            TomlValue::Table(table) => Some(table),
            other => {
                errors.ok(&origin, Err(type_error(&other, &format!("a section, [{}]", self.dotted(key)))))
            }
        });
        Self::new(self.dotted(key), None, table.unwrap_or_default())
    }

    /// The sections `[[key]]`.
    pub(crate) fn sections(&mut self, key: &'static str, errors: &mut ConfigErrors) -> Vec<Section> {
        let Some(Given { value, origin }) = self.take(key) else { return Vec::new() };
        let wanted = format!("a section in double brackets, [[{key}]]");
        let TomlValue::List(items) = value else {
            errors.ok::<()>(&origin, Err(type_error(&value, &wanted)));
            return Vec::new();
        };
        let section = |Located { value, line }| match value {
            TomlValue::Table(table) => Some(Self::new(key.to_owned(), Some(line), table)),
            other => {
                let origin = Provenance::Key { key: key.to_owned(), line: Some(line) };
                errors.ok(&origin, Err(type_error(&other, &wanted)))
            }
        };
        items.into_iter().filter_map(section).collect()
    }

    /// Adds an error of `key`, at the value if it was given, otherwise at the missing key.
    pub(crate) fn invalid(&self, key: &str, invalid: Invalid, errors: &mut ConfigErrors) {
        let missing = self.missing(key);
        errors.add(self.origin(key).unwrap_or(&missing), invalid.problem, invalid.hint);
    }

    /// Adds an error for each key that nothing read.
    pub(crate) fn finish(&self, errors: &mut ConfigErrors) -> UnknownKeys {
        let mut meant = Vec::new();
        for (key, Located { line, .. }) in &self.table {
            let nearest = nearest(key, &self.known);
            let hint = match nearest {
                Some(known) => format!("did you mean {known}?"),
                None => format!("the keys here are {}", self.known.join(", ")),
            };
            // A key in another form may be a pasted secret.
            let is_printable = nearest.is_some() || has_form_of_key(key);
            let key = if is_printable { self.dotted(key) } else { self.dotted("(not printed)") };
            errors.add(&Provenance::Key { key, line: Some(*line) }, "there is no such key", hint);
            meant.extend(nearest);
        }
        UnknownKeys { meant }
    }
}

fn has_form_of_key(key: &str) -> bool {
    key.len() <= 40 && key.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-'))
}

/// The unknown keys of a section.
pub(crate) struct UnknownKeys {
    meant: Vec<&'static str>,
}

impl UnknownKeys {
    /// Whether an unknown key is a misspelling of `key`.
    pub(crate) fn means(&self, key: &str) -> bool {
        self.meant.contains(&key)
    }
}

/// The description of a setting, for the reference and for `--help`.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// The section of the file. Empty for a setting that has no key in the file.
    pub(crate) section: &'static str,
    /// The key in the section.
    pub(crate) key: &'static str,
    /// The form of valid values.
    pub(crate) form: String,
    /// The valid values, if the setting is an enumeration.
    pub(crate) words: Vec<&'static str>,
    /// How often the flag takes a value.
    pub(crate) arity: Arity,
    /// The default, in the syntax of the file.
    pub(crate) default: Option<&'static str>,
    /// The environment variable.
    pub(crate) variable: Option<&'static str>,
    /// The flag, with its dashes and the name of its value.
    pub(crate) flag: Option<&'static str>,
    /// The description.
    pub(crate) doc: &'static str,
}

impl Setting {
    /// The entry of the setting in the reference, in Markdown.
    pub(crate) fn reference(&self) -> String {
        let Self { section, key, form, words: _, arity: _, default, variable, flag, doc } = self;
        let name = if section.is_empty() { flag.unwrap_or(key) } else { key };
        let mut facts = vec![form.clone()];
        facts.extend(default.map(|default| format!("default `{default}`")));
        facts.extend(variable.map(|variable| format!("variable `{variable}`")));
        facts.extend(flag.filter(|_| !section.is_empty()).map(|flag| format!("flag `{flag}`")));
        let doc = doc.lines().map(str::trim).collect::<Vec<_>>().join("\n");
        format!("\n### `{name}`\n\n{}\n\n{}\n", facts.join(" · "), doc.trim())
    }
}

/// Declares the settings of a section: the struct of their values, the function that reads them, and their
/// descriptions.
///
/// A setting is `name: type = default, kind, env "VARIABLE", flag "--flag VALUE";`. The name is the key in the file.
/// The default is in the syntax of the file. Without a default, the type is an `Option`.
macro_rules! settings {
    (
        $(#[doc = $struct_doc:literal])*
        pub struct $name:ident in $section:literal {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty $(= $default:expr)?, $kind:expr
                    $(, env $variable:literal)? $(, flag $flag:literal)?;
            )*
        }
    ) => {
        $(#[doc = $struct_doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $type, )*
        }

        impl $name {
            /// Reads the settings from their section.
            pub(crate) fn read(
                section: &mut $crate::config::Section,
                sources: &mut $crate::config::Sources,
            ) -> Self {
                Self { $(
                    $field: {
                        let names = $crate::config::Names {
                            key: stringify!($field),
                            variable: $crate::config::settings!(@option $($variable)?),
                            flag: $crate::config::settings!(@option $($flag)?),
                        };
                        $crate::config::settings!(@read section, sources, names, $kind $(, $default)?)
                    },
                )* }
            }

            /// Describes the settings.
            pub(crate) fn describe() -> Vec<$crate::config::Setting> {
                use $crate::config::ValueKind as _;
                vec![$(
                    {
                        let kind = $kind;
                        $crate::config::Setting {
                            section: $section,
                            key: stringify!($field),
                            form: kind.form(),
                            words: kind.words(),
                            arity: kind.arity(),
                            default: $crate::config::settings!(@option $(stringify!($default))?),
                            variable: $crate::config::settings!(@option $($variable)?),
                            flag: $crate::config::settings!(@option $($flag)?),
                            doc: concat!($($doc, "\n"),+),
                        }
                    },
                )*]
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::read(
                    &mut $crate::config::Section::empty($section),
                    &mut $crate::config::Sources::default(),
                )
            }
        }
    };
    (@option) => { None };
    (@option $value:expr) => { Some($value) };
    (@read $section:ident, $sources:ident, $names:ident, $kind:expr) => {
        $section.read(&$names, &$kind, $sources)
    };
    (@read $section:ident, $sources:ident, $names:ident, $kind:expr, $default:expr) => {
        $section.read_or(&$names, &$kind, stringify!($default), $sources)
    };
}

pub(crate) use settings;
