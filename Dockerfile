# The image has the program and its licence, no shell and no package manager.
#
#   docker build --tag countermand .
#   docker run --rm \
#     --volume "$PWD/key.json:/etc/countermand/key.json:ro" \
#     countermand serve --credentials /etc/countermand/key.json
#
# The default addresses are on loopback, which is that of the container, or in Kubernetes that of the pod. A sidecar
# needs no more. A listener beyond loopback needs TLS and a policy. In a mesh that encrypts and authorizes, set
# --allow-unauthenticated (COUNTERMAND_ALLOW_UNAUTHENTICATED=true) instead.

FROM rust:1.95-bookworm AS build
WORKDIR /build

# This layer has the dependencies, built with an empty program. It is valid until Cargo.toml or Cargo.lock changes. The
# file of the benchmark must exist, because Cargo.toml names it.
#
# Without the default features, the program has no emulator, and cannot issue tokens. Cargo reads the emulator's manifest
# nevertheless, because the emulator is in the workspace.
COPY Cargo.toml Cargo.lock ./
COPY crates/countermand-emulator/Cargo.toml crates/countermand-emulator/
RUN mkdir -p src benches/calls crates/countermand-emulator/src \
    && touch src/lib.rs crates/countermand-emulator/src/lib.rs \
    && for file in build.rs src/main.rs benches/calls/main.rs; do echo 'fn main() {}' > "$file"; done \
    && cargo build --profile dist --locked --package countermand --no-default-features \
    && cargo clean --profile dist --package countermand

COPY build.rs ./
COPY proto proto
COPY src src
RUN cargo build --profile dist --locked --package countermand --no-default-features

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="countermand" \
      org.opencontainers.image.description="A gRPC google.longrunning.Operations service in front of the Android Management API" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY LICENSE /usr/share/doc/countermand/LICENSE
COPY --from=build /build/target/dist/countermand /usr/local/bin/countermand

# Kubernetes' runAsNonRoot needs a number.
USER 65532:65532

# gRPC, and the admin port. Both are on loopback by default.
EXPOSE 50051 9464

# The probe calls 127.0.0.1:50051, or the server in COUNTERMAND_SERVER. Kubernetes ignores this line: configure an exec
# probe with the same command, or a gRPC probe.
HEALTHCHECK --interval=10s --timeout=6s --start-period=15s --retries=3 \
    CMD ["/usr/local/bin/countermand", "probe"]

# SIGTERM drains for at most `drain_timeout`, 25 s by default. Stop the container with `docker stop --timeout 30`.
ENTRYPOINT ["/usr/local/bin/countermand"]
CMD ["serve"]
