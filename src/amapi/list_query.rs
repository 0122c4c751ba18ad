//! The query parameters of a list request.

use reqwest::Url;

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
    pub(super) fn write(&self, url: &mut Url) {
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

    use super::ListQuery;

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
