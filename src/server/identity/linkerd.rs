//! `l5d-client-id`: the identity that Linkerd's proxy has verified, on requests that it hands to its
//! workload.

use crate::caller::Identity;

use super::names;

/// The header (Linkerd, "Identity", `l5d-client-id`).
pub(super) const HEADER: &str = "l5d-client-id";

/// Who `value` says calls: a DNS name such as `NAME.NAMESPACE.serviceaccount.identity.linkerd.cluster.local`,
/// or a SPIFFE ID, which Linkerd's proxies outside of Kubernetes have. `None` when it is neither.
pub(super) fn identity(value: &[u8]) -> Option<Identity> {
    let value = str::from_utf8(value).ok()?;
    names::spiffe(value).or_else(|| names::dns(value))
}

#[cfg(test)]
mod tests {
    use super::identity;

    #[test]
    fn both_forms_are_understood_and_nothing_else() {
        for (value, id) in [
            (
                "console.mdm.serviceaccount.identity.linkerd.cluster.local",
                "dns:console.mdm.serviceaccount.identity.linkerd.cluster.local",
            ),
            ("spiffe://root.linkerd.cluster.local/vm", "spiffe://root.linkerd.cluster.local/vm"),
        ] {
            assert_eq!(identity(value.as_bytes()).map(|id| id.to_string()).as_deref(), Some(id));
        }
        for value in [&b""[..], b"a b", b"a,b", b"spiffe://", b"https://corp.example", b"\xff"] {
            assert_eq!(identity(value), None, "{value:?}");
        }
    }
}
