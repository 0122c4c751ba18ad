//! The settings of the quota.

use std::{path::Path, time::Duration};

use crate::config::{Invalid, Parsed, Time, Words, integer, settings};

/// The key of the sections.
pub(crate) const SECTIONS: &str = "quota";

settings! {
    /// `[[quota]]`: the quota of a Google project for the Android Management API.
    pub struct QuotaSettings in "quota" {
        /// The id of the Google project. Without it, the section is for each project that no other section names.
        project: Option<String>, Parsed { form: "the id of a Google project", parse: project };
        /// The number of queries that Google allows in any window of `period`.
        limit: u32 = 600, integer::<u32>(2..=100_000_000);
        /// The length of the window.
        period: Duration = "60s", Time;
        /// The number of queries that may leave at once; by default 5 % of the limit. The rate is (limit − burst) ÷
        /// period. Reads may use two thirds of the burst, and polls one third, so that a cancel finds the rest.
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
    /// The burst: the setting, otherwise 5 % of the limit, at least 3 if the limit allows it, so that each class has a part.
    #[must_use]
    pub fn burst(&self) -> u32 {
        let least = 3.min(self.limit / 2).max(1);
        self.burst.unwrap_or((self.limit / 20).max(least))
    }
}

fn project(text: &str, _: &Path) -> Result<String, Invalid> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | ':');
    if (1..=100).contains(&text.len()) && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err(Invalid::new("this is not the id of a Google project", "give an id like my-project-123"))
}
