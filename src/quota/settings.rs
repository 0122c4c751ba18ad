//! The settings of the quota.

use std::{collections::HashMap, time::Duration};

use crate::{
    config::{
        ConfigErrors, Invalid, Parsed, Provenance, Section, Sources, Time, Words, integer, read_numbered,
        settings,
    },
    project_id,
};

/// The key of the sections.
pub(crate) const SECTIONS: &str = "quota";

settings! {
    /// `[[quota]]`: the quota of a Google project for the Android Management API.
    pub struct QuotaSettings in "quota" {
        /// The id of the Google project. Without it, the section is for each project that no other section names.
        project: Option<String>, Parsed { form: "the id of a Google project", parse: project_id::parse };
        /// The number of queries that Google allows in any window of `period`.
        limit: u32 = 600, integer::<u32>(2..=100_000_000);
        /// The length of the window.
        period: Duration = "60s", Time;
        /// The number of queries that may leave at once; by default 5 % of the limit, and at least 3 if the limit
        /// allows it. The rate is (limit − burst) ÷ period. Reads may use two thirds of the burst, and polls one third,
        /// so that a cancel finds the rest.
        burst: Option<u32>, integer::<u32>(1..=100_000_000);
        /// `enforce` delays and refuses calls. `shadow` sends each query at once, and records what would have been
        /// delayed or refused.
        mode: QuotaMode = "enforce",
            Words(&[("enforce", QuotaMode::Enforce), ("shadow", QuotaMode::Shadow)]);
    }
}

/// The effect of a budget's decisions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QuotaMode {
    /// A query waits for its turn, or is refused.
    #[default]
    Enforce,
    /// Every query is sent at once. The metrics record what would have been delayed or refused.
    Shadow,
}

impl QuotaSettings {
    /// Reads the sections, and checks that no two are for the same project.
    pub(crate) fn read_all(sections: Vec<Section>, sources: &mut Sources) -> Vec<Self> {
        let mut first = HashMap::new();
        read_numbered(sections, sources, |mut section, sources| {
            let settings = Self::read(&mut section, sources);
            settings.check(&section, &mut sources.errors);
            section.finish(&mut sources.errors);
            if let Some(origin) = settings.project_origin(&section) {
                report_repeated(&settings, origin, &mut first, &mut sources.errors);
            }
            settings
        })
    }

    fn check(&self, section: &Section, errors: &mut ConfigErrors) {
        let Some(burst) = self.burst.filter(|burst| *burst >= self.limit) else { return };
        // An invalid or misspelt limit is an error already, and its default is no bound.
        let is_valid = match section.origin("limit") {
            Some(limit) => !errors.has(limit),
            None => section.lacks("limit"),
        };
        if !is_valid {
            return;
        }
        let problem =
            format!("a burst of {burst} leaves nothing of the limit of {} for the rate", self.limit);
        let hint = "give less than the limit, or leave it out for 5 % of the limit";
        section.invalid("burst", Invalid::new(problem, hint), errors);
    }

    /// The provenance of the project, or of the section if it has none. `None` if the project is invalid or misspelt.
    fn project_origin(&self, section: &Section) -> Option<Provenance> {
        match self.project {
            Some(_) => section.origin("project").cloned(),
            None => section.lacks("project").then(|| section.section_origin()),
        }
    }

    /// The burst: the setting, otherwise 5 % of the limit, at least 3 if the limit allows it, so that each class has a part.
    #[must_use]
    pub fn burst(&self) -> u32 {
        let least = 3.min(self.limit / 2).max(1);
        self.burst.unwrap_or((self.limit / 20).max(least))
    }
}

/// Adds an error if an earlier section is for the same project.
fn report_repeated(
    settings: &QuotaSettings,
    origin: Provenance,
    first: &mut HashMap<Option<String>, Provenance>,
    errors: &mut ConfigErrors,
) {
    let Some(first) = first.get(&settings.project) else {
        first.insert(settings.project.clone(), origin);
        return;
    };
    let line = first.line_in_brackets();
    let (problem, hint) = match settings.project {
        Some(_) => {
            (format!("another section is for this project too{line}"), "give each project one section")
        }
        None => (
            format!("this section is for each project that no other names, as another is{line}"),
            "give one of the two a project",
        ),
    };
    errors.add(&origin, problem, hint);
}
