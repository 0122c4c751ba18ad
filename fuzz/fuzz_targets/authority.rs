//! Fuzzes the filter of `:authority`. For any bytes in any chunks, only values of `:authority` change. An independent
//! HPACK decoder decodes the same other fields before and after the filter.
#![no_main]

use countermand::server::authority::{AuthorityFilter, OnInvalid};
use http::uri::Authority;
use libfuzzer_sys::fuzz_target;
use loona_hpack::Decoder;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

fuzz_target!(|input: (u8, &[u8])| {
    let (chunk, bytes) = input;
    let chunk = usize::from(chunk) + 1;
    let replaced = filtered(OnInvalid::Replace, bytes, bytes.len().max(1));
    assert_eq!(filtered(OnInvalid::Replace, bytes, chunk), replaced);
    assert_eq!(filtered(OnInvalid::Report, bytes, chunk), bytes);

    let (before, after) = (parts(bytes), parts(&replaced));
    assert_eq!(before.others, after.others);
    assert_eq!(before.blocks.len(), after.blocks.len());
    let (mut decoder, mut decoder_after) = (Decoder::new(), Decoder::new());
    for (before, after) in before.blocks.iter().zip(&after.blocks) {
        assert_eq!(before.len(), after.len());
        // An error ends the connection.
        let Ok(before) = decoder.decode(before) else { break };
        let after = decoder_after.decode(after).expect("the filtered block is valid");
        assert_eq!(before.len(), after.len());
        for ((name, before), (name_after, after)) in before.iter().zip(&after) {
            assert_eq!(name, name_after);
            if before != after {
                assert_eq!((&name[..], before.len()), (&b":authority"[..], after.len()));
                assert!(Authority::try_from(&before[..]).is_err());
                assert!(Authority::try_from(&after[..]).is_ok());
            }
        }
    }
});

/// Filters `bytes` in chunks.
fn filtered(on_invalid: OnInvalid, bytes: &[u8], chunk: usize) -> Vec<u8> {
    let mut filter = AuthorityFilter::new(on_invalid);
    let (mut passed, mut window) = (Vec::new(), Vec::new());
    for chunk in bytes.chunks(chunk) {
        let from = window.len();
        window.extend_from_slice(chunk);
        let released = filter.process(&mut window, from, |authority| assert!(!authority.is_empty()));
        passed.extend(window.drain(..released));
        assert!(window.len() <= 4096);
    }
    passed.extend(window);
    assert_eq!(passed.len(), bytes.len());
    passed
}

/// The header blocks up to the first malformed or incomplete frame, and all other bytes.
#[derive(Default)]
struct Parts {
    blocks: Vec<Vec<u8>>,
    others: Vec<u8>,
}

fn parts(mut bytes: &[u8]) -> Parts {
    let mut parts = Parts::default();
    let mut open: Option<(&[u8], Vec<u8>)> = None;
    while let Some((header, rest)) = bytes.split_at_checked(9) {
        let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        let (kind, flags, stream) = (header[3], header[4], &header[5..]);
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        let (start, end, mut block) = match (kind, open.take()) {
            (HEADERS, None) => {
                let padding = if flags & PADDED == 0 { Some(&0) } else { payload.first() };
                let Some(padding) = padding else { break };
                let start = usize::from(flags & PADDED != 0) + if flags & PRIORITY == 0 { 0 } else { 5 };
                (start, payload.len().checked_sub(usize::from(*padding)), Vec::new())
            }
            (CONTINUATION, Some((of, block))) if of == stream => (0, Some(payload.len()), block),
            (CONTINUATION, _) | (_, Some(_)) => break,
            _ => {
                parts.others.extend([header, payload].concat());
                bytes = rest;
                continue;
            }
        };
        let Some(fragment) = end.and_then(|end| payload.get(start..end)) else { break };
        parts.others.extend([header, &payload[..start], &payload[start + fragment.len()..]].concat());
        block.extend(fragment);
        if flags & END_HEADERS == 0 {
            open = Some((stream, block));
        } else {
            parts.blocks.push(block);
        }
        bytes = rest;
    }
    parts
}
