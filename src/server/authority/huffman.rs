//! The Huffman code of HPACK strings (RFC 7541, section 5.2 and appendix B).
//!
//! The code is canonical: codes of one length are consecutive numbers, in the order of their symbols. Therefore a list
//! of symbols and the number of codes of each length define it.

/// The number of codes of each length, from 1 to 30 bits. The last code of 30 bits is EOS, which no string contains.
const COUNTS: [u32; 30] =
    [0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4];

/// The symbols in the order of their codes.
const SYMBOLS: &[u8; 256] = b"012aceiost %-./3456789=A_bdfghlmnpru:BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz&*,;XZ!\"()?'+|#>\
    \x00$@[]~^}<`{\\\xc3\xd0\x80\x82\x83\xa2\xb8\xc2\xe0\xe2\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6\x81\
    \x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9\x01\x87\x89\
    \x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef\t\x8e\
    \x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed\xc7\xcf\xea\xeb\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\
    \xff\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe\x02\x03\x04\x05\x06\x07\x08\x0b\
    \x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9\n\r\x16";

/// A letter of each code length that [`letters`] uses, with its code: `a` (5 bits), `b`, `j` and `X` (8 bits).
const LETTERS: [u32; 4] = [0b00011, 0b10_0011, 0b111_0100, 0b1111_1100];

/// A decoded string.
pub(super) struct Decoded {
    pub(super) text: Vec<u8>,
    /// The bits of the codes, without the padding.
    pub(super) bits: usize,
}

/// Decodes `coded`. Returns `None` for an invalid code or padding.
pub(super) fn decode(coded: &[u8]) -> Option<Decoded> {
    let mut text = Vec::with_capacity(coded.len() * 8 / 5);
    let mut bits = 0;
    let mut partial = Partial::default();
    for (at, byte) in coded.iter().enumerate() {
        for bit in 0..8 {
            if let Some(symbol) = partial.add(byte >> (7 - bit) & 1)? {
                text.push(symbol);
                bits = at * 8 + bit + 1;
                partial = Partial::default();
            }
        }
    }
    // The padding has less than 8 bits, and all are ones.
    (partial.length < 8 && partial.code + 1 == 1 << partial.length).then_some(Decoded { text, bits })
}

/// The first bits of a code.
#[derive(Default)]
struct Partial {
    code: u32,
    length: usize,
    /// The first code of this length.
    first: u32,
    /// The number of shorter codes.
    shorter: u32,
}

impl Partial {
    /// Adds a bit. Returns the symbol if the code is complete, and `None` if it is the code of no symbol.
    fn add(&mut self, bit: u8) -> Option<Option<u8>> {
        let count = *COUNTS.get(self.length)?;
        self.length += 1;
        self.code = self.code << 1 | u32::from(bit);
        self.first <<= 1;
        let index = self.code - self.first;
        if index < count {
            return SYMBOLS.get((self.shorter + index) as usize).map(|symbol| Some(*symbol));
        }
        self.shorter += count;
        self.first += count;
        Some(None)
    }
}

/// Encodes `count` letters in `bits` bits. Returns `None` if no letters have codes of the necessary lengths, because
/// the average is not from 5 to 8 bits.
pub(super) fn letters(count: usize, bits: usize) -> Option<Vec<u8>> {
    let (length, longer) = (bits.checked_div(count)?, bits % count);
    let shortest = length.checked_sub(5)?;
    if shortest + usize::from(longer > 0) >= LETTERS.len() {
        return None;
    }
    let mut coded = Vec::with_capacity(bits.div_ceil(8));
    let (mut pending, mut pending_bits) = (0_u32, 0);
    let mut push = |code: u32, length: usize| {
        pending = pending << length | code;
        pending_bits += length;
        if let Some(rest) = pending_bits.checked_sub(8) {
            coded.push((pending >> rest) as u8);
            pending &= (1 << rest) - 1;
            pending_bits = rest;
        }
    };
    for index in 0..count {
        let extra = usize::from(index < longer);
        push(LETTERS[shortest + extra], length + extra);
    }
    let padding = bits.next_multiple_of(8) - bits;
    push((1 << padding) - 1, padding);
    Some(coded)
}

/// Encodes `text`.
#[cfg(test)]
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let mut bits = String::new();
    for byte in text {
        let (mut code, mut first) = (0_u64, 0);
        let index = SYMBOLS.iter().position(|symbol| symbol == byte).unwrap() as u64;
        for (length, count) in (1..).zip(COUNTS.map(u64::from)) {
            code <<= 1;
            if index < first + count {
                bits += &format!("{:0length$b}", code + index - first);
                break;
            }
            first += count;
            code += count;
        }
    }
    bits += &"1".repeat(bits.len().next_multiple_of(8) - bits.len());
    bits.as_bytes()
        .chunks(8)
        .map(|bits| u8::from_str_radix(str::from_utf8(bits).unwrap(), 2).unwrap())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Option<String> {
        decode(coded).map(|decoded| String::from_utf8(decoded.text).unwrap())
    }

    #[test]
    fn the_examples_of_the_rfc_are_decoded() {
        // RFC 7541, appendix C.4 and C.6.
        for (coded, text) in [
            (&b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..], "www.example.com"),
            (b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", "custom-key"),
            (b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", "custom-value"),
            (
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (
                b"\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3",
                "https://www.example.com",
            ),
        ] {
            assert_eq!(decoded(coded).as_deref(), Some(text));
            assert_eq!(encode(text.as_bytes()), coded);
        }
    }

    #[test]
    fn the_code_is_complete_and_has_each_symbol_once() {
        // The codes of a complete prefix code cover all sequences of 30 bits (Kraft's equality).
        let covered: u64 =
            COUNTS.iter().enumerate().map(|(index, count)| u64::from(*count) << (29 - index)).sum();
        assert_eq!(covered, 1 << 30);
        let mut symbols = SYMBOLS.to_vec();
        symbols.sort_unstable();
        assert_eq!(symbols, (0..=u8::MAX).collect::<Vec<_>>());
    }

    #[test]
    fn eos_and_other_padding_are_invalid() {
        // `a` is 00011.
        assert_eq!(decoded(&[0b0001_1111]).as_deref(), Some("a"));
        for invalid in [&[0b0001_1110][..], &[0b0001_1111, 0xff], &[0xff], &[0xff, 0xff, 0xff, 0xff], &[0xfe]]
        {
            assert_eq!(decoded(invalid), None, "{invalid:?}");
        }
        assert_eq!(decoded(&[]).as_deref(), Some(""));
    }

    #[test]
    fn letters_have_the_requested_number_and_length() {
        for count in 1..40 {
            for bits in 0..count * 9 {
                let expected = (count * 5..=count * 8).contains(&bits);
                let coded = letters(count, bits);
                assert_eq!(coded.is_some(), expected, "{count} {bits}");
                if let Some(coded) = coded {
                    assert_eq!(coded.len(), bits.div_ceil(8));
                    let decoded = decode(&coded).expect("valid");
                    assert_eq!((decoded.text.len(), decoded.bits), (count, bits));
                    assert!(decoded.text.iter().all(u8::is_ascii_alphabetic));
                }
            }
        }
        assert_eq!(letters(0, 0), None);
    }
}
