//! A caller and a resource as a policy sees them. They are made of what the call says and nothing else:
//! whether the resource exists is unknown here.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Entities, Entity, RestrictedExpression};

use super::{Resource, schema};
use crate::{
    caller::{Caller, Identity},
    name::{DeviceName, OperationName},
};

/// A resource and what it is in, by their ids in AMAPI's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lineage<'a> {
    /// The enterprise's id, `LC01`.
    pub enterprise: &'a str,
    /// The device's id in its enterprise, `d1`.
    pub device: &'a str,
    /// The operation's id on its device, `17`; none of a device.
    pub operation: Option<&'a str>,
}

impl<'a> Lineage<'a> {
    /// The ids from the enterprise down.
    pub(super) fn ids(self) -> impl Iterator<Item = &'a str> {
        [self.enterprise, self.device].into_iter().chain(self.operation)
    }
}

impl Resource for OperationName {
    fn lineage(&self) -> Lineage<'_> {
        let operation = Some(self.operation_id());
        Lineage { enterprise: self.enterprise(), device: self.device_id(), operation }
    }
}

impl Resource for DeviceName {
    fn lineage(&self) -> Lineage<'_> {
        Lineage { enterprise: self.enterprise(), device: self.device_id(), operation: None }
    }
}

/// The value of an attribute of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A `String`.
    Text(String),
    /// A `Long`.
    Number(u32),
}

/// The attributes of a caller, by the names of the schema.
#[must_use]
pub fn attributes(caller: &Caller) -> BTreeMap<&'static str, Value> {
    let text = |value: &str| Value::Text(value.to_owned());
    let mut attributes = BTreeMap::from([("proof", text(caller.proof().as_str()))]);
    match caller.identity() {
        Identity::Spiffe(id) => {
            attributes.extend([("trust_domain", text(id.trust_domain())), ("path", text(id.path()))]);
            if let Some((namespace, account)) = id.kubernetes() {
                attributes.extend([("namespace", text(namespace)), ("service_account", text(account))]);
            }
        }
        Identity::Dns(name) => attributes.extend([("dns", text(name.as_str()))]),
        Identity::Jwt { issuer, subject } => {
            attributes.extend([("issuer", text(issuer)), ("subject", text(subject))]);
            // The private claims of Kubernetes' service-account tokens ("Managing Service Accounts",
            // Kubernetes documentation). A claim of several values names no one account.
            for (attribute, claim) in [
                ("namespace", "kubernetes.io/namespace"),
                ("service_account", "kubernetes.io/serviceaccount/name"),
            ] {
                let values = caller.claims().get(claim).into_iter().flatten().collect::<Vec<_>>();
                if let [value] = values[..] {
                    attributes.extend([(attribute, text(value))]);
                }
            }
        }
        Identity::Unix { uid } => attributes.extend([("uid", Value::Number(*uid))]),
        Identity::Anonymous => {}
    }
    attributes
}

/// What a decision about this caller and this resource is made of.
pub(super) fn all(caller: &Caller, resource: Lineage<'_>) -> Entities {
    let mut entities = vec![of_caller(caller)];
    let mut parent = None;
    for uid in schema::resource(resource).into_iter().rev() {
        entities.push(Entity::new_no_attrs(uid.clone(), parent.into_iter().collect()));
        parent = Some(uid);
    }
    Entities::from_entities(entities, None)
        .expect("their types differ, so that there are no two of one id, and each has at most one parent")
}

fn of_caller(caller: &Caller) -> Entity {
    let attributes = attributes(caller).into_iter().map(|(name, value)| {
        let value = match value {
            Value::Text(text) => RestrictedExpression::new_string(text),
            Value::Number(number) => RestrictedExpression::new_long(number.into()),
        };
        (name.to_owned(), value)
    });
    let set = |values: &BTreeSet<String>| {
        RestrictedExpression::new_set(values.iter().cloned().map(RestrictedExpression::new_string))
    };
    let tags = caller.claims().iter().map(|(name, values)| (name.clone(), set(values)));
    Entity::new_with_tags(schema::caller(caller), attributes, [], tags)
        .expect("only a call of an extension can fail to be evaluated, and here are none")
}
