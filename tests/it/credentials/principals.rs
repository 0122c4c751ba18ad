//! Each kind of credential sends calls with a token of its own principal.

use std::{fs, time::Duration};

use countermand_emulator::{Endpoint, Kind};

use crate::credentials::{
    service::{Service, emulator, request_count},
    test_credential::TestCredential,
};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn each_kind_calls_as_its_own_principal() {
    let emulator = emulator(HOUR).await;
    let mut service = Service::start(&emulator, &TestCredential::all()).await;
    service.assert_principals(&emulator).await;
    use Endpoint::{Iam, Metadata, Sts, SubjectToken, Token};
    for endpoint in [Token, Sts, SubjectToken, Metadata, Iam] {
        let users =
            TestCredential::all().iter().flat_map(|h| h.endpoints()).filter(|one| *one == endpoint).count();
        assert_eq!(request_count(&emulator, endpoint), users as u64, "{endpoint:?}");
    }
    service.end(&[]).await;
}

#[tokio::test]
async fn application_default_credentials_use_the_first_of_three_origins() {
    let emulator = emulator(HOUR).await;
    let of = |kind| emulator.principal(kind);
    let file = |kind: Kind| format!("{}.json", kind.name());
    let named = Some(Kind::ExternalAccountFile);
    let gcloud = Some(Kind::AuthorizedUser);
    for (named, gcloud, principal) in [
        (named, gcloud, of(Kind::ExternalAccountFile)),
        (named, None, of(Kind::ExternalAccountFile)),
        (None, gcloud, of(Kind::AuthorizedUser)),
        (None, None, emulator.metadata_principal().to_owned()),
    ] {
        let start = Service::start_with(&emulator, &[], |command, dir| {
            command.env("HOME", dir);
            if let Some(kind) = named {
                command.env("GOOGLE_APPLICATION_CREDENTIALS", file(kind));
            }
            if let Some(kind) = gcloud {
                fs::create_dir_all(dir.join(".config/gcloud")).unwrap();
                let well_known = dir.join(".config/gcloud/application_default_credentials.json");
                fs::copy(dir.join(file(kind)), well_known).unwrap();
            }
        });
        let mut service = start.await;
        service.wait_for_state("default", |line| line["state"] == "valid").await;
        assert_eq!(service.cancel("LC01").await.unwrap(), principal, "{named:?} {gcloud:?}");
        service.end(&[]).await;
    }
}
