//! Scans a policy file before Cedar parses it, for the ranges of its statements and for their nesting. Cedar's parser
//! is recursive: a statement that is nested too deeply would overflow the stack and end the process.

use std::ops::Range;

/// The maximum of nested brackets and `if`s.
const MAX_DEPTH: usize = 64;

/// The maximum of operators in a statement. Each operator can nest the expression one level deeper.
const MAX_OPERATORS: usize = 1000;

/// A text and its statements.
pub(super) struct ScannedText<'a> {
    text: &'a str,
    statements: Vec<Range<usize>>,
    too_deep: Option<usize>,
}

impl<'a> ScannedText<'a> {
    pub(super) fn scan(text: &'a str) -> Self {
        let mut scanner = Scanner::default();
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            at = scanner.step(bytes, at);
        }
        Self { text, statements: scanner.statements, too_deep: scanner.too_deep }
    }

    /// The offset and the text of the statement with this number, from 0, without the comments before it.
    pub(super) fn statement(&self, number: usize) -> (usize, &'a str) {
        let range = self.statements.get(number).cloned().unwrap_or_default();
        (range.start, self.text.get(range).unwrap_or_default())
    }

    /// The offset at which a statement exceeds a limit.
    pub(super) fn too_deep(&self) -> Option<usize> {
        self.too_deep
    }

    /// Both from 1; the column counts characters.
    pub(super) fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        (line, column)
    }
}

#[derive(Default)]
struct Scanner {
    statements: Vec<Range<usize>>,
    start: Option<usize>,
    depth: usize,
    operators: usize,
    too_deep: Option<usize>,
}

impl Scanner {
    /// Reads one token and returns the offset of the next. Every significant character is ASCII.
    fn step(&mut self, bytes: &[u8], at: usize) -> usize {
        let rest = &bytes[at..];
        match rest[0] {
            b if b.is_ascii_whitespace() => return at + 1,
            b'/' if rest.get(1) == Some(&b'/') => {
                return at + rest.iter().position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(rest.len());
            }
            _ => {}
        }
        let start = *self.start.get_or_insert(at);
        let length = match rest[0] {
            b'"' => string_length(rest),
            b if is_word(b) => rest.iter().position(|b| !is_word(*b)).unwrap_or(rest.len()),
            _ => 1,
        };
        match &rest[..length] {
            // An `if` has no closing token: its `else` extends to the end of the expression.
            b"(" | b"[" | b"{" | b"if" => self.depth += 1,
            b")" | b"]" | b"}" => self.depth = self.depth.saturating_sub(1),
            b"&" | b"|" | b"+" | b"-" | b"*" | b"." | b"when" | b"unless" => self.operators += 1,
            b";" => {
                self.statements.push(start..at + 1);
                (self.start, self.depth, self.operators) = (None, 0, 0);
            }
            _ => {}
        }
        if self.depth > MAX_DEPTH || self.operators > MAX_OPERATORS {
            self.too_deep.get_or_insert(at);
        }
        at + length
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The length of a string with both quotes, or of the rest if the string has no end.
fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}
