//! What there is to say of a policy that can be read: how much there is, and what looks odd.

use std::path::Path;

use super::finding::Finding;
use crate::policy::rules::Rules;

pub(super) fn findings(file: &Path) -> Vec<Finding> {
    let subject = format!("policy {}", file.display());
    let rules = match Rules::read(file) {
        Ok(rules) => rules,
        Err(mistakes) => {
            return vec![Finding::fault(subject, mistakes.0[0].to_string(), "correct the policy")];
        }
    };
    let count = match rules.statements().len() {
        1 => "1 policy".to_owned(),
        count => format!("{count} policies"),
    };
    let mut findings = vec![Finding::ok(&subject, count)];
    let odd = rules.warnings().iter();
    findings.extend(
        odd.map(|warning| Finding::warning(&subject, warning.to_string(), "see that it says what is meant")),
    );
    if !rules.permit_something() {
        let finding = "it permits nothing, so that every call is denied";
        findings.push(Finding::warning(&subject, finding, "write a permit"));
    }
    findings
}
