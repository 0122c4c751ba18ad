//! Credentials of every kind, in front of the emulator: the program itself gets tokens of the right principal,
//! meets every fault of every endpoint on the way, and tells nobody what it knows.

// A helper of tests fails by panicking, as a test does.
#![allow(clippy::unwrap_used)]

#[path = "../support/issuer.rs"]
mod issuer;
#[path = "../lifecycle/process.rs"]
#[allow(dead_code)]
mod process;

mod cures;
mod echoes;
mod faults;
mod holder;
mod search;
mod service;

mod leaks;
mod principals;
mod single_flight;
