//! The section of `/statusz` about the quotas of the Google projects.

use maud::{Markup, html};

use super::{
    chart::{Line, chart},
    status_page::{
        Column::{Number, Text},
        latency, rate, rates, table,
    },
};
use crate::admin::statusz::{BudgetStatus, QuotaStatus};

pub(super) fn body(quota: &QuotaStatus, minutes: u64, slot_s: u64) -> Markup {
    let series = &quota.series;
    let line = |name, class, counts: &[u32]| Line { name, class, values: rates(counts, slot_s) };
    html! {
        h2 #quota { "Quota" }
        @if quota.shared_up == Some(false) {
            p { span.bad { "The shared store is away." } " This replica uses its part of each rate." }
        }
        div.charts {
            (chart("Decisions on queries per second", minutes, &[
                line("sent at once", "blue", &series.immediate),
                line("delayed", "amber dashed", &series.delayed),
                line("refused", "bad", &series.refused),
                line("abandoned", "bad dashed", &series.abandoned),
            ], rate))
        }
        (table("quota", &[
            Text("Project"), Text("Mode"), Number("Rate"), Number("Configured"), Number("Available"),
            Number("Queued cancels / reads / polls"), Number("Hold"), Number("Google refused"), Number("Replicas"),
        ], html! {
            @for budget in &quota.projects { (budget_row(budget)) }
        }))
        @if quota.projects.iter().any(|budget| budget.mode == "shadow") {
            p.muted { "In the mode shadow, queries are sent at once, and the decisions are only counted." }
        }
    }
}

fn budget_row(budget: &BudgetStatus) -> Markup {
    let BudgetStatus { project, mode, limit, period_s, configured_rate, available, queued, .. } = budget;
    html! {
        tr {
            th scope="row" { @if project.is_empty() { "unknown" } @else { (project) } }
            td { (mode) }
            td.number.bad[is_reduced(budget)] { (rate(budget.rate)) }
            td.number title={ (limit) " in " (period_s) " s" } { (rate(*configured_rate)) }
            td.number { (format!("{available:.0}")) }
            td.number { (queued.cancel) " / " (queued.read) " / " (queued.poll) }
            td.number.bad[budget.hold_s > 0.0] {
                @if budget.hold_s > 0.0 { (latency(budget.hold_s * 1e3)) } @else { "–" }
            }
            td.number.bad[budget.google_refusals > 0] { (budget.google_refusals) }
            td.number.bad[budget.is_away] {
                @if let Some(replicas) = budget.replicas { (replicas) } @else { "–" }
                @if budget.is_away { ", away" }
            }
        }
    }
}

/// Whether the rate is below the configured one by more than an error of rounding.
fn is_reduced(budget: &BudgetStatus) -> bool {
    budget.rate < budget.configured_rate * 0.999
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::body;
    use crate::{
        admin::statusz::QuotaStatus,
        telemetry::metrics::{QuotaDecision, QuotaMetrics, QuotaReading},
    };

    /// The texts of the section, without tags.
    fn texts(readings: Vec<QuotaReading>, shared_up: Option<f64>) -> Vec<String> {
        let metrics = QuotaMetrics::unregistered();
        metrics.read_with(move || readings.clone());
        if let Some(up) = shared_up {
            metrics.shared_up.read_value_with(move || up);
        }
        metrics.decided(QuotaDecision::Delayed);
        let html = body(&QuotaStatus::read(&metrics), 10, 5).into_string();
        let texts = html.split('<').filter_map(|part| part.split_once('>'));
        texts.map(|(_, text)| text.trim().to_owned()).filter(|text| !text.is_empty()).collect()
    }

    fn reading() -> QuotaReading {
        QuotaReading {
            project: "mdm-emea".to_owned(),
            limit: 600,
            period: Duration::from_secs(60),
            configured_rate: 9.5,
            rate: 9.5,
            available: 29.4,
            ..QuotaReading::default()
        }
    }

    fn row(texts: &[String]) -> &[String] {
        let first = texts.iter().position(|text| text == "Replicas").expect("the last column") + 1;
        &texts[first..]
    }

    #[test]
    fn a_budget_is_a_row_of_its_values() {
        let held = QuotaReading {
            rate: 6.65,
            queued: [1, 22, 333],
            hold: Duration::from_millis(41_300),
            google_refusals: 3,
            replicas: Some(4),
            ..reading()
        };
        let texts = texts(vec![reading(), QuotaReading { project: String::new(), ..held }], Some(1.0));
        let shown = row(&texts);
        assert_eq!(
            shown[..9],
            ["unknown", "enforce", "6.7/s", "9.5/s", "29", "1 / 22 / 333", "41 s", "3", "4"]
        );
        assert_eq!(shown[9..], ["mdm-emea", "enforce", "9.5/s", "9.5/s", "29", "0 / 0 / 0", "–", "0", "–"]);
        assert!(!texts.concat().contains("away"), "{texts:?}");
    }

    #[test]
    fn the_shadow_mode_and_a_store_that_is_away_are_explained() {
        let texts = texts(
            vec![QuotaReading { is_shadow: true, replicas: Some(3), is_away: true, ..reading() }],
            Some(0.0),
        );
        assert_eq!((&*row(&texts)[1], &row(&texts)[8..10]), ("shadow", &["3".into(), ", away".into()][..]));
        let text = texts.concat();
        assert!(text.contains("The shared store is away."), "{text}");
        assert!(text.ends_with("the decisions are only counted."), "{text}");
    }
}
