//! The errors of `[callers]`.

use std::fs;

use super::Directory;
use crate::{
    caller::Identity,
    server::identity::issuer::{Key, key_set},
};

#[test]
fn each_error_has_its_text() {
    let directory = Directory::new();
    fs::write(directory.path("jwks.json"), key_set([Key::ec().jwk(None)])).unwrap();
    fs::write(directory.path("html.json"), "<html>").unwrap();
    let jwt = |settings: &str| {
        format!("[callers]\njwt = {{ issuer = \"i\", audience = \"a\", jwks = \"jwks.json\"{settings} }}")
    };
    let jwks =
        |value: &str| format!("[callers]\njwt = {{ issuer = \"i\", audience = \"a\", jwks = {value} }}");
    directory.assert_each_errs([
        (
            "[callers]\nlinkerd_client_id = \"yes\"".to_owned(),
            "(line 2): this is a string; give true or false",
        ),
        ("[callers]\nforwarded_client_certs = true".to_owned(), "did you mean forwarded_client_cert?"),
        (
            "[callers]\nmesh_proxies = \"a\"".to_owned(),
            "mesh_proxies (line 2): this is a string; give a list",
        ),
        ("[callers]\nmesh_proxies = [\"a\"]".to_owned(), "this is not an identity of a certificate"),
        ("[callers]\nmesh_proxies = [\"dns:*.a\"]".to_owned(), "give a name in its certificate"),
        (
            "[callers]\njwt = true".to_owned(),
            "callers.jwt (line 2): this is a boolean; give a section, [callers.jwt]",
        ),
        (
            "[callers.jwt]\nissuer = \"i\"\njwks = \"jwks.json\"".to_owned(),
            "callers.jwt.audience: this is missing; give the aud",
        ),
        (
            jwt(", audiences = []"),
            "callers.jwt.audiences (line 2): there is no such key; did you mean audience?",
        ),
        (jwt(", algorithms = []"), "callers.jwt.algorithms (line 2): the list is empty"),
        (jwt(", algorithms = [\"HS256\"]"), "this is not an asymmetric signature algorithm"),
        (jwt(", algorithms = [\"none\"]"), "give some of RS256, RS384, RS512, PS256"),
        // Without a valid list of algorithms, the key set is not checked.
        (jwt(", algorithms = [\"RS256\", 1]"), "callers.jwt.algorithms (line 2): this is an integer"),
        (jwt(", algorithms = [\"RS256\"]"), "the file has no key for the allowed algorithms"),
        (
            jwt(", jwks_token_file = \"key.json\""),
            "jwks_token_file (line 2): it requires a jwks that is a URL",
        ),
        (jwks("\"none.json\""), "callers.jwt.jwks (line 2): cannot read"),
        (jwks("\"html.json\""), "the file is not a JSON key set"),
        (jwks("\"http://issuer.example/jwks\""), "over plain http an attacker on the network"),
        (jwks("\"ftp://issuer.example/jwks\""), "the scheme is not https"),
        (jwks("\"https://\""), "not a URL"),
        (jwks("\"https://a.example/#b\""), "has a fragment"),
        (
            jwks("\"https://a.example\", jwks_ca_certificates = \"jwks.json\""),
            "jwks_ca_certificates (line 2): ",
        ),
        (jwks("\"https://a.example\", jwks_token_file = \"none\""), "jwks_token_file (line 2): cannot read"),
        (
            "[callers.jwt]\nissuer = \"https://i#x\"\naudience = [\"a\"]\njwks = \"jwks.json\"".to_owned(),
            "callers.jwt.issuer (line 2): the issuer has a #",
        ),
        (
            "[callers.jwt]\nissuer = \"\"\naudience = [\"a\"]\njwks = \"jwks.json\"".to_owned(),
            "callers.jwt.issuer (line 2): this is not the text of a claim",
        ),
        (
            "[callers.jwt]\nissuer = \"i\"\naudience = []\njwks = \"jwks.json\"".to_owned(),
            "callers.jwt.audience (line 3): the list is empty",
        ),
    ]);
    let errors = directory.errors("[callers.jwt]").join("\n");
    for key in ["issuer", "audience", "jwks"] {
        assert!(errors.contains(&format!("callers.jwt.{key}: this is missing")), "{errors}");
    }
    let errors = directory.errors(&jwks("\"https://me:hunter2@a.example\"")).join("\n");
    assert!(errors.contains("a user or a password") && !errors.contains("hunter2"), "{errors}");
}

#[test]
fn an_issuer_is_valid_if_a_policy_can_name_its_callers() {
    let directory = Directory::new();
    for issuer in ["https://i.example", " i ", "", " ", "\u{a0}", "a\nb", "a\u{85}b", "a\u{1b}"] {
        // A JSON string is a valid TOML string.
        let section = format!("[callers.jwt]\nissuer = {}", serde_json::json!(issuer));
        let is_rejected =
            directory.errors(&section).iter().any(|error| error.contains("is not the text of a claim"));
        let can_be_named = format!("jwt:{issuer}#s").parse::<Identity>().is_ok();
        assert_eq!(can_be_named, !is_rejected, "{issuer:?}");
    }
}
