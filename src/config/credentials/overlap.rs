//! Credentials that cannot be told apart: the same name, or the same enterprises. That a beginning covers
//! an id, or another beginning, is no fault: the more specific of the two wins.

use std::collections::HashMap;

use super::{Written, place};
use crate::{
    config::{fault::Faults, source::Origin},
    credentials::Pattern,
};

/// Notes each second of a kind as a fault that names the first.
pub(super) fn note(written: &[Written], faults: &mut Faults) {
    let mut names: HashMap<&str, &Origin> = HashMap::new();
    let mut patterns: HashMap<&Pattern, (&str, &Origin)> = HashMap::new();
    for Written { name, enterprises, .. } in written {
        let (title, origin) = (name.value.as_str(), &name.origin);
        if let Some(first) = names.get(title) {
            let problem = format!("{title:?} is the name of another credential too{}", place(first));
            faults.add(origin, problem, "give each credential a name of its own");
        }
        names.entry(title).or_insert(origin);
        for given in enterprises {
            let (pattern, origin) = (&given.value, &given.origin);
            if let Some((other, first)) = patterns.get(pattern) {
                let (problem, remedy) = told(pattern, title, other, &place(first));
                faults.add(origin, problem, remedy);
            }
            patterns.entry(pattern).or_insert((title, origin));
        }
    }
}

fn told(pattern: &Pattern, title: &str, other: &str, place: &str) -> (String, &'static str) {
    if title == other {
        return (format!("\"{pattern}\" is given twice{place}"), "give it once");
    }
    if *pattern == Pattern::all() {
        let problem =
            format!("{title:?} serves all enterprises that no other does, and so does {other:?}{place}");
        return (problem, "give one of the two the enterprises that it serves");
    }
    let problem = format!("\"{pattern}\" is served by {title:?} and by {other:?}{place}");
    (problem, "give it to one credential only")
}
