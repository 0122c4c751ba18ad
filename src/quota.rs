//! Paces the queries to Google, so that a project's quota is spent where it matters.
//!
//! A query is one request to Google. Each Google project has one [`ProjectBudget`]. A query waits in it for its turn:
//! cancels come first, then gets and lists of callers, then polls, and the callers of a class take turns.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;

use crate::telemetry::metrics::{QuotaMetrics, QuotaReading};

mod budget;
mod fair_queue;
pub mod gcra;
mod limiter;
pub mod settings;
pub mod shared;

pub use budget::{Admitted, ProjectBudget, Refused};

use settings::QuotaSettings;
use shared::SharedStore;

/// The class of a query. The order is that of their priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A cancel.
    Cancel,
    /// A get, or a list of one device, for a caller.
    Read,
    /// A poll for waiting callers, or a query of a list over all devices.
    Poll,
}

impl Class {
    /// All classes, the most important first.
    pub const ALL: [Self; 3] = [Self::Cancel, Self::Read, Self::Poll];

    /// The index in [`Self::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The value of the label `class`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Read => "read",
            Self::Poll => "poll",
        }
    }
}

/// The budgets of all Google projects.
pub struct Quota {
    metrics: QuotaMetrics,
    /// `None` if each process has the whole budgets for itself.
    store: Option<SharedStore>,
    active: ArcSwap<Budgets>,
    /// Held while `active` is replaced.
    replacing: Mutex<()>,
}

/// The settings, and the budgets in use.
#[derive(Clone)]
struct Budgets {
    settings: Arc<[QuotaSettings]>,
    /// By project. The empty text is for the credentials whose project is unknown.
    by_project: HashMap<Arc<str>, Arc<ProjectBudget>, RandomState>,
}

impl Quota {
    /// Creates the budgets of the `[[quota]]` sections. Without any, no query is paced.
    #[must_use]
    pub fn new(settings: Vec<QuotaSettings>, metrics: QuotaMetrics) -> Self {
        let budgets = Budgets { settings: settings.into(), by_project: HashMap::default() };
        Self { metrics, store: None, active: ArcSwap::from_pointee(budgets), replacing: Mutex::default() }
    }

    /// Shares the budgets with the other replicas through `store`.
    #[must_use]
    pub fn shared_through(self, store: SharedStore) -> Self {
        Self { store: Some(store), ..self }
    }

    /// The current values of the budgets in use, for the metrics and the status page.
    #[must_use]
    pub fn readings(&self) -> Vec<QuotaReading> {
        self.active.load().by_project.values().map(|budget| budget.reading()).collect()
    }

    /// Whether any project is paced.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.active.load().settings.is_empty()
    }

    /// The budget of a project; `None` as project is an unknown one. Returns `None` if no section is for the project.
    #[must_use]
    pub fn budget(&self, project: Option<&Arc<str>>) -> Option<Arc<ProjectBudget>> {
        let active = self.active.load();
        if active.settings.is_empty() {
            return None;
        }
        match active.by_project.get(project.map_or("", |project| &**project)) {
            Some(budget) => Some(Arc::clone(budget)),
            None => {
                entry_of(&active.settings, project.map_or("", |project| &**project))?;
                self.create(project)
            }
        }
    }

    /// Replaces the settings. The budgets of projects that stay keep the learned rate and the waiting queries. The queries
    /// of a project without a section are no longer paced.
    pub fn replace(&self, settings: Vec<QuotaSettings>) {
        let _replacing = self.lock();
        let mut budgets = Budgets::clone(&self.active.load());
        budgets.settings = settings.into();
        let Budgets { settings, by_project } = &mut budgets;
        by_project.retain(|project, budget| {
            let entry = entry_of(settings, project);
            budget.replace(entry);
            entry.is_some()
        });
        self.active.store(Arc::new(budgets));
    }

    /// Creates the budget of a project, unless another call has.
    fn create(&self, project: Option<&Arc<str>>) -> Option<Arc<ProjectBudget>> {
        let _replacing = self.lock();
        let mut budgets = Budgets::clone(&self.active.load());
        let project = project.cloned().unwrap_or_default();
        if let Some(budget) = budgets.by_project.get(&project) {
            return Some(Arc::clone(budget));
        }
        let entry = entry_of(&budgets.settings, &project)?;
        let shared = self.store.as_ref().map(|store| store.budget(&project));
        let budget = Arc::new(ProjectBudget::new(&project, entry, shared, &self.metrics));
        budgets.by_project.insert(project, Arc::clone(&budget));
        self.active.store(Arc::new(budgets));
        Some(budget)
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.replacing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The section of a project: the one with its name, otherwise the one without a name. The empty text is an unknown
/// project.
pub(crate) fn entry_of<'a>(settings: &'a [QuotaSettings], project: &str) -> Option<&'a QuotaSettings> {
    let named = settings.iter().find(|entry| entry.project.as_deref() == Some(project));
    named.or_else(|| settings.iter().find(|entry| entry.project.is_none()))
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::{
        Quota,
        settings::{QuotaMode, QuotaSettings},
    };
    use crate::telemetry::metrics::QuotaMetrics;

    fn entry(project: Option<&str>, limit: u32) -> QuotaSettings {
        let (project, period) = (project.map(str::to_owned), Duration::from_secs(60));
        QuotaSettings { project, limit, period, burst: None, mode: QuotaMode::Enforce }
    }

    fn limit(quota: &Quota, project: Option<&str>) -> Option<u32> {
        Some(quota.budget(project.map(Arc::from).as_ref())?.reading().limit)
    }

    #[test]
    fn a_project_has_its_own_section_or_the_one_for_all() {
        let named = Quota::new(vec![entry(Some("p"), 100)], QuotaMetrics::unregistered());
        assert_eq!(
            [Some("p"), Some("q"), None].map(|project| limit(&named, project)),
            [Some(100), None, None]
        );
        let all = vec![entry(None, 50), entry(Some("p"), 100)];
        let all = Quota::new(all, QuotaMetrics::unregistered());
        assert_eq!(
            [Some("p"), Some("q"), None].map(|project| limit(&all, project)),
            [Some(100), Some(50), Some(50)]
        );
        assert_eq!(all.readings().len(), 3);
        assert_eq!(limit(&Quota::new(Vec::new(), QuotaMetrics::unregistered()), Some("p")), None);
    }

    #[test]
    fn a_project_has_one_budget_which_new_settings_keep() {
        let quota =
            Quota::new(vec![entry(Some("p"), 100), entry(Some("q"), 100)], QuotaMetrics::unregistered());
        let [p, same_p, q] =
            ["p", "p", "q"].map(|project| quota.budget(Some(&Arc::from(project))).expect("a budget"));
        assert!(Arc::ptr_eq(&p, &same_p) && !Arc::ptr_eq(&p, &q));
        quota.replace(vec![entry(Some("p"), 200)]);
        assert!(Arc::ptr_eq(&p, &quota.budget(Some(&Arc::from("p"))).expect("a budget")));
        assert_eq!((limit(&quota, Some("p")), limit(&quota, Some("q"))), (Some(200), None));
        assert_eq!(quota.readings().len(), 1);
    }
}
