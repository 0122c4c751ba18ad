//! The findings about one credential: its files, its principal, its enterprises, and a token.

use std::{sync::Arc, time::Duration};

use humantime::{FormattedDuration, format_duration};
use reqwest::Url;
use tokio::time::timeout;

use super::{finding::Finding, local, online::OnlineCheck, token_hint::hint};
use crate::{
    amapi::settings::Upstream,
    credentials::settings::CredentialConfig,
    credentials::{FetchError, FetchErrorKind, LoadedCredential, Pattern, Surroundings},
    file_watch,
};

/// The timeout of the request for the principal.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// The findings, in the order in which they depend on each other. `online` sends a query with the token.
pub(super) async fn findings(
    credential: &CredentialConfig,
    loaded: &LoadedCredential,
    upstream: &Upstream,
    surroundings: &Arc<Surroundings>,
    online: Option<&OnlineCheck>,
) -> Vec<Finding> {
    let CredentialConfig { name, definition, enterprises } = credential;
    let subject = format!("credential {name}");
    let mut findings = files(&subject, loaded);
    findings.push(identity(&subject, loaded, surroundings).await);
    if let Some(email) = &definition.impersonate {
        let iam = &upstream.iam_credentials_url;
        findings.push(Finding::ok(&subject, format!("impersonates {email}, by IAM Credentials at {iam}")));
    }
    findings.push(Finding::ok(&subject, serves(enterprises)));
    let endpoint = without_query(loaded.endpoint());
    match loaded.fetch(surroundings).await {
        Ok(token) => {
            let lifetime = in_seconds(token.lifetime());
            let finding = format!("fetched a token from {endpoint}, valid for {lifetime}");
            findings.push(Finding::ok(&subject, finding));
            if let Some(online) = online {
                findings.push(online.finding(&subject, &token, enterprises).await);
            }
        }
        Err(error) => {
            let finding = format!("no token from {endpoint}: {error}");
            findings.push(Finding::error(&subject, finding, hint(&error)));
        }
    }
    findings
}

/// The findings about the credential file and the file of the subject token. An unreadable subject token is reported
/// with the token instead, because it prevents the token.
fn files(subject: &str, loaded: &LoadedCredential) -> Vec<Finding> {
    let subject_token = loaded.subject_token_file().filter(|path| file_watch::read(path).is_ok());
    [loaded.file(), subject_token]
        .into_iter()
        .flatten()
        .map(|path| local::file_access(subject, path))
        .collect()
}

async fn identity(subject: &str, loaded: &LoadedCredential, surroundings: &Surroundings) -> Finding {
    let (kind, scope) = (loaded.kind(), loaded.scope());
    let principal = timeout(IDENTIFY_TIMEOUT, loaded.identify(surroundings)).await;
    let principal = principal.unwrap_or_else(|_| {
        let cause = format!("no response within {IDENTIFY_TIMEOUT:?}");
        Err(FetchError::new(FetchErrorKind::Unreachable, cause))
    });
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

/// Formats a lifetime without fractions of a second.
fn in_seconds(time: Duration) -> FormattedDuration {
    format_duration(Duration::from_secs(time.as_secs()))
}

/// Removes the query, which may hold a secret.
pub(super) fn without_query(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

    use serde_json::json;

    use super::{files, in_seconds};
    use crate::credentials::{Definition, Origin};

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
        let definition = Definition { origin: Origin::File(credential), impersonate: None, project: None };
        let loaded = definition.load().unwrap();
        let lines = || -> Vec<_> { files("x", &loaded).iter().map(ToString::to_string).collect() };

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
        for (nanoseconds, text) in
            [(3_598_812_909_280, "59m 58s"), (3_600_000_000_000, "1h"), (999_999_999, "0s")]
        {
            assert_eq!(in_seconds(Duration::from_nanos(nanoseconds)).to_string(), text);
        }
    }
}
