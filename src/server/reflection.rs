//! Server reflection, v1 and v1alpha. It has every descriptor that a client without stubs needs to call the service
//! and to decode its responses, including error details and `Struct`.

use tokio::sync::watch;
use tonic_reflection::server::{Builder, v1, v1alpha};

use super::until_drain::UntilDrain;
use crate::{proto, serving::Serving};

/// The builders fail only for invalid descriptors.
const VALID: &str = "the descriptors are compiled in, and a test decodes all of them";

/// `grpc.reflection.v1.ServerReflection`. Its streams end when `serving` is `Draining`.
#[must_use]
pub fn v1(
    serving: watch::Receiver<Serving>,
) -> UntilDrain<v1::ServerReflectionServer<impl v1::ServerReflection>> {
    UntilDrain::new(builder().build_v1().expect(VALID), serving)
}

/// `grpc.reflection.v1alpha.ServerReflection`, the only version that grpcurl up to 1.8 and many other tools
/// support. Its streams end when `serving` is `Draining`.
#[must_use]
pub fn v1alpha(
    serving: watch::Receiver<Serving>,
) -> UntilDrain<v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>> {
    UntilDrain::new(builder().build_v1alpha().expect(VALID), serving)
}

/// Both versions list all services, themselves and each other. tonic-reflection keeps the first copy of a file
/// that is in several sets.
fn builder() -> Builder<'static> {
    Builder::configure()
        .include_reflection_service(false)
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
}

#[cfg(test)]
mod tests;
