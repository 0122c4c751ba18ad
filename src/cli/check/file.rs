//! Who may read a credential file.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use super::finding::Finding;
use crate::config::READABLE_FILE;

/// Everybody's bits, and the group's right to write: of these, a credential needs none.
const TOO_MUCH: u32 = 0o027;

/// What the file's owner and mode say; those of the file that a symbolic link leads to.
pub(super) fn finding(subject: &str, file: &Path) -> Finding {
    let name = file.display();
    let (owner, group, mode) = match fs::metadata(file) {
        Ok(found) => (found.uid(), found.gid(), found.mode() & 0o7777),
        Err(error) => {
            return Finding::fault(subject, format!("cannot read {name}: {error}"), READABLE_FILE);
        }
    };
    let whose = format!("owner {owner}, group {group}, mode {mode:04o}");
    let cure = format!(
        "chmod {:04o} {name}; in Kubernetes, defaultMode: 0440 of the volume and fsGroup of the pod",
        mode & !TOO_MUCH
    );
    let warn = |who: &str| Finding::warning(subject, format!("{who} {name} ({whose})"), &cure);
    if mode & 0o002 != 0 {
        warn("every user of this machine can replace the content of")
    } else if mode & 0o004 != 0 {
        warn("every user of this machine can read")
    } else if mode & 0o020 != 0 {
        warn("every user of the group can replace the content of")
    } else {
        Finding::ok(subject, format!("{name} can be read ({whose})"))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::finding;

    #[test]
    fn a_file_that_is_open_to_others_is_warned_of_with_the_mode_to_give_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        for (mode, told) in [
            (0o600, "credential emea: FILE can be read (owner "),
            (0o440, "credential emea: FILE can be read (owner "),
            (0o644, "credential emea: every user of this machine can read FILE (owner "),
            (0o666, "credential emea: every user of this machine can replace the content of FILE (owner "),
            (0o660, "credential emea: every user of the group can replace the content of FILE (owner "),
        ] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            let line = finding("credential emea", path).to_string();
            let told = told.replace("FILE", path.to_str().unwrap());
            assert!(line.starts_with(&told), "{mode:o}: {line}");
            assert!(line.contains(&format!("mode {mode:04o})")), "{line}");
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o646)).unwrap();
        assert!(finding("x", path).to_string().contains("; chmod 0640 "));
    }
}
