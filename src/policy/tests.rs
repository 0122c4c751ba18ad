//! The decisions of policies.

use std::collections::BTreeSet;

use super::{Action, Explanation, Resource, Rules, active::ActiveRules, settings::PolicyMode};
use crate::{
    caller::{Caller, Claims, Evidence, Identity},
    name::{DeviceName, OperationName},
    telemetry::metrics::PolicyMetrics,
};

mod property;

const ALL: [Action; 4] = Action::ALL;

pub(super) fn spiffe(id: &str) -> Caller {
    Caller::new(Identity::Spiffe(id.parse().unwrap()), Evidence::ClientCertificate)
}

pub(super) fn token(claims: &[(&str, &[&str])]) -> Caller {
    let set = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<BTreeSet<_>>();
    let claims: Claims = claims.iter().map(|(name, values)| ((*name).to_owned(), set(values))).collect();
    Caller::of_token("https://issuer.example".to_owned(), "alice".to_owned(), claims)
}

fn rules(text: &str) -> Rules {
    Rules::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// Explains a call on the operation `id`, for example `LC01/d1/17`. For a list, the resource is the device.
fn explain<'a>(rules: &'a Rules, caller: &Caller, action: Action, id: &str) -> Explanation<'a> {
    let [enterprise, device, operation] = id.split('/').collect::<Vec<_>>()[..] else { panic!("{id}") };
    let device = format!("enterprises/{enterprise}/devices/{device}");
    if action == Action::List {
        return rules.explain(caller, action, DeviceName::parse(&device).unwrap().lineage());
    }
    let name = OperationName::parse(&format!("{device}/operations/{operation}")).unwrap();
    rules.explain(caller, action, name.lineage())
}

/// The actions that are allowed.
fn allowed(rules: &Rules, caller: &Caller, id: &str) -> Vec<Action> {
    ALL.into_iter().filter(|action| explain(rules, caller, *action, id).allowed).collect()
}

/// The ids of the policies that determined a decision.
fn reasons(explanation: &Explanation<'_>) -> Vec<String> {
    explanation.policies.iter().map(|policy| policy.id.clone()).collect()
}

const DOCUMENTED: &str = r#"
permit (principal == Caller::"spiffe://corp.example/ns/mdm/sa/console", action, resource in Enterprise::"LC01");
permit (principal, action in [Action::"get", Action::"list", Action::"wait"], resource in Enterprise::"LC01")
  when { principal has namespace && principal.namespace == "mdm" };
"#;

#[test]
fn the_documented_policies_work() {
    let rules = rules(DOCUMENTED);
    let console = spiffe("spiffe://corp.example/ns/mdm/sa/console");
    let reader = spiffe("spiffe://corp.example/ns/mdm/sa/reader");
    let other = spiffe("spiffe://corp.example/ns/hr/sa/console");
    let kubernetes =
        token(&[("kubernetes.io/namespace", &["mdm"]), ("kubernetes.io/serviceaccount/name", &["reader"])]);
    let reading = [Action::Get, Action::List, Action::Wait];
    assert_eq!(allowed(&rules, &console, "LC01/d1/17"), ALL);
    assert_eq!(allowed(&rules, &reader, "LC01/d1/17"), reading);
    assert_eq!(allowed(&rules, &kubernetes, "LC01/d1/17"), reading);
    for other in [&other, &Caller::anonymous(), &Caller::unix(0), &token(&[("namespace", &["mdm"])])] {
        assert_eq!(allowed(&rules, other, "LC01/d1/17"), [], "{other}");
    }
    for elsewhere in ["LC02/d1/17", "LC011/d1/17", "lc01/d1/17", "d1/LC01/17"] {
        assert_eq!(allowed(&rules, &console, elsewhere), [], "{elsewhere}");
    }
    assert_eq!(reasons(&explain(&rules, &console, Action::Cancel, "LC01/d1/17")), ["policy0"]);
    assert_eq!(reasons(&explain(&rules, &console, Action::Get, "LC01/d1/17")), ["policy0", "policy1"]);
    assert!(reasons(&explain(&rules, &reader, Action::Cancel, "LC01/d1/17")).is_empty());
}

#[test]
fn a_forbid_wins_and_is_among_the_reasons() {
    let rules = rules(
        r#"@id("all") permit (principal, action, resource);
           @id("d1") forbid (principal, action, resource in Device::"LC01/d1") unless { principal has uid };
           @id("17") forbid (principal, action == Action::"cancel", resource == Operation::"LC01/d1/17");
           @id("list") forbid (principal, action, resource == Device::"LC01/d2");"#,
    );
    let (root, anonymous) = (Caller::unix(0), Caller::anonymous());
    assert_eq!(allowed(&rules, &anonymous, "LC02/d1/17"), ALL);
    assert_eq!(allowed(&rules, &anonymous, "LC01/d1/17"), []);
    assert_eq!(allowed(&rules, &root, "LC01/d1/17"), [Action::Get, Action::List, Action::Wait]);
    assert_eq!(allowed(&rules, &root, "LC01/d1/18"), ALL);
    // A rule about the device itself applies to its list, not to its operations.
    assert_eq!(allowed(&rules, &root, "LC01/d2/17"), [Action::Cancel, Action::Get, Action::Wait]);
    assert_eq!(reasons(&explain(&rules, &anonymous, Action::Cancel, "LC01/d1/17")), ["d1", "17"]);
    assert_eq!(reasons(&explain(&rules, &root, Action::Cancel, "LC01/d1/17")), ["17"]);
    assert_eq!(reasons(&explain(&rules, &root, Action::Get, "LC01/d1/17")), ["all"]);
}

#[test]
fn a_policy_can_test_attributes_and_tags_of_a_caller() {
    let bearer = token(&[("groups", &["mdm", "it"]), ("exp", &["1700000000"])]);
    let dns =
        Caller::new(Identity::Dns("console.corp.example".parse().unwrap()), Evidence::ForwardedClientCert);
    let workload = spiffe("spiffe://corp.example/ns/mdm/sa/console");
    let domain = spiffe("spiffe://corp.example");
    for (condition, permitted) in [
        (r#"principal.hasTag("groups") && principal.getTag("groups").contains("mdm")"#, &bearer),
        (r#"principal has issuer && principal.issuer == "https://issuer.example""#, &bearer),
        (r#"principal has subject && principal.subject == "alice""#, &bearer),
        (r#"principal == Caller::"jwt:https://issuer.example#alice""#, &bearer),
        (r#"principal has dns && principal.dns like "*.corp.example""#, &dns),
        (r#"principal.proof == "x-forwarded-client-cert""#, &dns),
        (r#"principal has path && principal.path == "/ns/mdm/sa/console""#, &workload),
        (r#"principal has path && principal.path == """#, &domain),
        (r#"principal has service_account && principal.service_account == "console""#, &workload),
        (r#"principal has uid && principal.uid == 4294967295"#, &Caller::unix(u32::MAX)),
        (r#"principal.proof == "none" && principal == Caller::"anonymous""#, &Caller::anonymous()),
    ] {
        let rules = rules(&format!("permit (principal, action, resource) when {{ {condition} }};"));
        for caller in [&bearer, &dns, &workload, &domain, &Caller::unix(u32::MAX), &Caller::anonymous()] {
            let is_allowed = !allowed(&rules, caller, "LC01/d1/17").is_empty();
            assert_eq!(is_allowed, caller == permitted, "{caller}: {condition}");
        }
    }
}

#[test]
fn a_policy_that_cannot_be_evaluated_permits_nothing_and_forbids_everything() {
    // The sum leaves the range of a Long.
    let broken = "(principal, action, resource) when { principal has uid && \
                  principal.uid + 9223372036854775807 > 0 };";
    let caller = Caller::unix(1);
    let skipped = rules(&format!("permit {broken} permit (principal, action, resource);"));
    let explanation = explain(&skipped, &caller, Action::Get, "LC01/d1/17");
    assert!(explanation.allowed);
    assert_eq!(reasons(&explanation), ["policy1"]);
    assert_eq!(explanation.errors[0].policy, "policy0");

    let forbidding = rules(&format!("permit (principal, action, resource); forbid {broken}"));
    let explanation = explain(&forbidding, &caller, Action::Get, "LC01/d1/17");
    assert!(!explanation.allowed, "Cedar by itself would skip it");
    assert_eq!(reasons(&explanation), ["policy1"]);
    assert_eq!(explanation.errors.len(), 1);
    assert!(explain(&forbidding, &Caller::anonymous(), Action::Get, "LC01/d1/17").allowed);
}

#[test]
fn an_empty_policy_permits_nothing() {
    for empty in ["", "// nothing yet\n", "\n\n"] {
        let rules = rules(empty);
        assert!(!rules.has_permit());
        assert_eq!(allowed(&rules, &Caller::unix(0), "LC01/d1/17"), []);
    }
}

#[test]
fn a_decision_is_cached_for_all_resources_that_the_policies_cannot_tell_apart() {
    let active = ActiveRules::new(rules(DOCUMENTED), PolicyMode::Enforce);
    let metrics = PolicyMetrics::unregistered();
    let console = spiffe("spiffe://corp.example/ns/mdm/sa/console");
    let decide = |name: &str| {
        let name = OperationName::parse(name).unwrap();
        active.decide(&console, Action::Cancel, name.lineage(), &metrics)
    };
    let first = decide("enterprises/LC01/devices/d1/operations/17");
    let again = decide("enterprises/LC01/devices/d2/operations/18");
    assert!(first.allowed && again.allowed);
    // The second decision is the cached one, not an equal one.
    assert!(std::sync::Arc::ptr_eq(&first.policies, &again.policies));
    assert!(!decide("enterprises/LC02/devices/d1/operations/17").allowed);
    assert_eq!((metrics.cache_hits.get(), metrics.cache_misses.get()), (1, 2));
}
