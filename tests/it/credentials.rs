//! Credentials of every kind, in front of the emulator: the program itself gets tokens of the right principal,
//! meets every fault of every endpoint on the way, and reveals no secret.

mod echoes;
mod faults;
mod hints;
mod holder;
mod search;
mod service;

mod leaks;
mod principals;
mod single_flight;
