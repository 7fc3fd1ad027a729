//! Probes against real kernels: a router with two uplinks, each in a network namespace of its own. Needs root.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kinds;
mod lab;
mod packets;
mod paths;
mod servers;
mod tls;
