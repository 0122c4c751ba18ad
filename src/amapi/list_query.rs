//! The query parameters of a list request.

use reqwest::Url;

use super::error::{Error, MAX_URL};

/// The query of `enterprises.devices.operations.list`. A parameter is sent only when it is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// A filter in AMAPI's language, forwarded unchanged; empty for none.
    pub filter: String,
    /// The maximum number of operations on a page; 0 for Google's default.
    pub page_size: u32,
    /// The token of the page; empty for the first page.
    pub page_token: String,
    /// Whether Google may return the reachable part of the operations.
    pub return_partial_success: bool,
}

impl ListQuery {
    /// Adds the parameters to `url`. The names are from AMAPI's discovery document.
    ///
    /// # Errors
    ///
    /// [`Error::UrlTooLong`]. It names the field that takes the most bytes in the URL.
    pub(super) fn add_to(&self, mut url: Url) -> Result<Url, Error> {
        self.write(&mut url);
        let url_length = url.as_str().len();
        if url_length <= MAX_URL {
            return Ok(url);
        }
        let encoded =
            |value: &str| form_urlencoded::byte_serialize(value.as_bytes()).map(str::len).sum::<usize>();
        let field = if encoded(&self.filter) >= encoded(&self.page_token) { "filter" } else { "page_token" };
        Err(Error::UrlTooLong { field, url_length })
    }

    fn write(&self, url: &mut Url) {
        let Self { filter, page_size, page_token, return_partial_success } = self;
        if *self == Self::default() {
            return;
        }
        let mut query = url.query_pairs_mut();
        if !filter.is_empty() {
            query.append_pair("filter", filter);
        }
        if *page_size > 0 {
            query.append_pair("pageSize", &page_size.to_string());
        }
        if !page_token.is_empty() {
            query.append_pair("pageToken", page_token);
        }
        if *return_partial_success {
            query.append_pair("returnPartialSuccess", "true");
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Url;

    use super::{Error, ListQuery, MAX_URL};

    fn written(query: &ListQuery) -> String {
        let mut url = Url::parse("https://host.example/v1/x/operations").expect("a URL");
        query.write(&mut url);
        url.to_string()
    }

    #[test]
    fn only_parameters_that_are_set_are_sent() {
        assert_eq!(written(&ListQuery::default()), "https://host.example/v1/x/operations");
        let query = ListQuery { page_size: 7, ..ListQuery::default() };
        assert_eq!(written(&query), "https://host.example/v1/x/operations?pageSize=7");
    }

    #[test]
    fn the_longer_field_is_named_when_the_url_is_too_long() {
        let device = || Url::parse("https://host.example/v1/x/operations").expect("a URL");
        let filter_of = |length| ListQuery { filter: "a".repeat(length), ..ListQuery::default() };
        let longest = MAX_URL - written(&filter_of(1)).len() + 1;
        for (query, field) in [
            (filter_of(longest), None),
            (filter_of(longest + 1), Some("filter")),
            (ListQuery { page_token: "=".repeat(22_000), ..filter_of(50_000) }, Some("page_token")),
            (ListQuery { page_token: "t".repeat(40_000), ..filter_of(40_000) }, Some("filter")),
        ] {
            let uri = written(&query).parse::<http::Uri>();
            assert_eq!(uri.is_ok(), field.is_none(), "the limit is that of the crate http");
            match query.add_to(device()) {
                Ok(_) => assert_eq!(field, None),
                Err(Error::UrlTooLong { field: named, url_length }) => {
                    assert_eq!((Some(named), url_length), (field, written(&query).len()));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_value_cannot_add_a_parameter() {
        let query = ListQuery {
            filter: "done = true&pageSize=9#x".to_owned(),
            page_size: 7,
            page_token: "a+b/c==".to_owned(),
            return_partial_success: true,
        };
        let url = Url::parse(&written(&query)).expect("a URL");
        let pairs: Vec<_> = url.query_pairs().collect();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        assert_eq!(
            pairs,
            [
                ("filter", "done = true&pageSize=9#x"),
                ("pageSize", "7"),
                ("pageToken", "a+b/c=="),
                ("returnPartialSuccess", "true"),
            ]
        );
    }
}
