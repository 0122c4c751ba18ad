//! The principals that exist: service accounts, a person, and the workloads of another identity provider.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use crate::key::{RsaKey, random_hex};
use crate::subject_token::Workload;

/// The Google Cloud project of the accounts and of the quota.
pub(crate) const PROJECT: &str = "countermand-emulator";

/// The service account of [`Kind::ServiceAccount`](crate::Kind::ServiceAccount).
pub(crate) const FIRST_ACCOUNT: &str = "emulator";

/// The service account that some credential files impersonate.
pub(crate) const TARGET_ACCOUNT: &str = "proxy";

/// The metadata server's service account: Compute Engine's default one.
pub(crate) const MACHINE_ACCOUNT: &str = "100000000000-compute@developer.gserviceaccount.com";

/// The person of [`Kind::AuthorizedUser`](crate::Kind::AuthorizedUser).
pub(crate) const PERSON_EMAIL: &str = "developer@example.com";

/// The accounts. All service accounts share one key, because generating one is slow. They differ by its id.
pub(crate) struct Accounts {
    pub(crate) key: RsaKey,
    service: HashMap<Arc<str>, Account>,
    disabled: HashSet<String>,
}

/// A service account.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) email: Arc<str>,
    pub(crate) key_id: String,
    impersonable: bool,
}

impl Accounts {
    pub(crate) fn new(key: RsaKey) -> io::Result<Self> {
        let mut accounts = Self { key, service: HashMap::new(), disabled: HashSet::new() };
        for name in [FIRST_ACCOUNT, TARGET_ACCOUNT] {
            accounts.create(email(name))?;
        }
        accounts.create(MACHINE_ACCOUNT.to_owned())?;
        Ok(accounts)
    }

    /// The account of that name, which is created when it does not exist.
    pub(crate) fn named(&mut self, name: &str) -> io::Result<&Account> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 30 || !name.bytes().all(letter) {
            let expected = "a service account's name is 1 to 30 of a-z, 0-9 and -";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, expected));
        }
        self.create(email(name))
    }

    fn create(&mut self, email: String) -> io::Result<&Account> {
        let key_id = random_hex()?;
        let email: Arc<str> = email.into();
        let account = Account { email: Arc::clone(&email), key_id, impersonable: true };
        Ok(self.service.entry(email).or_insert(account))
    }

    pub(crate) fn find(&self, email: &str) -> Option<&Account> {
        self.service.get(email)
    }

    /// Whether a service account exists and may be impersonated; `None` when it does not exist.
    pub(crate) fn impersonable(&self, email: &str) -> Option<bool> {
        self.service.get(email).map(|account| account.impersonable)
    }

    /// Sets whether a service account may be impersonated. Returns `false` when there is none.
    pub(crate) fn set_impersonable(&mut self, email: &str, impersonable: bool) -> bool {
        let account = self.service.get_mut(email);
        account.map(|account| account.impersonable = impersonable).is_some()
    }

    pub(crate) fn exists(&self, principal: &str) -> bool {
        self.service.contains_key(principal)
            || principal == PERSON_EMAIL
            || [Workload::File, Workload::Url].into_iter().any(|workload| workload.principal() == principal)
    }

    pub(crate) fn is_disabled(&self, principal: &str) -> bool {
        self.disabled.contains(principal)
    }

    /// Enables or disables a principal. Returns `false` when there is none.
    pub(crate) fn set_enabled(&mut self, principal: &str, enabled: bool) -> bool {
        if enabled {
            self.disabled.remove(principal);
        } else if self.exists(principal) {
            self.disabled.insert(principal.to_owned());
        }
        self.exists(principal)
    }
}

/// The address of a service account of this project.
pub(crate) fn email(name: &str) -> String {
    format!("{name}@{PROJECT}.iam.gserviceaccount.com")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_created_once_and_have_their_own_key_ids() {
        let mut accounts = Accounts::new(RsaKey::generate().unwrap()).unwrap();
        let first = accounts.named("emea").unwrap().key_id.clone();
        assert_eq!(accounts.named("emea").unwrap().key_id, first);
        assert_ne!(accounts.named("apac").unwrap().key_id, first);
        assert!(accounts.find(&email("emea")).is_some());
        for name in ["", "EMEA", "a@b", "a b", &"a".repeat(31)] {
            let error = accounts.named(name).err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }

    #[test]
    fn each_principal_is_disabled_by_itself() {
        let mut accounts = Accounts::new(RsaKey::generate().unwrap()).unwrap();
        let file = Workload::File.principal();
        for principal in [&*email(TARGET_ACCOUNT), MACHINE_ACCOUNT, PERSON_EMAIL, &*file] {
            assert!(accounts.set_enabled(principal, false), "{principal}");
            assert!(accounts.is_disabled(principal), "{principal}");
            assert!(!accounts.is_disabled(&email(FIRST_ACCOUNT)));
            assert!(accounts.set_enabled(principal, true), "{principal}");
            assert!(!accounts.is_disabled(principal), "{principal}");
        }
        assert!(!accounts.set_enabled("nobody@example.com", false));
        assert!(!accounts.set_impersonable(PERSON_EMAIL, false));
        assert_eq!(accounts.impersonable("nobody@example.com"), None);
    }
}
