//! The code in `docs/frameworks.md`, `docs/clients.md` and `docs/comparison.md` for frameworks and clients with hundreds of dependencies. Run it with
//! `cargo test --manifest-path tests/frameworks/Cargo.toml`. The other recipes are in `tests/tests/recipes`.
#![cfg(test)]

#[path = "../tests/recipes/asked.rs"]
mod asked;
mod beside_axum_prometheus;
mod pingora_proxy;
mod rocket_server;
mod salvo_server;
mod tonic_server;
mod warp_server;
