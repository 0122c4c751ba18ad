//! What a list is asked with.

use reqwest::Url;

/// The query of `enterprises.devices.operations.list`. Each part is sent only when it is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// A filter in AMAPI's own language, passed on as it is; empty for none.
    pub filter: String,
    /// The most operations on a page; 0 leaves it to Google.
    pub page_size: u32,
    /// Where the page starts; empty for the first.
    pub page_token: String,
    /// Whether to answer with what can be reached.
    pub return_partial_success: bool,
}

impl ListQuery {
    /// Writes the query under the names that AMAPI's discovery document gives the parameters.
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
    fn only_what_is_set_is_sent() {
        assert_eq!(written(&ListQuery::default()), "https://host.example/v1/x/operations");
        let query = ListQuery { page_size: 7, ..ListQuery::default() };
        assert_eq!(written(&query), "https://host.example/v1/x/operations?pageSize=7");
    }

    #[test]
    fn nothing_in_a_value_becomes_another_parameter() {
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
