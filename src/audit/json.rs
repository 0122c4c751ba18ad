//! Writes JSON in printable ASCII. All other characters are escaped, so that a client's text cannot end a line or
//! control a terminal.
//!
//! Most strings need no escape. They are scanned once and copied.

use std::{fmt::Display, io::Write};

/// The initial capacity: the length of a typical line with a margin.
const INITIAL_CAPACITY: usize = 512;

/// An object that is being written.
pub(super) struct Object(Vec<u8>);

impl Object {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(INITIAL_CAPACITY))
    }

    /// Adds a string.
    pub(super) fn text(&mut self, key: &'static str, text: &str) {
        self.begin(key);
        self.string(text);
    }

    /// Adds a string, if there is one.
    pub(super) fn text_if(&mut self, key: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    /// Adds the `Display` of a value as a string.
    pub(super) fn display(&mut self, key: &'static str, value: impl Display) {
        self.begin(key);
        self.0.push(b'"');
        let start = self.0.len();
        self.write(value);
        if are_plain(&self.0[start..]) {
            self.0.push(b'"');
        } else {
            let text = String::from_utf8_lossy(&self.0[start..]).into_owned();
            self.0.truncate(start - 1);
            self.string(&text);
        }
    }

    /// Adds a string that needs no escape.
    pub(super) fn plain(&mut self, key: &'static str, text: &[u8]) {
        debug_assert!(are_plain(text), "{}", text.escape_ascii());
        self.begin(key);
        self.0.push(b'"');
        self.0.extend_from_slice(text);
        self.0.push(b'"');
    }

    /// Adds a whole number.
    pub(super) fn number(&mut self, key: &'static str, number: u64) {
        self.begin(key);
        self.digits(number, 1);
    }

    /// Adds a number of thousandths as a decimal with three fraction digits.
    pub(super) fn thousandths(&mut self, key: &'static str, number: u64) {
        self.begin(key);
        self.digits(number / 1000, 1);
        self.0.push(b'.');
        self.digits(number % 1000, 3);
    }

    /// Writes a number with at least `width` digits. This is several times faster than the formatter of `Display`.
    fn digits(&mut self, mut number: u64, width: usize) {
        // The maximum number of digits of a u64.
        let mut digits = [b'0'; 20];
        let mut start = digits.len();
        while number > 0 || digits.len() - start < width {
            start -= 1;
            digits[start] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        self.0.extend_from_slice(&digits[start..]);
    }

    /// Adds a value whose `Display` is JSON: a number or a boolean.
    pub(super) fn bare(&mut self, key: &'static str, value: impl Display) {
        self.begin(key);
        self.write(value);
    }

    /// Adds an array of strings, unless it is empty.
    pub(super) fn texts_if(&mut self, key: &'static str, texts: &[String]) {
        for (index, text) in texts.iter().enumerate() {
            if index == 0 {
                self.begin(key);
                self.0.push(b'[');
            } else {
                self.0.push(b',');
            }
            self.string(text);
        }
        if !texts.is_empty() {
            self.0.push(b']');
        }
    }

    /// The complete object, with a newline.
    pub(super) fn line(mut self) -> Vec<u8> {
        if self.0.is_empty() {
            self.0.push(b'{');
        }
        self.0.extend_from_slice(b"}\n");
        self.0
    }

    fn begin(&mut self, key: &'static str) {
        self.0.extend_from_slice(if self.0.is_empty() { b"{\"" } else { b",\"" });
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn string(&mut self, text: &str) {
        self.0.push(b'"');
        if are_plain(text.as_bytes()) {
            self.0.extend_from_slice(text.as_bytes());
        } else {
            for unit in text.encode_utf16() {
                match u8::try_from(unit) {
                    Ok(byte) if is_plain(&byte) => self.0.push(byte),
                    _ => self.write(format_args!("\\u{unit:04x}")),
                }
            }
        }
        self.0.push(b'"');
    }

    fn write(&mut self, value: impl Display) {
        write!(self.0, "{value}").expect("a write to a Vec and the Display of the values do not fail");
    }
}

/// Whether every byte [`is_plain`]. Checks all bytes, so that the compiler can vectorize the loop.
fn are_plain(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |plain, byte| plain & is_plain(byte))
}

/// Whether the byte is printable ASCII and needs no escape in a JSON string.
fn is_plain(byte: &u8) -> bool {
    (b' '..=b'~').contains(byte) & (*byte != b'"') & (*byte != b'\\')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::Object;

    fn parsed(object: Object) -> Value {
        let line = object.line();
        assert!(
            line.ends_with(b"}\n") && line[..line.len() - 1].iter().all(|byte| (b' '..=b'~').contains(byte))
        );
        serde_json::from_slice(&line).expect("JSON")
    }

    #[test]
    fn an_object_has_its_members_and_no_others() {
        assert_eq!(parsed(Object::new()), json!({}));
        let mut object = Object::new();
        object.text("text", "plain");
        object.text_if("absent", None);
        object.text_if("present", Some(""));
        object.display("display", 17);
        object.bare("number", 0.25);
        object.number("whole", 17);
        object.number("largest", u64::MAX);
        object.number("zero", 0);
        object.thousandths("thousandths", 60_025);
        object.plain("plain", b"as it is");
        object.texts_if("none", &[]);
        object.texts_if("some", &["a".to_owned(), "\"".to_owned()]);
        let want = json!({
            "text": "plain", "present": "", "display": "17", "number": 0.25, "whole": 17,
            "largest": u64::MAX, "zero": 0, "thousandths": 60.025, "plain": "as it is", "some": ["a", "\""],
        });
        assert_eq!(parsed(object), want);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_back_unchanged(text in any::<String>()) {
            let mut object = Object::new();
            object.text("text", &text);
            object.display("display", &text);
            object.texts_if("texts", std::slice::from_ref(&text));
            prop_assert_eq!(parsed(object), json!({"text": text, "display": text, "texts": [text]}));
        }
    }
}
