//! Charts of series, as SVG without a script.

use std::fmt::Write;

use maud::{Markup, html};

use crate::telemetry::history::COMPLETE_SLOTS;

/// A line of a chart.
pub(super) struct Line {
    pub(super) name: &'static str,
    /// The classes of the style: a colour, and `dashed`.
    pub(super) class: &'static str,
    /// A value for each complete slot, oldest first. `None` leaves a gap.
    pub(super) values: Vec<Option<f64>>,
}

/// A chart of lines with one scale. `format` writes a value with its unit.
pub(super) fn chart(title: &str, minutes: u64, lines: &[Line], format: fn(f64) -> String) -> Markup {
    let highest = lines.iter().filter_map(Line::highest).fold(0.0, f64::max);
    let top = round_up(highest);
    let description: Vec<_> = lines.iter().map(|line| line.description(format)).collect();
    let description = format!("{title}, last {minutes} minutes. {}", description.join(" "));
    html! {
        figure {
            figcaption { (title) }
            ul.legend {
                @for line in lines {
                    li.(line.class) {
                        svg viewBox="0 0 20 10" aria-hidden="true" { path d="M1 5H19" {} }
                        b { (line.name) " " (line.latest().map_or_else(|| "–".to_owned(), format)) }
                    }
                }
            }
            div.scale { span { (format(top)) } }
            svg.plot viewBox={ "0 0 " (COMPLETE_SLOTS - 1) " 100" } preserveAspectRatio="none" role="img"
                aria-label=(description) {
                @for y in [0, 50, 100] { path.grid d={ "M0 " (y) "H" (COMPLETE_SLOTS - 1) } {} }
                // The first line is the most important, so it is drawn last.
                @for line in lines.iter().rev() {
                    g.(line.class) { path d=(path(&line.values, top)) {} }
                }
            }
            div.scale { span { (minutes) " min ago" } span { "now" } }
        }
    }
}

/// A line without a scale, beside numbers that say the same.
pub(super) fn spark_line(values: &[u32]) -> Markup {
    let values: Vec<_> = values.iter().map(|value| Some(f64::from(*value))).collect();
    let top = values.iter().flatten().copied().fold(1.0, f64::max);
    html! {
        svg.spark viewBox={ "0 0 " (COMPLETE_SLOTS - 1) " 100" } preserveAspectRatio="none" aria-hidden="true" {
            path d=(path(&values, top)) {}
        }
    }
}

impl Line {
    fn highest(&self) -> Option<f64> {
        self.values.iter().flatten().copied().reduce(f64::max)
    }

    fn latest(&self) -> Option<f64> {
        self.values.last().copied().flatten()
    }

    /// The text for readers who do not see the chart.
    fn description(&self, format: fn(f64) -> String) -> String {
        let text = |value: Option<f64>| value.map_or_else(|| "none".to_owned(), format);
        format!("{}: now {}, highest {}.", self.name, text(self.latest()), text(self.highest()))
    }
}

/// The path of a line that ends at the right edge. Values are between 0 and `top`.
fn path(values: &[Option<f64>], top: f64) -> String {
    let mut path = String::new();
    let mut is_drawing = false;
    let first = COMPLETE_SLOTS.saturating_sub(values.len());
    for (x, value) in (first..).zip(values) {
        if let Some(value) = value {
            let y = 100.0 - value / top * 100.0;
            // A line of no length is drawn as a dot. Writing to a String cannot fail.
            let _ = match is_drawing {
                true => write!(path, "L{x} {y:.1}"),
                false => write!(path, "M{x} {y:.1}h0"),
            };
        }
        is_drawing = value.is_some();
    }
    path
}

/// The next number of 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(power * 10.0)
}

#[cfg(test)]
mod tests {
    use super::{path, round_up};

    #[test]
    fn a_path_ends_at_the_right_and_has_gaps() {
        assert_eq!(path(&[], 1.0), "");
        assert_eq!(path(&[Some(0.0), Some(5.0), None, Some(10.0)], 10.0), "M116 100.0h0L117 50.0M119 0.0h0");
    }

    #[test]
    fn the_scale_ends_at_a_round_number() {
        for (value, top) in
            [(0.0, 1.0), (0.03, 0.05), (1.0, 1.0), (1.2, 2.0), (4.0, 5.0), (7.0, 10.0), (101.0, 200.0)]
        {
            assert!((round_up(value) / top - 1.0).abs() < 1e-9, "{value}: {}", round_up(value));
        }
    }
}
