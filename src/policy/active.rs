//! The policy file, and the active rules, which are reloaded when the file changes.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwapOption;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Action, Lineage,
    decision_cache::{DecisionCache, DecisionKey},
    parse::PolicyError,
    rules::{EvaluationError, Rules, Verdict},
    settings::PolicyMode,
};
use crate::{
    background::Background,
    caller::Caller,
    file_watch::FileWatch,
    fingerprint::fingerprint,
    telemetry::metrics::{PolicyMetrics, ReloadCounter, ReloadKind},
};

/// A policy file that was read and validated. The watch reports every later change.
#[derive(Debug)]
pub struct PolicyFile {
    /// The path of the file.
    pub path: PathBuf,
    /// The policies of the file.
    pub rules: Rules,
    /// The effect of their decisions.
    pub mode: PolicyMode,
    watch: FileWatch,
    /// The first digits of the SHA-256, which an operator can compare with `sha256sum`.
    sha256: String,
}

impl PolicyFile {
    /// Reads and validates a file, whose decisions have the effect `mode`. Blocks.
    ///
    /// # Errors
    ///
    /// The file cannot be read. Otherwise see [`Rules::parse`].
    pub fn load(path: PathBuf, mode: PolicyMode) -> Result<Self, Vec<PolicyError>> {
        let (watch, content) = FileWatch::open(&path).map_err(|error| {
            let hint = "name a file of Cedar policies that this user may read";
            PolicyError::of_file(format!("cannot read the file: {error}"), hint)
        })?;
        Ok(Self { path, mode, watch, sha256: short_sha256(&content), rules: Rules::parse(&content)? })
    }
}

/// One version of the rules, and the cache of its decisions. A new version starts with an empty cache, so that it
/// never uses a decision of the previous version.
pub(super) struct ActiveRules {
    rules: Rules,
    mode: PolicyMode,
    decisions: DecisionCache,
    reported: Mutex<BTreeSet<String>>,
}

impl ActiveRules {
    pub(super) fn new(rules: Rules, mode: PolicyMode) -> Self {
        Self { rules, mode, decisions: DecisionCache::new(), reported: Mutex::default() }
    }

    /// The effect of the decisions.
    pub(super) fn mode(&self) -> PolicyMode {
        self.mode
    }

    pub(super) fn decide(
        &self,
        caller: &Caller,
        action: Action,
        resource: Lineage<'_>,
        metrics: &PolicyMetrics,
    ) -> Verdict {
        let named = self.rules.named.deepest(resource.name);
        let resource_type = resource.resource_type();
        let key = DecisionKey { caller: caller.clone(), action, resource_type, named };
        if let Some(verdict) = self.decisions.get(&key) {
            metrics.cache_hits.inc();
            return verdict;
        }
        metrics.cache_misses.inc();
        let (verdict, errors) = self.rules.evaluate(caller, action, resource);
        self.report(errors);
        self.decisions.put(key, verdict.clone());
        verdict
    }

    /// Logs one error per policy, because the cause of an error often recurs with every call.
    fn report(&self, errors: Vec<EvaluationError>) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        for EvaluationError { policy, cause } in errors {
            if !reported.contains(&policy) {
                tracing::error!(policy, cause, "policy evaluation failed");
                reported.insert(policy);
            }
        }
    }
}

/// Makes the rules of `file` active, and starts the task that reloads them.
pub(super) fn start(
    file: PolicyFile,
    active: &Arc<ArcSwapOption<ActiveRules>>,
    background: &Background,
) -> AbortOnDropHandle<()> {
    let PolicyFile { path, mode, watch, sha256, rules } = file;
    log_rules(&path, &sha256, &rules, "loaded policy");
    if mode == PolicyMode::Shadow {
        tracing::warn!(file = %path.display(), "policy is in shadow mode; no call is denied");
    }
    let first = Some(Arc::new(ActiveRules::new(rules, mode)));
    active.store(first.clone());
    let reloads = background.reloads(ReloadKind::Policy);
    let task = reload(Arc::clone(active), first, mode, watch, path, reloads);
    AbortOnDropHandle::new(background.spawn("policy reload", task))
}

async fn reload(
    active: Arc<ArcSwapOption<ActiveRules>>,
    mut current: Option<Arc<ActiveRules>>,
    mode: PolicyMode,
    mut watch: FileWatch,
    path: PathBuf,
    mut reloads: ReloadCounter,
) {
    loop {
        let content = watch.changed().await;
        let sha256 = short_sha256(&content);
        let parsed = tokio::task::spawn_blocking(move || Rules::parse(&content)).await;
        match parsed.unwrap_or_else(|error| Err(PolicyError::of_file(error.to_string(), "report this"))) {
            Ok(rules) => {
                let next = Some(Arc::new(ActiveRules::new(rules, mode)));
                let before = active.compare_and_swap(&current, next.clone());
                // The rules of another file may have become active just before the abort of this task.
                if before.as_ref().map(Arc::as_ptr) == current.as_ref().map(Arc::as_ptr)
                    && let Some(active) = &next
                {
                    log_rules(&path, &sha256, &active.rules, "reloaded policy");
                    reloads.succeeded();
                }
                current = next;
            }
            Err(errors) => {
                reloads.failed();
                tracing::warn!(
                    file = %path.display(),
                    errors = errors.len(),
                    first = %errors[0],
                    "policy reload failed; the previous version stays active"
                );
            }
        }
    }
}

/// Logs the loaded rules and their warnings.
fn log_rules(file: &Path, sha256: &str, rules: &Rules, message: &'static str) {
    tracing::info!(file = %file.display(), policies = rules.statements.len(), sha256, "{message}");
    for warning in &rules.warnings {
        tracing::warn!(file = %file.display(), %warning, "policy has a warning");
    }
    if !rules.has_permit() {
        tracing::warn!(file = %file.display(), "policy permits nothing; every call is denied");
    }
}

fn short_sha256(content: &[u8]) -> String {
    fingerprint(content).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
