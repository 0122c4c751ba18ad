//! The generated stubs of `google.longrunning`, and the descriptors of every type that a response can contain.

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

mod codec;

/// `google.longrunning`: messages, client and server, generated from `proto/`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod longrunning {
    tonic::include_proto!("google.longrunning");
}

/// An encoded `google.protobuf.FileDescriptorSet`: `google.longrunning`, `google.rpc` and the well-known types.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The same descriptors, decoded.
pub static DESCRIPTORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("build.rs wrote a valid descriptor set")
});
