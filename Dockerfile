# The image holds the program and its licence, no shell and no package manager.
#
#   docker build --tag countermand .
#   docker run --rm \
#     --volume "$PWD/key.json:/etc/countermand/key.json:ro" \
#     countermand serve --credentials /etc/countermand/key.json
#
# In a container "loopback" is the container's own (in Kubernetes, the pod's). That is all that a sidecar
# needs. Serving other pods or hosts means listening beyond loopback, which takes TLS and a policy, or
# --allow-unauthenticated (COUNTERMAND_ALLOW_UNAUTHENTICATED=true) where a mesh encrypts and authorises.

FROM rust:1.95-bookworm AS build
WORKDIR /build

# A layer of their own for the dependencies, built for a program of nothing: it stays good until
# Cargo.toml or Cargo.lock changes. The benchmark's file only has to be there, since Cargo.toml names it.
#
# Without the default features the program has no emulator, and so no issuer of tokens. Cargo reads the emulator's
# manifest all the same, because it is in the workspace.
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

# By number, so that Kubernetes' runAsNonRoot can tell.
USER 65532:65532

# gRPC, and the operator's HTTP port. Both are bound to loopback unless told otherwise.
EXPOSE 50051 9464

# Asks 127.0.0.1:50051, or what COUNTERMAND_SERVER names. Kubernetes does not look at this: give it an
# exec probe of the same words, or its own gRPC probe.
HEALTHCHECK --interval=10s --timeout=6s --start-period=15s --retries=3 \
    CMD ["/usr/local/bin/countermand", "probe"]

# SIGTERM drains for up to `drain_timeout`, 25 s by default: give `docker stop` that time (--timeout 30).
ENTRYPOINT ["/usr/local/bin/countermand"]
CMD ["serve"]
