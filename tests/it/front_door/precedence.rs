//! Callers with several proofs: the strongest says who calls, and none may be false.

use crate::{
    front_door::{
        BEARER, CONSOLE,
        certificates::wire,
        this_user,
        tokens::{bearer, believes},
        visit::{Door, only},
    },
    support::{
        issuer::{Key, claims},
        tls::{Authority, uri},
    },
};

const FORWARDED: &str = "x-forwarded-client-cert";
const LINKERD: &str = "l5d-client-id";
const BEHIND: &str = "spiffe://corp.example/ns/mdm/sa/behind-a-proxy";

/// A front door by TLS and by a unix socket, where every proof is believed and each caller is known.
async fn door(authority: &Authority, key: &Key) -> Door {
    let user = this_user();
    let policy = only(&[("forwarded", BEHIND), ("certificate", CONSOLE), ("token", BEARER), ("unix", &user)]);
    Door::open(|setup| {
        believes(setup, key)
            .variable("COUNTERMAND_CALLERS_FORWARDED_CLIENT_CERT", "true")
            .variable("COUNTERMAND_CALLERS_LINKERD_CLIENT_ID", "true")
            .tls(&authority.server(), Some(authority))
            .policy(&policy)
            .unix()
    })
    .await
}

#[tokio::test]
async fn the_first_proof_there_is_says_who_calls() {
    let (authority, key) = (Authority::new(), Key::ec());
    let door = door(&authority, &key).await;
    let certified = wire(&door, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    // A certificate that names nobody proves nothing.
    let uncertified = wire(&door, &authority, &authority.client(vec![])).await;
    let unix = door.service.wire_by_unix().await;
    let (token, element) = (bearer(&key.token(Some("a"), &claims())), format!("Hash=1;URI={BEHIND}"));
    let (token, forwarded) = (("authorization", &*token), (FORWARDED, &*element));
    let (linkerd, nobody) = ((LINKERD, BEHIND), (FORWARDED, "Hash=1"));
    let user = this_user();

    let by_proxy = (BEHIND, FORWARDED, "forwarded");
    let by_linkerd = (BEHIND, LINKERD, "forwarded");
    let by_certificate = (CONSOLE, "client-certificate", "certificate");
    let by_token = (BEARER, "jwt", "token");
    let by_user = (&*user, "unix-peer", "unix");
    for (wire, headers, (caller, proof, policy)) in [
        (&certified, &[][..], by_certificate),
        (&certified, &[forwarded], by_proxy),
        (&certified, &[linkerd], by_linkerd),
        (&certified, &[token], by_certificate),
        (&certified, &[token, forwarded], by_proxy),
        (&certified, &[token, linkerd], by_linkerd),
        (&certified, &[token, linkerd, forwarded], by_proxy),
        (&certified, &[token, nobody], by_certificate),
        (&uncertified, &[token], by_token),
        (&uncertified, &[token, forwarded], by_proxy),
        (&unix, &[], by_user),
        (&unix, &[forwarded], by_proxy),
        (&unix, &[linkerd], by_linkerd),
        (&unix, &[token], by_token),
        (&unix, &[token, forwarded], by_proxy),
        (&unix, &[token, linkerd, forwarded], by_proxy),
        (&unix, &[token, nobody], by_token),
        (&unix, &[nobody], by_user),
    ] {
        door.cancel(wire, headers).await.is_let_in(caller, proof, &[policy]);
    }
    door.cancel(&uncertified, &[]).await.is_denied("anonymous", "none", &[]);
}

#[tokio::test]
async fn a_proof_that_is_false_ends_the_call_whatever_else_there_is() {
    let (authority, key) = (Authority::new(), Key::ec());
    let door = door(&authority, &key).await;
    let certified = wire(&door, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let unix = door.service.wire_by_unix().await;
    let (good, bad) = (key.token(Some("a"), &claims()), Key::ec().token(Some("a"), &claims()));
    let (good, bad, element) = (bearer(&good), bearer(&bad), format!("Hash=1;URI={BEHIND}"));
    let (good, bad) = (("authorization", &*good), ("authorization", &*bad));
    let (forwarded, linkerd) = ((FORWARDED, &*element), (LINKERD, BEHIND));
    let (garbled, gibberish) = ((FORWARDED, "URI=\""), (LINKERD, "a b"));

    for wire in [&certified, &unix] {
        for with in [&[][..], &[forwarded], &[linkerd], &[forwarded, linkerd]] {
            let visit = door.cancel(wire, &[with, &[bad]].concat()).await;
            visit.is_unauthenticated("INVALID_TOKEN");
        }
        for with in [
            &[garbled][..],
            &[garbled, good],
            &[garbled, linkerd, good],
            &[gibberish],
            &[gibberish, forwarded, good],
        ] {
            door.cancel(wire, with).await.is_unauthenticated("INVALID_FORWARDED_IDENTITY");
        }
        // Which of two false proofs is told first does not matter; that the call ends does.
        let visit = door.cancel(wire, &[garbled, bad]).await;
        assert_eq!(visit.status().code(), tonic::Code::Unauthenticated);
    }
}

#[tokio::test]
async fn a_false_token_is_told_before_a_false_deadline() {
    let (authority, key) = (Authority::new(), Key::ec());
    let door = door(&authority, &key).await;
    let unix = door.service.wire_by_unix().await;
    let visit = door.cancel(&unix, &[("authorization", "Bearer x"), ("grpc-timeout", "soon")]).await;
    visit.is_unauthenticated("INVALID_TOKEN");
    let visit = door.cancel(&unix, &[("grpc-timeout", "soon")]).await;
    assert_eq!(visit.status().code(), tonic::Code::InvalidArgument);
    assert_eq!(visit.line["caller"], this_user(), "{}", visit.line);
    assert_eq!(visit.line["decision"], "invalid");
}
