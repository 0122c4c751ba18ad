//! The rules in force, which change when their file does.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use arc_swap::ArcSwap;

use super::{
    Action, Lineage,
    decisions::{Decisions, Question},
    mistake::Mistakes,
    rules::{Evaluation, EvaluationError, Rules, Verdict},
};
use crate::{background::Background, caller::Caller, file_watch::FileWatch, fingerprint::fingerprint};

/// One version of the rules, with what it has said: a new version begins with an empty memory, and an answer
/// of the old one, however late, is never taken for its own.
pub(super) struct InForce {
    rules: Rules,
    decisions: Decisions,
    reported: Mutex<BTreeSet<String>>,
}

impl InForce {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, decisions: Decisions::new(), reported: Mutex::default() }
    }

    pub(super) fn decide(&self, caller: &Caller, action: Action, resource: Lineage<'_>) -> Verdict {
        let place = self.rules.place(resource);
        let is_operation = resource.operation.is_some();
        let question = Question { caller: caller.clone(), action, place, is_operation };
        if let Some(known) = self.decisions.get(&question) {
            return known;
        }
        let Evaluation { verdict, errors } = self.rules.evaluate(caller, action, resource);
        self.report(errors);
        self.decisions.put(question, verdict.clone());
        verdict
    }

    /// Once for each policy: what makes one fail is likely to come again with every call.
    fn report(&self, errors: Vec<EvaluationError>) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        for EvaluationError { policy, cause } in errors {
            if !reported.contains(&policy) {
                tracing::error!(policy, cause, "a policy cannot be evaluated");
                reported.insert(policy);
            }
        }
    }
}

impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InForce").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// The rules of `file` now, and in a task that ends with them, those that it will have.
pub(super) fn follow(file: &Path, background: &Background) -> Result<Arc<ArcSwap<InForce>>, Mistakes> {
    let (watch, content) = FileWatch::open(file).map_err(|error| Rules::unreadable(&error))?;
    let rules = Rules::parse(&content)?;
    announce(file, &content, &rules, "the policy is in force");
    let in_force = Arc::new(ArcSwap::from_pointee(InForce::new(rules)));
    let reload = watch_for_changes(Arc::downgrade(&in_force), watch, file.to_owned());
    background.spawn("policy reload", reload);
    Ok(in_force)
}

async fn watch_for_changes(in_force: Weak<ArcSwap<InForce>>, mut watch: FileWatch, file: PathBuf) {
    loop {
        let content = watch.changed().await;
        if in_force.strong_count() == 0 {
            return;
        }
        let load = tokio::task::spawn_blocking(move || Rules::parse(&content).map(|rules| (content, rules)));
        let loaded = load.await;
        let Some(in_force) = in_force.upgrade() else { return };
        match loaded {
            Ok(Ok((content, rules))) => {
                announce(&file, &content, &rules, "the policy changed: taken up");
                in_force.store(Arc::new(InForce::new(rules)));
            }
            Ok(Err(mistakes)) => broken(&file, &mistakes.0[0], mistakes.0.len()),
            Err(defect) => broken(&file, &defect, 1),
        }
    }
}

fn announce(file: &Path, content: &[u8], rules: &Rules, what: &str) {
    let sha256 = short(&fingerprint(content));
    tracing::info!(file = %file.display(), policies = rules.statements().len(), sha256, "{what}");
    for warning in rules.warnings() {
        tracing::warn!(file = %file.display(), %warning, "the policy looks odd");
    }
    if !rules.permit_something() {
        tracing::warn!(file = %file.display(), "the policy permits nothing: every call is denied");
    }
}

fn broken(file: &Path, first: &dyn fmt::Display, faults: usize) {
    tracing::warn!(
        file = %file.display(),
        faults,
        %first,
        "the policy changed and is broken: the old one stays in force"
    );
}

/// Enough of the SHA-256 to tell versions apart, as `sha256sum` prints it.
fn short(sha256: &[u8]) -> String {
    sha256.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
