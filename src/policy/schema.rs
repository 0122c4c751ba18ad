//! What a policy can speak of: `schema.cedarschema`, and the entities' ids in its terms.

use std::sync::LazyLock;

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema};

use super::{Action, Lineage};
use crate::caller::Caller;

/// The schema, in Cedar's own syntax. It has no namespace.
pub const TEXT: &str = include_str!("schema.cedarschema");

/// The schema against which policies are validated.
pub(super) static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let (schema, _) =
        Schema::from_cedarschema_str(TEXT).expect("the schema is part of the program, and a test reads it");
    schema
});

/// The types of entities.
struct Types {
    caller: EntityTypeName,
    action: EntityTypeName,
    enterprise: EntityTypeName,
    device: EntityTypeName,
    operation: EntityTypeName,
}

/// Parsed once: a name is parsed by Cedar's whole grammar.
static TYPES: LazyLock<Types> = LazyLock::new(|| {
    let of = |name: &str| name.parse().expect("it is one identifier, as Cedar has them");
    Types {
        caller: of("Caller"),
        action: of("Action"),
        enterprise: of("Enterprise"),
        device: of("Device"),
        operation: of("Operation"),
    }
});

pub(super) fn caller(caller: &Caller) -> EntityUid {
    uid(&TYPES.caller, &caller.to_string())
}

pub(super) fn action(action: Action) -> EntityUid {
    uid(&TYPES.action, action.as_str())
}

/// The ids from the resource itself up to its enterprise.
pub(super) fn resource(lineage: Lineage<'_>) -> Vec<EntityUid> {
    let Lineage { enterprise, device, operation } = lineage;
    let operation = operation.map(|id| uid(&TYPES.operation, &format!("{enterprise}/{device}/{id}")));
    let device = uid(&TYPES.device, &format!("{enterprise}/{device}"));
    operation.into_iter().chain([device, uid(&TYPES.enterprise, enterprise)]).collect()
}

fn uid(of: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id))
}
