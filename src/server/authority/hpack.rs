//! Finds the literal values of `:authority` in header blocks (RFC 7541, section 6).
//!
//! The reader needs no dynamic table, because the bytes of an instruction define its length. A literal whose name is an
//! entry of the dynamic table is not found. The name is in the static table, which encoders search first.

use super::Malformed;

/// The index of `:authority` in the static table (RFC 7541, appendix A).
const AUTHORITY_INDEX: u32 = 1;

/// `:authority` as a literal name, plain and Huffman-coded.
const NAME: &[u8] = b":authority";
const CODED_NAME: &[u8] = &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];

/// The maximum shift of the bits of an integer. The maximum is that of h2, and fits every length.
const MAX_SHIFT: u32 = 21;

/// The maximum length of a value that is found, in coded bytes. The path of a unix socket has at most 108 bytes, or
/// 324 when it is percent-encoded.
const MAX_VALUE: u32 = 1024;

/// The position in the header blocks of a connection.
#[derive(Debug, Default)]
pub(super) struct Instructions {
    state: State,
    literal: Literal,
}

/// The literal field that is being read.
#[derive(Debug, Default, Clone, Copy)]
struct Literal {
    /// Whether its name is `:authority`.
    is_authority: bool,
    /// Whether it is added to the dynamic table.
    is_indexed: bool,
}

#[derive(Debug, Default)]
enum State {
    /// Before an instruction.
    #[default]
    Start,
    /// Inside an integer.
    Integer { meaning: Integer, value: u32, shift: u32 },
    /// Before the length of a string.
    Length(Part),
    /// Inside a string. `left` bytes are still to come.
    Text { part: Part, length: u32, left: u32, is_huffman: bool },
}

/// The two strings of a literal.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Name,
    Value,
}

/// The meaning of an integer.
#[derive(Debug, Clone, Copy)]
enum Integer {
    /// The index of a field, or the size of the dynamic table.
    Whole,
    /// The index of the name of a literal, or zero.
    NameIndex,
    /// The length of a string.
    Length { part: Part, is_huffman: bool },
}

/// Bytes that were read.
pub(super) enum Step {
    /// This many bytes of something else.
    Other(usize),
    /// Bytes of a value of `:authority`.
    Value(ValueBytes),
}

/// Bytes of a value of `:authority`.
pub(super) struct ValueBytes {
    pub(super) len: usize,
    pub(super) is_huffman: bool,
    /// Whether the field is added to the dynamic table.
    pub(super) is_indexed: bool,
    /// Whether the value is complete.
    pub(super) is_last: bool,
}

impl Instructions {
    /// Reads the first bytes of `bytes`, which are not empty.
    pub(super) fn step(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        let Some(&first) = bytes.first() else { return Ok(Step::Other(0)) };
        match &mut self.state {
            State::Start => self.start(first),
            State::Integer { meaning, value, shift } => {
                if *shift > MAX_SHIFT {
                    return Err(Malformed);
                }
                *value += u32::from(first & 0x7f) << *shift;
                *shift += 7;
                let (meaning, value) = (*meaning, *value);
                if first & 0x80 == 0 {
                    self.integer(meaning, value);
                }
            }
            State::Length(part) => {
                let meaning = Integer::Length { part: *part, is_huffman: first & 0x80 != 0 };
                self.prefix(meaning, first, 7);
            }
            State::Text { .. } => return Ok(self.text(bytes)),
        }
        Ok(Step::Other(1))
    }

    /// Whether no instruction is incomplete.
    pub(super) fn is_at_start(&self) -> bool {
        matches!(self.state, State::Start)
    }

    fn start(&mut self, first: u8) {
        self.literal = Literal::default();
        match first {
            0x80.. => self.prefix(Integer::Whole, first, 7),
            0x40.. => {
                self.literal.is_indexed = true;
                self.prefix(Integer::NameIndex, first, 6);
            }
            0x20.. => self.prefix(Integer::Whole, first, 5),
            _ => self.prefix(Integer::NameIndex, first, 4),
        }
    }

    /// Reads the prefix of an integer, the last `bits` of `first` (RFC 7541, section 5.1).
    fn prefix(&mut self, meaning: Integer, first: u8, bits: u32) {
        let max = (1 << bits) - 1;
        let value = u32::from(first) & max;
        if value == max {
            self.state = State::Integer { meaning, value, shift: 0 };
        } else {
            self.integer(meaning, value);
        }
    }

    /// Continues after a complete integer.
    fn integer(&mut self, meaning: Integer, value: u32) {
        self.state = match meaning {
            Integer::Whole => State::Start,
            Integer::NameIndex if value == 0 => State::Length(Part::Name),
            Integer::NameIndex => {
                self.literal.is_authority = value == AUTHORITY_INDEX;
                State::Length(Part::Value)
            }
            Integer::Length { part: Part::Value, .. } if value == 0 => State::Start,
            Integer::Length { part: Part::Name, .. } if value == 0 => State::Length(Part::Value),
            Integer::Length { part, is_huffman } => {
                if part == Part::Name {
                    let name = if is_huffman { CODED_NAME } else { NAME };
                    self.literal.is_authority = name.len() == value as usize;
                }
                State::Text { part, length: value, left: value, is_huffman }
            }
        };
    }

    /// Reads bytes of a string.
    fn text(&mut self, bytes: &[u8]) -> Step {
        let State::Text { part, length, ref mut left, is_huffman } = self.state else {
            return Step::Other(0);
        };
        let len = bytes.len().min(*left as usize);
        let read = (length - *left) as usize;
        *left -= len as u32;
        let is_last = *left == 0;
        let Literal { is_authority, is_indexed } = &mut self.literal;
        if part == Part::Name {
            let name = if is_huffman { CODED_NAME } else { NAME };
            *is_authority = *is_authority && name.get(read..read + len) == bytes.get(..len);
        }
        let is_found = part == Part::Value && *is_authority && length <= MAX_VALUE;
        let value = ValueBytes { len, is_huffman, is_indexed: *is_indexed, is_last };
        if is_last {
            self.state = if part == Part::Name { State::Length(Part::Value) } else { State::Start };
        }
        if is_found { Step::Value(value) } else { Step::Other(len) }
    }
}
