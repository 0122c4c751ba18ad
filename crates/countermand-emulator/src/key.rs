//! The RSA key that service accounts sign with, and random text.

use std::fmt::Write as _;
use std::io;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// An RSA key of 2,048 bits.
pub(crate) struct RsaKey {
    /// The DER of an `RSAPublicKey`.
    public: Vec<u8>,
    private: String,
}

impl RsaKey {
    /// Generates a key, which takes some hundred milliseconds of CPU time.
    pub(crate) fn generate() -> io::Result<Self> {
        let failed = |_| io::Error::other("no RSA key could be generated");
        let key = KeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
        let private: Pkcs8V1Der<'_> = key.as_der().map_err(failed)?;
        Ok(Self { public: key.public_key().as_ref().to_vec(), private: pem(private.as_ref()) })
    }

    /// The private key in PEM.
    pub(crate) fn private(&self) -> &str {
        &self.private
    }

    /// Whether `signature` is an RS256 signature of `message` by this key.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public);
        key.verify(message, signature).is_ok()
    }
}

/// The PEM of a PKCS #8 private key (RFC 7468: lines of 64 characters).
fn pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    // A string that reallocates leaves copies that are not cleared, so the initial capacity is sufficient.
    let mut pem = String::with_capacity(body.len() * 2);
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    for (i, character) in body.chars().enumerate() {
        pem.push(character);
        if i % 64 == 63 {
            pem.push('\n');
        }
    }
    if !body.len().is_multiple_of(64) {
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}

/// `N` random bytes in base64url.
pub(crate) fn random_text<const N: usize>() -> io::Result<String> {
    Ok(URL_SAFE_NO_PAD.encode(random::<N>()?))
}

/// 40 random hexadecimal digits, the form of a `private_key_id`.
pub(crate) fn random_hex() -> io::Result<String> {
    Ok(random::<20>()?.iter().fold(String::with_capacity(40), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String does not fail
        text
    }))
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let failed = |_| io::Error::other("the system has no random numbers");
    aws_lc_rs::rand::fill(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_pem_have_64_characters() {
        for length in [47, 48, 49, 96, 1217] {
            let pem = pem(&vec![0; length]);
            let lines: Vec<_> = pem.lines().collect();
            let body = &lines[1..lines.len() - 1];
            assert!(body[..body.len() - 1].iter().all(|line| line.len() == 64));
            assert!((1..=64).contains(&body[body.len() - 1].len()));
            assert_eq!(STANDARD.decode(body.concat()).unwrap().len(), length);
        }
    }
}
