//! Findings about the quota: the credentials that each `[[quota]]` section paces, and those that none paces.

use std::{collections::BTreeMap, sync::Arc};

use humantime::format_duration;

use super::finding::Finding;
use crate::{
    credentials::{LoadedCredential, settings::CredentialConfig},
    quota::{
        entry_of,
        settings::{QuotaMode, QuotaSettings},
    },
};

/// A credential and its Google project, if it is known.
struct PacedCredential<'a> {
    name: &'a str,
    project: Option<Arc<str>>,
}

/// The findings about the sections. None without a section, because nothing is paced then.
pub(super) fn findings(
    sections: &[QuotaSettings],
    credentials: &[CredentialConfig],
    loaded: &[LoadedCredential],
) -> Vec<Finding> {
    let credentials: Vec<_> = credentials
        .iter()
        .zip(loaded)
        .map(|(credential, loaded)| PacedCredential { name: &credential.name, project: loaded.project() })
        .collect();
    of_projects(sections, &credentials)
}

fn of_projects(sections: &[QuotaSettings], credentials: &[PacedCredential<'_>]) -> Vec<Finding> {
    if sections.is_empty() {
        return Vec::new();
    }
    let of_section = sections.iter().flat_map(|section| {
        let paces = |credential: &&PacedCredential<'_>| {
            entry_of(sections, credential.project.as_deref().unwrap_or_default())
                .is_some_and(|found| found.project == section.project)
        };
        section_findings(section, &credentials.iter().filter(paces).collect::<Vec<_>>())
    });
    let of_credential = credentials.iter().filter_map(|credential| credential_finding(sections, credential));
    of_section.chain(of_credential).collect()
}

fn section_findings(section: &QuotaSettings, credentials: &[&PacedCredential<'_>]) -> Vec<Finding> {
    let QuotaSettings { project, limit, period, burst: _, mode } = section;
    let subject = project.as_ref().map_or_else(|| "quota".to_owned(), |project| format!("quota {project}"));
    let limit = format!("at most {limit} queries in any {}", format_duration(*period));
    let finding = match (credentials, project) {
        ([], Some(_)) => Finding::warning(
            &subject,
            "no credential has this project",
            "correct the project, or give it to a credential (project in [[credentials]])",
        ),
        ([], None) => Finding::ok(&subject, format!("{limit}, for no credential: each has another section")),
        (credentials, Some(_)) => {
            let noun = if credentials.len() == 1 { "credential" } else { "credentials" };
            let names: Vec<_> = credentials.iter().map(|credential| credential.name).collect();
            Finding::ok(&subject, format!("{limit}, for the {noun} {}", names.join(", ")))
        }
        (credentials, None) => {
            Finding::ok(&subject, format!("{limit} for each project: {}", by_project(credentials)))
        }
    };
    let shadow = (*mode == QuotaMode::Shadow).then(|| {
        let finding = "it is in shadow mode: no query is delayed or refused";
        Finding::warning(&subject, finding, r#"give mode = "enforce" to enforce it"#)
    });
    [finding].into_iter().chain(shadow).collect()
}

/// Each project with its credentials, and at the end the credentials of an unknown project, which share one quota.
fn by_project(credentials: &[&PacedCredential<'_>]) -> String {
    let mut projects = BTreeMap::<_, Vec<_>>::new();
    for PacedCredential { name, project } in credentials {
        projects.entry((project.is_none(), project.as_deref())).or_default().push(*name);
    }
    let texts: Vec<_> = projects
        .iter()
        .map(|((_, project), names)| format!("{} ({})", project.unwrap_or("unknown"), names.join(", ")))
        .collect();
    texts.join(", ")
}

fn credential_finding(sections: &[QuotaSettings], credential: &PacedCredential<'_>) -> Option<Finding> {
    let PacedCredential { name, project } = credential;
    let section = entry_of(sections, project.as_deref().unwrap_or_default());
    let (problem, hint) = match (project, section) {
        (Some(_), Some(_)) => return None,
        (Some(project), None) => (
            format!("no [[quota]] section is for its project {project}: its queries are not paced"),
            "add a section for the project, or one without a project",
        ),
        (None, Some(_)) => (
            "its Google project is unknown: it has one quota with all such credentials".to_owned(),
            "give its project in [[credentials]]",
        ),
        (None, None) => (
            "its Google project is unknown: its queries are not paced".to_owned(),
            "give its project in [[credentials]]",
        ),
    };
    Some(Finding::warning(format!("credential {name}"), problem, hint))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{PacedCredential, of_projects};
    use crate::quota::settings::{QuotaMode, QuotaSettings};

    fn section(project: Option<&str>) -> QuotaSettings {
        QuotaSettings { project: project.map(str::to_owned), ..QuotaSettings::default() }
    }

    fn lines(sections: &[QuotaSettings], credentials: &[(&str, Option<&str>)]) -> Vec<String> {
        let credentials: Vec<_> = credentials
            .iter()
            .map(|&(name, project)| PacedCredential { name, project: project.map(Arc::from) })
            .collect();
        of_projects(sections, &credentials).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn without_a_section_there_is_no_finding() {
        assert!(lines(&[], &[("emea", None)]).is_empty());
    }

    #[test]
    fn each_section_names_the_credentials_that_it_paces() {
        let sections = [section(Some("p")), section(Some("q")), section(None)];
        let credentials = [("emea", Some("p")), ("apac", Some("s")), ("us", Some("p")), ("jp", Some("r"))];
        let found = lines(&sections, &[&credentials[..], &[("eu", Some("s"))]].concat());
        assert_eq!(
            found,
            [
                "quota p: at most 600 queries in any 1m, for the credentials emea, us",
                "quota q: no credential has this project; correct the project, or give it to a credential (project \
                 in [[credentials]])",
                "quota: at most 600 queries in any 1m for each project: r (jp), s (apac, eu)",
            ]
        );
    }

    #[test]
    fn a_credential_without_a_known_project_or_a_section_is_a_warning() {
        let unknown = ("emea", None);
        let found = lines(&[section(Some("p"))], &[unknown, ("apac", Some("q")), ("us", Some("p"))]);
        assert_eq!(
            found[1..],
            [
                "credential emea: its Google project is unknown: its queries are not paced; give its project in \
                 [[credentials]]",
                "credential apac: no [[quota]] section is for its project q: its queries are not paced; add a \
                 section for the project, or one without a project",
            ]
        );
        let found = lines(&[section(None)], &[unknown, ("us", Some("p"))]);
        assert_eq!(
            found,
            [
                "quota: at most 600 queries in any 1m for each project: p (us), unknown (emea)",
                "credential emea: its Google project is unknown: it has one quota with all such credentials; give \
                 its project in [[credentials]]",
            ]
        );
    }

    #[test]
    fn a_section_in_shadow_mode_is_a_warning() {
        let shadow = QuotaSettings { mode: QuotaMode::Shadow, ..section(Some("p")) };
        let found = lines(&[shadow], &[("emea", Some("p"))]);
        let line = "quota p: it is in shadow mode: no query is delayed or refused; give mode = \"enforce\" to enforce it";
        assert_eq!(found[1..], [line]);
    }
}
