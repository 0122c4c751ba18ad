//! Paces the queries to Google, so that a project's quota is spent where it matters.
//!
//! A query is one request to Google. Each Google project has one [`ProjectBudget`]. A query waits in it for its turn:
//! cancels come first, then gets and lists of callers, then polls, and the callers of a class take turns.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::telemetry::metrics::{QuotaMetrics, QuotaReading};

mod budget;
pub mod gcra;
pub mod settings;
pub mod shared;

pub use budget::{Admitted, ProjectBudget, Refused};

use settings::QuotaSettings;

/// The class of a query. The order is that of their priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A cancel.
    Cancel,
    /// A get or a list for a caller.
    Read,
    /// A poll for waiting callers.
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
    budgets: Mutex<Budgets>,
}

struct Budgets {
    settings: Vec<QuotaSettings>,
    /// By project. `None` is for the credentials whose project is unknown.
    by_project: HashMap<Option<Arc<str>>, Arc<ProjectBudget>>,
}

impl Quota {
    /// Creates the budgets of the `[[quota]]` sections. Without any, no query is paced.
    #[must_use]
    pub fn new(settings: Vec<QuotaSettings>, metrics: QuotaMetrics) -> Self {
        Self { metrics, budgets: Mutex::new(Budgets { settings, by_project: HashMap::new() }) }
    }

    /// The current values of the budgets in use, for the metrics and the status page.
    #[must_use]
    pub fn readings(&self) -> Vec<QuotaReading> {
        self.lock().by_project.values().map(|budget| budget.reading()).collect()
    }

    /// The budget of a project; `None` as project is an unknown one. Returns `None` if no section is for the project.
    #[must_use]
    pub fn budget(&self, project: Option<&Arc<str>>) -> Option<Arc<ProjectBudget>> {
        let mut budgets = self.lock();
        let Budgets { settings, by_project } = &mut *budgets;
        let own = |entry: &&QuotaSettings| entry.project.as_deref() == project.map(|project| &**project);
        let entry = settings.iter().find(own);
        let entry = entry.or_else(|| settings.iter().find(|entry| entry.project.is_none()))?;
        let budget = by_project
            .entry(project.cloned())
            .or_insert_with(|| Arc::new(ProjectBudget::new(project, entry, &self.metrics)));
        Some(Arc::clone(budget))
    }

    fn lock(&self) -> MutexGuard<'_, Budgets> {
        // A panic cannot leave the budgets in an inconsistent state.
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
