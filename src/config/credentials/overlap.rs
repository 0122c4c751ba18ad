//! Credentials that cannot be told apart: the same name, or the same enterprises. That a beginning covers
//! an id, or another beginning, is no fault: the more specific of the two wins.

use std::collections::HashMap;

use super::{Written, place};
use crate::{
    config::{
        fault::Faults,
        source::{Given, Origin},
    },
    credentials::Pattern,
};

/// Notes each second of a kind as a fault that names the first.
pub(super) fn note(written: &[Written], faults: &mut Faults) {
    let mut names: HashMap<&str, &Origin> = HashMap::new();
    let mut patterns: HashMap<&Pattern, (&Written, &Origin)> = HashMap::new();
    for credential in written {
        if let Some(Given { value: name, origin }) = &credential.name {
            if let Some(first) = names.get(name.as_str()) {
                let problem = format!("{name:?} is the name of another credential too{}", place(first));
                faults.add(origin, problem, "give each credential a name of its own");
            }
            names.entry(name).or_insert(origin);
        }
        for Given { value: pattern, origin } in &credential.enterprises {
            if let Some((other, first)) = patterns.get(pattern) {
                let (problem, remedy) = told(pattern, credential, other, &place(first));
                faults.add(origin, problem, remedy);
            }
            patterns.entry(pattern).or_insert((credential, origin));
        }
    }
}

fn told(pattern: &Pattern, one: &Written, other: &Written, place: &str) -> (String, &'static str) {
    if std::ptr::eq(one, other) {
        return (format!("\"{pattern}\" is given twice{place}"), "give it once");
    }
    let (one, other) = (title(one), title(other));
    if *pattern == Pattern::all() {
        let problem = format!("{one} serves all enterprises that no other does, and so does {other}{place}");
        return (problem, "give one of the two the enterprises that it serves");
    }
    let problem = format!("\"{pattern}\" is served by {one} and by {other}{place}");
    (problem, "give it to one credential only")
}

fn title(credential: &Written) -> String {
    match &credential.name {
        Some(name) => format!("{:?}", name.value),
        None => "a credential without a name".to_owned(),
    }
}
