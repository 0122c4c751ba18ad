//! ListOperations over all devices of an enterprise, and the commands `recall` and `list --watch`.

mod authorization;
mod command;
mod concurrent_lists;
mod failure_lines;
mod fixture;
mod guard;
mod hanging_devices;
mod incomplete_lists;
mod invalid_pages;
mod memory;
mod page_tokens;
mod pages;
mod supported_filters;
mod wildcard_names;
