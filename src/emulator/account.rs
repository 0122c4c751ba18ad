//! The service account that the emulator trusts: a fresh key at each start, and the credential file
//! that a client signs in with.

use std::fmt::{self, Write as _};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use zeroize::Zeroizing;

/// The Google Cloud project that the account belongs to, and whose quota its calls spend.
pub(super) const PROJECT: &str = "countermand-emulator";

/// The account: what is needed to check what its holder signs.
pub(super) struct Account {
    pub(super) email: String,
    pub(super) key_id: String,
    /// The DER of an `RSAPublicKey`.
    public_key: Vec<u8>,
}

/// A Google credential file of type `service_account`, as JSON. It holds a private key: it prints as
/// `[redacted]`, and its memory is cleared when it is dropped.
#[derive(Clone)]
pub struct Credentials(Zeroizing<String>);

impl Account {
    /// Makes an account with a new key, and its credentials, which name `token_url`. Takes the time
    /// that an RSA key of 2,048 bits takes: some hundred milliseconds of CPU.
    pub(super) fn generate(token_url: &str) -> io::Result<(Self, Credentials)> {
        let failed = |_| io::Error::other("no RSA key could be generated");
        let key = KeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
        let private_key: Pkcs8V1Der<'_> = key.as_der().map_err(failed)?;
        let account = Self {
            email: format!("emulator@{PROJECT}.iam.gserviceaccount.com"),
            key_id: random_hex()?,
            public_key: key.public_key().as_ref().to_vec(),
        };
        let pem = pem(private_key.as_ref());
        let credentials = json!({
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": account.key_id,
            "private_key": *pem,
            "client_email": account.email,
            "client_id": "100000000000000000001",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": token_url,
            "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
            "client_x509_cert_url": format!(
                "https://www.googleapis.com/robot/v1/metadata/x509/{}",
                account.email.replace('@', "%40")
            ),
            "universe_domain": "googleapis.com",
        });
        Ok((account, Credentials(Zeroizing::new(format!("{credentials:#}\n")))))
    }

    /// Whether `signature` is this account's RS256 signature of `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key);
        key.verify(message, signature).is_ok()
    }
}

impl Credentials {
    /// The JSON, private key included.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Writes the JSON to a file that its owner alone can read (mode 0600), all at once: who looks
    /// at `path` finds what was there before or the whole new file. Blocks while it writes.
    ///
    /// # Errors
    /// When the directory of `path` cannot be written to.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let no_file = || io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file");
        let mut name = path.file_name().ok_or_else(no_file)?.to_owned();
        name.push(format!(".{}", random_hex()?));
        let new = path.with_file_name(name);
        let written = self.write_new(&new).and_then(|()| fs::rename(&new, path));
        if written.is_err() {
            // The first error is the one to report; what is left over may not even exist.
            let _ = fs::remove_file(&new);
        }
        written
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(self.0.as_bytes())?;
        file.sync_all()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials([redacted])")
    }
}

/// The PEM of a PKCS #8 private key (RFC 7468: lines of 64 characters).
fn pem(der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    // Room for all of it from the start: growing would leave uncleared copies behind.
    let mut pem = Zeroizing::new(String::with_capacity(body.len() * 2));
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

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let failed = |_| io::Error::other("the system has no random numbers");
    aws_lc_rs::rand::fill(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The form of a `private_key_id`: 40 hexadecimal digits.
fn random_hex() -> io::Result<String> {
    Ok(random::<20>()?.iter().fold(String::with_capacity(40), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes all that is written to it
        text
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_credential_file_is_whole_and_its_owners_alone() {
        let (_, credentials) = Account::generate("http://127.0.0.1:1/token").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials.json");
        fs::write(&path, "an older file, and readable by all").unwrap();
        credentials.write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), credentials.expose());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_and_leaves_nothing() {
        let (_, credentials) = Account::generate("http://127.0.0.1:1/token").unwrap();
        let directory = tempfile::tempdir().unwrap();
        assert!(credentials.write(&directory.path().join("none/credentials.json")).is_err());
        assert!(credentials.write(Path::new("/")).is_err());
        let taken = directory.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(credentials.write(&taken).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn credentials_do_not_print() {
        let (_, credentials) = Account::generate("http://127.0.0.1:1/token").unwrap();
        assert_eq!(format!("{credentials:?}"), "Credentials([redacted])");
    }

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
