//! Fuzzes the parser of error bodies and the conversion to a status. For every body, the caller gets an error of
//! bounded size with exactly one ErrorInfo.
#![no_main]

use std::sync::Arc;

use countermand::{
    amapi::{
        error::{Error, ErrorResponse},
        google_error::GoogleError,
    },
    operations::status::{self, OUR_DOMAIN},
};
use libfuzzer_sys::fuzz_target;
use tonic::Code;
use tonic_types::{ErrorDetail, StatusExt};

const STATUSES: [u16; 8] = [400, 401, 403, 404, 429, 451, 500, 503];

fuzz_target!(|input: (u8, &[u8])| {
    let (choice, body) = input;
    let google = GoogleError::parse(body);
    let line = google.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(line.len() < 8 * 1024 && !line.contains(char::is_control), "{line:?}");

    let http_status = STATUSES[usize::from(choice) % STATUSES.len()];
    let response = ErrorResponse { http_status, google: google.map(Arc::new), retry_after: None };
    let rejects_credential = response.rejects_credential();
    let status = status::from_upstream(&Error::Response(response));
    assert_ne!(status.code(), Code::Ok);
    assert!(status.message().len() <= 1024);

    let details = status.check_error_details_vec().expect("valid details");
    let infos: Vec<_> = details
        .iter()
        .filter_map(|detail| match detail {
            ErrorDetail::ErrorInfo(info) => Some(info),
            _ => None,
        })
        .collect();
    assert_eq!(infos.len(), 1);
    assert_eq!(infos[0].domain == OUR_DOMAIN, rejects_credential);

    let headers = status.into_http::<()>().into_parts().0.headers;
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(size < 8 * 1024, "{size}");
});
