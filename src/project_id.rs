//! The ids of Google projects.

use std::path::Path;

use crate::config::Invalid;

/// The end of a service account's email (IAM, "Service accounts overview": user-managed service accounts).
const SERVICE_ACCOUNTS: &str = ".iam.gserviceaccount.com";

/// The longest id, in bytes. Google's have at most 30 characters after the domain of an organization.
const MAX_LENGTH: usize = 100;

/// Whether this is the id, or the number, of a project: `my-project-123`, or `example.com:my-project-123` of a
/// domain-scoped project.
pub(crate) fn is_project_id(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | ':');
    (1..=MAX_LENGTH).contains(&text.len()) && text.chars().all(is_plain)
}

/// Parses the id of a project in a setting.
///
/// # Errors
///
/// The text is not an id.
pub(crate) fn parse(text: &str, _: &Path) -> Result<String, Invalid> {
    if is_project_id(text) {
        return Ok(text.to_owned());
    }
    Err(Invalid::new("this is not the id of a Google project", "give an id like my-project-123"))
}

/// The project of a service account by its email. `None` for an email without a project id, for example that of a default
/// account of Google.
pub(crate) fn of_service_account(email: &str) -> Option<String> {
    let (_, host) = email.split_once('@')?;
    let project = host.strip_suffix(SERVICE_ACCOUNTS)?;
    let id = match project.split_once('.') {
        // A domain-scoped project stands in an email as PROJECT.DOMAIN, and its id is DOMAIN:PROJECT.
        Some((project, domain)) => format!("{domain}:{project}"),
        None => project.to_owned(),
    };
    is_project_id(&id).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::{is_project_id, of_service_account};

    #[test]
    fn an_email_has_the_project_of_its_service_account() {
        for (email, project) in [
            ("proxy@my-project-1.iam.gserviceaccount.com", Some("my-project-1")),
            ("proxy@my-project.example.com.iam.gserviceaccount.com", Some("example.com:my-project")),
            ("proxy@p.a.example.com.iam.gserviceaccount.com", Some("a.example.com:p")),
            ("123-compute@developer.gserviceaccount.com", None),
            ("my-project@appspot.gserviceaccount.com", None),
            ("proxy@iam.gserviceaccount.com", None),
            ("proxy@.iam.gserviceaccount.com", None),
            ("proxy@A~B.iam.gserviceaccount.com", None),
            ("proxy@p.iam.gserviceaccount.com.example.com", None),
            ("103219543762931450000", None),
            ("", None),
        ] {
            assert_eq!(of_service_account(email).as_deref(), project, "{email}");
        }
    }

    #[test]
    fn an_id_has_at_most_100_plain_characters() {
        for valid in ["p", "my-project-123", "123456789012", "example.com:my-project", &"p".repeat(100)] {
            assert!(is_project_id(valid), "{valid}");
        }
        for invalid in ["", " p", "P", "a b", "a/b", "a\n", "ä", &"p".repeat(101)] {
            assert!(!is_project_id(invalid), "{invalid}");
        }
    }
}
