//! The findings about one credential: its files, its principal, its enterprises, and a token.

use std::{sync::Arc, time::Duration};

use humantime::{FormattedDuration, format_duration};
use reqwest::Url;
use tokio::time::timeout;

use super::{finding::Finding, local, token_hint::hint};
use crate::{
    amapi::settings::Upstream,
    credentials::settings::CredentialConfig,
    credentials::{FetchError, Pattern, Source, Surroundings, fetch_once},
    file_watch,
};

/// The timeout of the request for the principal.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// The findings, in the order in which they depend on each other.
pub(super) async fn findings(
    credential: &CredentialConfig,
    upstream: &Upstream,
    surroundings: &Arc<Surroundings>,
) -> Vec<Finding> {
    let CredentialConfig { name, definition, enterprises } = credential;
    let subject = format!("credential {name}");
    let source = match Source::read(definition, surroundings) {
        Ok(source) => source,
        Err(error) => return vec![Finding::error(subject, error.to_string(), error.remedy())],
    };
    let mut findings = files(&subject, &source);
    findings.push(identity(&subject, &source).await);
    if let Some(email) = &definition.impersonate {
        let iam = &upstream.iam_credentials_url;
        findings.push(Finding::ok(&subject, format!("impersonates {email}, by IAM Credentials at {iam}")));
    }
    findings.push(Finding::ok(&subject, serves(enterprises)));
    findings.push(token(&subject, &source).await);
    findings
}

/// The findings about the credential file and the file of the subject token. An unreadable subject token is reported with the
/// token instead, because it prevents the token.
fn files(subject: &str, source: &Source) -> Vec<Finding> {
    let subject_token = source.subject_token_file().filter(|path| file_watch::read(path).is_ok());
    [source.file(), subject_token]
        .into_iter()
        .flatten()
        .map(|path| local::file_access(subject, path))
        .collect()
}

async fn identity(subject: &str, source: &Source) -> Finding {
    let (kind, scope) = (source.kind(), source.scope());
    let principal = match source.principal() {
        Some(principal) => Ok(principal.to_owned()),
        None => timeout(IDENTIFY_TIMEOUT, source.identify()).await.unwrap_or_else(|_| {
            Err(FetchError::Unanswered(None, format!("no response within {IDENTIFY_TIMEOUT:?}")))
        }),
    };
    match principal {
        Ok(principal) => Finding::ok(subject, format!("{kind} {principal}, scope {scope}")),
        Err(error) => {
            let finding = format!("{kind}, scope {scope}; its principal is unknown: {error}");
            Finding::warning(subject, finding, hint(&error))
        }
    }
}

fn serves(enterprises: &[Pattern]) -> String {
    let patterns = enterprises.iter().map(|pattern| match pattern {
        pattern if *pattern == Pattern::all() => {
            "every enterprise that no other credential serves".to_owned()
        }
        pattern => pattern.to_string(),
    });
    format!("serves {}", patterns.collect::<Vec<_>>().join(", "))
}

async fn token(subject: &str, source: &Source) -> Finding {
    let endpoint = without_query(source.endpoint());
    match fetch_once(source).await {
        Ok(token) => {
            let lifetime = in_seconds(token.lifetime());
            Finding::ok(subject, format!("fetched a token from {endpoint}, valid for {lifetime}"))
        }
        Err(error) => Finding::error(subject, format!("no token from {endpoint}: {error}"), hint(&error)),
    }
}

/// Formats a lifetime without fractions of a second.
fn in_seconds(time: Duration) -> FormattedDuration {
    format_duration(Duration::from_secs(time.as_secs()))
}

/// Removes the query, which may hold a secret.
fn without_query(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

    use serde_json::json;

    use super::{files, in_seconds};
    use crate::{
        credentials::{Definition, Origin, Source, Surroundings},
        http_client::Authorities,
    };

    #[test]
    fn the_permissions_of_a_subject_token_file_are_checked() {
        let directory = tempfile::tempdir().unwrap();
        let [credential, token] = ["workload.json", "token"].map(|name| directory.path().join(name));
        let content = json!({
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k8s",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": {"file": token},
        });
        fs::write(&credential, content.to_string()).unwrap();
        fs::set_permissions(&credential, fs::Permissions::from_mode(0o600)).unwrap();
        let iam = "https://iamcredentials.googleapis.com".parse().unwrap();
        let surroundings = Arc::new(Surroundings::new(Authorities::public(), iam));
        let definition = Definition { origin: Origin::File(credential), impersonate: None };
        let source = Source::read(&definition, &surroundings).unwrap();
        let lines = || -> Vec<_> { files("x", &source).iter().map(ToString::to_string).collect() };

        assert_eq!(lines().len(), 1, "a missing subject token is reported with the token");
        fs::write(&token, "subject").unwrap();
        for (mode, begin) in
            [(0o600, "x: FILE can be read ("), (0o644, "x: every user of this machine can read FILE (")]
        {
            fs::set_permissions(&token, fs::Permissions::from_mode(mode)).unwrap();
            let [_, line] = &lines()[..] else { panic!("{:?}", lines()) };
            assert!(line.starts_with(&begin.replace("FILE", token.to_str().unwrap())), "{line}");
        }
    }

    #[test]
    fn a_lifetime_is_formatted_in_whole_seconds() {
        for (nanoseconds, formatted) in
            [(3_598_812_909_280, "59m 58s"), (3_600_000_000_000, "1h"), (999_999_999, "0s")]
        {
            assert_eq!(in_seconds(Duration::from_nanos(nanoseconds)).to_string(), formatted);
        }
    }
}
