//! Property tests: for random policies, callers and resources, the cached decision equals Cedar's decision.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{spiffe, token};
use crate::{
    caller::{Caller, Evidence, Identity},
    name::{DeviceName, EnterpriseName, ListParent, OperationName},
    policy::{
        Action, Lineage, Resource,
        active::ActiveRules,
        entities::{self, SCHEMA},
        parse,
        settings::PolicyMode,
    },
    telemetry::metrics::PolicyMetrics,
};

/// Few ids, so that policies often apply to the calls.
const ENTERPRISES: [&str; 3] = ["LC01", "LC02", "d1"];
const DEVICES: [&str; 3] = ["d1", "d2", "LC01"];
const OPERATIONS: [&str; 3] = ["1", "2", "d1"];

fn callers() -> Vec<Caller> {
    let dns = |name: &str| Caller::new(Identity::Dns(name.parse().unwrap()), Evidence::ClientCertificate);
    vec![
        Caller::anonymous(),
        Caller::unix(0),
        Caller::unix(1),
        spiffe("spiffe://corp.example/ns/mdm/sa/console"),
        spiffe("spiffe://corp.example/ns/hr/sa/console"),
        dns("console.corp.example"),
        // Callers with the same identity and different claims.
        token(&[("groups", &["mdm"])]),
        token(&[("groups", &["it"])]),
        token(&[]),
    ]
}

fn resource() -> impl Strategy<Value = String> {
    let enterprise = select(&ENTERPRISES[..]).prop_map(|e| format!("Enterprise::\"{e}\""));
    let device = (select(&ENTERPRISES[..]), select(&DEVICES[..]));
    let device = device.prop_map(|(e, d)| format!("Device::\"{e}/{d}\""));
    let operation = (select(&ENTERPRISES[..]), select(&DEVICES[..]), select(&OPERATIONS[..]));
    let operation = operation.prop_map(|(e, d, o)| format!("Operation::\"{e}/{d}/{o}\""));
    prop_oneof![enterprise, device, operation]
}

fn principal() -> impl Strategy<Value = String> {
    let one = select(callers()).prop_map(|caller| format!("principal == Caller::\"{caller}\""));
    prop_oneof![2 => Just("principal".to_owned()), 1 => one, 1 => Just("principal is Caller".to_owned())]
}

fn action() -> impl Strategy<Value = String> {
    let id = select(&["cancel", "get", "list", "wait"][..]).prop_map(|id| format!("Action::\"{id}\""));
    prop_oneof![
        Just("action".to_owned()),
        id.clone().prop_map(|id| format!("action == {id}")),
        vec(id, 1..4).prop_map(|ids| format!("action in [{}]", ids.join(", "))),
    ]
}

fn scope() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("resource".to_owned()),
        resource().prop_map(|it| format!("resource in {it}")),
        resource().prop_map(|it| format!("resource == {it}")),
        resource().prop_map(|it| format!("resource is Operation in {it}")),
        Just("resource is Device".to_owned()),
        Just("resource is Enterprise".to_owned()),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        resource().prop_map(|it| format!("resource in {it}")),
        resource().prop_map(|it| format!("resource == {it}")),
        resource().prop_map(|it| format!("{it} == resource")),
        resource().prop_map(|it| format!("[resource].contains({it})")),
        vec(resource(), 1..4).prop_map(|list| format!("resource in [{}]", list.join(", "))),
        (resource(), resource())
            .prop_map(|(one, two)| format!("{{a: resource, b: {one}}} == {{a: {two}, b: {one}}}")),
        Just("resource is Device".to_owned()),
        Just(r#"principal has namespace && principal.namespace == "mdm""#.to_owned()),
        Just(r#"principal.hasTag("groups") && principal.getTag("groups").contains("mdm")"#.to_owned()),
        Just(r#"principal.proof == "unix-peer""#.to_owned()),
        // The sum overflows.
        Just("principal has uid && principal.uid + 9223372036854775807 > 0".to_owned()),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("({one}) && ({two})")),
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("({one}) || ({two})")),
            inner.clone().prop_map(|one| format!("!({one})")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(test, then, other)| format!("if ({test}) then ({then}) else ({other})")),
        ]
    })
}

fn policy() -> impl Strategy<Value = String> {
    let clause = (select(&["when", "unless"][..]), condition());
    let clause = clause.prop_map(|(kind, condition)| format!(" {kind} {{ {condition} }}"));
    (select(&["permit", "permit", "forbid"][..]), principal(), action(), scope(), vec(clause, 0..2)).prop_map(
        |(effect, principal, action, scope, clauses)| {
            format!("{effect} ({principal}, {action}, {scope}){};", clauses.concat())
        },
    )
}

#[derive(Debug, Clone)]
enum ResourceName {
    Operation(OperationName),
    Device(DeviceName),
    Enterprise(EnterpriseName),
}

impl ResourceName {
    fn lineage(&self) -> Lineage<'_> {
        match self {
            Self::Operation(name) => name.lineage(),
            Self::Device(name) => name.lineage(),
            Self::Enterprise(name) => name.lineage(),
        }
    }
}

fn call() -> impl Strategy<Value = (Caller, Action, ResourceName)> {
    let ids = (select(&ENTERPRISES[..]), select(&DEVICES[..]), select(&OPERATIONS[..]));
    let actions = (select(&super::ALL[..]), any::<bool>());
    (select(callers()), actions, ids).prop_map(|(caller, (action, all), (enterprise, device, operation))| {
        let all = all && action == Action::List;
        let device = format!("enterprises/{enterprise}/devices/{}", if all { "-" } else { device });
        let name = match action {
            _ if all => match ListParent::parse(&device).unwrap() {
                ListParent::AllDevices(enterprise) => ResourceName::Enterprise(enterprise),
                ListParent::Device(device) => panic!("{device}"),
            },
            Action::List => ResourceName::Device(DeviceName::parse(&device).unwrap()),
            _ => ResourceName::Operation(
                OperationName::parse(&format!("{device}/operations/{operation}")).unwrap(),
            ),
        };
        (caller, action, name)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The policies are not validated, because validation would reject many of them. The property holds for every
    /// policy that Cedar can evaluate.
    #[test]
    fn a_cached_decision_is_the_one_that_cedar_makes(
        policies in vec(policy(), 0..6),
        calls in vec(call(), 1..64),
    ) {
        let rules = parse::unvalidated(&policies.concat());
        let active = ActiveRules::new(parse::unvalidated(&policies.concat()), PolicyMode::Enforce);
        let metrics = PolicyMetrics::unregistered();
        for (caller, action, name) in &calls {
            let fresh = rules.evaluate(caller, *action, name.lineage()).0;
            let found = active.decide(caller, *action, name.lineage(), &metrics);
            prop_assert_eq!(found, fresh, "{} {:?} {:?}\n{}", caller, action, name, policies.join("\n"));
        }
    }

    #[test]
    fn the_entities_of_a_decision_conform_to_the_schema((caller, _, name) in call()) {
        let entities = entities::entities(&caller, name.lineage());
        let checked = cedar_policy::Entities::from_entities(entities.iter().cloned(), Some(&SCHEMA));
        prop_assert!(checked.is_ok(), "{:?}", checked.err());
    }
}
