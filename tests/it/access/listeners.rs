//! The settings that a listener beyond loopback needs.

use std::path::Path;

use crate::support::{
    account,
    process::{Ended, countermand, run},
    tls::Authority,
};

/// A directory with TLS files, policies and a credential file. The service never fetches a token with it.
fn config_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    Authority::new().server().write(&at("tls.crt"), &at("tls.key"));
    std::fs::write(at("policy.cedar"), "permit (principal, action, resource);").unwrap();
    std::fs::write(at("broken.cedar"), "permit (principal").unwrap();
    std::fs::write(at("key.json"), account::key_file("http://127.0.0.1:1/token")).unwrap();
    dir
}

async fn serve(dir: &Path, sections: &str, words: &[&str]) -> Ended {
    let credential = "[admin]\nlisten = \"off\"\n[[credentials]]\nname = \"a\"\nfile = \"key.json\"\n";
    std::fs::write(dir.join("c.toml"), format!("{sections}\n{credential}")).unwrap();
    run(countermand(&["serve", "--config", "c.toml"]).args(words).current_dir(dir)).await
}

const TLS: &str = "[server.tls]\ncertificate = \"tls.crt\"\nprivate_key = \"tls.key\"\n";
const POLICY: &str = "[policy]\nfile = \"policy.cedar\"\n";

/// RFC 5737 reserves this address for documentation, so an allowed listener fails at the bind.
const NETWORK: &str = "198.51.100.1:0";

#[tokio::test]
async fn a_listener_beyond_loopback_without_tls_or_a_policy_is_a_config_error() {
    let dir = config_dir();
    let server = format!("[server]\nlisten = [\"127.0.0.1:0\", \"{NETWORK}\"]\n");
    for (sections, problem, hint) in [
        ("", "in plaintext and by anyone", "set up [server.tls] and a policy, listen on"),
        (POLICY, "in plaintext", "set up [server.tls], listen on"),
        (TLS, "and there is no policy on who may do what", "give a policy, listen on"),
    ] {
        let refused = serve(dir.path(), &format!("{server}{sections}"), &[]).await;
        assert_eq!((refused.code, &*refused.stdout), (Some(78), ""), "{refused:?}");
        let [count, error] = refused.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{refused:?}") };
        assert_eq!(count, "countermand: 1 error in the configuration (c.toml):");
        let begin = format!(
            "server.listen (line 2): {NETWORK} can be reached from beyond this machine, {problem}; {hint}"
        );
        assert!(error.starts_with(&begin), "{error}\nshould begin\n{begin}");
        assert!(error.ends_with("or give --allow-unauthenticated where a mesh encrypts and authorizes"));
    }
}

#[tokio::test]
async fn tls_with_a_policy_or_allow_unauthenticated_permits_a_listener_beyond_loopback() {
    let dir = config_dir();
    let server = format!("[server]\nlisten = [\"{NETWORK}\"]\n");
    let flag = ["--allow-unauthenticated"];
    for (sections, words) in [
        (format!("{server}{TLS}{POLICY}"), &[][..]),
        (format!("{server}{TLS}"), &["--policy", "policy.cedar"]),
        (server.clone(), &flag),
        (format!("{server}{POLICY}"), &flag),
        (format!("{server}{TLS}"), &flag),
    ] {
        let allowed = serve(dir.path(), &sections, words).await;
        assert_eq!(allowed.code, Some(1), "{allowed:?}");
        assert!(allowed.stderr.contains(&format!("cannot listen on {NETWORK}: ")), "{allowed:?}");
    }
}

#[tokio::test]
async fn a_broken_policy_is_the_only_error_even_with_allow_unauthenticated() {
    let dir = config_dir();
    let server = format!("[server]\nlisten = [\"{NETWORK}\"]\n{TLS}");
    let broken = "[policy]\nfile = \"broken.cedar\"\n";
    let refused = serve(dir.path(), &format!("{server}{broken}"), &[]).await;
    assert_eq!(refused.code, Some(78), "{refused:?}");
    let [_, error] = refused.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{refused:?}") };
    assert!(error.starts_with("policy.file (line 7): broken.cedar: "), "{error}");
    // The flag permits a missing policy, not a broken one.
    let refused = serve(dir.path(), &format!("{server}{broken}"), &["--allow-unauthenticated"]).await;
    assert_eq!(refused.code, Some(78), "{refused:?}");
}
