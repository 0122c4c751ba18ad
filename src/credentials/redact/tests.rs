use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Redactor;

/// With characters that an encoding writes in another way.
const SECRET: &str = r#"ya29.A/b+c-dEfGhIjKl_e~f=g%2Fh\iMnOpQrSt"#;

#[test]
fn each_encoding_is_removed() {
    let json = |text: &str| serde_json::Value::from(text).to_string().trim_matches('"').to_owned();
    for secret in [SECRET, "subject~token", "1//0abcdefghijklmnopqrstuvwxyz"] {
        let redactor = Redactor::of([secret]);
        let percent = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
        for quoted in [
            secret.to_owned(),
            secret.to_ascii_uppercase(),
            percent.to_lowercase(),
            percent,
            form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
            json(secret),
            json(secret).replace('/', "\\/"),
            BASE64_STANDARD.encode(secret),
            BASE64_URL_SAFE_NO_PAD.encode(secret),
            BASE64_STANDARD.encode(format!("client:{secret}")),
            BASE64_STANDARD.encode(format!("Bearer {secret}")),
            BASE64_STANDARD.encode(format!("{secret}&more")),
        ] {
            for (before, after) in [("", ""), ("bad '", "'"), ("see \u{e9}", "\u{e9}!"), ("a b ", " c d")] {
                let redacted = redactor.redact(&format!("{before}{quoted}{after}")).into_owned();
                assert_eq!(redacted, format!("{before}[left out]{after}"), "{secret} as {quoted}");
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
    let folded: Vec<_> =
        secret.as_bytes().chunks(10).map(|line| str::from_utf8(line).expect("ASCII")).collect();
    assert_eq!(redactor.redact(&folded.join("\n")), "[left out]\n[left out]\n[left out]\n[left out]");
    assert_eq!(redactor.redact(&format!("t={secret}&t={secret}.")), "[left out]&[left out]");
}

#[test]
fn every_other_text_stays() {
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
fn so_does_a_text_that_resembles_the_padding_of_a_secret() {
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
