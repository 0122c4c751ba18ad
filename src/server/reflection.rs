//! Server reflection, v1 and v1alpha: every descriptor that a client without stubs needs to call us and
//! to read what we answer, error details and `Struct` included.

use tokio::sync::watch;
use tonic_reflection::server::{Builder, v1, v1alpha};

use super::until_drain::UntilDrain;
use crate::proto;
use crate::serving::Serving;

/// Why building a service cannot fail: both builders fail on broken descriptors alone.
const SOUND: &str = "the descriptors were compiled into the program, and a test decodes them all";

/// `grpc.reflection.v1.ServerReflection`. Its streams end when `serving` is `Draining`.
#[must_use]
pub fn v1(
    serving: watch::Receiver<Serving>,
) -> UntilDrain<v1::ServerReflectionServer<impl v1::ServerReflection>> {
    UntilDrain::new(builder().build_v1().expect(SOUND), serving)
}

/// `grpc.reflection.v1alpha.ServerReflection`, all that grpcurl up to 1.8 and many other tools speak.
/// Its streams end likewise.
#[must_use]
pub fn v1alpha(
    serving: watch::Receiver<Serving>,
) -> UntilDrain<v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>> {
    UntilDrain::new(builder().build_v1alpha().expect(SOUND), serving)
}

/// Both versions name all services, themselves and each other. Of a file that several sets have,
/// tonic-reflection keeps the first.
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
