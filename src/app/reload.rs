//! Applies a changed configuration to the running process.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    Config,
    config::{LoadedFiles, Settings},
    credentials::CredentialPool,
};
use crate::{
    background::Background, config::EffectiveSetting, operations::guard::Guard, policy::Policy, quota::Quota,
    server::call::Calls, telemetry::metrics::ReloadCounter,
};

/// The sections whose changes apply without a restart, each as one.
const CREDENTIALS: &str = "credentials";
const QUOTA: &str = "quota";

/// The keys whose changes apply without a restart.
const RELOADABLE: [&str; 7] = [
    "guard.pending_wipes",
    "guard.period",
    "policy.file",
    "policy.mode",
    "server.drain_delay",
    "server.drain_timeout",
    "server.max_calls_per_caller",
];

/// The settings that decide who can call, and as whom. While one of them needs a restart, the active policy stays, because
/// the new policy may rely on them.
const ACCESS: [&str; 4] = ["server.listen", "server.tls.", "server.unix_socket_", "callers."];

/// Applies changed configurations. Clones share the state.
#[derive(Clone)]
pub struct Reloader(Arc<ReloadTargets>);

/// The parts of the process whose settings can change.
pub(super) struct ReloadTargets {
    pub(super) policy: Policy,
    pub(super) guard: Arc<Guard>,
    pub(super) credentials: CredentialPool,
    pub(super) calls: Arc<Calls>,
    pub(super) drain: Arc<DrainTimes>,
    pub(super) quota: Arc<Quota>,
    pub(super) reloads: Mutex<ReloadCounter>,
    pub(super) background: Background,
    pub(super) effective: Mutex<Vec<EffectiveSetting>>,
}

/// The times of the drain, which a reload may change before the drain.
pub(super) struct DrainTimes(Mutex<(Duration, Duration)>);

/// The result of a reload. Both lists are sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// The keys whose new values are active.
    pub applied: Vec<String>,
    /// The keys whose new values become active with a restart.
    pub needs_restart: Vec<String>,
}

impl DrainTimes {
    pub(super) fn new(delay: Duration, timeout: Duration) -> Self {
        Self(Mutex::new((delay, timeout)))
    }

    /// `server.drain_delay` and `server.drain_timeout`.
    pub(super) fn get(&self) -> (Duration, Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, delay: Duration, timeout: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (delay, timeout);
    }
}

impl Reloader {
    pub(super) fn new(targets: ReloadTargets) -> Self {
        Self(Arc::new(targets))
    }

    /// Counts a configuration that is not valid. The old one stays active.
    pub fn refused(&self) {
        self.0.reloads.lock().unwrap_or_else(PoisonError::into_inner).failed();
    }

    /// The settings in effect.
    #[must_use]
    pub fn effective(&self) -> Vec<EffectiveSetting> {
        self.0.effective.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Applies the changes of a valid configuration. Calls in flight are not affected.
    #[must_use]
    pub fn apply(&self, config: Config) -> Reloaded {
        let Config { settings, loaded, proxy: _, traces: _, unknown_variables: _, file: _, effective: new } =
            config;
        let ReloadTargets { policy, credentials, calls, drain, guard, quota, reloads, background, effective } =
            &*self.0;
        let mut effective = effective.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = changed_keys(&effective, &new);
        let quota_changes = changed.extract_if(.., |key| key.starts_with("quota[")).count() > 0;
        let access_changes = changed.iter().any(|key| ACCESS.iter().any(|prefix| key.starts_with(prefix)));
        let is_applied =
            |key: &str| RELOADABLE.contains(&key) && !(key.starts_with("policy.") && access_changes);
        let (mut applied, needs_restart): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|key| is_applied(key));

        let Settings {
            server,
            limits,
            credentials: credential_settings,
            quota: quota_settings,
            guard: guard_limit,
            ..
        } = settings;
        let LoadedFiles { policy: policy_file, credentials: loaded_credentials, .. } = loaded;
        if applied.iter().any(|key| key.starts_with("policy.")) {
            policy.replace(policy_file, background);
        }
        if credentials.replace(credential_settings.into_iter().zip(loaded_credentials).collect()) {
            applied.push(CREDENTIALS.to_owned());
        }
        if quota_changes {
            quota.replace(quota_settings);
            applied.push(QUOTA.to_owned());
        }
        applied.sort();
        guard.replace(guard_limit);
        drain.set(server.drain_delay, server.drain_timeout);
        calls.set_max_calls_per_caller(limits.max_calls_per_caller);
        reloads.lock().unwrap_or_else(PoisonError::into_inner).succeeded();
        *effective = merge(&effective, new, &needs_restart);
        Reloaded { applied, needs_restart }
    }
}

/// The keys whose values differ, sorted, without those of `[[credentials]]`.
fn changed_keys(old: &[EffectiveSetting], new: &[EffectiveSetting]) -> Vec<String> {
    let (old, new) = (values(old), values(new));
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).copied().collect();
    keys.into_iter().filter(|key| old.get(key) != new.get(key)).map(str::to_owned).collect()
}

fn values(settings: &[EffectiveSetting]) -> BTreeMap<&str, &str> {
    let values = settings.iter().map(|setting| (setting.key.as_str(), setting.value.as_str()));
    values.filter(|(key, _)| !key.starts_with("credentials.")).collect()
}

/// The new settings, with the old ones for the keys that need a restart.
fn merge(
    old: &[EffectiveSetting],
    new: Vec<EffectiveSetting>,
    needs_restart: &[String],
) -> Vec<EffectiveSetting> {
    let mut merged: Vec<_> =
        new.into_iter().filter(|setting| !needs_restart.contains(&setting.key)).collect();
    merged.extend(old.iter().filter(|setting| needs_restart.contains(&setting.key)).cloned());
    merged
}
