//! `[callers]`: whose word is taken for who calls.

use super::{
    environment::Environment,
    fault::{Faults, Wrong},
    source,
    table::Section,
};
use crate::{
    caller::Identity,
    server::{
        identity::forwarded::workload_identity,
        settings::{Callers, Jwt},
    },
};

mod jwt;

impl Callers {
    pub(super) fn read(environment: &mut Environment, file: &mut Section<'_>, faults: &mut Faults) -> Self {
        let forwarded_client_cert = environment
            .boolean("COUNTERMAND_CALLERS_FORWARDED_CLIENT_CERT", faults)
            .or(file.boolean("forwarded_client_cert", faults))
            .is_some_and(|given| given.value);
        let linkerd_client_id = environment
            .boolean("COUNTERMAND_CALLERS_LINKERD_CLIENT_ID", faults)
            .or(file.boolean("linkerd_client_id", faults))
            .is_some_and(|given| given.value);
        let mesh_proxies = environment
            .texts("COUNTERMAND_CALLERS_MESH_PROXIES", faults)
            .or(file.texts("mesh_proxies", faults))
            .map(|given| source::each(&given.value, faults, mesh_proxy))
            .unwrap_or_default();
        let jwt = Jwt::read(environment, file, faults);
        Self { forwarded_client_cert, linkerd_client_id, mesh_proxies, jwt }
    }
}

fn mesh_proxy(text: &str) -> Result<Identity, Wrong> {
    workload_identity(text).ok_or_else(|| {
        let remedy = "give what its certificate names: spiffe://trust-domain/path or dns:host.example";
        Wrong::new(format!("{text:?} is no identity of a certificate"), remedy)
    })
}
