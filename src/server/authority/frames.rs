//! Finds the header blocks in the frames of an HTTP/2 connection (RFC 9113, sections 4.1, 6.2 and 6.10).

use super::Malformed;

/// The types and flags of frames that have header blocks.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// The length of the priority fields.
const PRIORITY_BYTES: usize = 5;

/// The position in the frames of a client.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The frame header, and the number of its bytes so far.
    header: [u8; 9],
    read: usize,
    /// Whether the next byte is the pad length.
    has_pad_length: bool,
    /// The bytes of each part of the payload that are still to come, in their order: priority fields, header block, and
    /// padding or the payload of a frame without a header block.
    priority: usize,
    block: usize,
    rest: usize,
    /// The stream of the open header block, as in the frame header.
    open: Option<[u8; 4]>,
}

/// Consecutive bytes of one kind.
pub(super) struct Run {
    pub(super) len: usize,
    /// Whether the bytes belong to a header block.
    pub(super) is_block: bool,
    /// Whether the header block is complete after these bytes.
    pub(super) ends_block: bool,
}

impl Frames {
    /// Returns the first run in `bytes`, which are not empty.
    pub(super) fn next_run(&mut self, bytes: &[u8]) -> Result<Run, Malformed> {
        if self.read == self.header.len() && self.payload() == 0 {
            self.read = 0;
        }
        let mut is_block = false;
        let len = if let [_, ..] = &mut self.header[self.read..] {
            let missing = &mut self.header[self.read..];
            let len = missing.len().min(bytes.len());
            missing[..len].copy_from_slice(&bytes[..len]);
            self.read += len;
            if self.read == self.header.len() {
                self.start_frame()?;
            }
            len
        } else if std::mem::take(&mut self.has_pad_length) {
            self.rest = bytes.first().copied().unwrap_or_default().into();
            self.block = self.block.checked_sub(self.rest).ok_or(Malformed)?;
            1
        } else if self.priority > 0 {
            take(&mut self.priority, bytes)
        } else if self.block > 0 {
            is_block = true;
            take(&mut self.block, bytes)
        } else {
            take(&mut self.rest, bytes)
        };
        let ends_block = self.open.is_some()
            && self.read == self.header.len()
            && self.header[4] & END_HEADERS != 0
            && !self.has_pad_length
            && self.block == 0;
        if ends_block {
            self.open = None;
        }
        Ok(Run { len, is_block, ends_block })
    }

    /// The bytes of the payload that are still to come.
    fn payload(&self) -> usize {
        usize::from(self.has_pad_length) + self.priority + self.block + self.rest
    }

    fn start_frame(&mut self) -> Result<(), Malformed> {
        let [high, middle, low, kind, flags, stream @ ..] = self.header;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        match (kind, self.open) {
            (HEADERS, None) => {
                self.has_pad_length = flags & PADDED != 0;
                self.priority = if flags & PRIORITY != 0 { PRIORITY_BYTES } else { 0 };
                let others = usize::from(self.has_pad_length) + self.priority;
                self.block = length.checked_sub(others).ok_or(Malformed)?;
                self.open = Some(stream);
            }
            (CONTINUATION, Some(open)) if open == stream => self.block = length,
            (CONTINUATION, _) | (_, Some(_)) => return Err(Malformed),
            _ => self.rest = length,
        }
        Ok(())
    }
}

fn take(left: &mut usize, bytes: &[u8]) -> usize {
    let len = (*left).min(bytes.len());
    *left -= len;
    len
}
