//! The resources that a policy set names, as a tree from the enterprises down.
//!
//! A policy can ask of a resource only its type and whether it is, or is in, one that the policy names:
//! resources have no attributes, and nothing in Cedar turns an id into text. So two resources of one type
//! that reach the same place of this tree cannot be told apart by any policy of the set, and what is decided
//! of one holds for the other. Where policies name enterprises only, that is every operation of an enterprise.

use std::collections::HashMap;

use cedar_policy::{EntityUid, Policy};

use super::Lineage;
use crate::{
    caller::Identity,
    name::{DeviceName, OperationName},
};

/// The tree. Its root stands for every resource that is not below a named one.
#[derive(Debug, Default)]
pub(super) struct Named {
    root: Place,
    places: u32,
}

#[derive(Debug, Default)]
struct Place {
    number: u32,
    below: HashMap<Box<str>, Place>,
}

/// An id that belongs to nothing, so that a policy which names it can never do what it was written for.
pub(super) struct Nothing {
    pub(super) problem: String,
    pub(super) remedy: &'static str,
}

impl Named {
    /// Adds what `policy` names. The ids that belong to nothing are answered.
    pub(super) fn add(&mut self, policy: &Policy) -> Vec<Nothing> {
        let mut literals = policy.entity_literals();
        literals.sort_by_cached_key(ToString::to_string);
        literals.dedup();
        literals.iter().filter_map(|literal| self.add_literal(literal).err()).collect()
    }

    fn add_literal(&mut self, literal: &EntityUid) -> Result<(), Nothing> {
        let id = literal.id().unescaped();
        let (depth, remedy) = match literal.type_name().basename() {
            "Enterprise" => (1, r#"give an enterprise's id, "LC01""#),
            "Device" => (2, r#"give the ids of the enterprise and the device, "LC01/d1""#),
            "Operation" => {
                (3, r#"give the ids of the enterprise, the device and the operation, "LC01/d1/17""#)
            }
            "Caller" if id.parse::<Identity>().is_ok() => return Ok(()),
            "Caller" => (
                0,
                "give a caller's id as the audit log has it: spiffe://TRUST-DOMAIN/PATH, dns:NAME (in lower \
                 case, and no wildcard), jwt:ISSUER#SUBJECT, unix:UID or anonymous",
            ),
            // Of types and actions that do not exist, the validation speaks.
            _ => return Ok(()),
        };
        let ids: Vec<_> = id.split('/').collect();
        if ids.len() != depth || !make_a_name(&ids) {
            return Err(Nothing { problem: format!("{literal} can be nobody and nothing"), remedy });
        }
        self.insert(ids);
        Ok(())
    }

    fn insert(&mut self, ids: Vec<&str>) {
        let mut place = &mut self.root;
        for id in ids {
            place = place.below.entry(id.into()).or_insert_with(|| {
                self.places += 1;
                Place { number: self.places, below: HashMap::new() }
            });
        }
    }

    /// The number of the deepest place that the resource reaches.
    pub(super) fn place(&self, resource: Lineage<'_>) -> u32 {
        let mut place = &self.root;
        for id in resource.ids() {
            match place.below.get(id) {
                Some(below) => place = below,
                None => break,
            }
        }
        place.number
    }
}

/// Whether the parser of names takes a name that is made of these ids.
fn make_a_name(ids: &[&str]) -> bool {
    match *ids {
        [enterprise] => make_a_name(&[enterprise, "any"]),
        [enterprise, device] => {
            DeviceName::parse(&format!("enterprises/{enterprise}/devices/{device}")).is_ok()
        }
        [enterprise, device, operation] => {
            let name = format!("enterprises/{enterprise}/devices/{device}/operations/{operation}");
            OperationName::parse(&name).is_ok()
        }
        _ => false,
    }
}
