//! What there is to say of one credential, up to a token that it fetches.

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

/// How long somebody may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// In the order in which they build on one another.
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

/// The files that show who the credential is. A subject token that cannot be read is told with the token
/// that it stands in the way of.
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
        None => timeout(PATIENCE, source.identify())
            .await
            .unwrap_or_else(|_| Err(FetchError::Unanswered(None, format!("no answer within {PATIENCE:?}")))),
    };
    match principal {
        Ok(principal) => Finding::ok(subject, format!("{kind} {principal}, scope {scope}")),
        Err(error) => {
            let finding = format!("{kind}, scope {scope}; it does not say who it is: {error}");
            Finding::warning(subject, finding, hint(&error))
        }
    }
}

fn serves(enterprises: &[Pattern]) -> String {
    let written = enterprises.iter().map(|pattern| match pattern {
        pattern if *pattern == Pattern::all() => "every enterprise that no other serves".to_owned(),
        pattern => pattern.to_string(),
    });
    format!("serves {}", written.collect::<Vec<_>>().join(", "))
}

async fn token(subject: &str, source: &Source) -> Finding {
    let endpoint = without_query(source.endpoint());
    match fetch_once(source).await {
        Ok(token) => {
            let lifetime = in_seconds(token.lifetime());
            Finding::ok(subject, format!("token obtained by way of {endpoint}, valid for {lifetime}"))
        }
        Err(error) => {
            Finding::error(subject, format!("no token by way of {endpoint}: {error}"), hint(&error))
        }
    }
}

/// Less than a second of a token's life is noise.
fn in_seconds(time: Duration) -> FormattedDuration {
    format_duration(Duration::from_secs(time.as_secs()))
}

/// A URL as it may be shown.
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
    fn a_file_with_a_subject_token_is_told_of_as_a_key_is() {
        let room = tempfile::tempdir().unwrap();
        let [credential, token] = ["workload.json", "token"].map(|name| room.path().join(name));
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
        let told = || -> Vec<_> { files("x", &source).iter().map(ToString::to_string).collect() };

        assert_eq!(told().len(), 1, "that the token is not there is told where it is wanted");
        fs::write(&token, "subject").unwrap();
        for (mode, begin) in
            [(0o600, "x: FILE can be read ("), (0o644, "x: every user of this machine can read FILE (")]
        {
            fs::set_permissions(&token, fs::Permissions::from_mode(mode)).unwrap();
            let [_, line] = &told()[..] else { panic!("{:?}", told()) };
            assert!(line.starts_with(&begin.replace("FILE", token.to_str().unwrap())), "{line}");
        }
    }

    #[test]
    fn a_lifetime_is_told_in_whole_seconds() {
        for (nanoseconds, told) in
            [(3_598_812_909_280, "59m 58s"), (3_600_000_000_000, "1h"), (999_999_999, "0s")]
        {
            assert_eq!(in_seconds(Duration::from_nanos(nanoseconds)).to_string(), told);
        }
    }
}
