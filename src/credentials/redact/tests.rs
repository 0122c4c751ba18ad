use super::Redactor;

const SECRET: &str = "ya29.A/b+c-dEfGhIjKl_e~f=gHiMnOpQrSt";

#[test]
fn the_run_around_a_secret_is_masked() {
    let redactor = Redactor::of([SECRET]);
    for (before, after) in
        [("", ""), ("bad '", "'"), ("see \u{e9}", "\u{e9}!"), ("a b ", " c d"), ("t%3D", "%26")]
    {
        for secret in [SECRET, &SECRET[..8], &SECRET[10..]] {
            let redacted = redactor.redact(&format!("{before}{secret}{after}")).into_owned();
            let run = before.trim_start_matches("t%");
            let (before, after) = if run == before { (before, after) } else { ("t%", "%26") };
            assert_eq!(redacted, format!("{before}[left out]{after}"), "{secret}");
        }
    }
}

#[test]
fn a_shorter_part_stays() {
    let redactor = Redactor::of([SECRET]);
    for part in [&SECRET[..7], &SECRET[12..19]] {
        assert_eq!(redactor.redact(part), part);
    }
}

#[test]
fn a_text_without_a_secret_stays() {
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
fn a_text_that_resembles_the_padding_of_a_secret_stays() {
    let token = format!("ya29.c.c0ASRK0GZwxyzLoadxng{}", ".".repeat(80));
    let redactor = Redactor::of([&*token]);
    for text in
        ["Caller has no permission ........ Uploading.......... wait", "================", "xyz..........."]
    {
        assert_eq!(redactor.redact(text), text);
    }
    assert_eq!(redactor.redact(&format!("token {token} is bad")), "token [left out] is bad");
    assert_eq!(redactor.redact(&format!("token {} is bad", &token[..20])), "token [left out] is bad");
}
