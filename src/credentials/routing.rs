//! Finds the credential that serves an enterprise.

use std::{collections::HashMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Credential;
use crate::name::{InvalidName, check_enterprise};

/// A set of enterprises, as the configuration writes it: `LC01`, `LC01*`, or `*` for all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// The enterprise with this id.
    Id(String),
    /// All enterprises whose ids have this prefix. The empty prefix matches every id.
    Prefix(String),
}

/// The credentials in use. A reload of the configuration replaces them.
pub struct Credentials {
    active: ArcSwap<CredentialSet>,
    replaced: watch::Sender<()>,
}

/// The credentials of a configuration, in its order, and their routes. The credential that names an enterprise's id
/// serves it; otherwise the credential with the longest prefix of the id.
pub struct CredentialSet {
    list: Vec<Credential>,
    routes: Routes,
}

impl Pattern {
    /// Every enterprise.
    #[must_use]
    pub fn all() -> Self {
        Self::Prefix(String::new())
    }

    /// Reads an id, or a prefix of ids with a `*` at its end.
    ///
    /// # Errors
    ///
    /// No id can match.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        match text.strip_suffix('*') {
            Some(prefix) => {
                // A prefix is valid when an id can begin with it.
                check_enterprise(&format!("{prefix}0"))?;
                Ok(Self::Prefix(prefix.to_owned()))
            }
            None => {
                check_enterprise(text)?;
                Ok(Self::Id(text.to_owned()))
            }
        }
    }
}

/// As the configuration writes it.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.write_str(id),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl Credentials {
    /// The first set.
    #[must_use]
    pub fn new(set: CredentialSet) -> Self {
        Self { active: ArcSwap::from_pointee(set), replaced: watch::channel(()).0 }
    }

    /// The credential that serves this enterprise.
    #[must_use]
    pub fn serving(&self, enterprise: &str) -> Option<Credential> {
        self.active.load().serving(enterprise).cloned()
    }

    /// The active set.
    #[must_use]
    pub fn active(&self) -> Arc<CredentialSet> {
        self.active.load_full()
    }

    /// Makes `set` active for later calls. A credential that is in neither set nor in a call in flight ends.
    pub fn replace(&self, set: CredentialSet) {
        self.active.store(Arc::new(set));
        self.replaced.send_replace(());
    }

    /// Notifies of each later replacement.
    #[must_use]
    pub fn replacements(&self) -> watch::Receiver<()> {
        self.replaced.subscribe()
    }
}

impl CredentialSet {
    /// Routes each enterprise to its credential. If two patterns are equal, the later one wins; the configuration
    /// refuses such a pair.
    #[must_use]
    pub fn new(credentials: impl IntoIterator<Item = (Credential, Vec<Pattern>)>) -> Self {
        let (list, patterns): (Vec<_>, Vec<_>) = credentials.into_iter().unzip();
        Self { list, routes: Routes::new(patterns) }
    }

    /// The credential that serves this enterprise. The cost grows only with the number of different prefix lengths.
    #[must_use]
    pub fn serving(&self, enterprise: &str) -> Option<&Credential> {
        self.routes.find(enterprise).and_then(|index| self.list.get(index))
    }

    /// All credentials.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Credential> {
        self.list.iter()
    }
}

/// Maps an enterprise's id to an index.
struct Routes {
    ids: HashMap<Box<str>, usize>,
    prefixes: HashMap<Box<str>, usize>,
    /// The lengths of the prefixes in bytes, each once, the longest first.
    lengths: Vec<usize>,
}

impl Routes {
    /// Maps the patterns at each index to that index.
    fn new(patterns: impl IntoIterator<Item = Vec<Pattern>>) -> Self {
        let (mut ids, mut prefixes) = (HashMap::new(), HashMap::new());
        for (index, patterns) in patterns.into_iter().enumerate() {
            for pattern in patterns {
                match pattern {
                    Pattern::Id(id) => ids.insert(id.into_boxed_str(), index),
                    Pattern::Prefix(prefix) => prefixes.insert(prefix.into_boxed_str(), index),
                };
            }
        }
        let mut lengths: Vec<_> = prefixes.keys().map(|prefix| prefix.len()).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        Self { ids, prefixes, lengths }
    }

    fn find(&self, enterprise: &str) -> Option<usize> {
        if let Some(index) = self.ids.get(enterprise) {
            return Some(*index);
        }
        self.lengths.iter().find_map(|length| self.prefixes.get(enterprise.get(..*length)?).copied())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{Pattern, Routes};

    #[test]
    fn an_id_and_a_prefix_differ_and_print_as_they_were_read() {
        let longest = "x".repeat(255);
        let longest_prefix = format!("{}*", "x".repeat(254));
        for text in ["LC01", "LC01*", "*", "-*", ".*", "a.b~c_d-e", &longest, &longest_prefix] {
            let pattern = Pattern::parse(text).expect(text);
            assert_eq!(pattern.to_string(), text);
            assert_eq!(matches!(pattern, Pattern::Prefix(_)), text.ends_with('*'), "{text}");
        }
        assert_eq!(Pattern::parse("*"), Ok(Pattern::all()));
    }

    #[test]
    fn a_pattern_that_no_id_can_match_is_refused() {
        let long = "x".repeat(256);
        let long_prefix = format!("{}*", "x".repeat(255));
        for text in
            ["", "-", ".", "..", "LC*1", "**", "*LC", "enterprises/LC01", "LC 1", "LÇ", &long, &long_prefix]
        {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    fn routes(patterns: &[&[&str]]) -> Routes {
        let parse = |text: &&str| Pattern::parse(text).expect("a pattern");
        Routes::new(patterns.iter().map(|patterns| patterns.iter().map(parse).collect()))
    }

    #[test]
    fn the_most_specific_pattern_wins_in_any_order() {
        let routes = routes(&[&["*"], &["LC0*", "XX"], &["LC01"], &["LC01*", "LC02*"]]);
        for (enterprise, index) in [
            ("LC01", 2),
            ("LC01a", 3),
            ("LC02", 3),
            ("LC03", 1),
            ("LC0", 1),
            ("XX", 1),
            ("XXX", 0),
            ("LC", 0),
            ("lc01", 0),
        ] {
            assert_eq!(routes.find(enterprise), Some(index), "{enterprise}");
        }
    }

    #[test]
    fn an_enterprise_that_no_credential_serves_is_not_found() {
        let routes = routes(&[&["LC01*"], &["LC02ab"]]);
        for enterprise in ["LC0", "LC02", "LC02abc", "X", ""] {
            assert_eq!(routes.find(enterprise), None, "{enterprise}");
        }
        assert_eq!(Routes::new([]).find("LC01"), None);
    }

    /// The rank of a pattern that matches: an id ranks above every prefix, a longer prefix above a shorter one.
    fn rank(pattern: &str, enterprise: &str) -> Option<usize> {
        match pattern.strip_suffix('*') {
            None => (pattern == enterprise).then_some(usize::MAX),
            Some(prefix) => enterprise.starts_with(prefix).then_some(prefix.len()),
        }
    }

    proptest! {
        /// The ids have few letters, so that patterns often match and often overlap.
        #[test]
        fn the_most_specific_matching_pattern_wins(
            patterns in prop::collection::btree_set("[ab]{1,4}|[ab]{0,4}\\*", 0..20),
            enterprise in "[ab]{1,5}",
        ) {
            let patterns: Vec<String> = BTreeSet::into_iter(patterns).collect();
            let parsed = patterns.iter().map(|text| vec![Pattern::parse(text).expect("a pattern")]);
            let found = Routes::new(parsed).find(&enterprise).map(|index| &patterns[index]);
            let best = patterns.iter().filter_map(|text| Some((rank(text, &enterprise)?, text))).max();
            prop_assert_eq!(found, best.map(|(_, text)| text));
        }
    }
}
