//! Credentials of every kind, against the emulator: the program sends tokens of the right principal, recovers from
//! every fault of every endpoint, and reveals no secret.

mod echoes;
mod faults;
mod hints;
mod search;
mod service;
mod test_credential;

mod leaks;
mod principals;
mod single_flight;
