//! Where a setting without a flag comes from: its variable, else its key, else its default.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    environment::Environment,
    fault::{Faults, Wrong},
    source::duration,
    table::Section,
};

/// The two sources, and where what is wrong with either is noted.
pub(super) struct Sources<'s, 'f> {
    pub(super) environment: &'s mut Environment,
    pub(super) file: &'s mut Section<'f>,
    pub(super) faults: &'s mut Faults,
}

impl Sources<'_, '_> {
    pub(super) fn read<T>(
        &mut self,
        variable: &'static str,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, Wrong>,
        default: T,
    ) -> T {
        self.environment
            .text(variable, self.faults)
            .or(self.file.text(key, self.faults))
            .and_then(|given| given.parse(self.faults, read))
            .unwrap_or(default)
    }

    pub(super) fn time(&mut self, variable: &'static str, key: &'static str, default: Duration) -> Duration {
        self.read(variable, key, duration, default)
    }

    pub(super) fn number<T: TryFrom<i64>>(
        &mut self,
        variable: &'static str,
        key: &'static str,
        range: RangeInclusive<i64>,
        default: T,
    ) -> T {
        self.environment
            .integer(variable, self.faults)
            .or(self.file.integer(key, self.faults))
            .and_then(|given| given.parse(self.faults, |number: &i64| within(*number, &range)))
            .unwrap_or(default)
    }
}

fn within<T: TryFrom<i64>>(number: i64, range: &RangeInclusive<i64>) -> Result<T, Wrong> {
    T::try_from(number).ok().filter(|_| range.contains(&number)).ok_or_else(|| {
        let remedy = format!("give a number from {} to {}", range.start(), range.end());
        Wrong::new(format!("{number} is out of range"), remedy)
    })
}
