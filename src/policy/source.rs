//! The text of a policy file, as far as it must be understood before Cedar's parser reads it: where its
//! statements stand, and whether one of them is nested so deeply that the parser, which is recursive, would
//! run out of stack and take the process with it.

use std::ops::Range;

/// The most brackets and `if`s that may be open at once.
const DEEPEST: usize = 64;

/// The most characters of operators in a statement: each can make the expression a level deeper.
const MOST_OPERATORS: usize = 1000;

/// A text and its statements.
pub(super) struct Source<'a> {
    text: &'a str,
    statements: Vec<Range<usize>>,
    too_deep: Option<usize>,
}

impl<'a> Source<'a> {
    pub(super) fn scan(text: &'a str) -> Self {
        let mut scan = Scan::default();
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            at = scan.step(bytes, at);
        }
        Self { text, statements: scan.statements, too_deep: scan.too_deep }
    }

    /// The statement of this number, from 0, without the comments before it.
    pub(super) fn statement(&self, number: usize) -> Range<usize> {
        self.statements.get(number).cloned().unwrap_or_default()
    }

    pub(super) fn text(&self, range: Range<usize>) -> &'a str {
        self.text.get(range).unwrap_or_default()
    }

    /// Where a statement becomes too deep or too long to be handed to the parser.
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
struct Scan {
    statements: Vec<Range<usize>>,
    start: Option<usize>,
    depth: usize,
    operators: usize,
    too_deep: Option<usize>,
}

impl Scan {
    /// Reads one token, and answers where the next one begins. All that matters here is ASCII.
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
            b'"' => string(rest),
            b if is_of_word(b) => rest.iter().position(|b| !is_of_word(*b)).unwrap_or(rest.len()),
            _ => 1,
        };
        match &rest[..length] {
            // An `if` has no end of its own: its `else` goes as far as the expression.
            b"(" | b"[" | b"{" | b"if" => self.depth += 1,
            b")" | b"]" | b"}" => self.depth = self.depth.saturating_sub(1),
            b"&" | b"|" | b"+" | b"-" | b"*" | b"." | b"when" | b"unless" => self.operators += 1,
            b";" => {
                self.statements.push(start..at + 1);
                (self.start, self.depth, self.operators) = (None, 0, 0);
            }
            _ => {}
        }
        if self.depth > DEEPEST || self.operators > MOST_OPERATORS {
            self.too_deep.get_or_insert(at);
        }
        at + length
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The length of a string, both quotes included, or that of the rest when it has no end.
fn string(rest: &[u8]) -> usize {
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
