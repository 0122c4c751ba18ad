//! The example policy of the documentation, and the calls that it permits.

use serde_json::json;
use tonic::Code;

use crate::{
    access::{
        BEARER, CONSOLE, NAME,
        certificates::connect_with_certificate,
        fixture::Fixture,
        jwt::{accept_tokens_of, bearer},
        this_user,
    },
    support::{
        details::assert_our_error,
        issuer::{Key, claims, kubernetes_claims},
        service::Setup,
        tls::{Authority, dns, uri},
    },
};

const EXAMPLES: &str = r#"
permit (principal == Caller::"spiffe://corp.example/ns/mdm/sa/console", action, resource in Enterprise::"LC01");
permit (principal, action in [Action::"get", Action::"list", Action::"wait"], resource in Enterprise::"LC01")
  when { principal has namespace && principal.namespace == "mdm" };
"#;

const ELSEWHERE: &str = "enterprises/LC02/devices/d1/operations/17";
const METHODS: [&str; 4] = ["CancelOperation", "GetOperation", "ListOperations", "WaitOperation"];

/// The name that a method takes: the operation, or its device for ListOperations.
fn name_for(method: &str, name: &str) -> String {
    let device = || name.rsplit_once("/operations/").unwrap().0.to_owned();
    if method == "ListOperations" { device() } else { name.to_owned() }
}

/// A service with this policy, a TLS listener and a unix socket.
async fn service(authority: &Authority, key: &Key, policy: &str) -> Fixture {
    let setup = |setup: Setup| setup.tls(&authority.server(), Some(authority)).policy(policy).unix();
    Fixture::start(|plain| setup(accept_tokens_of(plain, key))).await
}

#[tokio::test]
async fn the_examples_permit_their_callers_and_no_other_calls() {
    let (authority, key) = (Authority::new(), Key::ec());
    let fixture = service(&authority, &key, EXAMPLES).await;
    let certified =
        async |names| connect_with_certificate(&fixture, &authority, &authority.client(names)).await;
    let spiffe = async |id: &str| certified(vec![uri(id)]).await;
    let token = |claims| bearer(&key.token(Some("a"), &claims));
    let (viewer, hr) = ("spiffe://corp.example/ns/mdm/sa/viewer", "spiffe://corp.example/ns/hr/sa/console");
    let (host, vm) = ("dns:mdm", "spiffe://corp.example/mdm");
    let account = "jwt:https://issuer.example#system:serviceaccount:mdm:console";
    let mut of_hr = kubernetes_claims();
    of_hr["kubernetes.io"]["namespace"] = "hr".into();
    let unix = async || fixture.service.wire_by_unix().await;
    let user = this_user();

    // Each caller has the policies that permit its calls. `policy1` permits reading only.
    let (console, reader, denied) = (&["policy0", "policy1"][..], &["policy1"][..], &[][..]);
    let certificate = "client-certificate";
    for (connection, token, caller, proof, permits) in [
        (spiffe(CONSOLE).await, None, CONSOLE, certificate, console),
        (spiffe(viewer).await, None, viewer, certificate, reader),
        (spiffe(hr).await, None, hr, certificate, denied),
        (spiffe(vm).await, None, vm, certificate, denied),
        (certified(vec![dns("mdm")]).await, None, host, certificate, denied),
        (unix().await, Some(token(kubernetes_claims())), account, "jwt", reader),
        (unix().await, Some(token(of_hr)), account, "jwt", denied),
        (unix().await, Some(token(claims())), BEARER, "jwt", denied),
        (unix().await, None, &user, "unix-peer", denied),
    ] {
        let headers: Vec<_> = token.iter().map(|token| ("authorization", &**token)).collect();
        for method in METHODS {
            let call = fixture.call(&connection, method, &name_for(method, NAME), &headers).await;
            let permits = permits.iter().filter(|id| **id == "policy0" || method != "CancelOperation");
            let policies: Vec<_> = permits.copied().collect();
            match policies[..] {
                [] => call.assert_denied(caller, proof, &[]),
                _ => call.assert_allowed(caller, proof, &policies),
            }
            let call = fixture.call(&connection, method, &name_for(method, ELSEWHERE), &headers).await;
            call.assert_denied(caller, proof, &[]);
        }
    }
}

#[tokio::test]
async fn a_forbid_wins_over_a_permit() {
    let (authority, key) = (Authority::new(), Key::ec());
    let policy = format!(
        "{EXAMPLES}\n@id(\"not-d2\") forbid (principal, action == Action::\"cancel\", resource in Device::\"LC01/d2\");"
    );
    let fixture = service(&authority, &key, &policy).await;
    let console = connect_with_certificate(&fixture, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let of_d2 = "enterprises/LC01/devices/d2/operations/17";
    let (caller, proof) = (CONSOLE, "client-certificate");
    fixture.cancel(&console, &[]).await.assert_allowed(caller, proof, &["policy0"]);
    fixture.call(&console, "CancelOperation", of_d2, &[]).await.assert_denied(caller, proof, &["not-d2"]);
    fixture.call(&console, "GetOperation", of_d2, &[]).await.assert_allowed(
        caller,
        proof,
        &["policy0", "policy1"],
    );
    // The id of another device may have the same prefix.
    let of_d22 = "enterprises/LC01/devices/d22/operations/17";
    fixture.call(&console, "CancelOperation", of_d22, &[]).await.assert_allowed(caller, proof, &["policy0"]);
}

#[tokio::test]
async fn a_denial_is_the_same_to_the_byte_whether_the_operation_exists_or_not() {
    let (authority, key) = (Authority::new(), Key::ec());
    let fixture = service(&authority, &key, EXAMPLES).await;
    let viewer = "spiffe://corp.example/ns/mdm/sa/viewer";
    let viewer = connect_with_certificate(&fixture, &authority, &authority.client(vec![uri(viewer)])).await;
    let stranger = connect_with_certificate(&fixture, &authority, &authority.client(vec![])).await;
    // The operation exists, and the process has it in its cache.
    let call = fixture.call(&viewer, "GetOperation", NAME, &[]).await;
    assert_eq!((call.response.code(), fixture.upstream.requests().len()), (Code::Ok, 1));

    let mut responses = Vec::new();
    for name in [NAME, "enterprises/LC01/devices/d1/operations/none", ELSEWHERE] {
        for method in METHODS {
            responses
                .push(fixture.call(&stranger, method, &name_for(method, name), &[]).await.response.trailers);
        }
        // A caller that may read the operation learns no more from a denied cancel.
        responses.push(fixture.call(&viewer, "CancelOperation", name, &[]).await.response.trailers);
    }
    for response in &mut responses {
        response.remove("date").expect("the response has a date");
    }
    for response in &responses {
        assert_eq!(*response, responses[0], "every header and every trailer");
    }
    assert_eq!(fixture.upstream.requests().len(), 1);
}

#[tokio::test]
async fn delete_is_unimplemented_for_every_caller() {
    let (authority, key) = (Authority::new(), Key::ec());
    let fixture = service(&authority, &key, EXAMPLES).await;
    let mut responses = Vec::new();
    for (names, caller) in [(vec![uri(CONSOLE)], CONSOLE), (vec![], "anonymous")] {
        let connection = connect_with_certificate(&fixture, &authority, &authority.client(names)).await;
        let call = fixture.call(&connection, "DeleteOperation", NAME, &[]).await;
        assert_eq!(call.status().code(), Code::Unimplemented);
        let line = json!([call.line["caller"], call.line["decision"], call.line["name"]]);
        assert_eq!(line, json!([caller, "invalid", NAME]));
        let mut trailers = call.response.trailers;
        trailers.remove("date");
        responses.push(trailers);
    }
    assert_eq!(responses[0], responses[1]);
}

#[tokio::test]
async fn an_empty_policy_denies_and_an_invalid_name_is_invalid_for_every_caller() {
    let (authority, key) = (Authority::new(), Key::ec());
    let fixture = service(&authority, &key, "// Empty.").await;
    for names in [vec![uri(CONSOLE)], vec![]] {
        let connection = connect_with_certificate(&fixture, &authority, &authority.client(names)).await;
        for method in METHODS {
            let call = fixture.call(&connection, method, &name_for(method, NAME), &[]).await;
            assert_our_error(&call.status(), Code::PermissionDenied, "NOT_PERMITTED");
            let call =
                fixture.call(&connection, method, "enterprises/LC01/devices/../operations/17", &[]).await;
            assert_eq!(call.status().code(), Code::InvalidArgument);
            assert_eq!(call.line["decision"], "invalid");
        }
    }
}
