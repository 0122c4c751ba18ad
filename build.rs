//! Compiles `proto/` and generates the stubs. protox is a protobuf compiler in Rust, so the build needs no `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

/// The files of every type that a response can contain. Reflection serves them, and error details are encoded by them.
const FILES: [&str; 8] = [
    "google/longrunning/operations.proto",
    "google/rpc/error_details.proto",
    "google/protobuf/any.proto",
    "google/protobuf/empty.proto",
    "google/protobuf/field_mask.proto",
    "google/protobuf/struct.proto",
    "google/protobuf/timestamp.proto",
    "google/protobuf/wrappers.proto",
];

/// The service of OpenTelemetry collectors. Its types are not in responses, so they are not in the descriptors above.
const OTLP: &str = "opentelemetry/proto/collector/trace/v1/trace_service.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;

    let out = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(out, descriptors.encode_to_vec())?;

    tonic_prost_build::configure()
        .extern_path(".google.rpc", "::tonic_types::pb")
        .codec_path("crate::proto::codec::SmallBuffers")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;

    tonic_prost_build::configure()
        .include_file("otlp.rs")
        .emit_rerun_if_changed(false)
        .compile_fds(protox::compile([OTLP], ["proto"])?)?;
    Ok(())
}
