# The image has the program with the list of its dependencies, and its licence. It has no shell and no package manager.
#
#   docker build --tag countermand .
#   docker run --rm --read-only --user "$(id -u)" \
#     --volume "$PWD/key.json:/etc/countermand/key.json:ro" \
#     countermand serve --credentials /etc/countermand/key.json
#
# `--user` is for a key file that only its owner can read. The default user is 65532.
#
# The default addresses are on loopback, which is that of the container, or in Kubernetes that of the pod. A sidecar
# needs no more. A listener beyond loopback needs TLS and a policy. In a mesh that encrypts and authorizes, set
# --allow-unauthenticated (COUNTERMAND_ALLOW_UNAUTHENTICATED=true) instead.
#
# Two parts can be replaced. `--build-arg BASE=...` gives another base with glibc and libgcc. `--build-context
# program=DIRECTORY` gives a directory with a built `countermand`, and nothing is compiled.

ARG BASE=gcr.io/distroless/cc-debian12:nonroot

FROM rust:1.95-bookworm AS build
WORKDIR /build

# It embeds the list of dependencies in the program, where scanners such as syft, trivy and grype read it.
RUN cargo install --quiet --locked --version 0.7.7 cargo-auditable

# This layer has the dependencies, built with an empty program. It is valid until Cargo.toml, Cargo.lock or a crate of the
# workspace changes. The file of the benchmark must exist, because Cargo.toml names it.
#
# Without the default features, the program has no emulator, and cannot issue tokens. Cargo reads the emulator's manifest
# nevertheless, because the emulator is in the workspace.
COPY Cargo.toml Cargo.lock ./
COPY crates crates
RUN mkdir -p src benches/calls \
    && touch src/lib.rs \
    && for file in build.rs src/main.rs benches/calls/main.rs; do echo 'fn main() {}' > "$file"; done \
    && cargo auditable build --profile dist --locked --package countermand --no-default-features \
    && cargo clean --profile dist --package countermand

COPY build.rs ./
COPY proto proto
COPY src src
RUN cargo auditable build --profile dist --locked --package countermand --no-default-features

FROM scratch AS program
COPY --from=build /build/target/dist/countermand /countermand

FROM ${BASE} AS image
# Set them in a release: --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)".
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="countermand" \
      org.opencontainers.image.description="A gRPC google.longrunning.Operations service in front of the Android Management API" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY LICENSE /usr/share/doc/countermand/LICENSE
COPY --from=program /countermand /usr/local/bin/countermand

# Kubernetes' runAsNonRoot needs a number.
USER 65532:65532

# gRPC, the admin port and the telemetry port. The first two are on loopback by default, and the third is off.
EXPOSE 50051 9464 9465

# The probe calls 127.0.0.1:50051, or the server in COUNTERMAND_SERVER. Kubernetes ignores this line: see
# deploy/kubernetes for its probes.
HEALTHCHECK --interval=10s --timeout=6s --start-period=15s --retries=3 \
    CMD ["/usr/local/bin/countermand", "probe"]

# SIGTERM drains for at most `drain_timeout`, 25 s by default. Stop the container with `docker stop --timeout 30`.
ENTRYPOINT ["/usr/local/bin/countermand"]
CMD ["serve"]
