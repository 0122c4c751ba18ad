//! What looks like a secret is not shown, whichever setting it was pasted into. All that is told of a
//! configuration passes here once it is worded, so that no reader of a setting has to think of it.

/// Stands where a secret may have stood.
pub(super) const NOT_SHOWN: &str = "(not shown here: it looks like a secret)";

/// How JSON and PEM begin in base64, the form in which secrets are often handed on: of `{"`, `{` and a line
/// feed and a space or a tab, `{` and CR LF, `-----BEGIN`.
pub(super) const IN_BASE64: [&str; 5] = ["eyJ", "ewog", "ewoJ", "ew0K", "LS0tLS1CRUdJ"];

/// How PEM begins.
pub(super) const PEM: &str = "-----BEGIN";

/// How Google's refresh tokens, access tokens, client secrets and API keys begin.
const GOOGLES: [&str; 4] = ["1//0", "ya29.", "GOCSPX-", "AIza"];

/// The longest value that is shown, and the longest part of one with slashes, as paths and URLs have.
const LONGEST: usize = 120;

/// Of so many characters in a row, base64 of a key changes between capitals, small letters and digits some
/// twenty times; names, also those in a path, far less often than [`CHANGES`].
const ROW: usize = 32;
const CHANGES: usize = 13;

/// The text without what looks like a secret: between double quotes, as `{:?}` writes a value, or a word.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, quoted)) = rest.split_once('"') {
        shown.push_str(&words(before));
        let end = end_of_quote(quoted).unwrap_or(quoted.len());
        if is_secret(&quoted[..end]) {
            shown.push_str(NOT_SHOWN);
        } else {
            shown.extend(["\"", &quoted[..end], quoted.get(end..=end).unwrap_or_default()]);
        }
        rest = quoted.get(end + 1..).unwrap_or_default();
    }
    shown + &words(rest)
}

fn words(text: &str) -> String {
    let words = text.split_inclusive(char::is_whitespace);
    words
        .map(|word| if holds_token(word) { word.replace(word.trim_end(), NOT_SHOWN) } else { word.into() })
        .collect()
}

fn end_of_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

/// Whether a value, with its quotes and control characters escaped, looks like a secret or what holds one.
pub(super) fn is_secret(escaped: &str) -> bool {
    let begin = escaped.trim_start_matches(|c: char| c.is_whitespace() || c == '\'');
    let mut after_quotes = escaped.split("\\\"").skip(1);
    begin.starts_with('{')
        || after_quotes.any(|after| after.trim_start().starts_with(':'))
        || ["\\n", "\\r"].iter().any(|line_break| escaped.contains(line_break))
        || escaped.split('/').any(|part| part.len() > LONGEST)
        || holds_token(begin)
}

fn holds_token(text: &str) -> bool {
    IN_BASE64.iter().any(|begin| text.starts_with(begin))
        || GOOGLES.iter().any(|begin| text.contains(begin))
        || text.contains(PEM)
        || has_random_row(text.as_bytes())
}

fn has_random_row(text: &[u8]) -> bool {
    let in_row = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(byte);
    text.split(|byte| !in_row(byte)).flat_map(|row| row.windows(ROW)).any(is_random)
}

/// Without both capitals and small letters, it is rather an id.
fn is_random(row: &[u8]) -> bool {
    let kind = |byte: u8| (byte.is_ascii_uppercase(), byte.is_ascii_lowercase(), byte.is_ascii_digit());
    let changes = row
        .windows(2)
        .filter(|pair| pair.iter().all(u8::is_ascii_alphanumeric) && kind(pair[0]) != kind(pair[1]));
    changes.count() >= CHANGES
        && row.iter().any(u8::is_ascii_uppercase)
        && row.iter().any(u8::is_ascii_lowercase)
}
