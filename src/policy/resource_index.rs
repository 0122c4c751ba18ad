//! The resources that a policy set names.
//!
//! A policy can test a resource only for its type, and for being in a resource that the policy names, or equal to it.
//! Resources have no attributes, and Cedar cannot convert an id to text. Policies therefore treat two resources of
//! one type alike if their deepest named ancestor (or the resource itself) is the same. A decision about one resource
//! applies to the other. If policies name enterprises only, it applies to every operation of the enterprise.

use std::{collections::HashSet, sync::Arc};

use cedar_policy::{EntityUid, Policy};

use crate::{
    caller::Identity,
    name::{DeviceName, NameHasher, OperationName, check_enterprise},
};

/// The enterprises, devices and operations that policies name, by their names in AMAPI.
#[derive(Debug, Clone, Default)]
pub(super) struct ResourceIndex(HashSet<Arc<str>, NameHasher>);

/// An id that no caller or resource can have. A policy that names it can never have its intended effect.
pub(super) struct InvalidId {
    pub(super) problem: String,
    pub(super) hint: &'static str,
}

impl ResourceIndex {
    /// Adds the resources that `policy` names. Returns its invalid ids of callers and resources.
    pub(super) fn add(&mut self, policy: &Policy) -> Vec<InvalidId> {
        let mut literals = policy.entity_literals();
        literals.sort_by_cached_key(ToString::to_string);
        literals.dedup();
        literals.iter().filter_map(|literal| self.add_literal(literal).err()).collect()
    }

    fn add_literal(&mut self, literal: &EntityUid) -> Result<(), InvalidId> {
        let id = literal.id().unescaped();
        let ids: Vec<_> = id.split('/').collect();
        let (name, hint) = match literal.type_name().basename() {
            "Enterprise" => (enterprise(&ids), r#"give an enterprise's id, "LC01""#),
            "Device" => (device(&ids), r#"give the ids of the enterprise and the device, "LC01/d1""#),
            "Operation" => (
                operation(&ids),
                r#"give the ids of the enterprise, the device and the operation, "LC01/d1/17""#,
            ),
            "Caller" if id.parse::<Identity>().is_ok() => return Ok(()),
            "Caller" => (
                None,
                "give a caller's id as the audit log has it: spiffe://TRUST-DOMAIN/PATH, dns:NAME (in lower \
                 case, and no wildcard), jwt:ISSUER#SUBJECT, unix:UID or anonymous",
            ),
            // The validation reports unknown types and actions.
            _ => return Ok(()),
        };
        let name = name.ok_or_else(|| InvalidId { problem: format!("{literal} is not a valid id"), hint })?;
        self.0.insert(name.into());
        Ok(())
    }

    /// The deepest named resource that is the resource `name` or an ancestor.
    pub(super) fn deepest(&self, name: &str) -> Option<Arc<str>> {
        let mut name = name;
        loop {
            if let Some(named) = self.0.get(name) {
                return Some(Arc::clone(named));
            }
            let (collection, _) = name.rsplit_once('/')?;
            (name, _) = collection.rsplit_once('/')?;
        }
    }
}

fn enterprise(ids: &[&str]) -> Option<String> {
    let [enterprise] = ids else { return None };
    check_enterprise(enterprise).ok()?;
    Some(format!("enterprises/{enterprise}"))
}

fn device(ids: &[&str]) -> Option<String> {
    let [enterprise, device] = ids else { return None };
    let name = format!("enterprises/{enterprise}/devices/{device}");
    DeviceName::parse(&name).is_ok().then_some(name)
}

fn operation(ids: &[&str]) -> Option<String> {
    let [enterprise, device, operation] = ids else { return None };
    let name = format!("enterprises/{enterprise}/devices/{device}/operations/{operation}");
    OperationName::parse(&name).is_ok().then_some(name)
}
