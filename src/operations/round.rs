//! One round of questions about the awaited operations of a device, with as few queries as can be.

use std::{collections::HashMap, sync::Arc};

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{latest::may_pass, states::States};
use crate::{
    amapi::{Api, ListQuery, error::Error},
    name::OperationName,
    policy::{Permit, act::Get},
    proto::longrunning::Operation,
};

/// As many operations on a page as the API may be willing to give.
const PAGE_SIZE: u32 = 1000;

/// After lists proved dearer than gets, so many rounds go by before a list is tried again.
const ROUNDS_WITHOUT_LIST: u32 = 10;

/// What was found of each operation.
pub(super) type Found = Vec<(OperationName, Result<Arc<Operation>, Error>)>;

/// What earlier rounds taught.
#[derive(Default)]
pub(super) struct Plan {
    rounds_without_list: u32,
}

/// Asks for all of `awaited`, operations of one device: one by a get, several by its list while that takes
/// fewer queries.
pub(super) async fn ask<A: Api>(states: &States<A>, awaited: &[Permit<Get>], plan: &mut Plan) -> Found {
    let mut found = Found::with_capacity(awaited.len());
    let mut missing: HashMap<&str, &Permit<Get>> =
        awaited.iter().map(|permit| (permit.resource().as_str(), permit)).collect();
    let lists = missing.len() > 1 && plan.rounds_without_list == 0;
    plan.rounds_without_list = plan.rounds_without_list.saturating_sub(1);
    if lists {
        let pages = list(states, awaited, &mut missing, &mut found).await;
        if pages + missing.len() >= awaited.len() {
            plan.rounds_without_list = ROUNDS_WITHOUT_LIST;
        }
    }
    let gets = missing.into_values().map(|permit| async {
        let deadline = Instant::now() + states.upstream_timeout();
        (permit.resource().clone(), states.ask(permit, deadline, None).await)
    });
    found.extend(join_all(gets).await);
    found
}

/// Takes from `missing` what the device's list has, page by page while a page may save more than it
/// costs, and answers how many pages that took.
async fn list<A: Api>(
    states: &States<A>,
    awaited: &[Permit<Get>],
    missing: &mut HashMap<&str, &Permit<Get>>,
    found: &mut Found,
) -> usize {
    let Some(permit) = awaited.first().map(Permit::by_device) else { return 0 };
    let mut query = ListQuery { page_size: PAGE_SIZE, ..ListQuery::default() };
    // More pages than half of what is awaited could not save enough.
    let most = (awaited.len() / 2).max(1);
    let mut pages = 0;
    while missing.len() > 1 && pages < most {
        pages += 1;
        let asked = Instant::now();
        let page = states.list(&permit, &query, asked + states.upstream_timeout(), None).await;
        let page = match page {
            Ok(page) => page,
            Err(error) if may_pass(&error) => {
                // Whatever the upstream suffers from, as many gets would not make it better.
                let failed = |permit: &Permit<Get>| (permit.resource().clone(), Err(error.clone()));
                found.extend(missing.drain().map(|(_, permit)| failed(permit)));
                break;
            }
            // The gets will say what each operation's own error is.
            Err(_) => break,
        };
        for operation in page.operations {
            if let Some(permit) = missing.remove(operation.name.as_str()) {
                let operation = Arc::new(operation);
                states.learn(permit.resource(), &operation, asked);
                found.push((permit.resource().clone(), Ok(operation)));
            }
        }
        if page.next_page_token.is_empty() || page.next_page_token == query.page_token {
            break;
        }
        query.page_token = page.next_page_token;
    }
    pages
}
