//! The generated stubs of `google.longrunning`, and the descriptors of every type that a response can contain.

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

mod codec;

/// `google.longrunning`: messages, client and server, generated from `proto/`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod longrunning {
    tonic::include_proto!("google.longrunning");
}

/// `opentelemetry.proto`: the spans of OTLP and the service of their collectors, generated from `proto/`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod otlp {
    tonic::include_proto!("otlp");

    pub use opentelemetry::proto::{
        collector::trace::v1 as collector, common::v1 as common, resource::v1 as resource, trace::v1 as trace,
    };
}

/// An encoded `google.protobuf.FileDescriptorSet`: `google.longrunning`, `google.rpc` and the well-known types.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The same descriptors, decoded.
pub static DESCRIPTORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("build.rs wrote a valid descriptor set")
});
