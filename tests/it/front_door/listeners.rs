//! What stands between a listener and the network.

use std::path::Path;

use crate::support::{
    account,
    process::{Ended, countermand, run},
    tls::Authority,
};

/// A directory with all that a front door may be set up with; nobody asks for the tokens of its credential.
fn room() -> tempfile::TempDir {
    let room = tempfile::tempdir().unwrap();
    let at = |name: &str| room.path().join(name);
    Authority::new().server().write(&at("tls.crt"), &at("tls.key"));
    std::fs::write(at("policy.cedar"), "permit (principal, action, resource);").unwrap();
    std::fs::write(at("broken.cedar"), "permit (principal").unwrap();
    std::fs::write(at("key.json"), account::key_file("http://127.0.0.1:1/token")).unwrap();
    room
}

async fn serve(room: &Path, sections: &str, words: &[&str]) -> Ended {
    let credential = "[admin]\nlisten = \"off\"\n[[credentials]]\nname = \"a\"\nfile = \"key.json\"\n";
    std::fs::write(room.join("c.toml"), format!("{sections}\n{credential}")).unwrap();
    run(countermand(&["serve", "--config", "c.toml"]).args(words).current_dir(room)).await
}

const TLS: &str = "[server.tls]\ncertificate = \"tls.crt\"\nprivate_key = \"tls.key\"\n";
const POLICY: &str = "[policy]\nfile = \"policy.cedar\"\n";

/// Nobody's (RFC 5737): what may be listened on there fails at the bind, and nothing is ever reached.
const NETWORK: &str = "198.51.100.1:0";

#[tokio::test]
async fn beyond_loopback_it_takes_both_tls_and_a_policy_and_what_is_missing_is_named() {
    let room = room();
    let server = format!("[server]\nlisten = [\"127.0.0.1:0\", \"{NETWORK}\"]\n");
    for (sections, problem, cure) in [
        ("", "in plaintext and by anyone", "set up [server.tls] and a policy, listen on"),
        (POLICY, "in plaintext", "set up [server.tls], listen on"),
        (TLS, "and there is no policy on who may do what", "give a policy, listen on"),
    ] {
        let refused = serve(room.path(), &format!("{server}{sections}"), &[]).await;
        assert_eq!((refused.code, &*refused.stdout), (Some(78), ""), "{refused:?}");
        let [count, fault] = refused.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{refused:?}") };
        assert_eq!(count, "countermand: 1 error in the configuration (c.toml):");
        let begin = format!(
            "server.listen (line 2): {NETWORK} can be reached from beyond this machine, {problem}; {cure}"
        );
        assert!(fault.starts_with(&begin), "{fault}\nshould begin\n{begin}");
        assert!(fault.ends_with("or give --allow-unauthenticated where a mesh encrypts and authorises"));
    }
}

#[tokio::test]
async fn with_both_or_when_told_in_so_many_words_it_listens_anywhere() {
    let room = room();
    let server = format!("[server]\nlisten = [\"{NETWORK}\"]\n");
    let told = ["--allow-unauthenticated"];
    for (sections, words) in [
        (format!("{server}{TLS}{POLICY}"), &[][..]),
        (format!("{server}{TLS}"), &["--policy", "policy.cedar"]),
        (server.clone(), &told),
        (format!("{server}{POLICY}"), &told),
        (format!("{server}{TLS}"), &told),
    ] {
        let allowed = serve(room.path(), &sections, words).await;
        assert_eq!(allowed.code, Some(1), "{allowed:?}");
        assert!(allowed.stderr.contains(&format!("cannot listen on {NETWORK}: ")), "{allowed:?}");
    }
}

#[tokio::test]
async fn a_policy_that_is_wrong_is_the_only_fault_of_who_meant_to_have_one() {
    let room = room();
    let server = format!("[server]\nlisten = [\"{NETWORK}\"]\n{TLS}");
    let broken = "[policy]\nfile = \"broken.cedar\"\n";
    let refused = serve(room.path(), &format!("{server}{broken}"), &[]).await;
    assert_eq!(refused.code, Some(78), "{refused:?}");
    let [_, fault] = refused.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{refused:?}") };
    assert!(fault.starts_with("policy.file (line 7): broken.cedar: "), "{fault}");
    // To be told to go without does not make a wrong one right.
    let refused = serve(room.path(), &format!("{server}{broken}"), &["--allow-unauthenticated"]).await;
    assert_eq!(refused.code, Some(78), "{refused:?}");
}
