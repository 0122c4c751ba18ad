//! The search for secrets in the output of the service, and the test that it finds them.

use std::collections::HashMap;

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD, prelude::BASE64_URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// The length of the pieces that identify a secret. Any part of a secret that is twice as long holds a whole piece.
const PIECE: usize = 20;

/// No permitted output has a run of base64url characters this long. A signature has.
const BLOB: usize = 64;

/// Pieces of secrets, each with the name of its secret.
pub(crate) struct Secrets {
    whole: HashMap<Vec<u8>, &'static str>,
    /// The secrets that are shorter than a piece.
    short: HashMap<String, &'static str>,
}

impl Secrets {
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = (&'static str, &'a str)>) -> Self {
        let (mut whole, mut short) = (HashMap::new(), HashMap::new());
        for (name, secret) in secrets {
            // A PEM may leak line by line. Its first and last line, and the prefix of an access token, are not secret.
            let lines = secret.lines().filter(|line| !line.starts_with("-----"));
            for part in lines.flat_map(|line| line.split('.')).filter(|part| part.len() > 8) {
                for form in forms(part) {
                    for piece in pieces(&form) {
                        match piece.len() {
                            PIECE => whole.insert(piece.as_bytes().to_vec(), name),
                            _ => short.insert(piece.to_owned(), name),
                        };
                    }
                }
            }
        }
        Self { whole, short }
    }

    /// The secrets in `text`, each with its line.
    pub(crate) fn found_in(&self, text: &str) -> Vec<String> {
        let windows = text.as_bytes().windows(PIECE);
        let whole = windows.filter_map(|window| {
            let name = self.whole.get(window)?;
            Some((str::from_utf8(window).ok()?, name))
        });
        let short = self.short.iter().filter(|(piece, _)| text.contains(piece.as_str()));
        let known = whole.chain(short.map(|(piece, name)| (piece.as_str(), name)));
        let mut found: Vec<_> = known.map(|(piece, name)| finding(name, piece, text)).collect();
        let is_blob = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let blobs = text.split(|c| !is_blob(c)).filter(|run| run.len() >= BLOB);
        found.extend(blobs.map(|blob| finding("a signature or a token", blob, text)));
        found
    }
}

fn finding(name: &str, piece: &str, text: &str) -> String {
    let line = text.lines().find(|line| line.contains(piece)).unwrap_or_default();
    format!("{name}: {piece}: {line}")
}

/// The secret unencoded, percent-encoded, and in base64 at each of the three alignments.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string()];
    for skipped in 0..3 {
        let rest = &secret.as_bytes()[skipped..];
        // An incomplete group of three bytes is left out, because its encoding depends on the next bytes.
        let rest = &rest[..rest.len() / 3 * 3];
        forms.push(BASE64_STANDARD_NO_PAD.encode(rest));
        forms.push(BASE64_URL_SAFE_NO_PAD.encode(rest));
    }
    forms
}

/// The pieces of a text, or the text when it is short. All are ASCII.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let last = text.len().saturating_sub(PIECE);
    let starts = (0..last).step_by(PIECE).chain([last]);
    starts.map(|start| &text[start..text.len().min(start + PIECE)])
}

#[test]
fn each_form_of_a_secret_is_found() {
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{line}\n-----END PRIVATE KEY-----\n");
    let token = format!("ya29.c.{}", "Xy7-".repeat(32));
    let refresh = "1//0abcdefghijklmnopqrstuvwxyz-_0123456789";
    let secrets =
        Secrets::new([("key", &*pem), ("token", &token), ("refresh", refresh), ("short", "hunter2-3")]);
    let percent = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    for leak in [
        pem.replace('\n', "\\n"),
        format!("{{{}}}", &line[7..50]),
        format!("Bearer {token}"),
        token[9..60].to_owned(),
        format!("refresh_token={refresh}&"),
        percent(refresh),
        BASE64_STANDARD_NO_PAD.encode(format!("a{refresh}b")),
        BASE64_URL_SAFE_NO_PAD.encode(format!("ab{token}")),
        BASE64_STANDARD_NO_PAD.encode(&pem),
        "p=hunter2-3".to_owned(),
        format!("signature {}", "Zz0_".repeat(16)),
    ] {
        assert!(!secrets.found_in(&format!("fine\n{leak}\nfine")).is_empty(), "{leak}");
    }
    for harmless in
        ["token fetched lifetime_s=3600", "ya29.c.", "-----BEGIN PRIVATE KEY-----", "Bearer [redacted]"]
    {
        assert_eq!(secrets.found_in(harmless), Vec::<String>::new(), "{harmless}");
    }
}
