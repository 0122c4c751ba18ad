//! Callers, actions and resources as Cedar entities. Entities are built from the call alone, so a decision never
//! depends on whether the resource exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use cedar_policy::{Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema};

use super::{Action, Resource};
use crate::{
    caller::{Caller, Identity},
    name::{DeviceName, EnterpriseName, OperationName},
};

/// The schema in Cedar's syntax, without a namespace.
pub(super) const SCHEMA_TEXT: &str = include_str!("schema.cedarschema");

/// The schema that policies are validated against.
pub(super) static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA_TEXT)
        .expect("the schema is part of the program, and a test reads it");
    schema
});

struct EntityTypes {
    caller: EntityTypeName,
    action: EntityTypeName,
    enterprise: EntityTypeName,
    device: EntityTypeName,
    operation: EntityTypeName,
}

/// The entity types. They are parsed once, because Cedar parses each name with its whole grammar.
static TYPES: LazyLock<EntityTypes> = LazyLock::new(|| {
    let parse = |name: &str| name.parse().expect("the name is an identifier");
    EntityTypes {
        caller: parse("Caller"),
        action: parse("Action"),
        enterprise: parse("Enterprise"),
        device: parse("Device"),
        operation: parse("Operation"),
    }
});

/// The name of a resource, and the ids of the resource and its ancestors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lineage<'a> {
    /// AMAPI's name, `enterprises/LC01/devices/d1/operations/17`.
    pub name: &'a str,
    /// The enterprise's id, `LC01`.
    pub enterprise: &'a str,
    /// The device's id in its enterprise, `d1`; `None` for an enterprise.
    pub device: Option<&'a str>,
    /// The operation's id on its device, `17`; `None` for a device or an enterprise.
    pub operation: Option<&'a str>,
}

/// The type of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ResourceType {
    Enterprise,
    Device,
    Operation,
}

impl Lineage<'_> {
    pub(super) fn resource_type(&self) -> ResourceType {
        match (self.device, self.operation) {
            (None, _) => ResourceType::Enterprise,
            (Some(_), None) => ResourceType::Device,
            (Some(_), Some(_)) => ResourceType::Operation,
        }
    }
}

impl Resource for OperationName {
    fn lineage(&self) -> Lineage<'_> {
        let (device, operation) = (Some(self.device_id()), Some(self.operation_id()));
        Lineage { name: self.as_str(), enterprise: self.enterprise(), device, operation }
    }
}

impl Resource for DeviceName {
    fn lineage(&self) -> Lineage<'_> {
        let (enterprise, device) = (self.enterprise(), Some(self.device_id()));
        Lineage { name: self.as_str(), enterprise, device, operation: None }
    }
}

impl Resource for EnterpriseName {
    fn lineage(&self) -> Lineage<'_> {
        Lineage { name: self.as_str(), enterprise: self.id(), device: None, operation: None }
    }
}

pub(super) fn caller_uid(caller: &Caller) -> EntityUid {
    uid(&TYPES.caller, &caller.to_string())
}

pub(super) fn action_uid(action: Action) -> EntityUid {
    uid(&TYPES.action, action.as_str())
}

/// The ids of the resource and its ancestors, the resource first.
pub(super) fn resource_uids(resource: Lineage<'_>) -> Vec<EntityUid> {
    let Lineage { name: _, enterprise, device, operation } = resource;
    let operation = device.zip(operation);
    let operation =
        operation.map(|(device, id)| uid(&TYPES.operation, &format!("{enterprise}/{device}/{id}")));
    let device = device.map(|id| uid(&TYPES.device, &format!("{enterprise}/{id}")));
    operation.into_iter().chain(device).chain([uid(&TYPES.enterprise, enterprise)]).collect()
}

fn uid(of: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id))
}

/// The value of an attribute of a caller.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum AttributeValue {
    /// A `String`.
    Text(String),
    /// A `Long`.
    Number(u32),
}

/// The attributes of a caller, by the names of the schema.
pub(super) fn attributes(caller: &Caller) -> BTreeMap<&'static str, AttributeValue> {
    let text = |value: &str| AttributeValue::Text(value.to_owned());
    let mut attributes = BTreeMap::from([("proof", text(caller.evidence().as_str()))]);
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
            // Kubernetes documentation). A claim with several values does not identify one account.
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
        Identity::Unix { uid } => attributes.extend([("uid", AttributeValue::Number(*uid))]),
        Identity::Anonymous => {}
    }
    attributes
}

/// The entities that a decision about this caller and this resource depends on.
pub(super) fn entities(caller: &Caller, resource: Lineage<'_>) -> Entities {
    let mut entities = vec![caller_entity(caller)];
    let mut parent = None;
    for uid in resource_uids(resource).into_iter().rev() {
        entities.push(Entity::new_no_attrs(uid.clone(), parent.into_iter().collect()));
        parent = Some(uid);
    }
    Entities::from_entities(entities, None)
        .expect("the types differ, so no two ids are equal, and each entity has at most one parent")
}

fn caller_entity(caller: &Caller) -> Entity {
    let attributes = attributes(caller).into_iter().map(|(name, value)| {
        let value = match value {
            AttributeValue::Text(text) => RestrictedExpression::new_string(text),
            AttributeValue::Number(number) => RestrictedExpression::new_long(number.into()),
        };
        (name.to_owned(), value)
    });
    let set = |values: &BTreeSet<String>| {
        RestrictedExpression::new_set(values.iter().cloned().map(RestrictedExpression::new_string))
    };
    let tags = caller.claims().iter().map(|(name, values)| (name.clone(), set(values)));
    Entity::new_with_tags(caller_uid(caller), attributes, [], tags)
        .expect("only a call of an extension can fail to be evaluated, and there are none")
}
