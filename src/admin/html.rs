//! The pages for people. They are complete without a script, and request nothing from elsewhere.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY},
};
use http_body_util::Full;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{pages::page, statusz::Status};
use crate::fingerprint::fingerprint;

mod chart;
mod quota_section;
mod status_page;

const STYLE: &str = include_str!("html/style.css");

/// Only the style above is used, and the empty icon, without which browsers would request `/favicon.ico`.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = BASE64_STANDARD.encode(fingerprint(STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).expect("base64 is a header value")
});

/// The seconds between two requests of a page that refreshes itself.
const REFRESH: u32 = 10;

/// `/`: the list of pages.
pub(super) fn index() -> Response<Full<Bytes>> {
    let pages = [
        ("/statusz", "The state of this process"),
        ("/statusz.json", "The same as JSON"),
        ("/metrics", "Metrics for Prometheus"),
        ("/loglevel", "The filter of the log. A POST changes it"),
        ("/readyz", "Whether calls are served, with the state of each credential"),
        ("/livez", "Whether the process runs"),
    ];
    document(
        "Countermand",
        None,
        &html! {
            main {
                h1 { "Countermand " span.muted { (env!("CARGO_PKG_VERSION")) } }
                section.scroll {
                    table {
                        thead { tr { th scope="col" { "Page" } th scope="col" { "Content" } } }
                        tbody {
                            @for (path, content) in pages {
                                tr { th scope="row" { a href=(path) { code { (path) } } } td.wrap { (content) } }
                            }
                        }
                    }
                }
            }
        },
    )
}

/// `/statusz`. The query `refresh` makes the browser request the page again and again.
pub(super) fn statusz(status: &Status, query: Option<&str>) -> Response<Full<Bytes>> {
    let refreshes = query == Some("refresh");
    let title = format!("Countermand: {}", status.state.replace('_', " "));
    document(&title, refreshes.then_some(REFRESH), &status_page::body(status, refreshes))
}

fn document(title: &str, refresh: Option<u32>, body: &Markup) -> Response<Full<Bytes>> {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if let Some(seconds) = refresh { meta http-equiv="refresh" content=(seconds); }
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    };
    let mut response = page(StatusCode::OK, "text/html; charset=utf-8", document.into_string());
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
