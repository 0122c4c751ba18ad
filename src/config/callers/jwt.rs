//! `[callers.jwt]`: whose bearer tokens are believed.

use std::path::{Path, PathBuf};

use url::Url;

use crate::{
    config::{
        endpoint,
        environment::Environment,
        fault::{Faults, Wrong},
        files,
        source::{Given, each},
        table::Section,
    },
    server::{
        identity::jwks::{Algorithm, KeySet},
        settings::{Jwks, Jwt},
    },
};

impl Jwt {
    /// `None` without any of its settings, or with a fault among them.
    pub(in crate::config) fn read(
        environment: &mut Environment,
        file: &mut Section<'_>,
        faults: &mut Faults,
    ) -> Option<Self> {
        let here = file.missing("jwt");
        let is_there = file.has("jwt");
        let before = faults.len();
        let mut file = file.section("jwt", faults);
        let is_whole = faults.len() == before;
        let issuer =
            environment.text("COUNTERMAND_CALLERS_JWT_ISSUER", faults).or(file.text("issuer", faults));
        let audiences = environment
            .texts("COUNTERMAND_CALLERS_JWT_AUDIENCE", faults)
            .or(file.text_or_texts("audience", faults));
        let before_algorithms = faults.len();
        let algorithms = environment
            .texts("COUNTERMAND_CALLERS_JWT_ALGORITHMS", faults)
            .or(file.texts("algorithms", faults));
        let algorithms_are_whole = faults.len() == before_algorithms;
        // Of the file's own: what is no URL is relative to it.
        let of_file = file
            .path_unless(is_url, "jwks", faults)
            .map(|given| given.map(|value| value.to_string_lossy().into_owned()));
        let place = environment.text("COUNTERMAND_CALLERS_JWT_JWKS", faults).or(of_file);
        let ca_certificates = environment
            .path("COUNTERMAND_CALLERS_JWT_JWKS_CA_CERTIFICATES")
            .or(file.path("jwks_ca_certificates", faults));
        let token_file = environment
            .path("COUNTERMAND_CALLERS_JWT_JWKS_TOKEN_FILE")
            .or(file.path("jwks_token_file", faults));
        let any = is_there
            || [&issuer, &place].into_iter().any(Option::is_some)
            || [&audiences, &algorithms].into_iter().any(Option::is_some)
            || [&ca_certificates, &token_file].into_iter().any(Option::is_some);
        if any {
            for (key, is_given) in
                [("issuer", issuer.is_some()), ("audience", audiences.is_some()), ("jwks", place.is_some())]
            {
                if !is_given && is_whole && file.lacks(key) {
                    faults.add(&here.within(key), "this is missing", required(key));
                }
            }
        }
        file.finish(faults);
        if !any {
            return None;
        }
        let issuer = issuer.and_then(|given| given.parse(faults, |text: &str| issuer_of_callers(text)));
        let audiences = audiences.and_then(|given| list(&given, faults, plain));
        let algorithms = match algorithms {
            Some(given) => list(&given, faults, algorithm).filter(|_| algorithms_are_whole),
            None => Some(Algorithm::ALL.to_vec()),
        };
        let jwks = place
            .and_then(|given| Jwks::read(&given, ca_certificates, token_file, algorithms.as_deref(), faults));
        let (issuer, audiences, algorithms, jwks) = (issuer?, audiences?, algorithms?, jwks?);
        (faults.len() == before).then_some(Self { issuer, audiences, algorithms, jwks })
    }
}

impl Jwks {
    fn read(
        place: &Given<String>,
        ca_certificates: Option<Given<PathBuf>>,
        token_file: Option<Given<PathBuf>>,
        algorithms: Option<&[Algorithm]>,
        faults: &mut Faults,
    ) -> Option<Self> {
        if !is_url(&place.value) {
            for given in [ca_certificates, token_file].into_iter().flatten() {
                faults.add(
                    &given.origin,
                    "it is for a jwks that is a URL, and jwks is a file",
                    "leave it out",
                );
            }
            let file = PathBuf::from(&place.value);
            place.parse(faults, |_: &String| key_file(&file, algorithms))?;
            return Some(Self::File(file));
        }
        let url = place.parse(faults, |text: &str| key_url(text));
        if let Some(given) = &ca_certificates {
            given.parse(faults, files::certificates);
        }
        if let Some(given) = &token_file {
            given.parse(faults, files::readable);
        }
        Some(Self::Url {
            url: url?,
            ca_certificates: ca_certificates.map(|given| given.value),
            token_file: token_file.map(|given| given.value),
        })
    }
}

/// Whether a text is meant for a URL, which a scheme begins (RFC 3986, section 3.1), and not for a path.
fn is_url(text: &str) -> bool {
    let is_scheme = |text: &str| text.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c));
    text.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme))
}

/// What each of a list is, which must not be empty; `None` with a fault among them.
fn list<T>(
    given: &Given<Vec<Given<String>>>,
    faults: &mut Faults,
    read: impl Fn(&str) -> Result<T, Wrong>,
) -> Option<Vec<T>> {
    if given.value.is_empty() {
        faults.add(&given.origin, "the list is empty", "name at least one");
        return None;
    }
    let values = each(&given.value, faults, read);
    (values.len() == given.value.len()).then_some(values)
}

/// A caller is `jwt:ISS#SUB`, in which the first `#` must end the issuer. OpenID Connect gives issuers no
/// fragment (Discovery 1.0, section 3).
fn issuer_of_callers(text: &str) -> Result<String, Wrong> {
    if text.contains('#') {
        let problem = format!("{text:?} holds a #, which parts issuer and subject in the name of a caller");
        return Err(Wrong::new(problem, "have the issuer write another text into its tokens"));
    }
    plain(text)
}

fn plain(text: &str) -> Result<String, Wrong> {
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        let remedy = "give the very text that the issuer writes into its tokens";
        return Err(Wrong::new(format!("{text:?} is no text of a token"), remedy));
    }
    Ok(text.to_owned())
}

fn algorithm(text: &str) -> Result<Algorithm, Wrong> {
    text.parse().map_err(|_| {
        let known = Algorithm::ALL.map(|known| known.to_string()).join(", ");
        let problem = format!("{text:?} is no algorithm of signatures by a private key");
        Wrong::new(problem, format!("give some of {known}"))
    })
}

fn key_file(file: &Path, algorithms: Option<&[Algorithm]>) -> Result<(), Wrong> {
    files::readable(file)?;
    let remedy = "name a file with a JSON Web Key Set, {\"keys\": [...]}, or give an https:// URL";
    let wrong = |what: String| Wrong::new(format!("{file:?} {what}"), remedy);
    let json = std::fs::read(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    // With a fault in the algorithms, the form is all that can be checked.
    KeySet::parse(&json, algorithms.unwrap_or(&Algorithm::ALL)).map_err(|error| wrong(error.to_string()))?;
    Ok(())
}

fn key_url(text: &str) -> Result<Url, Wrong> {
    let remedy = "give https://host/path, or a file";
    let url = endpoint::parse(text, remedy)?;
    let danger = "over plain http anybody on the way could put in keys of their own";
    endpoint::refuse_plaintext(&url, danger, remedy)?;
    endpoint::refuse_login(&url)?;
    if url.fragment().is_some() {
        return Err(Wrong::new("the URL holds a fragment", "end it before the #"));
    }
    Ok(url)
}

fn required(key: &str) -> &'static str {
    match key {
        "issuer" => "give the iss of the tokens",
        "audience" => "give the aud of the tokens that are meant for this service",
        _ => "give the https:// URL or the file of the issuer's keys",
    }
}
