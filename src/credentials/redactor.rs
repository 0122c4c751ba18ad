//! Leaves secrets out of what somebody says who was sent them.
//!
//! What quotes a secret need not do so in the spelling in which it was sent, nor whole. So text and secret are
//! compared in one spelling, percent-encoding and the escapes of JSON undone and the case of letters ignored,
//! and a secret is known by any [`PIECE`] bytes of it, or of its base64, that are not mere padding. Rather too
//! much is left out than too little: with a piece goes the whole run of characters around it of which tokens are
//! made.

use std::{borrow::Cow, iter::successors};

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use zeroize::Zeroizing;

/// By how many bytes a secret is known; a shorter one, and one of padding only, by all that it has.
const PIECE: usize = size_of::<u64>();

/// What is shorter is no secret, and would be found in every other word.
const SHORTEST: usize = 4;

/// How many spellings on top of one another are undone: `%255C%252F` is three.
const LAYERS: usize = 5;

const LEFT_OUT: &str = "[left out]";

/// Knows secrets in any spelling. It does not print, and what it knows is wiped when it is dropped.
pub struct Redactor {
    /// In order.
    pieces: Zeroizing<Vec<u64>>,
    short: Vec<Zeroizing<Vec<u8>>>,
}

impl Redactor {
    /// One that leaves out each of these.
    #[must_use]
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut known = Self { pieces: Zeroizing::default(), short: Vec::new() };
        for secret in secrets.into_iter().filter(|secret| secret.len() >= SHORTEST) {
            known.learn(secret);
            for encoded in in_base64(secret.as_bytes()) {
                known.learn(&encoded);
            }
        }
        known.pieces.sort_unstable();
        known.pieces.dedup();
        known
    }

    fn learn(&mut self, spelling: &str) {
        for layer in layers(spelling) {
            let before = self.pieces.len();
            self.pieces.reserve(layer.bytes.len());
            self.pieces.extend(layer.bytes.windows(PIECE).filter(|piece| !is_padding(piece)).map(number));
            if self.pieces.len() > before {
                continue;
            }
            if layer.bytes.len() >= SHORTEST {
                self.short.push(layer.bytes);
            }
        }
    }

    /// The text without the secrets.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut found: Vec<_> = layers(text).flat_map(|layer| self.found_in(&layer)).collect();
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        found.sort_unstable();
        let (mut redacted, mut told) = (String::new(), 0);
        for (start, end) in found {
            if end <= told {
                continue;
            }
            let start = begin_of_run(text, told, start);
            // What is left out already may go on.
            if start > told || told == 0 {
                redacted.push_str(&text[told..start]);
                redacted.push_str(LEFT_OUT);
            }
            told = end_of_run(text, end);
        }
        redacted.push_str(&text[told..]);
        Cow::Owned(redacted)
    }

    /// From where to where, in the text that was decoded.
    fn found_in(&self, layer: &Layer) -> Vec<(usize, usize)> {
        let Layer { bytes, starts } = layer;
        let of_length = |length, is_known: &dyn Fn(&[u8]) -> bool| {
            let windows = bytes.windows(length).enumerate();
            let known = windows.filter(|(_, window)| is_known(window));
            known.map(|(at, _)| (starts[at], starts[at + length])).collect::<Vec<_>>()
        };
        let mut found = of_length(PIECE, &|window| self.pieces.binary_search(&number(window)).is_ok());
        for short in &self.short {
            found.extend(of_length(short.len(), &|window| window == short.as_slice()));
        }
        found
    }
}

/// What is in base64 of a secret wherever it begins there. What is not whole depends on what comes next.
fn in_base64(secret: &[u8]) -> impl Iterator<Item = Zeroizing<String>> {
    let within = (0..3).map(|skipped| &secret[skipped..]).map(|rest| &rest[..rest.len() / 3 * 3]);
    let texts = within.filter(|rest| !rest.is_empty()).chain([secret]);
    texts.map(|text| Zeroizing::new(BASE64_STANDARD_NO_PAD.encode(text)))
}

/// Whether more than half of a piece is one byte over and over: the tokens of a metadata server end in a row of
/// dots, and others have such rows too.
fn is_padding(piece: &[u8]) -> bool {
    piece.iter().any(|byte| 2 * piece.iter().filter(|other| *other == byte).count() > PIECE)
}

fn number(piece: &[u8]) -> u64 {
    piece.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn begin_of_run(text: &str, from: usize, at: usize) -> usize {
    let at = at.max(from);
    let run = text.as_bytes()[from..at].iter().rev().take_while(|byte| is_of_run(**byte)).count();
    text.floor_char_boundary(at - run)
}

fn end_of_run(text: &str, at: usize) -> usize {
    let run = text.as_bytes()[at..].iter().take_while(|byte| is_of_run(**byte)).count();
    text.ceil_char_boundary(at + run)
}

/// Whether it may stand within a token, or a spelling of one.
fn is_of_run(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=%\\".contains(&byte)
}

/// A text with some of its spellings undone.
struct Layer {
    /// Folded.
    bytes: Zeroizing<Vec<u8>>,
    /// Where each of the bytes begins in the text that it was decoded from, and where the last one ends.
    starts: Vec<usize>,
}

/// The text as it is, and with one spelling after another undone.
fn layers(text: &str) -> impl Iterator<Item = Layer> {
    let bytes = Zeroizing::new(text.bytes().map(folded).collect::<Vec<_>>());
    let outermost = Layer { bytes, starts: (0..=text.len()).collect() };
    successors(Some(outermost), Layer::decoded).take(LAYERS)
}

impl Layer {
    /// `None` when there is nothing to decode.
    fn decoded(&self) -> Option<Self> {
        self.bytes.iter().find(|byte| matches!(byte, b'%' | b'\\'))?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.bytes.len()));
        let mut starts = Vec::with_capacity(self.starts.len());
        let mut at = 0;
        while let Some(byte) = self.bytes.get(at) {
            let (character, length) = escaped(&self.bytes[at..]).unwrap_or((Character::Byte(*byte), 1));
            let mut buffer = [0; 4];
            let decoded = match character {
                Character::Byte(byte) => &[byte][..],
                Character::Unicode(character) => character.encode_utf8(&mut buffer).as_bytes(),
            };
            bytes.extend(decoded.iter().copied().map(folded));
            starts.resize(bytes.len(), self.starts[at]);
            at += length;
        }
        starts.extend(self.starts.last());
        (bytes.len() < self.bytes.len()).then_some(Self { bytes, starts })
    }
}

enum Character {
    Byte(u8),
    Unicode(char),
}

/// What an escape stands for, and its length; `None` when the text does not begin with one.
fn escaped(text: &[u8]) -> Option<(Character, usize)> {
    let hex = |digits: &[u8]| {
        digits.iter().try_fold(0, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
    };
    match text {
        [b'%', high, low, ..] => Some((Character::Byte(u8::try_from(hex(&[*high, *low])?).ok()?), 3)),
        [b'\\', b'u', a, b, c, d, ..] => {
            Some((Character::Unicode(char::from_u32(hex(&[*a, *b, *c, *d])?)?), 6))
        }
        [b'\\', next, ..] => Some((Character::Byte(*next), 2)),
        _ => None,
    }
}

/// Alike for what one spelling may write for another: the cases of letters, a space as `+`, the two
/// alphabets of base64.
fn folded(byte: u8) -> u8 {
    match byte {
        b'+' | b'-' | b' ' => b'-',
        b'/' | b'_' => b'_',
        other => other.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests;
