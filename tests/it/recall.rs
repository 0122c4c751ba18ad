//! ListOperations over all devices of an enterprise.

mod authorization;
mod fixture;
mod guard;
mod incomplete_lists;
mod memory;
mod page_tokens;
mod pages;
mod supported_filters;
mod wildcard_names;
