//! What there is to say of one credential, up to a token that it fetches.

use std::{sync::Arc, time::Duration};

use humantime::format_duration;
use reqwest::Url;
use tokio::time::timeout;

use super::{cure::cure, file, finding::Finding};
use crate::{
    config,
    credentials::{FetchError, Pattern, Source, Surroundings, fetch_once},
};

/// How long somebody may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// In the order in which they build on one another.
pub(super) async fn findings(
    credential: &config::Credential,
    upstream: &config::Upstream,
    surroundings: &Arc<Surroundings>,
) -> Vec<Finding> {
    let config::Credential { name, definition, enterprises } = credential;
    let subject = format!("credential {name}");
    let source = match Source::read(definition, surroundings) {
        Ok(source) => source,
        Err(error) => {
            let cure = "name a credential file, as Google Cloud's console or gcloud makes them";
            return vec![Finding::fault(subject, error.to_string(), cure)];
        }
    };
    let mut findings = Vec::new();
    findings.extend(source.file().map(|path| file::finding(&subject, path)));
    findings.push(identity(&subject, &source).await);
    if let Some(email) = &definition.impersonate {
        let iam = &upstream.iam_credentials_url;
        findings.push(Finding::ok(&subject, format!("impersonates {email}, by IAM Credentials at {iam}")));
    }
    findings.push(Finding::ok(&subject, serves(enterprises)));
    findings.push(token(&subject, &source).await);
    findings
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
            Finding::warning(subject, finding, cure(&error))
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
            let lifetime = format_duration(token.lifetime());
            Finding::ok(subject, format!("token obtained by way of {endpoint}, valid for {lifetime}"))
        }
        Err(error) => {
            Finding::fault(subject, format!("no token by way of {endpoint}: {error}"), cure(&error))
        }
    }
}

/// A URL as it may be shown.
fn without_query(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url
}
