//! The emulator over real sockets, in HTTP/1.1 and HTTP/2.

mod calls;
mod client;
#[cfg(feature = "emulator")]
mod command;
mod connections;
mod credentials;
mod endpoint_faults;
mod faults;
mod federation;
mod impersonation;
mod metadata;
mod refresh;
mod sign_in;
