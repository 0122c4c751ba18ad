//! The flags of settings.

use std::{collections::BTreeMap, ffi::OsString};

use clap::{
    Arg, ArgAction, ArgMatches, Command, builder::OsStringValueParser, builder::PossibleValuesParser,
};

use super::{
    provenance::{Given, Provenance},
    section::Setting,
    values::Arity,
};

/// The given flags and their values. Paths are relative to the working directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags(BTreeMap<String, Vec<OsString>>);

impl Flags {
    /// Adds a value of `flag`. The name includes its dashes.
    #[must_use]
    pub fn with(mut self, flag: &str, value: impl Into<OsString>) -> Self {
        self.0.entry(flag.to_owned()).or_default().push(value.into());
        self
    }

    /// Removes `flag`.
    #[must_use]
    pub fn without(mut self, flag: &str) -> Self {
        self.0.remove(flag);
        self
    }

    pub(crate) fn take(&mut self, flag: &'static str) -> Option<Given<Vec<OsString>>> {
        let (flag, _) = name_and_value(flag);
        let value = self.0.remove(flag)?;
        Some(Given { value, origin: Provenance::Flag(flag) })
    }

    /// The flags of `settings` in a parsed command line.
    pub(crate) fn of_matches(settings: &[Setting], matches: &ArgMatches) -> Self {
        let mut flags = Self::default();
        for setting in settings {
            let Some(flag) = setting.flag else { continue };
            let (flag, _) = name_and_value(flag);
            let id = id(flag);
            match (setting.arity, setting.words.is_empty()) {
                (Arity::Switch, _) if matches.get_flag(id) => flags = flags.with(flag, "true"),
                (Arity::Switch, _) => {}
                (_, true) => {
                    for value in matches.get_many::<OsString>(id).into_iter().flatten() {
                        flags = flags.with(flag, value);
                    }
                }
                (_, false) => {
                    for value in matches.get_many::<String>(id).into_iter().flatten() {
                        flags = flags.with(flag, value);
                    }
                }
            }
        }
        flags
    }

    /// Adds the flags of `settings` to `command`.
    pub(crate) fn augment(settings: &[Setting], mut command: Command) -> Command {
        for setting in settings {
            let Some(flag) = setting.flag else { continue };
            let (flag, value_name) = name_and_value(flag);
            let id = id(flag);
            let argument = Arg::new(id).long(id).help(help(setting));
            let argument = match setting.arity {
                Arity::Switch => argument.action(ArgAction::SetTrue),
                Arity::One => argument.action(ArgAction::Set).value_name(value_name),
                Arity::Many => argument.action(ArgAction::Append).value_name(value_name),
            };
            let argument = match (setting.arity, setting.words.is_empty()) {
                (Arity::Switch, _) => argument,
                (_, true) => argument.value_parser(OsStringValueParser::new()),
                (_, false) => argument.value_parser(PossibleValuesParser::new(&setting.words)),
            };
            command = command.arg(argument);
        }
        command
    }
}

fn name_and_value(flag: &'static str) -> (&'static str, &'static str) {
    flag.split_once(' ').unwrap_or((flag, ""))
}

fn id(flag: &'static str) -> &'static str {
    flag.trim_start_matches('-')
}

fn help(setting: &Setting) -> String {
    let Setting { doc, variable, default, arity, .. } = setting;
    let paragraph = doc.split("\n\n").next().unwrap_or_default();
    let mut help =
        paragraph.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned();
    if *arity == Arity::Many {
        help += "; may be repeated";
    }
    if let Some(variable) = variable {
        help += &format!(" [env: {variable}]");
    }
    if let Some(default) = default.filter(|_| *arity != Arity::Switch) {
        help += &format!(" [default: {}]", default.trim_matches(['[', ']', '"']));
    }
    help
}
