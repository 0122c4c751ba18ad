//! The search for secrets in the output of the service, and a test of the search.

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::lifecycle::{google::Seen, key::Key};

/// The length of a matched run. A shorter run of a key or an assertion reveals nothing or matches by chance.
const RUN: usize = 40;

/// Texts that must not be printed, each with its description.
pub(super) struct SecretPatterns(Vec<(&'static str, String)>);

impl SecretPatterns {
    /// The issued tokens, the keys, and `others`.
    pub(super) fn new(seen: Seen, keys: &[&Key], others: &[&str]) -> Self {
        let mut secrets = Vec::new();
        for key in keys {
            for line in key.secret_lines().iter().filter(|line| line.len() >= RUN) {
                let runs = (0..=line.len() - RUN).map(|from| &line[from..from + RUN]);
                secrets.extend(runs.map(|run| ("a private key", run.to_owned())));
            }
        }
        for token in &seen.tokens {
            // The prefix is the same for every token. Without it, a part of a token is found too.
            let token = &token["ya29.c.".len()..];
            let percent: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let base64 = (0..3).map(|skipped| BASE64_STANDARD.encode(&token[skipped..][..RUN / 4 * 3]));
            let plain = [token[..RUN].to_owned(), percent[..RUN].to_owned()];
            secrets.extend(base64.chain(plain).map(|encoding| ("an access token", encoding)));
        }
        let last = |text: &str| text.rsplit(' ').next().unwrap_or(text).to_owned();
        secrets.extend(others.iter().map(|other| ("another secret", last(other))));
        Self(secrets)
    }

    /// The secrets in `text`, each with its line.
    pub(super) fn found_in(&self, text: &str) -> Vec<String> {
        let of_line = |line: &str| {
            let known = self.0.iter().find(|(_, secret)| line.contains(secret)).map(|(name, _)| *name);
            known.or(has_assertion(line).then_some("an assertion"))
        };
        text.lines().filter_map(|line| of_line(line).map(|name| format!("{name}: {line}"))).collect()
    }
}

/// Whether the line has a JWT: the base64url of `{"`, and more characters than a header.
fn has_assertion(line: &str) -> bool {
    let in_jwt = |c: char| c.is_ascii_alphanumeric() || "-_=.".contains(c);
    line.match_indices("eyJ").any(|(at, _)| line[at..].chars().take_while(|c| in_jwt(*c)).count() > RUN)
}

#[test]
fn the_search_finds_each_kind_of_secret() {
    let key = Key::generate();
    let token = format!("ya29.c.{}", "x1".repeat(48));
    let seen = Seen { tokens: vec![token.clone()], ..Seen::default() };
    let secrets = SecretPatterns::new(seen, &[&key], &["Bearer callers-own", "hunter2"]);
    for leak in [
        format!("DEBUG Bearer {token}"),
        BASE64_STANDARD.encode(format!("Bearer {token}")),
        token.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        format!("the key {}…", &key.secret_lines()[7][9..50]),
        key.file("http://127.0.0.1/token"),
        format!("assertion=eyJhbGciOi{}", "J9".repeat(20)),
        "authorization: \"Bearer callers-own\"".to_owned(),
        r#"{"newPassword":"hunter2"}"#.to_owned(),
    ] {
        assert!(!secrets.found_in(&format!("fine\n{leak}\nfine")).is_empty(), "{leak}");
    }
    for harmless in ["token fetched lifetime_s=3600", "eyJ is a prefix", "Bearer [redacted]", "ya29"] {
        assert!(secrets.found_in(harmless).is_empty(), "{harmless}");
    }
}
