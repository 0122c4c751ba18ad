use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Redactor;

/// With every character that a spelling may write in another way.
const SECRET: &str = r#"ya29.A/b+c-d_e~f=g%2Fh\i"j k:l&m?n;o<p>é{q}"#;

fn percent(text: &str, set: &'static AsciiSet) -> String {
    utf8_percent_encode(text, set).to_string()
}

fn spellings(secret: &str) -> Vec<String> {
    const SOME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_');
    let json = |text: &str| serde_json::Value::from(text).to_string().trim_matches('"').to_owned();
    let all = percent(secret, NON_ALPHANUMERIC);
    let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let unicode: String = secret.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
    vec![
        secret.to_owned(),
        secret.to_ascii_uppercase(),
        all.clone(),
        all.to_lowercase(),
        percent(secret, SOME),
        percent(&all, NON_ALPHANUMERIC),
        form.clone(),
        percent(&form, NON_ALPHANUMERIC),
        json(secret),
        json(&json(secret)),
        json(secret).replace('/', "\\/"),
        percent(&json(secret), NON_ALPHANUMERIC),
        unicode,
        BASE64_STANDARD.encode(secret),
        BASE64_URL_SAFE_NO_PAD.encode(secret),
        BASE64_STANDARD.encode(format!("client:{secret}")),
        BASE64_STANDARD.encode(format!("Bearer {secret}")),
        BASE64_STANDARD.encode(format!("{secret}&more")),
        percent(&BASE64_STANDARD.encode(secret), NON_ALPHANUMERIC),
        json(&BASE64_STANDARD.encode(secret)).replace('/', "\\/"),
    ]
}

#[test]
fn each_spelling_is_left_out() {
    for secret in [SECRET, "subject~token", "1//0abcdefghijklmnopqrstuvwxyz", "cs+/1&2", "hunt5"] {
        let redactor = Redactor::of([secret]);
        for spelling in spellings(secret) {
            for (before, after) in [("", ""), ("bad '", "'"), ("see \u{e9}", "\u{e9}!"), ("a b ", " c d")] {
                let told = redactor.redact(&format!("{before}{spelling}{after}")).into_owned();
                assert!(told.contains("[left out]"), "{secret} as {spelling}: {told}");
                let rest = told.replace("[left out]", "");
                assert!(rest.len() <= before.len() + after.len(), "{secret} as {spelling}: {told}");
            }
        }
    }
}

#[test]
fn so_is_a_part_of_it() {
    let secret = "1//0AbCdEfGhIjKlMnOpQrStUvWxYz0123456789";
    let redactor = Redactor::of([secret]);
    assert_eq!(redactor.redact(&format!("of {}… and", &secret[..12])), "of [left out]… and");
    assert_eq!(redactor.redact(&format!("of …{}", &secret[20..])), "of …[left out]");
    let folded: Vec<_> = secret.as_bytes().chunks(10).map(|line| str::from_utf8(line).unwrap()).collect();
    assert_eq!(redactor.redact(&folded.join("\n")), "[left out]\n[left out]\n[left out]\n[left out]");
    assert_eq!(redactor.redact(&format!("t={secret}&t={secret}.")), "[left out]&[left out]");
}

#[test]
fn all_else_is_told_as_it_is() {
    let redactor = Redactor::of([SECRET, "", "abc"]);
    for text in [
        "",
        "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
        "100% of abc \\ %zz %",
        "\u{e9}\\u00e9%C3%A9\\",
    ] {
        assert_eq!(redactor.redact(text), text);
    }
    assert_eq!(Redactor::of([]).redact("anything"), "anything");
}

#[test]
fn so_is_what_only_resembles_the_padding_of_a_secret() {
    let token = format!("ya29.c.c0ASRK0GZwxyzLoadxng{}", ".".repeat(80));
    let redactor = Redactor::of([&*token]);
    for text in
        ["Caller has no permission ........ Uploading.......... wait", "================", "xyz..........."]
    {
        assert_eq!(redactor.redact(text), text);
    }
    assert_eq!(redactor.redact(&format!("token {token} is bad")), "token [left out] is bad");
    assert_eq!(redactor.redact(&format!("token {} is bad", &token[12..30])), "token [left out] is bad");
}

#[test]
fn a_secret_of_one_character_is_left_out_whole() {
    let redactor = Redactor::of(["aaaaaaaaaaaa"]);
    assert_eq!(redactor.redact("of aaaaaaaaaaaa and aaaaaaaa"), "of [left out] and aaaaaaaa");
}
