//! Replaces or reports invalid values of `:authority` in the bytes of a client.

use std::ops::Range;

use http::uri::Authority;

use super::{
    Malformed,
    frames::Frames,
    hpack::{Instructions, Step, ValueBytes},
    huffman,
};

/// The maximum number of bytes that are held back for one value, frame headers and padding included.
const MAX_HELD: usize = 4096;

/// The treatment of an invalid authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInvalid {
    /// Letters replace it.
    Replace,
    /// It is reported, and h2 resets the stream.
    Report,
}

/// Reads the frames of a client after its preface, and replaces or reports each invalid value of `:authority`.
///
/// A replacement has the length of the value, both coded and decoded. Therefore no other byte changes, and the entry in
/// the dynamic table has the size that the client assumes (RFC 7541, section 4.1). A later reference to the entry finds
/// the replacement.
///
/// The filter passes on these values, and h2 resets their streams as before: an empty value, a value of more than 1,024 coded
/// bytes, a value in more than 4,096 bytes of frames, a Huffman-coded value of more than 8 bits per character, and a
/// value whose name is an entry of the dynamic table. After a malformed frame or block, all bytes are passed on.
#[derive(Debug)]
pub struct AuthorityFilter {
    on_invalid: OnInvalid,
    /// Whether all bytes so far were well-formed.
    is_active: bool,
    frames: Frames,
    instructions: Instructions,
    /// The value that is being read: its bytes, and their positions in the window.
    value: Vec<u8>,
    positions: Vec<Range<usize>>,
    /// The invalid authority that the client added last to the dynamic table.
    indexed: Option<Vec<u8>>,
    /// Whether the header block has a literal authority.
    has_literal: bool,
}

impl AuthorityFilter {
    /// A filter for a connection.
    #[must_use]
    pub fn new(on_invalid: OnInvalid) -> Self {
        Self {
            on_invalid,
            is_active: true,
            frames: Frames::default(),
            instructions: Instructions::default(),
            value: Vec::new(),
            positions: Vec::new(),
            indexed: None,
            has_literal: false,
        }
    }

    /// Processes the bytes of `window` from `from`. The bytes before `from` are those that the last call held back.
    ///
    /// Returns the number of bytes that can be passed on. The other bytes end in an incomplete value. They must be the
    /// start of the next window.
    pub fn process(&mut self, window: &mut [u8], from: usize, mut report: impl FnMut(&[u8])) -> usize {
        if self.is_active && self.read(window, from, &mut report).is_err() {
            self.is_active = false;
        }
        let held_from = self.positions.first().map_or(window.len(), |position| position.start);
        self.is_active &= window.len() - held_from <= MAX_HELD;
        if !self.is_active {
            self.positions.clear();
            return window.len();
        }
        for position in &mut self.positions {
            *position = position.start - held_from..position.end - held_from;
        }
        held_from
    }

    fn read(
        &mut self,
        window: &mut [u8],
        from: usize,
        report: &mut impl FnMut(&[u8]),
    ) -> Result<(), Malformed> {
        let mut at = from;
        while at < window.len() {
            let run = self.frames.next_run(&window[at..])?;
            let end = at + run.len;
            while run.is_block && at < end {
                match self.instructions.step(&window[at..end])? {
                    Step::Other(len) => at += len,
                    Step::Value(bytes) => {
                        let next = at + bytes.len;
                        self.add(window, at..next, &bytes, report);
                        at = next;
                    }
                }
            }
            at = end;
            if run.ends_block {
                self.end_block(report)?;
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        window: &mut [u8],
        position: Range<usize>,
        bytes: &ValueBytes,
        report: &mut impl FnMut(&[u8]),
    ) {
        self.has_literal = true;
        self.value.extend_from_slice(&window[position.clone()]);
        if self.on_invalid == OnInvalid::Replace {
            self.positions.push(position);
        }
        if bytes.is_last {
            self.end_value(window, bytes, report);
            self.value.clear();
            self.positions.clear();
        }
    }

    fn end_value(&mut self, window: &mut [u8], bytes: &ValueBytes, report: &mut impl FnMut(&[u8])) {
        let mut decoded = None;
        if bytes.is_huffman {
            let Some(valid) = huffman::decode(&self.value) else { return };
            decoded = Some(valid);
        }
        let text = decoded.as_ref().map_or(&self.value, |decoded| &decoded.text);
        let is_valid = text.is_empty() || Authority::try_from(&text[..]).is_ok();
        match self.on_invalid {
            OnInvalid::Report => {
                if bytes.is_indexed {
                    self.indexed = (!is_valid).then(|| text.clone());
                }
                if !is_valid {
                    report(text);
                }
            }
            OnInvalid::Replace if is_valid => {}
            OnInvalid::Replace => {
                let letters = match &decoded {
                    Some(decoded) => huffman::letters(decoded.text.len(), decoded.bits),
                    None => Some(vec![b'a'; text.len()]),
                };
                let mut letters = letters.into_iter().flatten();
                for position in self.positions.drain(..) {
                    window[position].iter_mut().zip(&mut letters).for_each(|(byte, letter)| *byte = letter);
                }
            }
        }
    }

    fn end_block(&mut self, report: &mut impl FnMut(&[u8])) -> Result<(), Malformed> {
        if !self.instructions.is_at_start() {
            return Err(Malformed);
        }
        // A request without a literal authority refers to an entry of the dynamic table.
        match &self.indexed {
            Some(text) if !std::mem::take(&mut self.has_literal) => report(text),
            _ => self.has_literal = false,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
