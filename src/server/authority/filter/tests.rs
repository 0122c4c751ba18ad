use std::time::Duration;

use proptest::{collection::vec, prelude::*, sample::select};
use tokio::io::AsyncWriteExt;

use super::*;
use crate::server::authority::huffman;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Filters `bytes` in chunks. Returns the passed bytes and the reported authorities.
fn filtered(on_invalid: OnInvalid, bytes: &[u8], chunk: usize) -> (Vec<u8>, Vec<String>) {
    let mut filter = AuthorityFilter::new(on_invalid);
    let (mut passed, mut window, mut reported) = (Vec::new(), Vec::new(), Vec::new());
    for chunk in bytes.chunks(chunk) {
        let from = window.len();
        window.extend_from_slice(chunk);
        let released =
            filter.process(&mut window, from, |text| reported.push(text.escape_ascii().to_string()));
        passed.extend(window.drain(..released));
        assert!(window.len() <= MAX_HELD);
    }
    // At the end of the connection, the held bytes are passed on.
    passed.extend(window);
    assert_eq!(passed.len(), bytes.len());
    (passed, reported)
}

/// An integer with a prefix of `bits` (RFC 7541, section 5.1).
fn integer(first: u8, bits: u32, mut value: usize) -> Vec<u8> {
    let max = (1 << bits) - 1;
    if value < max {
        return vec![first | u8::try_from(value).unwrap()];
    }
    let mut coded = vec![first | u8::try_from(max).unwrap()];
    value -= max;
    while value >= 0x80 {
        coded.push(0x80 | (value & 0x7f) as u8);
        value >>= 7;
    }
    coded.push(value as u8);
    coded
}

fn string(text: &[u8], is_huffman: bool) -> Vec<u8> {
    let coded = if is_huffman { huffman::encode(text) } else { text.to_vec() };
    [integer(if is_huffman { 0x80 } else { 0 }, 7, coded.len()), coded].concat()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Indexed,
    NotIndexed,
    NeverIndexed,
}

/// How a field is written.
#[derive(Debug, Clone, Copy)]
struct Form {
    kind: Kind,
    /// Whether the dynamic table is used for the whole field.
    refers: bool,
    has_literal_name: bool,
    is_huffman: bool,
}

const PLAIN: Form = Form { kind: Kind::NotIndexed, refers: false, has_literal_name: true, is_huffman: false };

/// An encoder with a dynamic table.
#[derive(Default)]
struct Encoder {
    /// The newest entry first.
    entries: Vec<(String, Vec<u8>)>,
}

impl Encoder {
    const MAX_SIZE: usize = 4096;

    fn field(&mut self, name: &str, value: &[u8], form: Form) -> Vec<u8> {
        let found = self.entries.iter().position(|entry| entry.0 == name && entry.1 == value);
        if let Some(index) = found.filter(|_| form.refers) {
            return integer(0x80, 7, 62 + index);
        }
        let (first, bits) = match form.kind {
            Kind::Indexed => (0x40, 6),
            Kind::NotIndexed => (0, 4),
            Kind::NeverIndexed => (0x10, 4),
        };
        let index = match name {
            ":authority" => Some(1),
            ":method" => Some(3),
            ":path" => Some(4),
            ":scheme" => Some(6),
            _ => self.entries.iter().position(|entry| entry.0 == name).map(|index| 62 + index),
        };
        let name_part = match index.filter(|_| !form.has_literal_name) {
            Some(index) => integer(first, bits, index),
            None => [vec![first], string(name.as_bytes(), form.is_huffman)].concat(),
        };
        if form.kind == Kind::Indexed {
            self.entries.insert(0, (name.to_owned(), value.to_vec()));
            while self.size() > Self::MAX_SIZE {
                self.entries.pop();
            }
        }
        [name_part, string(value, form.is_huffman)].concat()
    }

    fn size(&self) -> usize {
        self.entries.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
    }
}

/// How a header block is divided into frames.
#[derive(Debug, Clone)]
struct Framing {
    cuts: Vec<prop::sample::Index>,
    padding: Option<u8>,
    has_priority: bool,
}

const WHOLE: Framing = Framing { cuts: Vec::new(), padding: None, has_priority: false };

fn header_frames(stream: u32, block: &[u8], framing: &Framing) -> Vec<u8> {
    let mut cuts: Vec<_> = framing.cuts.iter().map(|cut| cut.index(block.len() + 1)).collect();
    cuts.extend([0, block.len()]);
    cuts.sort_unstable();
    let parts: Vec<_> = cuts.windows(2).map(|cut| &block[cut[0]..cut[1]]).collect();
    let mut frames = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let last = if index == parts.len() - 1 { END_HEADERS } else { 0 };
        if index > 0 {
            frames.extend(frame(CONTINUATION, last, stream, part));
            continue;
        }
        let (mut flags, mut payload) = (last | END_STREAM, Vec::new());
        if let Some(padding) = framing.padding {
            flags |= PADDED;
            payload.push(padding);
        }
        if framing.has_priority {
            flags |= PRIORITY;
            payload.extend([0, 0, 0, 0, 15]);
        }
        payload.extend_from_slice(part);
        payload.resize(payload.len() + usize::from(framing.padding.unwrap_or_default()), 0);
        frames.extend(frame(HEADERS, flags, stream, &payload));
    }
    frames
}

/// A block with the fields of a request.
fn block(encoder: &mut Encoder, authority: &[u8], form: Form) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [(":method", &b"POST"[..]), (":scheme", b"http"), (":path", b"/service/Method")] {
        block.extend(encoder.field(name, value, PLAIN));
    }
    block.extend(encoder.field(":authority", authority, form));
    block.extend(encoder.field("te", b"trailers", PLAIN));
    block
}

/// The requests that h2 decodes from `bytes`, in their order. Fails if h2 rejects one of `count` requests.
fn decoded_by_h2(bytes: &[u8], count: usize) -> Vec<http::request::Parts> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        client.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        client.write_all(bytes).await.unwrap();
        let mut connection = h2::server::handshake(server).await.unwrap();
        let mut requests = Vec::new();
        while requests.len() < count {
            let accepted = tokio::time::timeout(Duration::from_secs(5), connection.accept()).await;
            let accepted = accepted.unwrap_or_else(|_| panic!("h2 rejected one of {count} requests"));
            let (request, mut response) = accepted.expect("a request").expect("a valid connection");
            response.send_response(http::Response::new(()), true).unwrap();
            requests.push(request.into_parts().0);
        }
        requests
    })
}

fn authority_of(parts: &http::request::Parts) -> &str {
    parts.uri.authority().map_or("", Authority::as_str)
}

const PATH: &[u8] = b"/run/mdm/countermand.sock";
const ENCODED_PATH: &[u8] = b"run%2Fmdm%2Fcountermand.sock";

fn forms() -> impl Strategy<Value = Form> {
    (
        select(vec![Kind::Indexed, Kind::NotIndexed, Kind::NeverIndexed]),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(kind, refers, has_literal_name, is_huffman)| Form {
            kind,
            refers,
            has_literal_name,
            is_huffman,
        })
}

fn framings() -> impl Strategy<Value = Framing> {
    (vec(any::<prop::sample::Index>(), 0..4), prop::option::of(any::<u8>()), any::<bool>())
        .prop_map(|(cuts, padding, has_priority)| Framing { cuts, padding, has_priority })
}

#[test]
fn an_invalid_authority_is_replaced_in_every_form() {
    for authority in
        [PATH, ENCODED_PATH, b"127.0.0.1:1,127.0.0.1:2", b"a|b|c", b"\x2fr\xc3\xa9p", b"/r\xe9p", b"%"]
    {
        for kind in [Kind::Indexed, Kind::NotIndexed, Kind::NeverIndexed] {
            for has_literal_name in [false, true] {
                for is_huffman in [false, true] {
                    let form = Form { kind, refers: true, has_literal_name, is_huffman };
                    let mut encoder = Encoder::default();
                    let mut bytes = Vec::new();
                    for stream in [1, 3, 5] {
                        bytes.extend(header_frames(stream, &block(&mut encoder, authority, form), &WHOLE));
                    }
                    let (passed, _) = filtered(OnInvalid::Replace, &bytes, bytes.len());
                    let is_long = is_huffman && huffman::encode(authority).len() > authority.len();
                    if is_long {
                        assert_eq!(passed, bytes, "more than 8 bits per character");
                        continue;
                    }
                    for request in decoded_by_h2(&passed, 3) {
                        assert_eq!(authority_of(&request).len(), authority.len());
                        assert_eq!(request.uri.path(), "/service/Method");
                    }
                }
            }
        }
    }
}

#[test]
fn a_valid_or_empty_authority_is_unchanged() {
    for authority in [&b"localhost"[..], b"127.0.0.1:50051", b"[::1]:50051", b"a.b-c_d~e", b"user@host", b""]
    {
        for is_huffman in [false, true] {
            let form = Form { kind: Kind::Indexed, refers: false, has_literal_name: false, is_huffman };
            let bytes = header_frames(1, &block(&mut Encoder::default(), authority, form), &WHOLE);
            assert_eq!(filtered(OnInvalid::Replace, &bytes, bytes.len()).0, bytes);
            assert_eq!(filtered(OnInvalid::Report, &bytes, 3), (bytes, Vec::new()));
        }
    }
}

#[test]
fn an_invalid_authority_is_reported_and_unchanged() {
    let form = Form { kind: Kind::Indexed, refers: true, has_literal_name: false, is_huffman: true };
    let mut encoder = Encoder::default();
    let mut bytes = Vec::new();
    for (stream, authority) in [(1, PATH), (3, PATH), (5, b"localhost"), (7, b"localhost"), (9, ENCODED_PATH)]
    {
        bytes.extend(header_frames(stream, &block(&mut encoder, authority, form), &WHOLE));
        bytes.extend(frame(DATA, END_STREAM, stream, b"message"));
    }
    let texts = [PATH, PATH, ENCODED_PATH].map(|text| text.escape_ascii().to_string());
    for chunk in [1, 5, bytes.len()] {
        assert_eq!(filtered(OnInvalid::Report, &bytes, chunk), (bytes.clone(), texts.to_vec()));
    }
}

#[test]
fn a_name_in_the_dynamic_table_is_passed_on() {
    // A literal with indexing adds the name, and index 62 refers to it. No known encoder does that.
    let indexed = Form { kind: Kind::Indexed, refers: false, has_literal_name: true, is_huffman: false };
    let mut first = block(&mut Encoder::default(), b"localhost", indexed);
    let mut second = Vec::new();
    for (name, value) in [(":method", &b"POST"[..]), (":scheme", b"http"), (":path", b"/service/Method")] {
        second.extend(Encoder::default().field(name, value, PLAIN));
    }
    second.extend([integer(0x40, 6, 62), string(PATH, false)].concat());
    first = header_frames(1, &first, &WHOLE);
    let bytes = [first, header_frames(3, &second, &WHOLE)].concat();
    assert_eq!(filtered(OnInvalid::Replace, &bytes, 7).0, bytes);
}

#[test]
fn malformed_bytes_are_passed_on() {
    let invalid = block(&mut Encoder::default(), PATH, PLAIN);
    let valid_later = header_frames(3, &invalid, &WHOLE);
    for malformed in [
        // More padding than payload.
        frame(HEADERS, PADDED | END_HEADERS, 1, &[9, 0x82]),
        // No room for the priority fields.
        frame(HEADERS, PRIORITY | END_HEADERS, 1, &[0, 0]),
        // CONTINUATION without HEADERS, or of another stream.
        frame(CONTINUATION, END_HEADERS, 1, &[0x82]),
        [frame(HEADERS, 0, 1, &[0x82]), frame(CONTINUATION, END_HEADERS, 5, &[0x82])].concat(),
        // Another frame inside a header block.
        [frame(HEADERS, 0, 1, &[0x82]), frame(DATA, 0, 1, &[])].concat(),
        // A block that ends in a name, in a value, and in an integer.
        frame(HEADERS, END_HEADERS, 1, b"\x40\x0a:auth"),
        frame(HEADERS, END_HEADERS, 1, b"\x41\x09/run"),
        frame(HEADERS, END_HEADERS, 1, b"\x7f\x80"),
        // An integer of more than 28 bits.
        frame(HEADERS, END_HEADERS, 1, b"\x7f\x80\x80\x80\x80\x80\x01"),
    ] {
        let bytes = [malformed, valid_later.clone()].concat();
        for chunk in [1, 4, bytes.len()] {
            assert_eq!(filtered(OnInvalid::Replace, &bytes, chunk).0, bytes);
        }
    }
}

#[test]
fn bytes_beyond_the_limits_are_passed_on() {
    // A value that is too long.
    let long = block(&mut Encoder::default(), &[b'/'; 1025], PLAIN);
    let bytes = header_frames(1, &long, &WHOLE);
    assert_eq!(filtered(OnInvalid::Replace, &bytes, 100).0, bytes);
    // The maximum.
    let long = block(&mut Encoder::default(), &[b'/'; 1024], PLAIN);
    let bytes = header_frames(1, &long, &WHOLE);
    let authority = decoded_by_h2(&filtered(OnInvalid::Replace, &bytes, 100).0, 1);
    assert_eq!(authority_of(&authority[0]).len(), 1024);
    // A value in many frames. `filtered` asserts the limit.
    let mut bytes = frame(HEADERS, 0, 1, b"\x41\x20/run");
    for _ in 0..1000 {
        bytes.extend(frame(CONTINUATION, 0, 1, &[]));
    }
    bytes.extend(frame(CONTINUATION, END_HEADERS, 1, &[b'/'; 28]));
    assert_eq!(filtered(OnInvalid::Replace, &bytes, 50).0, bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// h2 decodes each request of the filtered bytes with the client's fields, whatever the forms, the frames and the
    /// chunks. The values are long, so that the dynamic table evicts entries.
    #[test]
    fn only_invalid_authorities_change(
        requests in vec(
            (
                prop_oneof![
                    Just(PATH.to_vec()),
                    Just(ENCODED_PATH.to_vec()),
                    Just(b"localhost".to_vec()),
                    "[ -~]{1,40}".prop_map(String::into_bytes),
                    vec(any::<u8>(), 1..20),
                ],
                forms(),
                vec(("x-[ab]", "[a-c]{0,3}|[a-z]{600}", forms()), 0..4),
                framings(),
            ),
            1..12,
        ),
        chunk in prop_oneof![Just(usize::MAX), 1..200_usize],
    ) {
        let mut encoder = Encoder::default();
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (index, (authority, form, others, framing)) in requests.into_iter().enumerate() {
            let is_valid = Authority::try_from(&authority[..]).is_ok();
            // A Huffman code of more than 8 bits per character is passed on.
            let form = if huffman::encode(&authority).len() > authority.len() {
                Form { is_huffman: false, ..form }
            } else {
                form
            };
            let mut block = block(&mut encoder, &authority, form);
            for (name, value, form) in &others {
                block.extend(encoder.field(name, value.as_bytes(), *form));
            }
            let stream = u32::try_from(index * 2 + 1).unwrap();
            bytes.extend(header_frames(stream, &block, &framing));
            bytes.extend(frame(6, 0, 0, b"ping1234"));
            expected.push((authority, is_valid, others));
        }
        let (passed, _) = filtered(OnInvalid::Replace, &bytes, chunk);
        let decoded = decoded_by_h2(&passed, expected.len());
        for (request, (authority, is_valid, others)) in decoded.iter().zip(expected) {
            let found = authority_of(request).as_bytes();
            if is_valid {
                prop_assert_eq!(found, &authority[..]);
            } else {
                prop_assert_eq!(found.len(), authority.len());
            }
            let found: Vec<_> = request.headers.iter().filter(|(name, _)| name.as_str() != "te")
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
            let mut others: Vec<_> = others.into_iter().map(|(name, value, _)| (name, value)).collect();
            let mut found = found;
            others.sort();
            found.sort();
            prop_assert_eq!(found, others);
        }
        let (unchanged, _) = filtered(OnInvalid::Report, &bytes, chunk);
        prop_assert_eq!(unchanged, bytes);
    }

    /// Any bytes pass in any chunks, with the same result.
    #[test]
    fn arbitrary_bytes_pass_in_any_chunks(
        blocks in vec((select(vec![DATA, HEADERS, CONTINUATION]), any::<u8>(), vec(any::<u8>(), 0..60)), 0..20),
        tail in vec(any::<u8>(), 0..60),
        chunk in 1..100_usize,
    ) {
        let mut bytes = Vec::new();
        for (kind, flags, payload) in &blocks {
            bytes.extend(frame(*kind, *flags, 1, payload));
        }
        bytes.extend(tail);
        let (whole, _) = filtered(OnInvalid::Replace, &bytes, usize::MAX);
        prop_assert_eq!(filtered(OnInvalid::Replace, &bytes, chunk).0, whole);
        prop_assert_eq!(filtered(OnInvalid::Report, &bytes, chunk).0, bytes);
    }
}
